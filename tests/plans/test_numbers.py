"""Policies may give numbers of any make: what is executed is what is recorded, and the rest is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest
from fake_analysis import Axis, FakeAnalysis, FakeResult, det, engine

from skyloop.errors import ConfigError
from skyloop.plans import (
    Action,
    ApprovalGate,
    Choice,
    Continue,
    Course,
    Instrument,
    Limits,
    Policies,
    Proposal,
    Situation,
    Steering,
    steer,
    verify,
)
from skyloop.plans._arguments import finite, positive
from skyloop.plans._numbers import number, shown

FIXED = tuple(Action(round(0.1 * i, 1), 1.0) for i in range(5))
POSITIONS = [action.position for action in FIXED]
LONG = 10**5000
"""Python itself refuses to print it."""


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


PROPOSED: list[Any] = []


@dataclass(frozen=True)
class Once:
    """A policy that proposes once, after the first point, what a test has put down."""

    name: ClassVar[str] = "once"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "fake"

    def __call__(self, results: Any, situation: Situation, /) -> Choice:
        return PROPOSED[0] if len(situation.measured) == 1 else Continue()


class Bench:
    def __init__(self, proposed: Any, *, mode: Any = "auto") -> None:
        PROPOSED[:] = [proposed]
        self.analysis, self.axis = FakeAnalysis(lambda _: FakeResult()), Axis((0.0, 1.0))
        steering = Steering(
            policy=Once(),
            course=Course(FIXED, limits=Limits(position=(0.0, 1.0)), mode=mode),
            inbox=self.analysis.inbox,
            gate=ApprovalGate(),
            answer_timeout=0.01,
        )
        self.result = engine(self.analysis)(steer(Instrument((det,), self.axis), steering))
        self.decision = self.analysis.decisions()[1]

    def verified(self) -> bool:
        raw, analysis = json.loads(json.dumps([self.analysis.raw, self.analysis.documents]))
        return verify(raw, analysis, policies=Policies(FakeResult, (Once,))).verified


NUMBERS = [
    Action(np.float32(0.5), np.int64(2)),  # pyright: ignore[reportArgumentType]
    Action(Fraction(1, 2), 2),  # pyright: ignore[reportArgumentType]
    Action(np.float64(0.5), np.float16(2)),  # pyright: ignore[reportArgumentType]
]


@pytest.mark.parametrize("action", NUMBERS)
def test_the_record_holds_what_was_executed_whatever_the_make_of_its_numbers(action: Action) -> None:
    bench = Bench(Proposal(action, gain=np.float32(0.25)))  # pyright: ignore[reportArgumentType]
    assert bench.axis.sent[1] == 0.5
    told = [bench.decision[f"{what}_{of}"] for what in ("proposed", "executed") for of in WHAT]
    assert told == [0.5, 2.0, 0.5, 2.0]
    assert bench.decision["gain"] == 0.25
    assert bench.verified()


WHAT = ("position", "count_time")
JUNK: list[Any] = [
    "x",
    [1],
    None,
    True,
    math.nan,
    math.inf,
    1j,
    np.array([0.1, 0.2]),
    10**400,
    LONG,
    Fraction(10**400),
    Unprintable(),
]


@pytest.mark.parametrize("mode", ["auto", "confirm"])
@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: type(junk).__name__)
def test_what_is_no_number_is_refused_and_recorded_and_the_scan_goes_on(junk: Any, mode: str) -> None:
    for action in (Action(junk, 1.0), Action(0.5, junk)):
        bench = Bench(Proposal(action), mode=mode)
        assert bench.result.exit_status == "success"
        assert bench.axis.sent == POSITIONS
        assert (bench.decision["guard_rule"], bench.decision["source"]) == ("finite", "guard")
        assert "is not a finite number" in bench.decision["guard_message"]
        assert bench.verified()


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: type(junk).__name__)
@pytest.mark.parametrize("mode", ["auto", "confirm"])
def test_a_gain_that_is_no_number_costs_no_point(junk: Any, mode: str) -> None:
    bench = Bench(Proposal(Action(0.5, 1.0), gain=junk), mode=mode)
    assert bench.result.exit_status == "success"
    assert math.isnan(bench.decision["gain"])
    assert bench.decision["proposed_position"] == 0.5
    assert bench.verified()


def test_a_choice_that_cannot_be_printed_is_a_broken_policy() -> None:
    bench = Bench(Unprintable())
    assert bench.axis.sent == POSITIONS
    assert bench.decision["choice_reason"] == "the policy returned a Unprintable, which is no choice"


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: type(junk).__name__)
def test_an_argument_that_is_no_number_is_refused_by_its_name(junk: Any) -> None:
    with pytest.raises(ConfigError, match=r"^count_time: found .*; mend: give a number above 0$"):
        positive(junk, "count_time")
    with pytest.raises(ConfigError, match=r"^positions: found .*; mend: give finite numbers$"):
        finite([0.1, junk], "positions")


def test_arguments_may_be_numbers_of_any_make() -> None:
    assert positive(np.int64(3), "num") == 3.0
    assert finite([np.float32(0.5), 1, Fraction(1, 4)], "positions") == (0.5, 1.0, 0.25)
    assert {type(value) for value in finite([np.float32(0.5), 1], "positions")} == {float}


def test_values_are_shown_within_a_line() -> None:
    assert shown("x") == "'x'"
    assert len(shown("x" * 1000)) == 80
    assert shown(LONG) == "a int"
    assert math.isnan(number(LONG))


def test_a_record_with_another_number_is_found() -> None:
    bench = Bench(Proposal(replace(NUMBERS[0])))
    event = bench.analysis.events("decision")[1]
    event["data"]["decision_proposed_position"] = math.nan
    assert not bench.verified()
