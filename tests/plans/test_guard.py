from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from bluesky import plan_stubs as bps
from bluesky.utils import RunEngineInterrupted
from fake_analysis import PATIENT, Axis, engine, thread
from hypothesis import given, settings
from hypothesis import strategies as st
from ophyd import Signal, SoftPositioner
from ophyd.utils import LimitError, ReadOnlyError
from waiting import until

from skyloop.errors import RefusedError
from skyloop.plans._async_checks import AsyncChecks
from skyloop.plans._course import Action, Limits, Pace, Situation
from skyloop.plans._guard import Guard, Guarded, Verdict, within

NOWHERE = Situation(measured=(), spent=0.0, seed=0)


def at(position: float, spent: float = 0.0) -> Situation:
    return Situation(measured=(Action(position, 1.0),), spent=spent, seed=0)


def rule(limits: Limits, action: Action, situation: Situation = NOWHERE, axis: Any = None) -> str:
    return Guard(axis or Axis(), limits, Pace()).check(action, situation).rule


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, np.float32("nan"), None, "1", True, 1j, [1.0], 10**400]
)
def test_what_is_not_a_finite_number_is_refused_first(value: Any) -> None:
    # even where the device would take anything: its limits are unknown, the user's are not asked
    assert rule(Limits(), Action(value, 1.0), axis=Axis((0, 0))) == "finite"
    assert rule(Limits(), Action(0.5, value), axis=Axis((0, 0))) == "finite"


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1), Fraction(1, 2)])
def test_numbers_of_any_make_pass(value: Any) -> None:
    assert rule(Limits(position=(0, 1)), Action(value, 1.0)) == ""


@pytest.mark.parametrize(
    ("limits", "action", "situation", "expected"),
    [
        (Limits(position=(0, 1)), Action(1.1, 1), NOWHERE, "user_limits"),
        (Limits(position=(0, 1)), Action(-0.1, 1), NOWHERE, "user_limits"),
        (Limits(), Action(10.5, 1), NOWHERE, "device_limits"),
        (Limits(position=(0, 20)), Action(10.5, 1), NOWHERE, "device_limits"),
        (Limits(), Action(1, 0), NOWHERE, "count_time"),
        (Limits(), Action(1, -1), NOWHERE, "count_time"),
        (Limits(count_time=(1, 5)), Action(1, 0.5), NOWHERE, "count_time"),
        (Limits(count_time=(1, 5)), Action(1, 6), NOWHERE, "count_time"),
        (Limits(step=0.5), Action(1, 1), at(0.4), "step"),
        (Limits(time=10), Action(1, 2), at(0, spent=9), "time"),
        (Limits(dose=2), Action(1, 1.5), at(0), "dose"),
        (Limits(points=1), Action(1, 1), at(0), "points"),
    ],
)
def test_each_limit_refuses_under_its_name(
    limits: Limits, action: Action, situation: Situation, expected: str
) -> None:
    verdict = Guard(Axis(), limits, Pace()).check(action, situation)
    assert verdict.rule == expected
    assert not verdict.accepted
    assert verdict.message


def test_what_is_just_inside_each_limit_passes() -> None:
    limits = Limits((0, 1), count_time=(1, 5), step=1, time=10, dose=6, points=2)
    assert rule(limits, Action(1, 5), at(0, spent=5)) == ""


def test_the_first_point_may_be_any_step_away() -> None:
    assert rule(Limits(step=0.1), Action(5, 1), NOWHERE) == ""


def test_moves_count_as_beam_time() -> None:
    guard = Guard(Axis(), Limits(time=10), Pace(overhead=2, per_unit=10))
    assert guard.check(Action(0.5, 3), at(0)).accepted
    assert guard.check(Action(0.5, 3.1), at(0)).rule == "time"


@pytest.mark.parametrize("limits", [(0, 0), (5, -5), None])
def test_limits_that_the_device_does_not_know_must_be_given_by_the_user(limits: Any) -> None:
    verdict = Guard(Axis(limits), Limits(), Pace()).check(Action(0.0, 1), NOWHERE)
    assert verdict.rule == "device_limits_unknown"
    assert "limits=[low, high]" in verdict.message
    assert rule(Limits(position=(-1, 1)), Action(0.0, 1), axis=Axis(limits)) == ""


