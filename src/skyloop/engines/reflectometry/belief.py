"""What is believed of the sample: particles of the posterior, and how data change them.

Two ways lead to the posterior. `infer` starts from the prior and looks everywhere; it costs about ten times
an `update`, which starts from the last posterior and can only follow what is still in it. Small steps are
updates; the rest, and every check, is inferred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from skyloop.engines.reflectometry.config import Config
from skyloop.engines.reflectometry.likelihood import Data
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.smearing import model_curve
from skyloop.numerics.smc import Ensemble, Sampler, bridge, from_prior
from skyloop.quantities import FloatArray

__all__ = ["Curves", "infer", "update"]

_DRAWS = 8192
_DECIMALS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Model curves of points of the unit cube, in which the prior is uniform."""

    parameters: Parameters
    """What the coordinates mean."""

    @classmethod
    def of(cls, config: Config) -> Curves:
        """Curves of a sample model."""
        return cls(Parameters.of(config))

    def points(self, theta: FloatArray) -> FloatArray:
        """Points u [p, d] of parameter values, to 6 digits: the others depend on the thread count."""
        return self.parameters.uniform(torch.from_numpy(theta)).round(decimals=_DECIMALS).numpy()

    def theta(self, u: FloatArray) -> FloatArray:
        """Parameter values [p, d] of points u [p, d], in their units."""
        return self.parameters.theta(torch.from_numpy(u)).numpy()

    def values(self, u: FloatArray) -> FloatArray:
        """Every named quantity [p, entries], known or free."""
        return self.parameters.values(self.parameters.theta(torch.from_numpy(u))).numpy()

    def target(self, u: FloatArray) -> FloatArray:
        """The parameter that the user wants to know [p]."""
        return self.theta(u)[:, self.parameters.target]

    def __call__(self, u: FloatArray, q: FloatArray, q_sigma: FloatArray) -> FloatArray:
        """Expected reflectivity [p, n] at q [n]."""
        slabs = self.parameters.slabs(self.parameters.theta(torch.from_numpy(u)))
        return model_curve(torch.from_numpy(q), torch.from_numpy(q_sigma), slabs).numpy()


def infer(curves: Curves, data: Data, rng: np.random.Generator, *, size: int) -> Ensemble:
    """The posterior, from the prior: particles everywhere, drawn together in tempered steps."""

    def pair(u: FloatArray) -> FloatArray:
        log_like = data.log_likelihood(curves(u, data.q, data.q_sigma))
        return np.stack([np.zeros_like(log_like), log_like])

    prior = from_prior(max(_DRAWS, 2 * size), len(curves.parameters), rng)
    return bridge(prior, pair, rng, sampler=Sampler(size=size))


def update(
    curves: Curves,
    ensemble: Ensemble,
    old: Data,
    new: Data,
    rng: np.random.Generator,
    *,
    size: int,
) -> Ensemble:
    """The posterior under new data, from that under old data, all of which are among the new."""
    columns = old.columns_in(new)

    def pair(u: FloatArray) -> FloatArray:
        reflectivity = curves(u, new.q, new.q_sigma)
        before = old.log_likelihood(reflectivity[:, columns])
        return np.stack([before, new.log_likelihood(reflectivity)])

    return bridge(ensemble, pair, rng, sampler=Sampler(size=size))
