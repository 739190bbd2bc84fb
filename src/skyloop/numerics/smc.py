"""Tempered sequential Monte Carlo over the unit cube.

An ensemble of weighted particles is carried from a base density to a target density along the path
pi_b ~ base^(1-b) target^b, 0 <= b <= 1. Each leg is as long as the effective sample size allows; after it the
particles are resampled and moved by Metropolis steps that leave pi_b unchanged.

The base may be the prior (a whole inference), a proposal mixture (a guided inference), or yesterday's
posterior (an update by new data). Everything is drawn from the generator that is passed in, and no sum
runs through a threaded library, so the numbers do not depend on the thread count.

Source: Del Moral, Doucet and Jasra, J. R. Stat. Soc. B 68, 411 (2006), doi:10.1111/j.1467-9868.2006.00553.x;
differential-evolution moves: ter Braak, Stat. Comput. 16, 239 (2006), doi:10.1007/s11222-006-8769-1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from skyloop.quantities import FloatArray

__all__ = ["Ensemble", "LogPair", "Sampler", "bridge", "from_prior", "merged", "moments", "resampled"]

LogPair = Callable[[FloatArray], FloatArray]
"""Points [p, d] -> log densities [2, p]: the base in row 0, the target in row 1."""

_BISECTIONS = 30
_MOST_LEGS = 100
"""A datum that no particle explains would take any number of them."""
_TARGET_ACCEPTANCE = 0.25
_STEP_ADAPTATION = 1.0
_JUMP_SHARE = 0.1
_JITTER = 1e-3


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Weighted particles in the unit cube."""

    points: FloatArray
    """Particles [p, d], each coordinate in [0, 1]."""

    log_weight: FloatArray
    """Logarithms of the weights [p], which sum to one."""

    log_evidence: float = 0.0
    """Logarithm of the integral of the target over the cube."""

    @property
    def weight(self) -> FloatArray:
        """Weights [p], which sum to one."""
        return np.exp(self.log_weight)

    @property
    def ess(self) -> float:
        """Effective sample size 1 / sum w^2."""
        return _ess(self.log_weight)


@dataclass(frozen=True, slots=True)
class Sampler:
    """How many particles, and how hard they are worked."""

    size: int = 800
    """Particles after the first resampling."""

    ess_share: float = 0.5
    """A leg ends where the effective sample size falls to this share of `size`."""

    fewest_moves: int = 3
    """Metropolis moves after a resampling, at least."""

    most_moves: int = 10
    """Metropolis moves after a resampling, at most; they end when particles have moved once on average."""


@dataclass(frozen=True, slots=True)
class _Leg:
    """Particles on their way: where they are, what they weigh, and how far along the path."""

    points: FloatArray
    pair: FloatArray
    log_weight: FloatArray
    log_evidence: float
    share: float

    @property
    def density(self) -> FloatArray:
        """Log density of the path at each particle."""
        return _along(self.pair, self.share)


def from_prior(count: int, dims: int, rng: np.random.Generator) -> Ensemble:
    """Equal-weight scrambled Sobol points [count, dims] of the uniform prior."""
    seed = int(rng.integers(2**31))
    engine = torch.quasirandom.SobolEngine(dims, scramble=True, seed=seed)
    points = engine.draw(count, dtype=torch.float64).numpy()
    return Ensemble(points=points, log_weight=np.full(count, -np.log(count)))


def bridge(
    ensemble: Ensemble, pair: LogPair, rng: np.random.Generator, *, sampler: Sampler | None = None
) -> Ensemble:
    """Carry an ensemble of the base density to the target density.

    Args:
        ensemble: particles that represent the base.
        pair: log densities of base and target; both may lack a constant, which then enters the evidence.
        rng: source of all randomness.
        sampler: number of particles and effort; the defaults suit up to about ten dimensions.

    Returns:
        Particles that represent the target; `log_evidence` has grown by log(Z_target / Z_base). After 100
        legs the rest of the way is gone at once, so that the work is bounded.
    """
    sampler = sampler or Sampler()
    leg = _Leg(ensemble.points, pair(ensemble.points), ensemble.log_weight, ensemble.log_evidence, 0.0)
    for count in range(_MOST_LEGS):
        if leg.share == 1.0:
            break
        leg = _advanced(leg, sampler, to_the_end=count == _MOST_LEGS - 1)
        if leg.share < 1.0 or len(leg.points) > sampler.size:
            leg = _moved(_thinned(leg, rng, sampler.size), pair, rng, sampler)
    return Ensemble(leg.points, leg.log_weight, leg.log_evidence)


def resampled(ensemble: Ensemble, rng: np.random.Generator, size: int) -> Ensemble:
    """`size` particles of equal weight, drawn by systematic resampling."""
    chosen = _systematic(ensemble.log_weight, rng, size)
    return replace(ensemble, points=ensemble.points[chosen], log_weight=np.full(size, -np.log(size)))


