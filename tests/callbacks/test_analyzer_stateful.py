"""The whole analyzer under documents that are lost, doubled, swapped, damaged and measured again."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import toy
from event_model import pack_event_page
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from listener import AnalysisOf, Listener

from skyloop.callbacks import Analyzer, Options
from skyloop.documents.frames import Point

RUNS = ("run-0", "run-1", "run-2")
VALUES = st.one_of(
    st.floats(0, 100).map(lambda v: round(v, 3)),
    st.sampled_from([toy.RAISES, toy.EXITS, math.nan, math.inf, "text", None, 10**400, np.float64(2.5)]),
)
JUNK = st.one_of(
    st.none(),
    st.integers(-2, 2),
    st.sampled_from([0, 2**63, 10**400, math.nan, "", "..", "run-0", "run-1-d", np.int64(3), np.zeros(2)]),
    st.lists(st.integers(-2, 2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(-2, 2), max_size=2),
)
KEYS = ("uid", "time", "seq_num", "data", "descriptor", "run_start", "name", "data_keys", "filled", "extra")


class Direct(Listener):
    """A sink without a thread of its own: what is published is heard at once, run by run."""

    failed, last_failure = 0, ""

    def __init__(self, ended: Callable[[AnalysisOf], None]) -> None:
        super().__init__()
        self._ended = ended
        self.results: Counter[tuple[str, int]] = Counter()
        self._raw: dict[str, str] = {}
        self._open: dict[str, Listener] = {}

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            assert doc["uid"] not in self._open
            self._open[doc["uid"]] = Listener()
        run = doc["uid"] if name == "start" else doc.get("run_start") or self._raw[doc["descriptor"]]
        self._raw[doc["uid"]] = run
        self._open[run](name, doc)
        if name == "event" and "raw_seq_num" in doc["data"]:
            self.results[self._open[run].docs[0][1]["original_run_uid"], doc["data"]["raw_seq_num"]] += 1
        if name == "stop":  # a run that is played once more is analysed once more
            self._ended(self._open.pop(run).run())

    @property
    def quiet(self) -> bool:
        """Whether every analysis run that began has ended."""
        return not self._open

    def flush(self, timeout: float) -> bool:
        return True

    def close(self) -> bool:
        return True


class Analysis(RuleBasedStateMachine):
    """Documents lie on a wire until they are delivered; what lies there may be changed in any way."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: Counter[tuple[str, int]] = Counter()
        self.newest: dict[tuple[str, int], Any] = {}
        technique = replace(toy.TECHNIQUE, frame_of=self.frame_of)
        self.analysis = Analyzer(technique, toy.Config(), Options(executor="inline", time_to_live=30.0))
        self.listener = Direct(self.the_final_word_is_right)
        self.analysis._sinks._all.append(self.listener)  # type: ignore[arg-type]
        self.wire: list[tuple[Any, Any]] = []
        self.uids = itertools.count()

    def frame_of(self, point: Point) -> float | None:
        """That of the toy, counted: what it gives or refuses is a frame that must leave a result."""
        spot = (point.run["uid"], point.seq_num)
        try:
            frame = toy.frame_of(point)
        except BaseException:
            self.frames[spot] += 1
            self.newest[spot] = None
            raise
        if frame is not None:
            self.frames[spot] += 1
            self.newest[spot] = None if frame in (toy.RAISES, toy.EXITS) else frame
        return frame

    # ------------------------------------------------------------------ documents of a RunEngine

    def event_of(self, run: str, number: int, value: Any) -> dict[str, Any]:
        uid = next(self.uids)
        return toy.event(run, number, value) | {"uid": f"e{uid}", "time": 10.0 + uid}

    @rule(run=st.sampled_from(RUNS), stream=st.sampled_from(["primary", "primary", "baseline"]))
    def begin(self, run: str, stream: str) -> None:
        docs = toy.raw_run([], run, stop=False)
        self.wire += [docs[0], ("descriptor", docs[1][1] | {"name": stream})]

    @rule(run=st.sampled_from(RUNS), number=st.integers(1, 5), value=VALUES)
    def event(self, run: str, number: int, value: Any) -> None:
        self.wire.append(("event", self.event_of(run, number, value)))

    @rule(run=st.sampled_from(RUNS), first=st.integers(1, 4), values=st.lists(VALUES, min_size=1, max_size=4))
    def page(self, run: str, first: int, values: list[Any]) -> None:
        events: list[Any] = [self.event_of(run, first + i, value) for i, value in enumerate(values)]
        self.wire.append(("event_page", dict(pack_event_page(*events))))

    @rule(run=st.sampled_from(RUNS))
    def stop(self, run: str) -> None:
        self.wire.append(("stop", toy.stop_of(run, 0) | {"uid": f"s{next(self.uids)}"}))

    @rule(run=st.sampled_from(RUNS), values=st.lists(VALUES, min_size=1, max_size=5), ends=st.booleans())
    def scan(self, run: str, values: list[Any], ends: bool) -> None:
        """A run as it should come."""
        self.begin(run, "primary")
        for number, value in enumerate(values, start=1):
            self.event(run, number, value)
        if ends:
            self.stop(run)

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
    @rule(data=st.data(), key=st.sampled_from(KEYS), value=JUNK, gone=st.booleans())
    def mutate(self, data: st.DataObject, key: str, value: Any, gone: bool) -> None:
        at = data.draw(st.integers(0, len(self.wire) - 1))
        name, doc = self.wire[at]
        changed = copy.deepcopy(doc)
        if gone:
            changed.pop(key, None)
        else:
            changed[key] = value
        self.wire[at] = (name, changed)

    @rule(run=st.sampled_from(RUNS), number=st.integers(1, 3), value=VALUES)
    def rewind(self, run: str, number: int, value: Any) -> None:
        """The same number once more: new uid, new time."""
        self.event(run, number, value)
        self.event(run, number, value)

    @rule(name=JUNK, doc=JUNK)
    def rubbish(self, name: Any, doc: Any) -> None:
        self.deliver_one(name, doc)

    # ------------------------------------------------------------------ delivery

    @precondition(lambda self: self.wire)
    @rule(count=st.integers(1, 15))
    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            self.deliver_one(*self.wire.pop(0))

    def deliver_one(self, name: Any, doc: Any) -> None:
        before = repr(doc)
        self.analysis(name, doc)
        assert repr(doc) == before

    @rule()
    def time_passes(self) -> None:
        self.analysis._pipeline.expire(1e12)
        assert self.analysis._pipeline._courses == {}

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def nothing_of_ours_breaks(self) -> None:
        assert self.analysis.health.faults == ()

    @invariant()
    def each_frame_has_its_result(self) -> None:
        assert self.listener.results == self.frames

    def teardown(self) -> None:
        while self.wire:
            self.deliver_one(*self.wire.pop(0))
        self.time_passes()
        assert self.analysis.close()
        self.nothing_of_ours_breaks()
        self.each_frame_has_its_result()
        assert self.listener.quiet
        assert not [key for key in self.analysis._pipeline._newest._times if key[0] in RUNS]

    def the_final_word_is_right(self, run: AnalysisOf) -> None:
        newest = [self.newest.pop(spot) for spot in list(self.newest) if spot[0] == run.raw_uid]
        summary = run.stream("summary")[0]["data"]
        assert summary["frames"] == len(run.stream("primary"))
        assert all(reason or outcome == "ok" for outcome, reason in _told(run))
        if "off after" in summary["toy_reason"]:
            return
        kept = [value for value in newest if value is not None]
        assert summary["toy_values"] == len(kept)
        if kept:
            np.testing.assert_equal(summary["toy_mean"], sum(sorted(kept)) / len(kept))


def _told(run: AnalysisOf) -> list[tuple[str, str]]:
    return list(zip(run.outcomes().values(), run.reasons().values(), strict=True))


TestAnalysis = Analysis.TestCase
TestAnalysis.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
