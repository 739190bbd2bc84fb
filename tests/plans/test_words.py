"""The question that a person is asked: names and units, and why this point and this count time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from fake_analysis import FakeResult, det
from hypothesis import given
from hypothesis import strategies as st

from skyloop.documents.inbox import Inbox
from skyloop.plans import Action, Course, Instrument, Proposal, Reason, Steering, Stop
from skyloop.plans._reflectometry_policies import StopWhenKnown
from skyloop.plans._settle import Asked
from skyloop.plans._words import Names, names_of, question
from skyloop.sim.clock import BeamClock
from skyloop.sim.positioners import QAxis
from skyloop.sim.probe import NEUTRON

NAMES = Names("film.thickness", "angstrom", 0.5, "q", "1/angstrom")
POINT = Asked(Proposal(Action(0.046, 39.8107), 0.2))
KNOWN = FakeResult(target=271.234, target_sigma=1.374)
NAN = float("nan")

positive = st.floats(1e-3, 1e3)


def test_a_point_is_asked_about_with_names_units_and_what_it_should_bring() -> None:
    assert question(POINT, [KNOWN], NAMES) == (
        "film.thickness is 271.2 ± 1.4 Å, wanted to ± 0.50 Å. Counting 39.81 s at q = 0.046 Å⁻¹ should bring "
        "it to about ± 1.1 Å (expected gain 0.2 nat). Measure there?"
    )


def test_a_point_without_a_stated_gain_says_so() -> None:
    asked = Asked(Proposal(Action(0.046, 10.0)))
    assert question(asked, [KNOWN], NAMES).endswith(
        "Counting 10 s at q = 0.046 Å⁻¹ is to look around: no gain is stated for it. Measure there?"
    )


@pytest.mark.parametrize("reason", [Reason.TARGET_REACHED, Reason.FLOOR_REACHED, Reason.BUDGET])
def test_a_stop_is_asked_about_with_its_reason_in_words(reason: Reason) -> None:
    asked = question(Asked(Stop(reason)), [KNOWN], NAMES)
    assert re.search(rf"\. Stop the measurement here \({reason}: [a-z, ]+\)\?$", asked)


def test_a_reason_of_a_policy_of_ones_own_is_given_as_it_is() -> None:
    asked = question(Asked(Stop(Reason.OPERATOR)), [], NAMES)
    assert asked == "Stop the measurement here (operator)?"


@given(positive, st.floats(0.0, 10.0))
def test_a_gain_never_promises_a_larger_uncertainty(sigma: float, gain: float) -> None:
    asked = question(Asked(Proposal(Action(0.1, 1.0), gain)), [replace(KNOWN, target_sigma=sigma)], NAMES)
    promised = re.search(r"about ± ([\d.e-]+) Å", asked)
    assert promised
    assert float(promised[1]) <= 1.051 * sigma


@pytest.mark.parametrize("sigma", [0.0, NAN, float("inf"), 1e-300, 1e300])
@pytest.mark.parametrize("gain", [NAN, 0.0, -1e300, 1e300])
def test_numbers_that_say_nothing_still_make_a_question(sigma: float, gain: float) -> None:
    for target in (271.0, NAN):
        result = replace(KNOWN, target=target, target_sigma=sigma)
        asked = question(Asked(Proposal(Action(0.1, 1.0), gain)), [result], NAMES)
        assert asked.startswith("film.thickness is ")
        assert asked.endswith("Measure there?")
        assert "nan" not in asked


# names ----------------------------------------------------------------------------------------------


class Async:
    """An axis that describes itself in a coroutine, as those of ophyd-async do."""

    name = "q"

    def set(self, value: float) -> Any: ...

    async def describe(self) -> Mapping[str, Any]:
        return {}


class Silent:
    """An axis that only moves."""

    name = "q"

    def set(self, value: float) -> Any: ...


def names_with(axis: Any, inbox: Inbox) -> Names:
    steering = Steering(StopWhenKnown(0.5), Course((Action(0.0, 1.0),)), inbox)
    return names_of(Instrument((det,), axis), steering)


def test_names_and_units_come_from_analysis_and_axis() -> None:
    inbox = Inbox(config={"target": "film.thickness"}, units={"target": "angstrom"})
    found = names_with(QAxis(NEUTRON, BeamClock(), name="q"), inbox)
    assert found == NAMES


@pytest.mark.parametrize("axis", [Async(), Silent()])
def test_an_axis_that_tells_no_unit_is_named_without(axis: Any) -> None:
    found = names_with(axis, Inbox())
    assert (found.axis, found.axis_unit) == ("q", "")
    assert (found.target, found.target_unit) == ("the target", "")
