"""Laws of the gate: nothing raises, nothing is lost, nothing is changed, and what passes is valid."""

from __future__ import annotations

import copy
import math
from typing import Any

import event_model
import numpy as np
import pytest
from event_model import DocumentNames, compose_run, schema_validators

from skyloop.documents.gate import Admission, Gate

SCALAR = {"source": "test", "dtype": "number", "shape": []}


class Raw:
    """A raw run whose documents are composed by event-model."""

    def __init__(self, **keys: Any) -> None:
        self.bundle = compose_run()
        self.start: Any = self.bundle.start_doc
        self.keys = keys or {"x": SCALAR}
        self.made = self.bundle.compose_descriptor(name="primary", data_keys=self.keys)
        self.descriptor: Any = self.made.descriptor_doc

    def event(self, seq_num: int = 1, **data: Any) -> dict[str, Any]:
        values = data or dict.fromkeys(self.keys, 1.0)
        stamps = dict.fromkeys(values, 1.0)
        event = self.made.compose_event(data=values, timestamps=stamps, seq_num=seq_num, validate=False)
        return dict(event)

    def stop(self) -> dict[str, Any]:
        return dict(self.bundle.compose_stop())

    def head(self) -> list[tuple[str, Any]]:
        return [("start", self.start), ("descriptor", self.descriptor)]


def opened(gate: Gate, raw: Raw) -> Gate:
    for name, doc in raw.head():
        assert gate.admit(name, doc, 0.0).accepted == ((name, doc),)
    return gate


def reason(admission: Admission) -> str:
    assert not admission.accepted
    (quarantined,) = admission.quarantined
    assert "\n" not in quarantined.reason
    return quarantined.reason


def test_a_plain_run_passes_unchanged_and_as_the_same_objects():
    raw, gate = Raw(), Gate()
    docs = [*raw.head(), *(("event", raw.event(n)) for n in (1, 2)), ("stop", raw.stop())]
    before = copy.deepcopy(docs)
    passed = [item for name, doc in docs for item in gate.admit(name, doc, 0.0).accepted]
    assert [id(doc) for _, doc in passed] == [id(doc) for _, doc in docs]
    assert docs == before
    assert gate.open_runs == ()


CYCLE: dict[str, Any] = {"uid": "a", "time": 1.0}
CYCLE["me"] = CYCLE
LIST_CYCLE: dict[str, Any] = {"uid": "a", "time": 1.0, "x": []}
LIST_CYCLE["x"].append(LIST_CYCLE["x"])


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("name", "doc"),
    [
        (None, {}),
        (3, None),
        (["start"], {}),
        ("", {}),
        ("nothing", {}),
        ("all", {}),
        ("event", None),
        ("event", []),
        ("event", {}),
        ("event_page", {}),
        ("event_page", {"uid": ["a"], "time": [1.0], "seq_num": [1, 2], "data": {}, "timestamps": {}}),
        ("event_page", {"uid": ["a"], "time": [1.0], "seq_num": [1], "data": {"x": 3}, "timestamps": {}}),
        ("event_page", 7),
        ("bulk_events", {"x": 3}),
        ("bulk_datum", {"datum_ids": 3}),
        ("datum_page", {"datum_id": "a"}),
        ("start", CYCLE),
        ("start", LIST_CYCLE),
        ("start", {"uid": "a", "time": 1.0, "deep": nested(5000)}),
        ("start", {"uid": "a", "time": 1.0, 3: 4}),
        ("start", {"uid": "a", "time": math.nan}),
        ("start", {"uid": np.arange(3), "time": 1.0}),
        ("resource", {"uid": np.arange(3), "run_start": np.arange(3)}),
        ("event", {"uid": [], "descriptor": np.arange(3), "seq_num": np.arange(3), "time": np.arange(3)}),
        ("start", {"uid": "a", "time": -1.0}),
        ("start", {"uid": "a", "time": 10**5000}),
        ("start", {"uid": "a", "time": True}),
        ("start", {"uid": "", "time": 1.0}),
        ("start", {"uid": "../../etc", "time": 1.0}),
        ("start", {"uid": "a/b", "time": 1.0}),
        ("start", {"uid": "/a", "time": 1.0}),
        ("start", {"uid": ".a", "time": 1.0}),
        ("start", {"uid": "a\nb", "time": 1.0}),
        ("start", {"uid": "a\x1b[2J", "time": 1.0}),
        ("start", {"uid": "a" * 10**6, "time": 1.0}),
        ("start", {"uid": "\ud800", "time": 1.0}),
        ("stop", {"run_start": "a", "uid": "b", "time": 1.0, "exit_status": "great"}),
        ("resource", {"uid": "r", "spec": "s", "root": "", "resource_path": "", "resource_kwargs": {}}),
    ],
)
def test_what_is_no_document_is_quarantined_with_a_reason(name: Any, doc: Any):
    assert reason(Gate().admit(name, doc, 0.0))


