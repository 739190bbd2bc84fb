"""What the guard asks may be gone for a while: the point is refused with the reason, and the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_analysis import POLICIES, Axis, FakeAnalysis, FakeResult, Wander, det, engine

from skyloop.errors import RefusedError
from skyloop.plans import Action, Course, Instrument, Limits, Pace, Situation, Steering, steer, verify
from skyloop.plans._guard import Guard, Rule

FIXED = tuple(Action(round(0.1 * i, 1), 1.0) for i in range(10))
NOWHERE = Situation((), 0.0, 0)


class Wire:
    """The wire to a device, which a test may cut."""

    def __init__(self) -> None:
        self.cut: Callable[[], bool] = lambda: False

    def use(self) -> None:
        if self.cut():
            raise TimeoutError("PV lost")


class RemoteAxis(Axis):
    """An axis whose limits are read over the wire."""

    wire = Wire()

    @property
    def limits(self) -> tuple[float, float]:
        self.wire.use()
        return (0.0, 1.0)

    @limits.setter
    def limits(self, value: Any) -> None:
        pass


class Bench:
    """One run that asks over a wire; `kind` says who asks."""

    def __init__(self, kind: str) -> None:
        self.wire = Wire()
        self.analysis = FakeAnalysis(lambda _: FakeResult())
        self.axis: Any = Axis((0.0, 1.0)) if kind == "shutter_open" else RemoteAxis()
        self.axis.wire = self.wire
        self.rules: tuple[Rule, ...] = (self.shutter_open,) if kind == "shutter_open" else ()

    def shutter_open(self, action: Action, situation: Situation) -> str:
        self.wire.use()
        return ""

    def run(self) -> Any:
        course = Course(fixed=FIXED, limits=Limits(position=(0.0, 1.0)))
        policy, inbox = Wander(points=8), self.analysis.inbox
        steering = Steering(policy=policy, course=course, inbox=inbox, rules=self.rules)
        return engine(self.analysis)(steer(Instrument((det,), self.axis), steering))

    def at(self, decisions: int, points: int) -> bool:
        """Whether the run has come to a moment."""
        events = self.analysis.events
        return (len(events("decision")), len(events("primary"))) == (decisions, points)

    def verified(self) -> bool:
        raw, analysis = json.loads(json.dumps([self.analysis.raw, self.analysis.documents]))
        return verify(raw, analysis, policies=POLICIES).verified


KINDS = [
    ("shutter_open", "shutter_open", "the rule itself raised TimeoutError: PV lost"),
    ("limits", "device", "x does not tell its limits: TimeoutError: PV lost"),
]


@pytest.mark.parametrize(("kind", "rule", "message"), KINDS)
def test_a_point_that_the_guard_could_not_judge_is_refused_and_the_next_one_is_not(
    kind: str, rule: str, message: str
) -> None:
    bench = Bench(kind)
    bench.wire.cut = lambda: bench.at(2, 2)  # the policy's third point is judged
    result = bench.run()
    assert result.exit_status == "success"
    assert result.plan_result["points"] == 8
    refused = bench.analysis.decisions()[2]
    assert (refused["guard_rule"], refused["guard_message"]) == (rule, message)
    assert (refused["choice"], refused["source"], refused["reason"]) == ("measure", "guard", rule)
    sources = [decision["source"] for decision in bench.analysis.decisions()]
    assert sources == ["policy"] * 2 + ["guard"] + ["policy"] * 6
    assert bench.verified()


@pytest.mark.parametrize(("kind", "rule", "message"), KINDS)
def test_a_refusal_at_the_moment_of_execution_is_recorded_with_its_reason(
    kind: str, rule: str, message: str
) -> None:
    bench = Bench(kind)
    bench.wire.cut = lambda: bench.at(3, 2)  # the third decision is written, its point not measured
    result = bench.run()
    assert result.exit_status == "success"
    after = bench.analysis.decisions()[3]
    assert (after["fault"], after["source"]) == ("refused", "guard")
    assert (after["guard_rule"], after["guard_message"]) == (rule, message)
    assert len(bench.axis.sent) == result.plan_result["points"] == 8
    assert bench.verified()


@pytest.mark.parametrize(("kind", "rule", "message"), KINDS)
def test_a_guard_that_stays_blind_ends_the_run_in_order(kind: str, rule: str, message: str) -> None:
    bench = Bench(kind)
    bench.wire.cut = lambda: bench.at(3, 2) or bench.at(4, 2)
    result = bench.run()
    assert result.exit_status == "success"
    assert result.plan_result["reason"] == "guard"
    assert len(bench.axis.sent) == result.plan_result["points"] == 2
    last = bench.analysis.decisions()[-1]
    assert (last["fault"], last["guard_rule"], last["guard_message"]) == ("refused again", rule, message)
    assert bench.verified()


@pytest.mark.parametrize(("kind", "rule", "message"), KINDS)
def test_a_guard_that_is_blind_from_the_beginning_lets_nothing_move(
    kind: str, rule: str, message: str
) -> None:
    bench = Bench(kind)
    bench.wire.cut = lambda: True
    with pytest.raises(RefusedError, match=f"^{rule}: {message}$"):
        bench.run()
    assert bench.axis.sent == []
    assert bench.analysis.raw == []


@pytest.mark.parametrize("limits", [(None, 1.0), (0.0,), 3.0])
def test_limits_that_are_none_refuse_each_point(limits: Any) -> None:
    axis: Any = Axis(limits)
    verdict = Guard(axis, Limits(position=(0, 1)), Pace()).check(Action(0.5, 1.0), NOWHERE)
    assert verdict.rule == "device"
    assert "x does not tell its limits" in verdict.message