def merged(first: Ensemble, second: Ensemble) -> Ensemble:
    """Two ensembles of the same target as one: half the weight and all the particles of each."""
    half = np.log(0.5)
    return Ensemble(
        points=np.concatenate([first.points, second.points]),
        log_weight=np.concatenate([first.log_weight, second.log_weight]) + half,
        log_evidence=float(np.logaddexp(first.log_evidence, second.log_evidence) + half),
    )


def moments(values: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted mean and standard deviation of values [p, ...] over the particles.

    >>> moments(np.array([1.0, 3.0]), np.array([0.5, 0.5]))
    (np.float64(2.0), np.float64(1.0))
    """
    mean = np.einsum("p,p...->...", weight, values)
    spread = np.einsum("p,p...->...", weight, (values - mean) ** 2)
    return mean, np.sqrt(spread)


def _along(pair: FloatArray, share: float) -> FloatArray:
    return pair[1] if share == 1.0 else (1.0 - share) * pair[0] + share * pair[1]


def _ess(log_weight: FloatArray) -> float:
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / (weight**2).sum())


def _advanced(leg: _Leg, sampler: Sampler, *, to_the_end: bool) -> _Leg:
    """Go as far along the path as the effective sample size allows, and reweight."""
    slope = leg.pair[1] - leg.pair[0]
    least = sampler.ess_share * sampler.size
    step = 1.0 - leg.share if to_the_end else _longest_step(leg, slope, least)
    raw = leg.log_weight + step * slope
    total = float(logsumexp(raw))
    share = 1.0 if step >= 1.0 - leg.share else leg.share + step
    return replace(leg, log_weight=raw - total, log_evidence=leg.log_evidence + total, share=share)


def _longest_step(leg: _Leg, slope: FloatArray, least: float) -> float:
    low, high = 0.0, 1.0 - leg.share
    if _ess(leg.log_weight + high * slope) >= least:
        return high
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _ess(leg.log_weight + middle * slope) >= least:
            low = middle
        else:
            high = middle
    return high


def _systematic(log_weight: FloatArray, rng: np.random.Generator, size: int) -> NDArray[np.intp]:
    edges = np.cumsum(np.exp(log_weight))
    ticks = (rng.random() + np.arange(size)) / size
    return np.minimum(np.searchsorted(edges, ticks * edges[-1]), len(edges) - 1)


def _thinned(leg: _Leg, rng: np.random.Generator, size: int) -> _Leg:
    chosen = _systematic(leg.log_weight, rng, size)
    return replace(
        leg,
        points=leg.points[chosen],
        pair=leg.pair[:, chosen],
        log_weight=np.full(size, -np.log(size)),
    )


def _moved(leg: _Leg, pair: LogPair, rng: np.random.Generator, sampler: Sampler) -> _Leg:
    """Metropolis moves, until each particle has moved once on average."""
    donors, root = leg.points, _root_covariance(leg.points)
    scale, travelled = 1.0, 0.0
    for move in range(sampler.most_moves):
        if move >= sampler.fewest_moves and travelled >= 1.0:
            break
        proposal = _reflected(leg.points + _steps(donors, root, scale, rng))
        leg, accepted = _accepted(leg, proposal, pair(proposal), rng)
        travelled += accepted
        scale *= np.exp(_STEP_ADAPTATION * (accepted - _TARGET_ACCEPTANCE))
    return leg


def _accepted(
    leg: _Leg, proposal: FloatArray, values: FloatArray, rng: np.random.Generator
) -> tuple[_Leg, float]:
    threshold = np.log1p(-rng.random(len(proposal)))
    accept = _along(values, leg.share) - leg.density > threshold
    points = np.where(accept[:, None], proposal, leg.points)
    return replace(leg, points=points, pair=np.where(accept, values, leg.pair)), float(accept.mean())


def _steps(donors: FloatArray, root: FloatArray, scale: float, rng: np.random.Generator) -> FloatArray:
    """Half the particles step along the difference of two others, half along the covariance."""
    count, dims = donors.shape
    first, second = rng.integers(count, size=(2, count))
    gaussian = np.einsum("pd,ed->pe", rng.standard_normal((count, dims)), root)
    kind = rng.random(count)
    length = 2.38 * scale / np.sqrt(dims)
    along = np.where(kind < _JUMP_SHARE, 1.0, length / np.sqrt(2.0))[:, None]
    evolution = along * (donors[first] - donors[second]) + _JITTER * gaussian
    return np.where((kind < 0.5)[:, None], evolution, length * gaussian)


def _root_covariance(points: FloatArray) -> FloatArray:
    """Lower Cholesky factor of the particles' covariance, kept positive by a tiny diagonal."""
    centred = points - points.mean(axis=0)
    covariance = np.einsum("pd,pe->de", centred, centred) / len(points)
    floor = 1e-12 + 1e-9 * np.diag(covariance)
    return np.linalg.cholesky(covariance + np.diag(floor))


def _reflected(points: FloatArray) -> FloatArray:
    """Fold the line into [0, 1] by mirrors at the walls, which keeps a symmetric proposal symmetric."""
    folded = np.abs(points) % 2.0
    return np.minimum(folded, 2.0 - folded)