# 10**5000 is more than Python writes as text, also into the name of a test
@pytest.mark.parametrize(
    "seq_num",
    [0, -5, 1.0, 1.5, "1", None, True, math.nan, 2**63, pytest.param(10**5000, id="huge")],
)
def test_a_seq_num_that_is_no_number_from_one_is_quarantined(seq_num: Any):
    raw = Raw()
    gate = opened(Gate(), raw)
    assert "seq_num" in reason(gate.admit("event", {**raw.event(), "seq_num": seq_num}, 0.0))


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16])
def test_a_numpy_seq_num_passes_as_a_python_number_in_a_new_event(kind: Any):
    raw = Raw()
    gate = opened(Gate(), raw)
    event = {**raw.event(), "seq_num": kind(7), "time": np.float32(12.0)}
    ((_, passed),) = gate.admit("event", event, 0.0).accepted
    assert (passed["seq_num"], type(passed["seq_num"])) == (7, int)
    assert (passed["time"], type(passed["time"])) == (12.0, float)
    assert isinstance(event["seq_num"], kind)
    schema_validators[DocumentNames.event].validate(passed)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"data": {}}, "lacks ['x']"),
        ({"data": {"x": 1.0, "y": 2.0}}, "['y']"),
        ({"timestamps": {}}, "timestamps"),
        ({"data": {"x": [1.0]}}, "axes"),
        ({"data": {"x": np.zeros((2, 2))}}, "axes"),
        ({"uid": ""}, "uid"),
        ({"time": math.inf}, "time"),
        ({"more": 1}, "more"),
        ({"filled": {"x": 3}}, "filled"),
    ],
)
def test_an_event_unlike_its_descriptor_is_quarantined(change: dict[str, Any], word: str):
    raw = Raw()
    gate = opened(Gate(), raw)
    admission = gate.admit("event", {**raw.event(), **change}, 0.0)
    assert word in reason(admission)
    assert admission.quarantined[0].run_uid == raw.start["uid"]


@pytest.mark.parametrize(
    ("entry", "good", "bad"),
    [
        ({"dtype": "array", "shape": [3]}, [np.zeros(3), [1, 2, 3], (1, 2), []], [1.0, "abc", [[1]]]),
        ({"dtype": "array", "shape": [2, None]}, [np.zeros((2, 5)), [[1], [2]]], [[1.0], np.zeros(2)]),
        ({"dtype": "number", "shape": [1]}, [1.0, [1.0], np.float32(2)], [np.zeros((1, 1))]),
        ({"dtype": "number", "shape": []}, [1, np.float64(2), np.array(3.0), None], [[1.0], ()]),
        ({"dtype": "array", "shape": []}, [1.0, np.zeros((2, 2))], []),
    ],
)
def test_scalars_and_arrays_are_what_the_descriptor_declares(
    entry: dict[str, Any], good: list[Any], bad: list[Any]
):
    raw = Raw(x={"source": "test", **entry})
    gate = opened(Gate(), raw)
    for value in good:
        assert gate.admit("event", raw.event(x=value), 0.0).accepted
    for value in bad:
        assert "axes" in reason(gate.admit("event", raw.event(x=value), 0.0))


def test_external_keys_may_be_absent_from_events():
    raw = Raw(x=SCALAR, image={**SCALAR, "external": "STREAM:"})
    gate = opened(Gate(), raw)
    event = {**raw.event(x=1.0, image=1.0), "data": {"x": 1.0}, "timestamps": {"x": 1.0}}
    assert gate.admit("event", event, 0.0).accepted


def test_a_page_gives_the_same_events_as_its_events():
    raw = Raw(x=SCALAR, a={"source": "test", "dtype": "array", "shape": [2]})
    events: list[Any] = [raw.event(n, x=float(n), a=[n, n]) for n in (1, 2, 3)]
    page: Any = event_model.pack_event_page(*events)
    before = copy.deepcopy(page)
    passed = [doc for _, doc in opened(Gate(), raw).admit("event_page", page, 0.0).accepted]
    assert passed == [{"filled": {}, **event} for event in events]
    assert page == before


