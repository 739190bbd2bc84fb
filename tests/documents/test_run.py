"""An analysis run says what it is: uids that follow from what was analysed by what, and all of its origin."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import pytest
from event_model import DocumentNames, schema_validators

from skyloop.documents.run import AnalysisIdentity, AnalysisRun, ResultSchema, Source, analysis_uid
from skyloop.errors import Outcome
from skyloop.quantities import Quantity

RAW = {"uid": "raw-1", "time": 1.0, "scan_id": 17, "plan_name": "scan", "sample": "secret"}


@dataclass(frozen=True)
class Config:
    scale: float = 1.0
    names: tuple[str, ...] = ("a", "b")
    more: dict[str, float] = field(default_factory=lambda: {"x": 1.0, "y": 2.0})


@dataclass(frozen=True)
class Result:
    outcome: Outcome = Outcome.OK
    reason: str = ""
    length: Annotated[float, Quantity("angstrom")] = 2.0
    length_sigma: Annotated[float, Quantity("angstrom")] = 0.1


WHO = AnalysisIdentity("toy", "1", Config())


def documents(who: AnalysisIdentity = WHO, now: float = 5.0) -> list[tuple[str, dict[str, Any]]]:
    run = AnalysisRun(RAW, who, ResultSchema(Result, {}, hints=("length",)), lambda: now)
    events = [run.event(Result(), Source("primary", number)) for number in (1, 2)]
    final = run.summary(Result(), frames=2, not_analysed=0, quarantined=0)
    return [run.start(), *run.descriptors(), *events, final, run.stop("success")]


def test_the_same_analysis_of_the_same_run_has_the_same_uids_at_any_time() -> None:
    first, later = documents(now=5.0), documents(now=1e9)
    assert [doc["uid"] for _, doc in first] == [doc["uid"] for _, doc in later]
    assert len({doc["uid"] for _, doc in first}) == len(first)


def test_the_uid_of_an_analysis_is_the_same_in_every_version_of_this_package() -> None:
    # sinks absorb a repeated analysis by its uid: another rule would store every analysis twice
    assert analysis_uid("raw-1", AnalysisIdentity("toy", "1", Config())) == UID


UID = "74e2154a-85ad-5a32-a60c-32a4ed0c482b"


@pytest.mark.parametrize(
    "other",
    [
        replace(WHO, technique="other"),
        replace(WHO, version="2"),
        replace(WHO, config=Config(2.0)),
        replace(WHO, config=Config(names=("b", "a"))),
        replace(WHO, keys={"q": "qz"}),
        replace(WHO, weights_sha256="ab"),
    ],
)
def test_another_analysis_has_another_uid(other: AnalysisIdentity) -> None:
    assert analysis_uid("raw-1", other) != analysis_uid("raw-1", WHO)
    assert not {doc["uid"] for _, doc in documents(other)} & {doc["uid"] for _, doc in documents()}


def test_another_raw_run_has_another_analysis() -> None:
    assert analysis_uid("raw-2", WHO) != analysis_uid("raw-1", WHO)


def test_the_order_of_keys_in_a_configuration_is_no_other_configuration() -> None:
    turned = replace(WHO, config=Config(more={"y": 2.0, "x": 1.0}))
    assert turned.config_sha256 == WHO.config_sha256


def test_the_start_tells_the_raw_run_and_the_engine_and_what_tables_need() -> None:
    start = documents()[0][1]
    assert (start["parent_uids"], start["original_run_uid"]) == (["raw-1"], "raw-1")
    assert (start["purpose"], start["technique"], start["tiled_specs"]) == (
        "analysis",
        "toy",
        ["AnalysisRun"],
    )
    assert (start["plan_name"], start["plan_type"], start["scan_id"]) == ("analysis:toy", "analysis", 17)
    told = start["analysis"]
    assert (told["engine"], told["version"], told["config"]["scale"]) == ("toy", "1", 1.0)
    assert told["config_sha256"] == WHO.config_sha256
    assert told["keys"] == {}
    assert documents(replace(WHO, keys={"q": "qz"}))[0][1]["analysis"]["keys"] == {"q": "qz"}
    assert {"python", "skyloop", "numpy", "torch", "event-model"} <= told["software"].keys()
    assert "sample" not in start  # nothing of the raw run leaks into the analysis


def test_all_documents_are_valid_and_the_stop_counts_the_events() -> None:
    for name, doc in documents():
        schema_validators[DocumentNames[name]].validate(doc)
    assert documents()[-1][1]["num_events"] == {"primary": 2, "summary": 1}


def test_no_document_shares_anything_with_another() -> None:
    first = documents()
    first[1][1]["data_keys"]["raw_stream"]["dtype"] = "changed by somebody"
    assert documents()[1][1]["data_keys"]["raw_stream"]["dtype"] == "string"
