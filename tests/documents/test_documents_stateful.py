"""Documents of a few runs, lost, doubled, swapped and damaged: nothing raises and nothing is lost."""

from __future__ import annotations

import itertools
from typing import Any

from event_model import DocumentNames, pack_event_page, schema_validators
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from wire import RUNS, SETTINGS, Wire

from skyloop.documents._pages import is_page, rows_of
from skyloop.documents.frames import Points
from skyloop.documents.gate import Gate, Quarantined

STREAMS = ("primary", "baseline")


def data_keys() -> dict[str, Any]:
    number = {"source": "test", "dtype": "number", "shape": []}
    array = {"source": "test", "dtype": "array", "shape": [2]}
    return {"x": number, "a": array, "image": {**array, "external": "STREAM:", "dtype_numpy": "<f8"}}


class Documents(Wire):
    """A gate at the end of the wire, and points behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(max_parked=15, park_seconds=5.0)
        self.points = [Points(), Points(wanted=lambda descriptor: set())]
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

    # ------------------------------------------------------------------ delivery

    def hear(self, name: Any, doc: Any) -> None:
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
        self.deliver_all()
        self.note_quarantined(self.gate.expire(self.now + 1e6, 1.0).quarantined)
        self.nothing_is_lost()
        assert (self.gate.parked, self.gate.open_runs) == (0, ())
        assert all(missing.reason for points in self.points for missing in points.close())


TestDocuments = Documents.TestCase
TestDocuments.settings = SETTINGS
