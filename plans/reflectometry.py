"""Reflectivity measurements that end, or choose their points, by what the analysis knows of the sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator
from numpy.typing import NDArray

from skyloop.engines.reflectometry.design import choose, information_gain
from skyloop.engines.reflectometry.result import Result
from skyloop.errors import ConfigError, Outcome
from skyloop.plans._arguments import (
    finite,
    gate_of,
    inbox_of,
    instrument_of,
    mode_of,
    pair,
    positive,
)
from skyloop.plans._course import (
    Action,
    Choice,
    Continue,
    Course,
    Limits,
    Pace,
    Proposal,
    Reason,
    Situation,
    Stop,
)
from skyloop.plans._steer import Instrument, Steering, steer
from skyloop.plans._verify import Policies
from skyloop.quantities import FloatArray

__all__ = ["adaptive_reflectivity", "stop_when_known"]

_MISFIT = 1e-3
"""A posterior predictive probability below it says that the model does not describe the data."""
_BAD_FIT = (2.0, 1e-2)
"""So does a chi2 above the first with a probability below the second; of few points it may be chance."""
_NO_GAIN = 1e-3
"""Information, in nats, that is not worth a point: it lowers the uncertainty by 0.1 %."""
_DWELLS = 9
"""Number of count times to choose from."""


def _known(result: Result, target_sigma: float) -> bool:
    """A small uncertainty counts only when an independent analysis agrees: the ensemble may be wrong."""
    good = result.outcome == Outcome.OK and not _misfits(result)
    return good and result.confirmed and result.target_sigma <= target_sigma


def _misfits(result: Result) -> bool:
    return result.p_value < _MISFIT or (result.chi2 > _BAD_FIT[0] and result.p_value < _BAD_FIT[1])


@dataclass(frozen=True)
class StopWhenKnown:
    """Leaves the fixed scan as it is, and ends it when the target is known."""

    name: ClassVar[str] = "stop_when_known"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "reflectometry"

    target_sigma: float
    """Known well enough at this uncertainty, in the unit of the target."""

    def __call__(self, results: Sequence[Result], situation: Situation, /) -> Choice:
        """Stop or continue."""
        del situation
        if results and _known(results[-1], self.target_sigma):
            return Stop(Reason.TARGET_REACHED)
        return Continue()


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
        gain = information_gain(result, rate=rate, times=self._dwells, systematic=self.systematic)
        if gain[allowed].max() < _NO_GAIN:
            return Stop(Reason.FLOOR_REACHED)
        best = choose(
            result,
            rate=rate,
            times=self._dwells,
            position=situation.position,
            move_time=lambda distance: self.move_overhead + self.move_per_unit * distance,
            systematic=self.systematic,
            allowed=allowed,
        )
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


POLICIES = Policies(Result, (StopWhenKnown, GainPerSecond))


def stop_when_known(
    detectors: Sequence[Readable],  # pyright: ignore[reportMissingTypeArgument]
    axis: Movable,  # pyright: ignore[reportMissingTypeArgument]
    positions: list[float],
    *,
    analysis: Any,
    target_sigma: float,
    count_time: float = 1.0,
    mode: Literal["shadow", "advise", "confirm", "auto"] = "auto",
    approval: Any = "",
    limits: list[float] | None = None,
    move_overhead: float = 0.0,
    move_per_unit: float = 0.0,
    timeout: float = 5.0,
    answer_timeout: float = 60.0,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[dict[str, Any]]:
    """Measure a fixed scan, and end it early when the target of the analysis is known.

    It ends when the uncertainty is small enough, an independent analysis from the prior agrees and the model
    fits. Whatever happens to the analysis, the scan itself is measured as it stands.

    Args:
        detectors: read at each point; a settable `count_time` of a detector is set.
        axis: what moves.
        positions: the scan.
        analysis: live analysis, or its name.
        target_sigma: known well enough at this uncertainty, in the unit of the target.
        count_time: seconds per point.
        mode: shadow and advise only record what would be done; confirm asks a person; auto acts.
        approval: approval gate, or its name; needed in confirm mode.
        limits: lowest and highest position; needed where the axis has no limits of its own.
        move_overhead: what each move costs, in s.
        move_per_unit: what it costs besides per unit of distance, in s.
        timeout: longest wait for one result, in s.
        answer_timeout: longest wait for a person, in s.
        md: more metadata.

    Returns:
        JSON values: run_uid, reason, target, target_sigma, points, decisions, beam_time, mode.

    Raises:
        ConfigError: an argument cannot be used; nothing was moved yet.
        RefusedError: the scan leaves the limits; nothing was moved yet.
    """
    instrument = Instrument(*instrument_of(detectors, axis))
    seconds = positive(count_time, "count_time")
    course = Course(
        fixed=tuple(Action(place, seconds) for place in finite(positions, "positions")),
        mode=mode_of(mode),
        limits=Limits(position=None if limits is None else pair(limits, "limits")),
        pace=_pace(move_overhead, move_per_unit),
    )
    steering = Steering(
        policy=StopWhenKnown(positive(target_sigma, "target_sigma")),
        course=course,
        inbox=inbox_of(analysis),
        gate=gate_of(approval, mode),
        timeout=positive(timeout, "timeout"),
        answer_timeout=positive(answer_timeout, "answer_timeout"),
    )
    return (yield from steer(instrument, steering, md=md))


def adaptive_reflectivity(
    detectors: Sequence[Readable],  # pyright: ignore[reportMissingTypeArgument]
    axis: Movable,  # pyright: ignore[reportMissingTypeArgument]
    *,
    analysis: Any,
    target_sigma: float,
    start: float,
    stop: float,
    num: int,
    count_time: float,
    count_times: list[float] | None = None,
    budget: float | None = None,
    max_dose: float | None = None,
    max_step: float | None = None,
    systematic: float = 0.01,
    exploration: float = 0.1,
    seed: int = 0,
    mode: Literal["shadow", "advise", "confirm", "auto"] = "auto",
    approval: Any = "",
    limits: list[float] | None = None,
    move_overhead: float = 0.0,
    move_per_unit: float = 0.0,
    timeout: float = 5.0,
    answer_timeout: float = 60.0,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[dict[str, Any]]:
    """Measure where and as long as it tells most of the target, until it is known.

    Eight evenly spaced points first, then the point and count time of most information per second, with a
    share of points in the widest gap. It never takes longer than its budget, which is the beam time of the
    fixed scan if not given; while the analysis is late, wrong or gone, or its model does not fit, the rest of
    the fixed scan is measured.

    Args:
        detectors: read at each point; a settable `count_time` of a detector is set.
        axis: what moves, in q [1/angstrom].
        analysis: live analysis, or its name.
        target_sigma: known well enough at this uncertainty, in the unit of the target.
        start: lowest q of the fixed scan and of the candidates.
        stop: highest q.
        num: points of the fixed scan.
        count_time: seconds per point of the fixed scan.
        count_times: shortest and longest seconds per chosen point; default 0.4 and 100 times `count_time`.
        budget: beam time with moves, in s; default that of the fixed scan.
        max_dose: time of the sample in the beam, in s.
        max_step: largest distance between two points.
        systematic: relative standard deviation of a point that counting does not lower.
        exploration: share of points in the widest gap, 0 to 1.
        seed: of the random part, which is when to explore.
        mode: shadow and advise measure the fixed scan and only record; confirm asks a person; auto acts.
        approval: approval gate, or its name; needed in confirm mode.
        limits: lowest and highest position; needed where the axis has no limits of its own.
        move_overhead: what each move costs, in s.
        move_per_unit: what it costs besides per 1/angstrom, in s.
        timeout: longest wait for one result, in s.
        answer_timeout: longest wait for a person, in s.
        md: more metadata.

    Returns:
        JSON values: run_uid, reason, target, target_sigma, points, decisions, beam_time, mode.

    Raises:
        ConfigError: an argument cannot be used; nothing was moved yet.
        RefusedError: the fixed scan leaves the limits; nothing was moved yet.
    """
    instrument = Instrument(*instrument_of(detectors, axis))
    pace = _pace(move_overhead, move_per_unit)
    fixed = _even(start, stop, num, count_time)
    times = _count_times(count_times, count_time)
    time = pace.total(fixed) if budget is None else positive(budget, "budget")
    policy = GainPerSecond(
        target_sigma=positive(target_sigma, "target_sigma"),
        start=fixed[0].position,
        stop=fixed[-1].position,
        shortest=times[0],
        longest=times[1],
        budget=time,
        move_overhead=pace.overhead,
        move_per_unit=pace.per_unit,
        systematic=_share(systematic, "systematic"),
        exploration=_share(exploration, "exploration"),
    )
    course = Course(
        fixed=fixed,
        mode=mode_of(mode),
        limits=Limits(
            position=None if limits is None else pair(limits, "limits"),
            count_time=times,
            step=None if max_step is None else positive(max_step, "max_step"),
            time=time,
            dose=None if max_dose is None else positive(max_dose, "max_dose"),
        ),
        pace=pace,
        seed=_seed(seed),
    )
    steering = Steering(
        policy=policy,
        course=course,
        inbox=inbox_of(analysis),
        gate=gate_of(approval, mode),
        timeout=positive(timeout, "timeout"),
        answer_timeout=positive(answer_timeout, "answer_timeout"),
    )
    return (yield from steer(instrument, steering, md=md))


def _even(start: float, stop: float, num: int, count_time: float) -> tuple[Action, ...]:
    low, high = pair([start, stop], "start and stop")
    if num < 2:
        raise ConfigError(f"num: found {num}; mend: at least 2 points")
    seconds = positive(count_time, "count_time")
    return tuple(Action(float(place), seconds) for place in np.linspace(low, high, num))


def _count_times(count_times: list[float] | None, count_time: float) -> tuple[float, float]:
    if count_times is None:
        return 0.4 * count_time, 100.0 * count_time
    shortest, longest = pair(count_times, "count_times")
    if not 0 < shortest <= count_time <= longest:
        raise ConfigError(
            f"count_times: found {count_times}; mend: above 0, with count_time {count_time:g} between them"
        )
    return shortest, longest


def _pace(overhead: float, per_unit: float) -> Pace:
    costs = finite([overhead, per_unit], "move_overhead and move_per_unit")
    if min(costs) < 0:
        raise ConfigError(f"move_overhead and move_per_unit: found {costs}; mend: 0 or more")
    return Pace(*costs)


def _share(value: float, what: str) -> float:
    (share,) = finite([value], what)
    if not 0 <= share <= 1:
        raise ConfigError(f"{what}: found {value}; mend: a share from 0 to 1")
    return share


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed: found {seed}; mend: a whole number from 0 to 2^63 - 1")
    return seed