def test_a_page_of_arrays_gives_valid_events():
    raw = Raw()
    page = {
        "descriptor": raw.descriptor["uid"],
        "uid": np.array(["a", "b"]),
        "time": np.array([1.0, 2.0]),
        "seq_num": np.array([1, 2]),
        "data": {"x": np.array([3.0, 4.0])},
        "timestamps": {"x": np.array([1.0, 1.0])},
    }
    passed = opened(Gate(), raw).admit("event_page", page, 0.0).accepted
    assert [(doc["uid"], doc["data"]["x"]) for _, doc in passed] == [("a", 3.0), ("b", 4.0)]
    for _, doc in passed:
        schema_validators[DocumentNames.event].validate(doc)


def test_bulk_events_are_split():
    raw = Raw()
    events = [raw.event(n) for n in (1, 2)]
    passed = opened(Gate(), raw).admit("bulk_events", {"primary": events}, 0.0).accepted
    assert passed == (("event", events[0]), ("event", events[1]))


def test_datum_pages_and_bulk_datums_are_split():
    raw = Raw()
    resource = {"spec": "S", "root": "/", "resource_path": "a", "resource_kwargs": {}, "uid": "r"}
    gate = opened(Gate(), raw)
    assert gate.admit("resource", resource, 0.0).accepted
    want = [{"resource": "r", "datum_id": f"r/{i}", "datum_kwargs": {"i": i}} for i in (0, 1)]
    page = {"resource": "r", "datum_id": ["r/0", "r/1"], "datum_kwargs": {"i": [0, 1]}}
    bulk = {"resource": "r", "datum_ids": ["r/0", "r/1"], "datum_kwarg_list": [{"i": 0}, {"i": 1}]}
    for name, doc in (("datum_page", page), ("bulk_datum", bulk)):
        assert [d for _, d in gate.admit(name, doc, 0.0).accepted] == want
    assert gate.run_of("datum", want[0]) == raw.start["uid"]


def test_equal_duplicates_are_absorbed_and_different_ones_quarantined():
    raw, gate = Raw(), Gate()
    for name, doc in raw.head():
        gate.admit(name, doc, 0.0)
        assert gate.admit(name, copy.deepcopy(doc), 0.0) == Admission((), (), 1)
        assert "other content" in reason(gate.admit(name, {**doc, "time": 5.0}, 0.0))
    event = raw.event()
    assert gate.admit("event", event, 0.0).accepted
    assert gate.admit("event", copy.deepcopy(event), 0.0) == Admission((), (), 1)
    assert "uid" in reason(gate.admit("event", {**event, "seq_num": 9}, 0.0))


def test_a_point_measured_again_passes_again():
    raw = Raw()
    gate = opened(Gate(), raw)
    assert gate.admit("event", raw.event(1), 0.0).accepted
    assert gate.admit("event", raw.event(1), 0.0).accepted


def test_descriptor_contents_with_nan_and_arrays_are_compared():
    raw = Raw()
    config: Any = {
        "d": {"data": {"a": np.array([1.0, np.nan]), "b": math.nan}, "timestamps": {}, "data_keys": {}}
    }
    first = {**raw.descriptor, "configuration": config}
    gate = Gate()
    gate.admit("start", raw.start, 0.0)
    assert gate.admit("descriptor", first, 0.0).accepted
    assert gate.admit("descriptor", copy.deepcopy(first), 0.0).absorbed == 1
    other: Any = copy.deepcopy(first)
    other["configuration"]["d"]["data"]["a"][0] = 2.0
    assert reason(gate.admit("descriptor", other, 0.0))


def test_children_wait_for_their_parents_and_are_released_in_order():
    raw, gate = Raw(), Gate()
    events = [raw.event(n) for n in (1, 2, 3)]
    for event in events:
        assert gate.admit("event", event, 0.0) == Admission((), ())
    assert gate.admit("descriptor", raw.descriptor, 0.0) == Admission((), ())
    assert gate.parked == 4
    passed = gate.admit("start", raw.start, 1.0).accepted
    assert passed == (*raw.head(), *(("event", event) for event in events))
    assert gate.parked == 0


def stream_of(raw: Raw) -> tuple[dict[str, Any], dict[str, Any]]:
    resource = {
        "uid": "sr", "data_key": "x", "mimetype": "application/x-hdf5", "uri": "file:///a",
        "parameters": {}, "run_start": raw.start["uid"],
    }  # fmt: skip
    datum = {
        "uid": "sr/0", "stream_resource": "sr", "descriptor": raw.descriptor["uid"],
        "indices": {"start": 0, "stop": 2}, "seq_nums": {"start": 1, "stop": 3},
    }  # fmt: skip
    return resource, datum


