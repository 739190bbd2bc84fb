"""What the policies of reflectometry choose, and when they stop."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_analysis import FakeResult

from skyloop.engines.reflectometry.result import Result
from skyloop.errors import Outcome
from skyloop.plans import Action, Continue, Pace, Proposal, Reason, Situation, Stop
from skyloop.plans._reflectometry_policies import GainPerSecond, StopWhenKnown
from skyloop.quantities import blank

KNOWN = FakeResult(target_sigma=0.5, confirmed=True)


@pytest.mark.parametrize(
    ("result", "stops"),
    [
        (KNOWN, True),
        (replace(KNOWN, target_sigma=1.0), True),
        (replace(KNOWN, target_sigma=1.1), False),
        (replace(KNOWN, target_sigma=math.nan), False),
        (replace(KNOWN, confirmed=False), False),
        (replace(KNOWN, outcome=Outcome.DEGRADED), False),
        (replace(KNOWN, p_value=1e-4), False),
    ],
)
def test_a_small_uncertainty_counts_only_when_it_is_confirmed(result: Any, stops: bool) -> None:
    choice = StopWhenKnown(1.0)([result], Situation((), 0.0, 0))
    goes_on = Continue(Reason.MODEL_MISFIT if result.p_value < 1e-3 else "")
    assert choice == (Stop(Reason.TARGET_REACHED) if stops else goes_on)


POLICY = GainPerSecond(
    target_sigma=0.1,
    start=0.01,
    stop=0.2,
    shortest=1.0,
    longest=100.0,
    budget=1e6,
    move_overhead=1.0,
    move_per_unit=10.0,
    systematic=0.01,
    exploration=0.1,
)
GRID = np.linspace(0.005, 0.25, 50)
SEEDS = tuple(Action(float(q), 1.0) for q in np.linspace(0.01, 0.2, 8))


def result(**given: Any) -> Result:
    arrays = {
        "q_grid": GRID,
        "prediction": np.full(50, 1e-3),
        "prediction_sigma": np.full(50, 1e-4),
        "target_correlation": np.exp(-(((GRID - 0.1) / 0.02) ** 2)),
        "exposure_grid": np.full(50, 1e4),
    }
    plain = {"outcome": Outcome.OK, "target_sigma": 2.0, "p_value": 0.5, "chi2": 1.0}
    return blank(Result, {"layer": 1, "grid": 50}, **(plain | arrays | given))


def situation(extra: int = 0, seed: int = 0, spent: float = 20.0) -> Situation:
    return Situation((*SEEDS, *[Action(0.1, 1.0)] * extra), spent, seed)


def exploring(found: Any) -> bool:
    return isinstance(found, Proposal) and math.isnan(found.gain)


def test_it_begins_with_evenly_spaced_points() -> None:
    chosen = [POLICY((), Situation(SEEDS[:n], 0.0, 0)) for n in range(8)]
    assert chosen == [Proposal(action) for action in SEEDS]


def test_it_goes_where_the_target_is_told_most() -> None:
    found = replace(POLICY, exploration=0.0)([result()], situation())
    assert isinstance(found, Proposal)
    assert abs(found.action.position - 0.1) < 0.01
    assert found.gain > 0


def test_it_never_leaves_its_range_although_the_analysis_offers_more() -> None:
    high = result(target_correlation=np.where(GRID > 0.2, 0.99, 0.5))
    for n in range(200):
        found = POLICY([high], situation(n))
        assert isinstance(found, Proposal)
        assert 0.01 <= found.action.position <= 0.2
        assert 1.0 <= found.action.count_time <= 100.0 * (1 + 1e-12)


def test_the_share_of_exploration_is_what_was_asked_for() -> None:
    explored = [exploring(POLICY([result()], situation(n, seed))) for n in range(50) for seed in range(40)]
    expected, deviation = 0.1, math.sqrt(0.1 * 0.9 / len(explored))
    assert abs(np.mean(explored) - expected) < 4 * deviation


def test_exploration_goes_to_the_widest_gap() -> None:
    measured = tuple(a for a in SEEDS if not 0.05 < a.position < 0.14)
    found = replace(POLICY, exploration=1.0, seeds=4)([result()], Situation(measured, 20.0, 0))
    assert isinstance(found, Proposal)
    low = max(a.position for a in measured if a.position < 0.1)
    high = min(a.position for a in measured if a.position > 0.1)
    assert abs(found.action.position - (low + high) / 2) <= GRID[1] - GRID[0]


def test_a_choice_depends_on_nothing_but_its_arguments() -> None:
    assert POLICY([result()], situation(3, seed=5)) == POLICY([result()], situation(3, seed=5))


def test_it_stops_at_the_floor_when_no_point_tells_anything() -> None:
    nothing = result(target_correlation=np.zeros(50))
    assert replace(POLICY, exploration=0.0)([nothing], situation()) == Stop(Reason.FLOOR_REACHED)


def test_a_misfit_hands_over_to_the_fixed_scan() -> None:
    assert POLICY([result(p_value=1e-4)], situation()) == Continue(Reason.MODEL_MISFIT)


@pytest.mark.parametrize("exploration", [0.0, 1.0])
def test_no_proposal_exceeds_the_budget_and_the_rest_is_a_stop(exploration: float) -> None:
    pace, policy = Pace(1.0, 10.0), replace(POLICY, exploration=exploration, budget=100.0)
    for spent in np.linspace(20.0, 100.0, 81):
        where = situation(spent=float(spent))
        found = policy([result()], where)
        if isinstance(found, Proposal):
            assert where.spent + pace.cost(where.position, found.action) <= 100.0
        else:
            assert found == Stop(Reason.BUDGET)
            assert spent > 90.0


def test_candidates_out_of_range_and_unknown_exposures_leave_the_choice_to_the_fixed_scan() -> None:
    policy = replace(POLICY, exploration=0.0)
    assert isinstance(policy([result(q_grid=GRID + 1)], situation()), Continue)
    assert isinstance(policy([result(exposure_grid=np.zeros(50))], situation()), Continue)
