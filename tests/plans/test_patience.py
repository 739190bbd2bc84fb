"""What waiting may add to a measurement: 5 % of the fixed scan. Time is the test's own here."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fake_analysis import Axis, FakeAnalysis, FakeResult, Wander, det, engine

from skyloop.documents.inbox import Analysis
from skyloop.plans import Action, Choice, Continue, Course, Instrument, Limits, Steering, steer
from skyloop.plans import _watch as watch
from skyloop.plans._verify import Policies, verify
from skyloop.plans._wait import peek

NEVER = math.inf
GOOD = FakeResult()


class Follow(Wander):
    """Leaves the fixed scan as it is."""

    def __call__(self, *_: Any) -> Choice:
        return Continue()


class Bench:
    """A run whose analysis takes a given time for each point; a point takes longer than any analysis."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds_of: Callable[[int], float]) -> None:
        self.waits: list[float] = []
        self.seconds_of = seconds_of
        self.analysis = FakeAnalysis(self._arrives)
        self._owed: list[int] = []
        monkeypatch.setattr(watch, "wait_result", self._wait)
        monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: sum(self.waits)))

    def _arrives(self, seq_num: int) -> None:
        """While a point is measured, the results of those before it arrive."""
        for late in self._owed:
            self.analysis.deliver(late, GOOD)
        self._owed = [seq_num] if self.seconds_of(seq_num) < NEVER else []
        if self.seconds_of(seq_num) == 0:
            self._deliver(seq_num)

    def _deliver(self, seq_num: int) -> None:
        if seq_num in self._owed:
            self._owed.remove(seq_num)
            self.analysis.deliver(seq_num, GOOD)

    def _wait(self, inbox: Any, key: Any, seconds: float) -> Any:
        yield from ()
        needed = self.seconds_of(key[2])
        self.waits.append(min(needed, seconds))
        if needed > seconds:
            return None
        self._deliver(key[2])
        return peek(inbox, key)

    def run(
        self,
        policy: Any,
        *,
        count_time: float,
        timeout: float = 5.0,
        mode: Any = "auto",
        lag: bool = False,
    ) -> list[str]:
        """The faults of the decisions."""
        fixed = tuple(Action(round(0.1 * i, 1), count_time) for i in range(10))
        course = Course(fixed, limits=Limits(position=(0.0, 1.0)), mode=mode)
        steering = Steering(policy=policy, course=course, inbox=self.analysis.inbox, timeout=timeout, lag=lag)
        engine(self.analysis)(steer(Instrument((det,), Axis((0.0, 1.0))), steering))
        return [decision["fault"] for decision in self.analysis.decisions()]


@pytest.mark.parametrize(("count_time", "timeout", "waited"), [(1, 5, 0.5), (5, 5, 2.5), (100, 5, 5)])
def test_a_dead_analysis_is_waited_for_once_and_at_most_for_5_percent_of_the_scan(
    monkeypatch: pytest.MonkeyPatch, count_time: float, timeout: float, waited: float
) -> None:
    bench = Bench(monkeypatch, lambda _: NEVER)
    faults = bench.run(Wander(points=3), count_time=count_time, timeout=timeout)
    assert bench.waits == [waited]
    assert set(faults[1:]) == {"silent"}


def test_all_waits_in_vain_together_take_at_most_5_percent_of_the_scan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, lambda _: 30.0)  # each result comes, and each comes too late
    faults = bench.run(Wander(points=10), count_time=100.0, timeout=20.0)
    assert bench.waits == [20.0, 20.0, 10.0]
    assert faults[4:] == ["lost"] * (len(faults) - 4)


def test_a_plan_that_chooses_its_points_waits_for_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, lambda _: 3.0)
    faults = bench.run(Wander(points=10), count_time=10.0)  # 5 % of this scan is 5 s
    assert bench.waits == [3.0] * 10
    assert set(faults) == {""}


def test_waits_that_were_needed_leave_the_patience_for_those_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, lambda n: NEVER if n == 9 else 3.0)
    bench.run(Wander(points=10), count_time=10.0, timeout=60.0)
    assert bench.waits == [3.0] * 8 + [5.0]


def test_a_result_that_nobody_waited_for_gives_no_wait_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, lambda n: NEVER if n % 2 == 0 else 0.0)
    faults = bench.run(Wander(points=10), count_time=20.0)  # 5 % of this scan is 10 s
    assert [wait for wait in bench.waits if wait] == [5.0, 5.0]
    assert faults[:7] == ["", "", "late", "", "late", "", "lost"]


SHADOWS = [(Follow(points=0), "auto"), (Wander(points=20), "shadow"), (Wander(points=20), "advise")]


@pytest.mark.parametrize(("policy", "mode"), SHADOWS)
def test_where_the_fixed_scan_is_measured_all_waits_count(
    monkeypatch: pytest.MonkeyPatch, policy: Any, mode: str
) -> None:
    bench = Bench(monkeypatch, lambda _: 1.0)
    faults = bench.run(policy, count_time=10.0, timeout=60.0, mode=mode)
    assert sum(bench.waits) == 5.0
    assert faults == [""] * 6 + ["lost"] * 5


def test_too_late_each_time_and_yet_within_the_patience() -> None:
    waits: list[float] = []
    inbox = FakeAnalysis(lambda _: None).inbox
    waiting = watch.Watch(inbox, "run", timeout=1e-3, patience=3.5e-3, lag=False)
    analysis = FakeAnalysis(lambda _: None)

    def plan() -> Any:
        for seq_num in range(1, 12):
            _, fault = yield from waiting.news(seq_num)
            waits.append(float(fault in ("silent", "late")))
            inbox.put(("run", "primary", seq_num), Analysis(GOOD, "uid", 1))  # always too late

    engine(analysis)(plan())
    assert waits[:4] == [1, 1, 1, 1]
    assert sum(waits) == 4


@pytest.mark.parametrize(("planned", "seconds"), [(0.1, 0.5), (10.0, 0.5), (100.0, 5.0), (3600.0, 180.0)])
def test_patience_is_5_percent_of_the_scan_and_half_a_second_for_a_short_one(
    planned: float, seconds: float
) -> None:
    assert watch.patience(planned) == pytest.approx(seconds)


@pytest.mark.parametrize("lag", [True, False])
def test_a_plan_that_only_stops_goes_on_with_earlier_results_when_its_patience_is_used_up(
    monkeypatch: pytest.MonkeyPatch, lag: bool
) -> None:
    bench = Bench(monkeypatch, lambda _: 1.0)
    faults = bench.run(Follow(points=0), count_time=10.0, timeout=60.0, lag=lag)
    used = [decision["analysis_seq_num"] for decision in bench.analysis.decisions()]
    assert sum(bench.waits) == 5.0
    assert faults == [""] * 6 + ["lost"] + ["" if lag else "lost"] * 4
    assert used == [*range(6), 0, *((6, 7, 8, 9) if lag else (0,) * 4)]
    documents = bench.analysis.raw, bench.analysis.documents
    assert verify(*documents, policies=Policies(FakeResult, (Follow,))).differences == ()


def test_an_earlier_result_is_a_difference_where_the_run_does_not_allow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, lambda _: 1.0)
    bench.run(Follow(points=0), count_time=10.0, timeout=60.0, lag=True)
    bench.analysis.raw[0][1]["adaptive"]["lag"] = False
    report = verify(bench.analysis.raw, bench.analysis.documents, policies=Policies(FakeResult, (Follow,)))
    assert {difference.field for difference in report.differences} >= {"analysis_seq_num"}
