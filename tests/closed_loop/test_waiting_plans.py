"""Plans that wait for a real analysis: late, hanging, broken or measured again, the scan is completed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Any, ClassVar

import pytest
from beam import Number, analyzer
from bluesky import plan_stubs as bps
from bluesky.utils import RunEngineInterrupted
from fake_analysis import Axis, FakeResult, Wander, det, engine, scalars
from listener import Listener

from skyloop.callbacks import Analyzer, Options, Technique
from skyloop.documents.frames import Point
from skyloop.errors import Outcome
from skyloop.plans import Action, Course, Instrument, Limits, Steering, steer
from skyloop.plans._wait import wait_result
from skyloop.plans._watch import UNHEARD
from skyloop.quantities import Sizes

FIXED = tuple(Action(round(0.1 * n, 1), 1e3) for n in range(6))  # 5 % of it is longer than any wait here


@dataclass(frozen=True)
class Config:
    pass


class Engine:
    """Answers with a target; holds back or breaks from a frame on that the test names."""

    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = FakeResult

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sizes: Sizes = {}
        self.units: Mapping[str, str] = {}
        self.held: set[int] = set()
        self.broken: set[int] = set()
        self.go, self.entered = Event(), Event()

    def start(self, key: int, /) -> int:
        return 0

    def step(self, state: int, frames: Sequence[int], /) -> tuple[int, FakeResult]:
        if self.held & set(frames):
            self.entered.set()
            assert self.go.wait(60)
        if self.broken & set(frames):
            raise MemoryError("no memory")
        return state + len(frames), FakeResult(target_sigma=10.0)

    def finish(self, state: int, /) -> FakeResult:
        return replace(FakeResult(), outcome=Outcome.OK)


def number_of(point: Point) -> int | None:
    return point.seq_num if point.stream == "primary" else None


@pytest.fixture
def fake() -> Iterator[tuple[Engine, Analyzer, Listener, Listener]]:
    made = Engine(Config())
    technique = Technique("fake", lambda _: Config(), lambda _: made, number_of, ("target",))
    listener, raw = Listener(), Listener()
    with Analyzer(technique, Config(), Options(executor="thread")) as analysis:
        analysis.subscribe(listener)
        yield made, analysis, listener, raw
        made.go.set()
        assert analysis.flush(60)
        assert analysis.health.faults == ()
    for run in listener.runs():
        assert sorted(run.spots()) == [e["seq_num"] for e in _points(raw)]


def _points(raw: Listener) -> list[dict[str, Any]]:
    streams = {doc["uid"]: doc["name"] for doc in raw.of("descriptor")}
    return [event for event in raw.of("event") if streams[event["descriptor"]] == "primary"]


def _decisions(raw: Listener) -> list[dict[str, Any]]:
    streams = {doc["uid"]: doc["name"] for doc in raw.of("descriptor")}
    return [
        {key.removeprefix("decision_"): value for key, value in event["data"].items()}
        for event in raw.of("event")
        if streams[event["descriptor"]] == "decision"
    ]


def adaptive(analysis: Analyzer, timeout: float = 60.0, **course: Any) -> Any:
    given: dict[str, Any] = {"fixed": FIXED, "limits": Limits(position=(0.0, 1.0))} | course
    steering = Steering(
        policy=Wander(points=6), course=Course(**given), inbox=analysis.inbox, timeout=timeout
    )
    return steer(Instrument((det,), Axis((0.0, 1.0))), steering)


def test_each_decision_rests_on_the_result_of_its_point(fake: Any) -> None:
    _, analysis, listener, raw = fake
    result = engine(analysis, raw)(adaptive(analysis))
    assert result.exit_status == "success"
    assert analysis.flush(30)
    analysed = [event["uid"] for event in listener.run().stream("primary")]
    assert [d["analysis_event_uid"] for d in _decisions(raw)] == ["", *analysed]
    assert {d["source"] for d in _decisions(raw)} == {"policy"}


def test_an_analysis_that_hangs_is_answered_by_the_fixed_scan_and_recorded(fake: Any) -> None:
    made, analysis, _, raw = fake
    made.held = {3}
    result = engine(analysis, raw)(adaptive(analysis, timeout=0.05))
    assert result.exit_status == "success"
    decisions = _decisions(raw)
    assert len(_points(raw)) >= len(FIXED)
    faults = [d["fault"] for d in decisions]
    assert "late" in faults
    assert faults[-1] == "lost"
    assert {d["source"] for d in decisions if d["fault"]} == {"fallback"}
    assert decisions[-1]["reason"] == "analysis_lost"
    assert not made.go.is_set()


def test_an_analysis_that_was_never_subscribed_is_told_and_the_fixed_scan_is_measured(fake: Any) -> None:
    _, analysis, _, _ = fake
    raw = Listener()
    assert engine(raw)(adaptive(analysis, timeout=0.05)).exit_status == "success"
    decisions = _decisions(raw)
    assert {d["fault"] for d in decisions[1:]} == {"silent"}
    assert {d["reason"] for d in decisions[1:-1]} == {UNHEARD}
    assert decisions[-1]["reason"] == "analysis_lost"


def test_an_analysis_that_breaks_is_answered_by_the_fixed_scan_and_recorded(fake: Any) -> None:
    made, analysis, listener, raw = fake
    made.broken = {2}
    assert engine(analysis, raw)(adaptive(analysis)).exit_status == "success"
    assert analysis.flush(30)
    assert listener.run().reasons()[2] == "MemoryError: no memory"
    (fallback,) = [d for d in _decisions(raw) if d["raw_seq_num"] == 2]
    assert (fallback["fault"], fallback["source"]) == ("failed", "fallback")
    assert scalars(fallback)


def test_pause_and_abort_while_the_analysis_hangs_are_honoured(fake: Any) -> None:
    made, analysis, listener, raw = fake
    made.held = {2}
    run_engine = engine(analysis, raw)

    def ask(new: str, old: str) -> None:
        if new == "running" and old == "idle":
            run_engine.loop.run_in_executor(
                None, lambda: made.entered.wait(60) and run_engine.request_pause()
            )

    run_engine.state_hook = ask
    with pytest.raises(RunEngineInterrupted):
        run_engine(adaptive(analysis))
    assert not made.go.is_set()
    assert [event["seq_num"] for event in _points(raw)] == [1, 2]
    run_engine.abort()
    made.go.set()
    assert analysis.flush(60)
    run = listener.run()
    assert run.stop is not None
    assert run.stop["exit_status"] == "abort"
    assert run.spots() == [1, 2]


def test_a_plan_of_ones_own_gets_the_result_of_the_newest_emission() -> None:
    found: list[Any] = []
    with analyzer("thread") as analysis:
        run_engine, paused = engine(analysis), []

        def plan() -> Any:
            x = Number([1.0, 5.0])
            uid = yield from bps.open_run()
            yield from bps.checkpoint()
            yield from bps.trigger_and_read([x])
            if not paused:
                assert analysis.flush(30)  # the result of the first emission is there
                paused.append(True)
                yield from bps.pause()
            found.append((yield from wait_result(analysis.inbox, (uid, "primary", 1), 60)))
            yield from bps.close_run()

        with pytest.raises(RunEngineInterrupted):
            run_engine(plan())
        run_engine.resume()
    assert [f.result.mean for f in found] == [5.0]
