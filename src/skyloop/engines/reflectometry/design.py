"""Where to count next, and for how long: information gain per second, from the result of the last point.

Everything here works on the arrays of a stored result, so a recorded decision can be recomputed from the
documents alone. Scores are rounded and ties are broken by rule: the same arrays give the same choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skyloop.quantities import FloatArray

__all__ = ["Choice", "Prediction", "choose", "information_gain"]

_DIGITS = 6


class Prediction(Protocol):
    """What a reflectometry result says of each candidate."""

    @property
    def q_grid(self) -> FloatArray:
        """Candidates, in 1/angstrom."""
        ...

    @property
    def prediction(self) -> FloatArray:
        """Expected reflectivity at each candidate."""
        ...

    @property
    def prediction_sigma(self) -> FloatArray:
        """Standard deviation of that expectation."""
        ...

    @property
    def target_correlation(self) -> FloatArray:
        """Correlation of the reflectivity at each candidate with the target."""
        ...

    @property
    def exposure_grid(self) -> FloatArray:
        """Exposure already spent at each candidate, in counts at a reflectivity of one."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision, with what a record of it needs."""

    index: int
    """Candidate."""
    q: float
    """Its wavevector transfer, in 1/angstrom."""
    time: float
    """Counting time, in s."""
    move_time: float
    """Time to get there, in s."""
    gain: float
    """Expected information on the target, in nat."""
    score: float
    """Gain per second of counting and moving."""
    most: float
    """Largest gain of any allowed candidate and time, at whatever cost, in nat."""


def information_gain(
    prediction: Prediction, *, rate: FloatArray, times: FloatArray, systematic: float
) -> FloatArray:
    """Expected information [grid, times] on the target from counting at each candidate, in nat.

    g = -1/2 ln(1 - rho^2 V / (V + 1/D)) with V the variance of the predicted reflectivity, rho its
    correlation with the target, and D = 1/n(E + rate t) - 1/n(E) the precision that a time t adds;
    n(E) = R/E + f^2 R^2 is the noise of a reflectivity R known from the exposure E. A gain g lowers the
    standard deviation of the target by a factor exp(-g).

    Args:
        prediction: arrays of the last result.
        rate: counts per second at a reflectivity of one [grid].
        times: counting times [times], in s.
        systematic: relative standard deviation f that counting does not lower.
    """
    mean, spent = prediction.prediction[:, None], prediction.exposure_grid[:, None]
    before = _precision(mean, spent, systematic)
    added = _precision(mean, spent + np.outer(rate, times), systematic) - before
    signal = prediction.prediction_sigma[:, None] ** 2 * added
    explained = prediction.target_correlation[:, None] ** 2 * signal / (signal + 1.0)
    return -0.5 * np.log1p(-explained)


def choose(
    prediction: Prediction,
    *,
    rate: FloatArray,
    times: FloatArray,
    position: float,
    move_time: Callable[[FloatArray], FloatArray],
    systematic: float,
    allowed: NDArray[np.bool_] | None = None,
) -> Choice:
    """The candidate and counting time of most information per second.

    Scores are rounded to 6 digits before they are compared; among equals the cheaper choice wins, then the
    candidate of lower index, then the shorter time.

    Args:
        prediction: arrays of the last result.
        rate: counts per second at a reflectivity of one [grid].
        times: counting times to choose from [times], in s.
        position: present wavevector transfer, in 1/angstrom.
        move_time: seconds to travel each distance [grid] in wavevector transfer.
        systematic: relative standard deviation that counting does not lower.
        allowed: candidates that may be chosen [grid]; all when not given.
    """
    gain = information_gain(prediction, rate=rate, times=times, systematic=systematic)
    moves = move_time(np.abs(prediction.q_grid - position))
    cost = moves[:, None] + times[None, :]
    among = np.ones(len(gain), dtype=np.bool_) if allowed is None else allowed
    score = np.where(among[:, None], _rounded(gain / cost), -1.0)
    best = np.lexsort((cost.ravel(), -score.ravel()))[0]
    index, slot = np.unravel_index(best, score.shape)
    return Choice(
        index=int(index),
        q=float(prediction.q_grid[index]),
        time=float(times[slot]),
        move_time=float(moves[index]),
        gain=float(gain[index, slot]),
        score=float(score[index, slot]),
        most=float(gain[among].max()),
    )


def _precision(mean: FloatArray, exposure: FloatArray, systematic: float) -> FloatArray:
    """1/n(E) = E / (R + E f^2 R^2), which is 0 where nothing was counted."""
    return exposure / (mean + exposure * (systematic * mean) ** 2)


def _rounded(values: FloatArray) -> FloatArray:
    """Values to 6 significant digits, so that the last bits of another machine do not decide."""
    magnitude = 10.0 ** np.floor(np.log10(np.maximum(values, 1e-300)))
    return np.round(values / magnitude, _DIGITS - 1) * magnitude
