"""Where the posterior is: hills on the minima of a multi-start fit, as a proposal for the particles.

A measured curve may leave a millionth of the prior. Particles from the prior reach it by many tempered
steps; from hills on the minima they reach it in a few. The hills only guide: the likelihood weighs.
"""

from __future__ import annotations

import numpy as np

from skyloop.engines.reflectometry.belief import Curves
from skyloop.engines.reflectometry.fit import Fit
from skyloop.engines.reflectometry.likelihood import Data
from skyloop.numerics.mixture import Mixture
from skyloop.numerics.smc import Ensemble, Sampler, bridge
from skyloop.quantities import FloatArray

__all__ = ["guided"]

_DRAWS = 2
"""Particles of the proposal per particle of the posterior."""
_HOPELESS = 30.0
_LEAST_SHARE = 0.02
_INFLATION = 1.5
_PRIOR_PRECISION = 12.0
_STEP = 1e-4


def guided(curves: Curves, fit: Fit, data: Data, rng: np.random.Generator, *, size: int) -> Ensemble:
    """The posterior, from a proposal on all minima of a multi-start fit and a flat share of the prior.

    Args:
        curves: model curves over the unit cube.
        fit: of these data.
        data: gathered points.
        rng: source of all randomness.
        size: particles of the ensemble.
    """
    proposal = _proposal(curves, fit, data)

    def pair(u: FloatArray) -> FloatArray:
        log_like = data.log_likelihood(curves(u, data.q, data.q_sigma))
        return np.stack([proposal.log_density(u), log_like])

    drawn = proposal.draw(_DRAWS * size, rng)
    return bridge(drawn, pair, rng, sampler=Sampler(size=size))


def _proposal(curves: Curves, fit: Fit, data: Data) -> Mixture:
    cost = np.array([mode.cost for mode in fit.modes])
    near = cost <= cost.min() + _HOPELESS
    theta = np.array([mode.theta for mode in fit.modes])[near]
    centre = curves.points(theta)
    root = np.stack([_root(curves, data, u) for u in centre])
    log_mass = np.log(np.einsum("kdd->kd", root)).sum(axis=1) - cost[near]
    mass = np.exp(log_mass - log_mass.max())
    share = np.maximum(mass / mass.sum(), _LEAST_SHARE)
    return Mixture(centre=centre, root=root, weight=share / share.sum())


def _root(curves: Curves, data: Data, u: FloatArray) -> FloatArray:
    """Cholesky factor of the covariance that the data and the prior's width leave at a minimum."""
    step = np.where(u < 0.5, _STEP, -_STEP)
    around = np.vstack([u, u + np.diag(step)])
    expected = data.expected(curves(around, data.q, data.q_sigma))
    slope = (expected[1:] - expected[0]) / step[:, None] / np.sqrt(data.variance(expected[0]))
    information = np.einsum("dn,en->de", slope, slope)
    covariance = np.linalg.inv(information + _PRIOR_PRECISION * np.eye(len(u)))
    return np.linalg.cholesky(_INFLATION * 0.5 * (covariance + covariance.T))