def test_a_stream_datum_waits_for_its_descriptor_and_its_resource():
    raw, gate = Raw(), Gate()
    resource, datum = stream_of(raw)
    gate.admit("start", raw.start, 0.0)
    assert not gate.admit("stream_datum", datum, 0.0).accepted
    assert len(gate.admit("descriptor", raw.descriptor, 0.0).accepted) == 1
    passed = gate.admit("stream_resource", resource, 0.0).accepted
    assert passed == (("stream_resource", resource), ("stream_datum", datum))
    assert gate.admit("stream_datum", dict(datum), 0.0).absorbed == 1


@pytest.mark.parametrize(
    "change",
    [
        {"indices": {"start": 0, "stop": 3}},
        {"indices": {"start": 2, "stop": 0}, "seq_nums": {"start": 3, "stop": 1}},
        {"indices": {"start": 0, "stop": 10**12}, "seq_nums": {"start": 1, "stop": 10**12 + 1}},
        {"seq_nums": {"start": 0, "stop": 2}},
        {"indices": {"start": -1, "stop": 1}},
        {"indices": {"start": 0.0, "stop": 2.0}},
        {"stream_resource": "r"},
    ],
)
def test_impossible_ranges_are_quarantined(change: dict[str, Any]):
    raw = Raw()
    gate = opened(Gate(), raw)
    resource, datum = stream_of(raw)
    plain = {"spec": "S", "root": "/", "resource_path": "a", "resource_kwargs": {}, "uid": "r"}
    gate.admit("stream_resource", resource, 0.0)
    gate.admit("resource", plain, 0.0)
    assert reason(gate.admit("stream_datum", {**datum, **change}, 0.0))


def test_a_stream_of_an_undeclared_data_key_is_quarantined():
    raw = Raw()
    gate = opened(Gate(), raw)
    resource, datum = stream_of(raw)
    gate.admit("stream_resource", {**resource, "data_key": "other"}, 0.0)
    assert "other" in reason(gate.admit("stream_datum", datum, 0.0))


def test_no_more_than_the_bound_wait_and_the_oldest_go():
    raw, gate = Raw(), Gate(max_parked=3)
    events = [raw.event(n) for n in range(1, 6)]
    out = [gate.admit("event", event, 0.0).quarantined for event in events]
    assert [q.uid for each in out for q in each] == [events[0]["uid"], events[1]["uid"]]
    assert "3 documents" in out[-1][0].reason
    assert gate.parked == 3
    gate.admit("start", raw.start, 0.0)
    passed = gate.admit("descriptor", raw.descriptor, 0.0).accepted
    assert [doc["seq_num"] for name, doc in passed if name == "event"] == [3, 4, 5]


def test_by_default_a_thousand_documents_wait_and_no_more():
    raw, gate = Raw(), Gate()
    for n in range(1, 1001):
        assert gate.admit("event", raw.event(n), 0.0) == Admission((), ())
    (crowded,) = gate.admit("event", raw.event(1001), 0.0).quarantined
    assert "1000 documents" in crowded.reason
    assert gate.parked == 1000


@pytest.mark.parametrize("came", [0.0, 1e9])
def test_by_default_a_document_waits_for_five_seconds_and_no_longer(came: float):
    raw, gate = Raw(), Gate()
    gate.admit("event", raw.event(), came)
    assert gate.expire(came + 5.0, math.inf).quarantined == ()
    assert gate.parked == 1
    assert len(gate.expire(came + 5.001, math.inf).quarantined) == 1
    assert gate.parked == 0


def test_events_of_a_run_that_began_before_are_told_once_in_full():
    raw, gate = Raw(), Gate(park_seconds=5.0)
    for n in range(1, 4):
        gate.admit("event", raw.event(n), 0.0)
    reasons = [q.reason for q in gate.admit("event", raw.event(4), 10.0).quarantined]
    assert len(reasons) == 4  # the newcomer does not wait any more
    assert sum("began before this callback was subscribed" in r for r in reasons) == 1
    assert gate.parked == 0


def test_a_descriptor_without_its_run_names_the_run():
    raw, gate = Raw(), Gate(park_seconds=5.0)
    gate.admit("descriptor", raw.descriptor, 0.0)
    gate.admit("event", raw.event(), 1.0)
    quarantined = gate.expire(6.5, 100.0).quarantined
    assert {q.run_uid for q in quarantined} == {raw.start["uid"]}
    assert "began before this callback was subscribed" in quarantined[0].reason
    assert len(quarantined) == 2