def test_an_axis_of_ophyd_without_limits_is_unlimited_for_ophyd_and_not_for_the_guard() -> None:
    axis = SoftPositioner(name="soft")
    axis.check_value(1e9)
    assert rule(Limits(), Action(1e9, 1), axis=axis) == "device_limits_unknown"
    assert rule(Limits(), Action(1.0, 1), axis=SoftPositioner(name="soft", limits=(0, 2))) == ""


@pytest.mark.parametrize(
    "error", [LimitError("no"), ReadOnlyError("no"), TimeoutError("away"), KeyError("k")]
)
def test_whatever_a_device_raises_is_a_refusal(error: Exception) -> None:
    class Stubborn(Axis):
        def check_value(self, value: float, **_: Any) -> None:
            raise error

    assert rule(Limits(), Action(1, 1), axis=Stubborn()) == "device"


def test_a_count_time_that_the_detector_refuses_is_refused() -> None:
    guard = Guard(Axis(), Limits(), Pace(), settings=(Axis((0, 5)), SoftPositioner(name="t", limits=(0, 2))))
    assert guard.check(Action(1, 2), NOWHERE).accepted
    verdict = guard.check(Action(1, 3), NOWHERE)
    assert verdict.rule == "device"
    assert "t refuses 3" in verdict.message


def test_limits_are_those_of_now_not_of_the_beginning() -> None:
    axis = Axis((-10, 10))
    guard = Guard(axis, Limits(), Pace())
    assert guard.check(Action(5, 1), NOWHERE).accepted
    axis.limits = (-1, 1)
    assert guard.check(Action(5, 1), NOWHERE).rule == "device_limits"


def test_nobody_widens_the_limits_of_a_guard() -> None:
    guard = Guard(Axis(), Limits(position=(0, 1)), Pace())
    with pytest.raises(AttributeError):
        guard.limits = Limits()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_rule_of_the_users_own_is_asked_each_time() -> None:
    state = {"in": False}

    def attenuator(action: Action, situation: Situation) -> str:
        return "" if action.position >= 0.02 or state["in"] else "the attenuator is out"

    guard = Guard(Axis(), Limits(), Pace(), (attenuator,))
    assert guard.check(Action(0.01, 1), NOWHERE).rule == "attenuator"
    assert guard.check(Action(0.03, 1), NOWHERE).accepted
    state["in"] = True
    assert guard.check(Action(0.01, 1), NOWHERE).accepted


