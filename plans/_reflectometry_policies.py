"""What a reflectivity measurement does next, from what the analysis knows of the sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from skyloop.engines.reflectometry.design import choose
from skyloop.engines.reflectometry.result import MISFIT, Result
from skyloop.errors import Outcome
from skyloop.plans._course import Action, Choice, Continue, Pace, Proposal, Reason, Situation, Stop
from skyloop.quantities import FloatArray

__all__ = ["GainPerSecond", "StopWhenKnown"]

_NO_GAIN = 1e-3
"""Information, in nats, that is not worth a point: it lowers the uncertainty by 0.1 %."""
_DWELLS = 9
"""Number of count times to choose from."""


def _known(result: Result, target_sigma: float) -> bool:
    """A small uncertainty counts only when an independent analysis agrees: the ensemble may be wrong."""
    good = result.outcome == Outcome.OK and not _misfits(result)
    return good and result.confirmed and result.target_sigma <= target_sigma


def _misfits(result: Result) -> bool:
    return result.p_value < MISFIT


@dataclass(frozen=True)
class StopWhenKnown:
    """Leaves the fixed scan as it is, and ends it when the target is known."""

    name: ClassVar[str] = "stop_when_known"
    version: ClassVar[str] = "2"
    technique: ClassVar[str] = "reflectometry"

    target_sigma: float
    """Known well enough at this uncertainty, in the unit of the target."""

    def __call__(self, results: Sequence[Result], situation: Situation, /) -> Choice:
        """Stop or continue."""
        del situation
        if not results:
            return Continue()
        if _known(results[-1], self.target_sigma):
            return Stop(Reason.TARGET_REACHED)
        return Continue(Reason.MODEL_MISFIT if _misfits(results[-1]) else "")


@dataclass(frozen=True)
class GainPerSecond:
    """The point and count time of most information on the target per second of counting and moving.

    It begins with evenly spaced points, and a share of the later ones goes to the widest gap, because a
    design that trusts its model sees nothing where the model is wrong.
    """

    name: ClassVar[str] = "adaptive_reflectivity"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "reflectometry"

    target_sigma: float
    """Known well enough at this uncertainty, in the unit of the target."""
    start: float
    """Lowest q, in 1/angstrom."""
    stop: float
    """Highest q, in 1/angstrom."""
    shortest: float
    """Shortest count time, in s."""
    longest: float
    """Longest count time, in s."""
    budget: float
    """Beam time with moves, in s."""
    move_overhead: float
    """What each move costs, in s."""
    move_per_unit: float
    """What it costs besides per 1/angstrom, in s."""
    systematic: float
    """Relative standard deviation of a point that counting does not lower."""
    exploration: float
    """Share of points that go to the widest gap."""
    seeds: int = 8
    """Evenly spaced points at the beginning."""

    def __call__(self, results: Sequence[Result], situation: Situation, /) -> Choice:
        """The next point, or the reason to stop."""
        count = len(situation.measured)
        if count < self.seeds:
            places = np.linspace(self.start, self.stop, self.seeds)
            return Proposal(Action(float(places[count]), self.shortest))
        last = results[-1]
        if _known(last, self.target_sigma):
            return Stop(Reason.TARGET_REACHED)
        if _misfits(last):
            return Continue(Reason.MODEL_MISFIT)
        allowed = (last.q_grid >= self.start) & (last.q_grid <= self.stop)
        if not allowed.any():
            return Continue("the candidates of the analysis are out of range")
        if self._explores(situation):
            return self._affordable(self._gap(last, situation, allowed), situation)
        return self._best(last, situation, allowed)

    def _explores(self, situation: Situation) -> bool:
        bits = np.random.Philox(key=situation.seed, counter=len(situation.measured))
        return bool(np.random.Generator(bits).random() < self.exploration)

    def _gap(self, result: Result, situation: Situation, allowed: NDArray[np.bool_]) -> Proposal:
        """The candidate farthest from all points so far, counted as long as they were on average."""
        candidates = result.q_grid[allowed]
        places = np.array([action.position for action in situation.measured])
        distance = np.abs(candidates[:, None] - places[None, :]).min(axis=1)
        usual = np.log(situation.dose / len(places))
        dwell = self._dwells[np.argmin(np.abs(np.log(self._dwells) - usual))]
        return Proposal(Action(float(candidates[np.argmax(distance)]), float(dwell)))

    def _best(self, result: Result, situation: Situation, allowed: NDArray[np.bool_]) -> Choice:
        rate = _rate(result, situation)
        if rate is None:
            return Continue("no exposure is known")
        best = choose(
            result,
            rate=rate,
            times=self._dwells,
            position=situation.position,
            move_time=lambda distance: self.move_overhead + self.move_per_unit * distance,
            systematic=self.systematic,
            allowed=allowed,
        )
        if best.most < _NO_GAIN:
            return Stop(Reason.FLOOR_REACHED)
        return self._affordable(Proposal(Action(best.q, best.time), best.gain), situation)

    def _affordable(self, proposal: Proposal, situation: Situation) -> Choice:
        """The proposal, counted shorter where the budget demands it; stop if nothing fits."""
        pace = Pace(self.move_overhead, self.move_per_unit)
        excess = situation.spent + pace.cost(situation.position, proposal.action) - self.budget
        if excess <= 0:
            return proposal
        fitting = self._dwells[self._dwells <= proposal.action.count_time - excess]
        if not fitting.size:
            return Stop(Reason.BUDGET)
        return Proposal(Action(proposal.action.position, float(fitting[-1])), proposal.gain)

    @property
    def _dwells(self) -> FloatArray:
        return np.geomspace(self.shortest, self.longest, _DWELLS)


def _rate(result: Result, situation: Situation) -> FloatArray | None:
    """Counts per second at a reflectivity of one [grid], from what the points so far were exposed to."""
    grid, seconds = result.q_grid, np.zeros_like(result.q_grid)
    for action in situation.measured:
        seconds[np.argmin(np.abs(grid - action.position))] += action.count_time
    known = (seconds > 0) & (result.exposure_grid > 0)
    if not known.any():
        return None
    return np.interp(grid, grid[known], result.exposure_grid[known] / seconds[known])
