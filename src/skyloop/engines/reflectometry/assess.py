"""Whether a posterior can be trusted: its width, its other modes, and how well the model fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skyloop.engines.reflectometry.belief import Curves
from skyloop.engines.reflectometry.likelihood import Data
from skyloop.engines.reflectometry.result import MISFIT
from skyloop.numerics.smc import Ensemble, moments
from skyloop.quantities import FloatArray

__all__ = ["Assessment", "assess", "other_mode"]

_HALF_OF_NORMAL = 1.349
_FAR = 10.0
_LEAST_CHI2 = 0.5
_NARROW = 0.05
_LEAN = 1.5


@dataclass(frozen=True, slots=True)
class Assessment:
    """What an ensemble says of the target, and what the data say of the model."""

    target: float
    """Posterior mean of the target."""
    target_sigma: float
    """Posterior standard deviation of the target."""
    other_mass: float
    """Posterior probability far from the main mode of the target."""
    other_target: float
    """Mean of the target there; NaN when there is no mass."""
    chi2: float
    """Posterior mean of the sum of squared residuals, per point."""
    p_value: float
    """Posterior probability that data of the model fit it worse than the real data."""
    cost: float
    """Minus the log likelihood of the best particle."""
    log_evidence: float
    """Log of the data's probability under the model, averaged over the prior."""
    edge: str
    """`"lower"` or `"upper"` when the target piles up at that end of its range, else empty."""

    @property
    def is_misfit(self) -> bool:
        """True when the model does not describe the data; a large chi2 of few points may be chance."""
        return self.p_value < MISFIT

    @property
    def is_overfit(self) -> bool:
        """True when the data scatter less than their errors say."""
        return self.chi2 < _LEAST_CHI2 and self.p_value > 1.0 - MISFIT


def assess(curves: Curves, ensemble: Ensemble, data: Data) -> Assessment:
    """Width, other modes and fit of a posterior."""
    reflectivity = curves(ensemble.points, data.q, data.q_sigma)
    target, weight = curves.target(ensemble.points), ensemble.weight
    mean, sigma = moments(target, weight)
    mass, elsewhere = other_mode(target, weight)
    return Assessment(
        target=float(mean),
        target_sigma=float(sigma),
        other_mass=mass,
        other_target=elsewhere,
        chi2=float(moments(data.sum_of_squares(reflectivity), weight)[0] / len(data)),
        p_value=float(moments(data.p_value(reflectivity), weight)[0]),
        cost=-float(data.log_likelihood(reflectivity).max()),
        log_evidence=ensemble.log_evidence,
        edge=_edge(ensemble.points[:, curves.parameters.target], weight),
    )


def other_mode(values: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Probability mass far from the main mode, and the mean value there (NaN without mass).

    The main mode is the shortest interval that holds half of the mass; far is more than 10 standard
    deviations of a normal distribution with that interval, where an exponential tail has 0.4 %.

    >>> other_mode(np.r_[np.linspace(-1, 1, 98), 40.0, 42.0], np.full(100, 0.01))
    (0.02, 41.0)
    """
    order = np.argsort(values, kind="stable")
    ranked, mass = values[order], np.cumsum(weight[order])
    last = np.searchsorted(mass, mass - weight[order] + 0.5)
    inside = last < len(values)
    first, last = np.flatnonzero(inside), last[inside]
    widths = ranked[last] - ranked[first]
    best = int(np.argmin(widths))
    centre = 0.5 * (ranked[last[best]] + ranked[first[best]])
    far = np.abs(values - centre) > _FAR * widths[best] / _HALF_OF_NORMAL
    total = float(weight[far].sum())
    elsewhere = float((weight[far] * values[far]).sum() / total) if total > 0.0 else float("nan")
    return round(total, 12), elsewhere


def _edge(u: FloatArray, weight: FloatArray) -> str:
    """The end of the unit interval that a narrow distribution leans on."""
    mean, sigma = moments(u, weight)
    if sigma > _NARROW or _LEAN * sigma < min(mean, 1.0 - mean):
        return ""
    return "lower" if mean < 0.5 else "upper"