class Async(Axis):
    """Checks itself in a coroutine, as devices of ophyd-async do."""

    async def check_value(self, value: float, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise ValueError(f"{value} is too far")


def asked(guard: Guard, action: Action) -> Verdict:
    """What the devices themselves say, asked by a plan."""
    return engine()(AsyncChecks(guard).ask(action, NOWHERE)).plan_result


def test_a_check_that_is_a_coroutine_is_asked_by_the_plan() -> None:
    axis: Any = Async()
    guard = Guard(axis, Limits(), Pace())
    assert guard.check(Action(1, 1), NOWHERE).accepted
    assert asked(guard, Action(1, 1)) == Verdict("device", "x refuses 1: 1 is too far")


def test_a_check_that_is_no_coroutine_is_not_asked_again() -> None:
    axis: Any = Axis((-1, 1))
    checks = AsyncChecks(Guard(axis, Limits(), Pace()))
    assert list(checks.ask(Action(0.5, 1), NOWHERE)) == []
    assert list(checks.ask(Action(5, 1), NOWHERE)) == []


def test_a_check_that_is_a_coroutine_tells_no_limits() -> None:
    assert rule(Limits(), Action(1, 1), axis=Async(None)) == "device_limits_unknown"  # pyright: ignore[reportArgumentType]
    assert rule(Limits(position=(0, 2)), Action(1, 1), axis=Async(None)) == ""  # pyright: ignore[reportArgumentType]


def test_a_refused_set_never_reaches_the_device() -> None:
    axis: Any = Axis((-1, 1))
    guard = Guard(axis, Limits(), Pace())

    def plan() -> Any:
        for position in (0.5, 2.0):
            action = Action(position, 1)
            guarded = Guarded(axis, lambda action=action: guard.check(action, NOWHERE).assure())
            yield from bps.abs_set(guarded, position, wait=True)

    with pytest.raises(RefusedError, match=r"device_limits: position 2 is outside the limits \[-1, 1\] of x"):
        engine()(plan())
    assert axis.sent == [0.5]


def test_a_move_repeated_after_a_pause_is_judged_again() -> None:
    axis: Any = Axis((-10, 10))
    waiting: Any = Signal(name="waiting", value=0)
    guard = Guard(axis, Limits(), Pace())
    run_engine = engine()

    def plan() -> Any:
        yield from bps.checkpoint()
        guarded = Guarded(axis, lambda: guard.check(Action(5, 1), NOWHERE).assure())
        yield from bps.abs_set(guarded, 5.0, wait=True)
        yield from bps.abs_set(waiting, 1)
        yield from bps.sleep(PATIENT)

    def pause() -> None:
        until(waiting.get)
        run_engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        run_engine(plan())
    axis.limits = (-1, 1)
    with pytest.raises(RefusedError):
        run_engine.resume()
    assert axis.sent == [5.0]


anything = st.one_of(
    st.floats(),
    st.floats(-2, 2),
    st.integers(),
    st.none(),
    st.text(max_size=3),
    st.booleans(),
    st.complex_numbers(),
    st.just(10**400),
)
device_limits = st.sampled_from([(0, 0), (-1.5, 0.5), (math.nan, math.nan), None])


def judge_and_move(position: Any, count_time: Any, here: float, limits: Any) -> list[float]:
    """Where the axis was sent, if the guard let it go at all."""
    allowed = Limits(position=(-1.0, 1.0), count_time=(0.1, 10.0), step=1.5, time=100.0)
    axis: Any = Axis(limits)
    action = Action(position, count_time)
    guard = Guard(axis, allowed, Pace())
    try:
        Guarded(axis, lambda: guard.check(action, at(here)).assure()).set(position)
    except RefusedError:
        return []
    low, high = limits if limits and limits[0] < limits[1] else (-1.0, 1.0)
    assert max(-1.0, low) <= position <= min(1.0, high)
    assert 0.1 <= count_time <= 10.0
    assert abs(position - here) <= 1.5 * (1 + 1e-8)
    return axis.sent


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(anything, anything, st.floats(-1, 1), device_limits)
def test_no_proposal_gets_out_of_the_limits(position: Any, count_time: Any, here: float, limits: Any) -> None:
    assert judge_and_move(position, count_time, here, limits) in ([], [position])


def test_of_ten_thousand_bad_proposals_none_moves_the_axis_out_of_its_limits() -> None:
    random = np.random.default_rng(11)
    odd = [math.nan, math.inf, -math.inf, None, "0.5", True, 1e308, -0.0, 1.0 + 1e-15, 10**400, 1j]
    sent = 0
    for _ in range(10_000):
        near = [float(v) for v in random.normal(0, 2, 4)]
        pick = [*odd, *near]
        position, count_time = (pick[random.integers(len(pick))] for _ in range(2))
        limits = [(0, 0), (-1.5, 0.5), (math.nan, math.nan), None][random.integers(4)]
        sent += len(judge_and_move(position, count_time, float(random.uniform(-1, 1)), limits))
    assert 100 < sent < 5000  # some are good, or this would test nothing


def test_the_rules_without_a_device_are_the_first_of_the_guard() -> None:
    random = np.random.default_rng(7)
    limits, pace = Limits((0, 1), count_time=(1, 5), step=0.4, time=50, dose=20), Pace(1, 2)
    guard = Guard(Axis(), limits, pace)
    for _ in range(500):
        action = Action(*(float(v) for v in random.uniform((-0.5, 0), (1.5, 7))))
        situation = at(float(random.uniform(0, 1)), spent=float(random.uniform(0, 60)))
        assert guard.check(action, situation) == within(limits, pace, action, situation)