def test_what_waits_in_vain_is_quarantined_when_the_run_stops():
    raw, gate = Raw(), Gate()
    gate.admit("start", raw.start, 0.0)
    gate.admit("event", raw.event(), 0.0)
    admission = gate.admit("stop", raw.stop(), 0.0)
    assert [name for name, _ in admission.accepted] == ["stop"]
    (quarantined,) = admission.quarantined
    assert (quarantined.name, quarantined.run_uid) == ("event", raw.start["uid"])
    assert gate.parked == 0


def test_children_of_a_refused_descriptor_go_with_it():
    raw, gate = Raw(), Gate()
    gate.admit("start", raw.start, 0.0)
    gate.admit("event", raw.event(1), 0.0)
    bad = {**raw.descriptor, "data_keys": 3}
    assert [q.name for q in gate.admit("descriptor", bad, 0.0).quarantined] == ["descriptor", "event"]
    assert "put aside" in reason(gate.admit("event", raw.event(2), 0.0))
    assert gate.admit("descriptor", raw.descriptor, 0.0).accepted  # a good one comes after all
    assert gate.admit("event", raw.event(3), 0.0).accepted


def test_a_stop_without_start_passes_and_late_documents_of_a_stopped_run_do_not():
    raw = Raw()
    stop = raw.stop()
    assert Gate().admit("stop", stop, 0.0).accepted == (("stop", stop),)
    gate = opened(Gate(), raw)
    assert gate.admit("stop", stop, 0.0).accepted
    for name, doc in (("event", raw.event()), ("descriptor", raw.descriptor), ("stop", stop)):
        assert "has stopped" in reason(gate.admit(name, doc, 0.0))


def test_a_stopped_run_can_be_replayed():
    raw, gate = Raw(), Gate()
    docs = [*raw.head(), ("event", raw.event()), ("stop", raw.stop())]
    for _ in range(2):
        for name, doc in docs:
            assert gate.admit(name, doc, 0.0).accepted == ((name, doc),)


def test_runs_without_a_stop_are_closed_by_time():
    gate, runs = Gate(), [Raw(), Raw()]
    for i, raw in enumerate(runs):
        for name, doc in raw.head():
            gate.admit(name, doc, 100.0 * i)
    expiry = gate.expire(150.0, 100.0)
    assert expiry.runs == (runs[0].start["uid"],)
    assert gate.open_runs == (runs[1].start["uid"],)
    assert "closed after 100 s" in reason(gate.admit("event", runs[0].event(), 150.0))


def test_memory_is_bounded_over_many_runs():
    gate = Gate()
    for i in range(12_000):
        uid = f"run-{i}"
        gate.admit("start", {"uid": uid, "time": 1.0}, 0.0)
        stop = {"uid": f"stop-{i}", "run_start": uid, "time": 2.0, "exit_status": "success"}
        gate.admit("stop", stop, 0.0)
    assert gate.open_runs == ()
    assert len(gate._gone) <= 10_000


def test_interleaved_runs_do_not_mix():
    gate, runs = Gate(), [Raw(), Raw()]
    for step in zip(*(raw.head() for raw in runs), strict=True):
        for name, doc in step:
            gate.admit(name, doc, 0.0)
    events = [raw.event() for raw in runs]
    assert [gate.run_of("event", event) for event in events] == list(gate.open_runs)
    assert gate.admit("stop", runs[0].stop(), 0.0).accepted
    assert reason(gate.admit("event", runs[0].event(2), 0.0))
    assert gate.admit("event", events[1], 0.0).accepted


def test_resources_without_a_run_are_taken_for_the_only_open_one():
    resource = {"spec": "S", "root": "/", "resource_path": "a", "resource_kwargs": {}, "uid": "r"}
    gate = Gate()
    assert "0 runs are open" in reason(gate.admit("resource", resource, 0.0))
    first, second = Raw(), Raw()
    opened(gate, first)
    assert gate.admit("resource", resource, 0.0).accepted
    assert gate.run_of("resource", resource) == first.start["uid"]
    opened(gate, second)
    assert "2 runs are open" in reason(gate.admit("resource", {**resource, "uid": "s"}, 0.0))


def test_defaults_of_the_schemas_are_not_written_into_documents():
    doc = {"uid": "a", "time": 1.0, "hints": {}}
    Gate().admit("start", doc, 0.0)
    assert doc == {"uid": "a", "time": 1.0, "hints": {}}
