"""Nothing leaves its limits: what the guard refuses is not moved to, and is recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from fake_analysis import FakeAnalysis, FakeResult, Wander, engine
from steered import FIXED, GOOD, POSITIONS, Bench, Scripted

from skyloop.errors import RefusedError
from skyloop.plans import Action, Choice, Continue, Course, Limits, Pace, Proposal, Situation

BAD = [
    (Action(math.nan, 1.0), "finite"),
    (Action(math.inf, 1.0), "finite"),
    (Action("0.5", 1.0), "finite"),  # pyright: ignore[reportArgumentType]
    (Action(1.5, 1.0), "user_limits"),
    (Action(-0.1, 1.0), "user_limits"),
    (Action(0.5, -1.0), "count_time"),
    (Action(0.5, 100.0), "count_time"),
    (Action(0.95, 1.0), "step"),
]


@pytest.mark.parametrize(("action", "rule"), BAD)
def test_what_the_guard_refuses_is_recorded_and_not_moved_to(action: Action, rule: str) -> None:
    limits = Limits(position=(0.0, 1.0), count_time=(0.1, 10.0), step=0.5)
    bench = Bench()

    def policy(results: Sequence[FakeResult], situation: Situation) -> Choice:
        return Proposal(action) if len(situation.measured) == 2 else Continue()

    bench.run(Scripted(policy), limits=limits)
    assert bench.axis.sent == POSITIONS
    decision = bench.analysis.decisions()[2]
    assert (decision["guard_rule"], decision["source"], decision["reason"]) == (rule, "guard", rule)
    assert decision["guard_message"]
    assert decision["executed_position"] == POSITIONS[2]


def test_a_fixed_scan_out_of_its_limits_is_refused_before_anything_moves() -> None:
    bench = Bench()
    bench.axis.limits = (0.0, 0.45)
    with pytest.raises(RefusedError, match=r"device_limits: position 0\.5"):
        bench.run(Wander(points=3))
    assert bench.axis.sent == []
    assert bench.analysis.raw == []


def test_without_any_limits_nothing_moves() -> None:
    bench = Bench()
    bench.axis.limits = (0.0, 0.0)
    with pytest.raises(RefusedError, match="device_limits_unknown"):
        bench.run(Wander(points=3), limits=Limits())
    assert bench.axis.sent == []


def test_limits_that_change_between_decision_and_move_stop_the_move() -> None:
    bench = Bench()

    class Narrowing(FakeAnalysis):
        def __call__(self, name: str, doc: dict[str, Any]) -> None:
            super().__call__(name, doc)
            if name == "event" and doc["data"].get("decision_seq") == 3:
                bench.axis.limits = (0.0, bench.axis.sent[-1])  # the decision is written, the move not made

    bench.analysis = Narrowing(lambda _: GOOD)
    bench.engine = engine(bench.analysis)
    up = Scripted(lambda _, situation: Proposal(Action(0.1 + 0.01 * len(situation.measured), 1.0)))
    result = bench.run(up)
    assert bench.axis.sent[:2] == [0.1, 0.11]
    assert max(bench.axis.sent) == 0.11
    assert bench.column("fault")[3] == "refused"
    assert bench.column("source")[3] == "guard"
    # the fixed scan goes on where it may, until it may not: then the plan stops by itself
    assert result["reason"] == "guard"
    assert len(bench.analysis.events("primary")) == result["points"]


def test_after_an_excursion_the_fixed_scan_fits_into_the_beam_time_that_is_left() -> None:
    course = Course(FIXED, limits=Limits(time=11.0), pace=Pace(overhead=0.1))
    measured = [Action(0.3, 4.0)]
    situation = course.situation(measured)
    left = course.left(situation)
    assert [action.position for action in left] == [p for p in POSITIONS if p != 0.3]
    total = situation.spent + course.pace.total(left, situation.position)
    assert total == pytest.approx(11.0)
    assert total <= 11.0
    assert len({action.count_time for action in left}) == 1
