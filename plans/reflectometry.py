"""Reflectivity measurements that end, or choose their points, by what the analysis knows of the sample."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from skyloop.engines.reflectometry.result import Result
from skyloop.errors import ConfigError
from skyloop.plans._arguments import (
    finite,
    gate_of,
    inbox_of,
    instrument_of,
    mode_of,
    pair,
    positive,
    target_sigma_of,
    told,
    whole,
)
from skyloop.plans._course import Action, Course, Limits, Pace
from skyloop.plans._reflectometry_policies import GainPerSecond, StopWhenKnown
from skyloop.plans._steer import steer
from skyloop.plans._steering import Instrument, Steering
from skyloop.plans._verify import Policies

__all__ = ["adaptive_reflectivity", "stop_when_known"]

POLICIES = Policies(Result, (StopWhenKnown, GainPerSecond))


def stop_when_known(
    detectors: Sequence[Readable],  # pyright: ignore[reportMissingTypeArgument]
    axis: Movable,  # pyright: ignore[reportMissingTypeArgument]
    positions: list[float],
    *,
    analysis: Any,
    target_sigma: float | None = None,
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

    It ends when the uncertainty is small enough, an independent analysis over the whole prior agrees and the
    model fits. Whatever happens to the analysis, the scan itself is measured as it stands.

    Args:
        detectors: read at each point; a settable `count_time` of a detector is set.
        axis: what moves.
        positions: the scan.
        analysis: live analysis, or its name.
        target_sigma: a smaller uncertainty than that of the analysis, at which it is known well enough.
        count_time: seconds per point.
        mode: shadow and advise only record what would be done; confirm asks a person; auto acts.
        approval: approval gate, or its name; needed in confirm mode.
        limits: lowest and highest position; needed where the axis has no limits of its own.
        move_overhead: what each move costs, in s.
        move_per_unit: what it costs besides per unit of distance, in s.
        timeout: longest wait for one result, in s; all waits together take at most 5 % of the scan.
        answer_timeout: longest wait for a person, in s.
        md: more metadata.

    Returns:
        JSON values: run_uid, reason, target, target_sigma, outcome, analysis_reason and confirmed of the last
        result, points (measured), points_used (those that it rests on), decisions, beam_time, mode.

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
    inbox = inbox_of(analysis)
    steering = Steering(
        policy=StopWhenKnown(target_sigma_of(target_sigma, inbox)),
        course=course,
        inbox=inbox,
        gate=gate_of(approval, mode),
        timeout=positive(timeout, "timeout"),
        answer_timeout=positive(answer_timeout, "answer_timeout"),
        lag=True,
    )
    return (yield from steer(instrument, steering, md=md))


def adaptive_reflectivity(
    detectors: Sequence[Readable],  # pyright: ignore[reportMissingTypeArgument]
    axis: Movable,  # pyright: ignore[reportMissingTypeArgument]
    *,
    analysis: Any,
    target_sigma: float | None = None,
    start: float,
    stop: float,
    num: int,
    count_time: float,
    count_times: list[float] | None = None,
    budget: float | None = None,
    max_dose: float | None = None,
    max_step: float | None = None,
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
        analysis: live analysis, or its name; its model holds the target, its `systematic` and its `q_grid`.
        target_sigma: a smaller uncertainty than that of the analysis, at which it is known well enough.
        start: lowest q of the fixed scan and of the candidates; within the `q_grid`.
        stop: highest q; within the `q_grid`.
        num: points of the fixed scan.
        count_time: seconds per point of the fixed scan.
        count_times: shortest and longest seconds per chosen point; default 0.4 and 100 times `count_time`.
        budget: beam time with moves, in s; default that of the fixed scan.
        max_dose: time of the sample in the beam, in s.
        max_step: largest distance between two points.
        exploration: share of points in the widest gap, 0 to 1.
        seed: of the random part, which is when to explore.
        mode: shadow and advise measure the fixed scan and only record; confirm asks a person; auto acts.
        approval: approval gate, or its name; needed in confirm mode.
        limits: lowest and highest position; needed where the axis has no limits of its own.
        move_overhead: what each move costs, in s.
        move_per_unit: what it costs besides per 1/angstrom, in s.
        timeout: longest wait for one result, in s; waits in vain take together at most 5 % of the fixed scan.
        answer_timeout: longest wait for a person, in s.
        md: more metadata.

    Returns:
        JSON values: run_uid, reason, target, target_sigma, outcome, analysis_reason and confirmed of the last
        result, points (measured), points_used (those that it rests on), decisions, beam_time, mode.

    Raises:
        ConfigError: an argument cannot be used; nothing was moved yet.
        RefusedError: the fixed scan leaves the limits; nothing was moved yet.
    """
    instrument = Instrument(*instrument_of(detectors, axis))
    pace = _pace(move_overhead, move_per_unit)
    inbox, fixed = inbox_of(analysis), _even(start, stop, num, count_time)
    _check_explored(fixed, told(inbox, "q_grid"))
    times = _count_times(count_times, count_time)
    time = pace.total(fixed) if budget is None else positive(budget, "budget")
    policy = GainPerSecond(
        target_sigma=target_sigma_of(target_sigma, inbox),
        start=fixed[0].position,
        stop=fixed[-1].position,
        shortest=times[0],
        longest=times[1],
        budget=time,
        move_overhead=pace.overhead,
        move_per_unit=pace.per_unit,
        systematic=told(inbox, "systematic"),
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
        seed=whole(seed, "seed", 0),
    )
    steering = Steering(
        policy=policy,
        course=course,
        inbox=inbox,
        gate=gate_of(approval, mode),
        timeout=positive(timeout, "timeout"),
        answer_timeout=positive(answer_timeout, "answer_timeout"),
    )
    return (yield from steer(instrument, steering, md=md))


def _even(start: float, stop: float, num: int, count_time: float) -> tuple[Action, ...]:
    low, high = pair([start, stop], "start and stop")
    points, seconds = whole(num, "num", 2), positive(count_time, "count_time")
    return tuple(Action(float(place), seconds) for place in np.linspace(low, high, points))


def _check_explored(fixed: tuple[Action, ...], grid: Mapping[str, Any]) -> None:
    """Refuse a range with a part that the analysis has no candidates for: nobody would ever go there."""
    low, high = grid["start"], grid["stop"]
    margin = 0.5 * (high - low) / (grid["num"] - 1) * (1 + 1e-9)
    for name, place in (("start", fixed[0].position), ("stop", fixed[-1].position)):
        if not low - margin <= place <= high + margin:
            raise ConfigError(
                f"{name}: found {place:g}, outside the q_grid [{low:g}, {high:g}] of the analysis, which has "
                "no candidates there; mend: stay within, or widen q_grid in the sample model"
            )


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
