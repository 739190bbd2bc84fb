"""Proposal mixture on the unit cube: Student-t hills on known modes, over a flat share of the cube."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp

from skyloop.numerics.smc import Ensemble, from_prior
from skyloop.quantities import FloatArray

__all__ = ["Mixture"]

_EXCESS = 6
"""Candidates per particle: a hill near a wall or in a flat valley loses many of its draws."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """q(u) = flat + (1 - flat) sum_k weight_k t(u; centre_k, root_k root_k^T, freedom)."""

    centre: FloatArray
    """Centres of the hills [k, d], in the unit cube."""
    root: FloatArray
    """Lower Cholesky factors of their covariances [k, d, d]."""
    weight: FloatArray
    """Shares of the hills [k], which sum to one."""
    flat: float = 0.2
    """Share of the uniform density, which bounds every importance weight."""
    freedom: float = 5.0
    """Degrees of freedom: heavy tails for posteriors that are no Gaussians."""

    def log_density(self, points: FloatArray) -> FloatArray:
        """Log density [p] at points [p, d] of the cube."""
        hills = np.stack([self._log_hill(k, points) for k in range(len(self.weight))])
        hills = logsumexp(hills + np.log(self.weight)[:, None], axis=0)
        return np.logaddexp(np.log(self.flat), np.log1p(-self.flat) + hills)

    def draw(self, count: int, rng: np.random.Generator) -> Ensemble:
        """At most `count` particles of the mixture inside the cube.

        Draws that leave the cube are left out; the share that stays is the evidence of the ensemble.
        """
        hills = self._hill_draws(count * _EXCESS, rng)
        inside = np.all((hills >= 0.0) & (hills <= 1.0), axis=1)
        kept = inside.mean()
        total = self.flat + (1.0 - self.flat) * kept
        wanted = round(count * self.flat / float(total))
        flat = from_prior(wanted, hills.shape[1], rng).points
        points = np.concatenate([flat, hills[inside][: count - wanted]])
        weight = np.where(
            np.arange(len(points)) < wanted,
            self.flat / total / wanted,
            (1.0 - self.flat) * kept / total / max(1, len(points) - wanted),
        )
        return Ensemble(points, np.log(weight), float(np.log(total)))

    def _hill_draws(self, count: int, rng: np.random.Generator) -> FloatArray:
        edges = np.cumsum(self.weight)
        kind = np.minimum(np.searchsorted(edges, rng.random(count)), len(edges) - 1)
        normal = rng.standard_normal((count, self.centre.shape[1]))
        stretch = np.sqrt(self.freedom / rng.chisquare(self.freedom, size=count))
        steps = np.einsum("pde,pe->pd", self.root[kind], normal)
        return self.centre[kind] + stretch[:, None] * steps

    def _log_hill(self, k: int, points: FloatArray) -> FloatArray:
        dims, root = points.shape[1], self.root[k]
        inverse = np.linalg.inv(root)
        square = (np.einsum("de,pe->pd", inverse, points - self.centre[k]) ** 2).sum(axis=1)
        half = 0.5 * (self.freedom + dims)
        constant = gammaln(half) - gammaln(0.5 * self.freedom)
        constant -= 0.5 * dims * np.log(self.freedom * np.pi) + np.log(np.diag(root)).sum()
        return constant - half * np.log1p(square / self.freedom)
