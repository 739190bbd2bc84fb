from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from bluesky import plan_stubs as bps
from event_model import DocumentNames, schema_validators
from fake_analysis import engine

from skyloop.errors import DocumentError
from skyloop.plans._decision import DecisionRecord, Decisions, decision_uid, write_decision

RUN = "3f3c1d2e-7a5b-4c8d-9e0f-112233445566"


def record(seq: int, **given: Any) -> DecisionRecord:
    return DecisionRecord(uid=decision_uid(RUN, seq), seq=seq, t_decided=float(seq), **given)


def chain(*records: DecisionRecord) -> list[DecisionRecord]:
    linked: list[DecisionRecord] = []
    for one in records:
        linked.append(one.chained(linked[-1] if linked else None))
    return linked


def same(a: DecisionRecord, b: DecisionRecord) -> bool:
    return repr(a) == repr(b)


def test_a_decision_comes_back_from_its_event_and_from_json() -> None:
    (one,) = chain(record(1, source="policy", gain=0.1, executed_position=np.float64(1 / 3), target=7))
    assert same(DecisionRecord.from_data(one.data()), one)
    stored = json.loads(json.dumps(one.data()))
    assert same(DecisionRecord.from_data(stored), one)
    # the hash holds after storage too: whole numbers and numpy numbers are written as what they are declared
    assert DecisionRecord.from_data(stored).chained(None).chain_sha256 == one.chain_sha256


def test_data_without_a_field_are_no_decision() -> None:
    data = record(1).data()
    del data["decision_source"]
    with pytest.raises(DocumentError, match="decision_source"):
        DecisionRecord.from_data(data)


def test_uids_follow_from_the_run_and_the_number() -> None:
    assert decision_uid(RUN, 1) == decision_uid(RUN, 1)
    assert len({decision_uid(RUN, 1), decision_uid(RUN, 2), decision_uid("other", 1)}) == 3


def changed(value: Any) -> Any:
    return value + "x" if isinstance(value, str) else 2 if math.isnan(value) else value + 1


@pytest.mark.parametrize(
    "name", [f.name for f in fields(DecisionRecord) if f.name not in ("chain_sha256", "parent_uid")]
)
def test_no_field_of_an_earlier_decision_can_be_changed_unseen(name: str) -> None:
    first, second = chain(record(1, gain=0.5), record(2, gain=0.6))
    forged = replace(first, **{name: changed(getattr(first, name))})
    assert forged.chained(None).chain_sha256 != first.chain_sha256
    assert second.chained(forged.chained(None)).chain_sha256 != second.chain_sha256


def test_decisions_are_events_of_a_stream_of_their_own() -> None:
    device, documents = Decisions(), []
    records = chain(record(1, source="policy"), record(2, reason="target_reached", spent=1.5))

    def plan() -> Any:
        yield from bps.open_run()
        for one in records:
            yield from write_decision(device, one)
        yield from bps.close_run()

    engine(lambda name, doc: documents.append((name, dict(doc))))(plan())
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)
    (descriptor,) = [doc for name, doc in documents if name == "descriptor"]
    events = [doc for name, doc in documents if name == "event"]
    assert descriptor["name"] == "decision"
    assert [same(DecisionRecord.from_data(e["data"]), r) for e, r in zip(events, records, strict=True)] == [
        True
    ] * 2
    assert set(descriptor["data_keys"]) == set(events[0]["data"])


def test_the_data_keys_do_not_depend_on_the_decision() -> None:
    device = Decisions()
    before = device.describe()
    device.put(record(1, source="human", comment="go", executed_position=1.0))
    assert device.describe() == before
    kinds = {"string": str, "integer": int, "number": float}
    for key, reading in device.read().items():
        assert type(reading["value"]) is kinds[before[key]["dtype"]]
        assert before[key]["shape"] == []


def test_a_decision_takes_less_than_four_kilobytes() -> None:
    long = record(1, guard_message="x" * 200, comment="y" * 200, choice_reason="z" * 200)
    assert len(json.dumps(long.chained(None).data())) < 4000
