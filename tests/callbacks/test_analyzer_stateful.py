"""The whole analyzer under documents that are lost, doubled, swapped, damaged and measured again."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import toy
from event_model import pack_event_page
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from listener import AnalysisOf, Listener
from wire import RUNS, SETTINGS, Wire

from skyloop.callbacks import Analyzer, Options
from skyloop.documents.frames import Point

VALUES = st.one_of(
    st.floats(0, 100).map(lambda v: round(v, 3)),
    st.sampled_from([toy.RAISES, toy.EXITS, math.nan, math.inf, "text", None, 10**400, np.float64(2.5)]),
)


class Direct(Listener):
    """A sink without a thread of its own: what is published is heard at once, run by run."""

    trouble, is_here = "", False

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


class Analysis(Wire):
    """An analyzer at the end of the wire."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: Counter[tuple[str, int]] = Counter()
        self.newest: dict[tuple[str, int], Any] = {}
        technique = replace(toy.TECHNIQUE, frame_of=self.frame_of)
        self.analysis = Analyzer(technique, toy.Config(), Options(executor="inline", time_to_live=30.0))
        self.listener = Direct(self.the_final_word_is_right)
        self.analysis._sinks._all.append((self.listener, lambda _: True))  # type: ignore[arg-type]
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

    @rule(run=st.sampled_from(RUNS), number=st.integers(1, 3), value=VALUES)
    def rewind(self, run: str, number: int, value: Any) -> None:
        """The same number once more: new uid, new time."""
        self.event(run, number, value)
        self.event(run, number, value)

    # ------------------------------------------------------------------ delivery

    def hear(self, name: Any, doc: Any) -> None:
        self.analysis(name, doc)

    @rule()
    def time_passes(self) -> None:
        self.analysis._pipeline.expire(1e12)
        assert self.analysis._pipeline._open_runs == {}

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def nothing_of_ours_breaks(self) -> None:
        assert self.analysis.health.faults == ()

    @invariant()
    def each_frame_has_its_result(self) -> None:
        assert self.listener.results == self.frames

    def teardown(self) -> None:
        self.deliver_all()
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
TestAnalysis.settings = SETTINGS
