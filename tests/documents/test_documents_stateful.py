"""Documents of a few runs, lost, doubled, swapped and damaged: nothing raises and nothing is lost."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
from event_model import DocumentNames, pack_event_page, schema_validators
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skyloop.documents._pages import is_page, rows_of
from skyloop.documents.frames import Points
from skyloop.documents.gate import Gate, Quarantined

RUNS = ("run-0", "run-1", "run-2")
STREAMS = ("primary", "baseline")

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**63, 10**400]),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=3),
    st.sampled_from(["", "..", "a/b", "run-0", "run-1", "run-0-primary", "run-1-image", "x\x00", "\ud800"]),
    st.sampled_from([np.int64(3), np.float32(2.5), np.float64(math.nan), np.bool_(True), np.str_("uid")]),
    st.sampled_from([np.arange(3), np.zeros((2, 2)), np.array(1.0), np.array([None])]),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-2, 2), max_size=2),
    st.dictionaries(st.integers(), st.integers(), max_size=2),
)
keys = st.one_of(st.text(max_size=3), st.sampled_from(["uid", "time", "data", "x", "filled"]))


def data_keys() -> dict[str, Any]:
    number = {"source": "test", "dtype": "number", "shape": []}
    array = {"source": "test", "dtype": "array", "shape": [2]}
    return {"x": number, "a": array, "image": {**array, "external": "STREAM:", "dtype_numpy": "<f8"}}


class Documents(RuleBasedStateMachine):
    """Documents lie on a wire until they are delivered; what lies there may be changed in any way."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(max_parked=15, park_seconds=5.0)
        self.points = [Points(), Points(wanted=lambda descriptor: set())]
        self.wire: list[tuple[Any, Any]] = []
        self.uids = itertools.count()
        self.now = 0.0
        self.counts = dict.fromkeys(("came", "accepted", "quarantined", "absorbed"), 0)

    def uid(self) -> str:
        return f"uid-{next(self.uids)}"

    # ------------------------------------------------------------------ documents that a RunEngine sends

    @rule(run=st.sampled_from(RUNS))
    def start(self, run: str) -> None:
        self.wire.append(("start", {"uid": run, "time": 1.0, "plan_name": "scan", "hints": {}}))

    @rule(run=st.sampled_from(RUNS), stream=st.sampled_from(STREAMS))
    def descriptor(self, run: str, stream: str) -> None:
        config = {"det": {"data": {"t": 1.0}, "timestamps": {"t": 1.0}, "data_keys": {}}}
        doc = {
            "uid": f"{run}-{stream}", "run_start": run, "time": 1.0, "name": stream,
            "data_keys": data_keys(), "configuration": config, "object_keys": {"det": ["x"]}, "hints": {},
        }  # fmt: skip
        self.wire.append(("descriptor", doc))

    def an_event(self, run: str, stream: str, seq_num: int) -> dict[str, Any]:
        data = {"x": float(seq_num), "a": [1.0, 2.0]}
        return {
            "uid": self.uid(), "descriptor": f"{run}-{stream}", "time": 2.0, "seq_num": seq_num,
            "data": data, "timestamps": dict.fromkeys(data, 1.0), "filled": {},
        }  # fmt: skip

    @rule(run=st.sampled_from(RUNS), stream=st.sampled_from(STREAMS), seq_num=st.integers(1, 4))
    def event(self, run: str, stream: str, seq_num: int) -> None:
        self.wire.append(("event", self.an_event(run, stream, seq_num)))

    @rule(run=st.sampled_from(RUNS), stream=st.sampled_from(STREAMS), first=st.integers(1, 4))
    def event_page(self, run: str, stream: str, first: int) -> None:
        events: list[Any] = [self.an_event(run, stream, first + i) for i in range(3)]
        self.wire.append(("event_page", dict(pack_event_page(*events))))

    @rule(run=st.sampled_from(RUNS))
    def stream_resource(self, run: str) -> None:
        doc = {
            "uid": f"{run}-image", "run_start": run, "data_key": "image", "mimetype": "application/x-hdf5",
            "uri": "file://localhost/nowhere/a.h5", "parameters": {"dataset": "/data"},
        }  # fmt: skip
        self.wire.append(("stream_resource", doc))

    @rule(run=st.sampled_from(RUNS), stream=st.sampled_from(STREAMS), first=st.integers(1, 4))
    def stream_datum(self, run: str, stream: str, first: int) -> None:
        doc = {
            "uid": self.uid(), "stream_resource": f"{run}-image", "descriptor": f"{run}-{stream}",
            "indices": {"start": first - 1, "stop": first + 1},
            "seq_nums": {"start": first, "stop": first + 2},
        }  # fmt: skip
        self.wire.append(("stream_datum", doc))

    @rule(run=st.sampled_from(RUNS))
    def stop(self, run: str) -> None:
        doc = {"uid": self.uid(), "run_start": run, "time": 3.0, "exit_status": "success"}
        self.wire.append(("stop", doc))

    @rule(run=st.sampled_from(RUNS), stream=st.sampled_from(STREAMS), count=st.integers(1, 4))
    def scan(self, run: str, stream: str, count: int) -> None:
        """A run as it should come, without its end."""
        self.start(run)
        self.descriptor(run, stream)
        self.stream_resource(run)
        for seq_num in range(1, count + 1):
            self.stream_datum(run, stream, seq_num)
            self.event(run, stream, seq_num)
        self.event_page(run, stream, count)

    # ------------------------------------------------------------------ what goes wrong on the way

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        self.wire.append(data.draw(st.sampled_from(self.wire)))

    @precondition(lambda self: len(self.wire) > 1)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        i, j = (data.draw(st.integers(0, len(self.wire) - 1)) for _ in range(2))
        self.wire[i], self.wire[j] = self.wire[j], self.wire[i]

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), value=junk, key=keys)
    def mutate(self, data: st.DataObject, value: Any, key: str) -> None:
        at = data.draw(st.integers(0, len(self.wire) - 1))
        name, doc = self.wire[at]
        changed: Any = copy.deepcopy(doc)
        target = changed
        while data.draw(st.booleans()):  # anywhere in the document, not only at its top
            inner = [v for v in target.values() if isinstance(v, dict)]
            if not inner:
                break
            target = data.draw(st.sampled_from(inner))
        where = data.draw(st.sampled_from([*target, key]))
        if data.draw(st.booleans()):
            target[where] = value
        else:
            target.pop(where, None)
        self.wire[at] = (name, changed)

    @rule(name=st.one_of(junk, st.sampled_from([n.name for n in DocumentNames])), doc=junk)
    def rubbish(self, name: Any, doc: Any) -> None:
        self.deliver_one(name, doc)

    # ------------------------------------------------------------------ delivery

    @precondition(lambda self: self.wire)
    @rule(count=st.integers(1, 12))
    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            self.deliver_one(*self.wire.pop(0))

    def deliver_one(self, name: Any, doc: Any) -> None:
        before = repr(doc)
        self.now += 0.1
        rows = rows_of(name, doc) if isinstance(name, str) and is_page(name) and isinstance(doc, dict) else ""
        self.counts["came"] += len(rows) if isinstance(rows, list) else 1
        admission = self.gate.admit(name, doc, self.now)
        self.counts["absorbed"] += admission.absorbed
        self.note_quarantined(admission.quarantined)
        for passed in admission.accepted:
            self.counts["accepted"] += 1
            schema_validators[DocumentNames[passed[0]]].validate(passed[1])
            self.points[0].feed(*passed)
            made = self.points[1].feed(*passed)  # wants no frames, so that each event is a point
            assert len(made) == (passed[0] == "event")
        assert repr(doc) == before

    def note_quarantined(self, quarantined: tuple[Quarantined, ...]) -> None:
        self.counts["quarantined"] += len(quarantined)
        for each in quarantined:
            assert each.reason
            assert "\n" not in each.reason
            assert max(map(len, (each.name, each.uid, each.run_uid))) <= 256

    @rule(seconds=st.sampled_from([0.5, 6.0, 50.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expiry = self.gate.expire(self.now, 40.0)
        self.note_quarantined(expiry.quarantined)
        assert not set(expiry.runs) & set(self.gate.open_runs)

    @invariant()
    def nothing_is_lost(self) -> None:
        out = sum(self.counts[k] for k in ("accepted", "quarantined", "absorbed")) + self.gate.parked
        assert self.counts["came"] == out
        assert self.gate.parked <= 15

    @invariant()
    def points_that_are_given_up_say_why(self) -> None:
        for points in self.points:
            assert all(missing.reason and missing.run_uid for missing in points.refused())

    def teardown(self) -> None:
        while self.wire:
            self.deliver_one(*self.wire.pop(0))
        self.note_quarantined(self.gate.expire(self.now + 1e6, 1.0).quarantined)
        self.nothing_is_lost()
        assert (self.gate.parked, self.gate.open_runs) == (0, ())
        assert all(missing.reason for points in self.points for missing in points.close())


TestDocuments = Documents.TestCase
TestDocuments.settings = settings(
    max_examples=80,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
