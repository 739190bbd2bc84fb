from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from event_model import DocumentNames, schema_validators

from skyloop.documents.run import AnalysisIdentity, AnalysisRun, ResultSchema, Source, analysis_uid
from skyloop.documents.schema import data_keys, decode, encode
from skyloop.errors import DocumentError, Outcome
from skyloop.quantities import FloatArray, Quantity, blank


@dataclass(frozen=True, slots=True)
class Film:
    outcome: Outcome
    reason: str
    thickness: Annotated[FloatArray, Quantity("angstrom", ("layer",))]
    chi2: float
    points: int
    confirmed: bool
    target: Annotated[float, Quantity("angstrom")]


@dataclass(frozen=True)
class Settings:
    layers: int = 2
    bounds: tuple[float, float] = (1.0, 2.0)


SIZES = {"layer": 2}
FILM = Film(Outcome.DEGRADED, "one layer at its bound", np.array([1.5, np.nan]), np.nan, 3, True, 1.5)
RAW = {"uid": "raw-1", "time": 0.0, "scan_id": 7}


def equal(a: Film, b: Film) -> bool:
    return all(
        np.array_equal(np.asarray(x), np.asarray(y), equal_nan=isinstance(x, float | np.ndarray))
        for x, y in ((getattr(a, n), getattr(b, n)) for n in Film.__slots__)
    )


def run_of(config: Settings | None = None) -> AnalysisRun:
    identity = AnalysisIdentity("film", "1", config or Settings())
    return AnalysisRun(RAW, identity, ResultSchema(Film, SIZES, {"target": "nm"}, ("target",)))


@pytest.mark.parametrize("film", [FILM, blank(Film, SIZES, outcome=Outcome.FAILED, reason="broke")])
def test_what_is_encoded_is_decoded(film: Film) -> None:
    back = decode(Film, encode(film, prefix="film") | {"raw_seq_num": 3}, prefix="film")
    assert equal(back, film)
    assert isinstance(back.outcome, Outcome)


def test_data_keys_say_what_encode_writes() -> None:
    keys = data_keys(Film, SIZES, prefix="film")
    data = encode(FILM, prefix="film")
    assert list(keys) == list(data)
    for name, key in keys.items():
        assert list(np.shape(data[name])) == key["shape"]
    assert keys["film_thickness"]["units"] == "angstrom"
    assert keys["film_thickness"]["dims"] == ["layer"]


def test_a_missing_field_is_named() -> None:
    data = encode(FILM, prefix="film")
    del data["film_chi2"]
    with pytest.raises(DocumentError, match="film_chi2"):
        decode(Film, data, prefix="film")


def test_every_document_of_an_analysis_run_is_valid() -> None:
    run = run_of()
    docs = [
        run.start(),
        *run.descriptors(),
        run.event(FILM, Source("primary", 1, 0.1, 0.2)),
        run.summary(FILM, frames=1, not_analysed=0, quarantined=0),
        run.stop("success"),
    ]
    for name, doc in docs:
        schema_validators[DocumentNames[name]].validate(doc)
    descriptors = {d["uid"]: d for n, d in docs if n == "descriptor"}
    for name, doc in docs:
        if name == "event":
            assert set(doc["data"]) == set(descriptors[doc["descriptor"]]["data_keys"])
    assert docs[-1][1]["num_events"] == {"primary": 1, "summary": 1}


def test_a_repeated_analysis_has_the_same_uids_and_another_configuration_has_others() -> None:
    first, second = run_of(), run_of()
    assert [d["uid"] for _, d in first.descriptors()] == [d["uid"] for _, d in second.descriptors()]
    source = Source("primary", 1)
    assert first.event(FILM, source)[1]["uid"] == second.event(FILM, source)[1]["uid"]
    assert run_of(Settings(layers=3)).uid != first.uid


def test_units_that_depend_on_the_configuration_reach_the_descriptor() -> None:
    _, descriptor = run_of().descriptors()[0]
    assert descriptor["data_keys"]["film_target"]["units"] == "nm"


def test_the_uid_depends_on_the_raw_run() -> None:
    identity = AnalysisIdentity("film", "1", Settings())
    assert analysis_uid("a", identity) != analysis_uid("b", identity)
