"""What a fit makes small: squared residuals, squared residuals over counts, or the Poisson deviance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from skyloop.engines.xrf.boxcar import smoothed

__all__ = ["OBJECTIVES", "Objective", "ObjectiveName"]

ObjectiveName = Literal["poisson", "chi2", "mse"]
_DARK = (
    1e-6  # counts per channel that are always expected: a count where nothing is expected has no likelihood
)


@dataclass(frozen=True, slots=True)
class Objective:
    """A cost of counts y [channel] under expected counts m [..., channel]."""

    first_weights: Callable[[Tensor], Tensor]
    """Weights of squared residuals that come near it, from the counts alone."""
    cost: Callable[[Tensor, Tensor], Tensor]
    """[..., channel], of y and m."""
    slope: Callable[[Tensor, Tensor], Tensor]
    """Its derivative by m."""
    weight: Callable[[Tensor, Tensor], Tensor]
    """Its expected second derivative by m."""


def _inverse_mean(y: Tensor) -> Tensor:
    # one variance for all channels, that of the mean counts: no minimum depends on it, and costs compare
    return (1 / y.mean().clamp(min=1)).expand_as(y)


def _poisson_cost(y: Tensor, m: Tensor) -> Tensor:
    # half the deviance: m - y - y log(m / y)
    dark = m + _DARK
    return dark - y + torch.special.xlogy(y, y / dark)


def _inverse_counts(y: Tensor) -> Tensor:
    return 1 / y.clamp(min=1)


OBJECTIVES: dict[ObjectiveName, Objective] = {
    "poisson": Objective(
        first_weights=lambda y: 1 / (smoothed(y) + 1),
        cost=_poisson_cost,
        slope=lambda y, m: 1 - y / (m + _DARK),
        weight=lambda y, m: 1 / (m + _DARK),
    ),
    "chi2": Objective(
        first_weights=_inverse_counts,
        cost=lambda y, m: 0.5 * _inverse_counts(y) * (y - m) ** 2,
        slope=lambda y, m: _inverse_counts(y) * (m - y),
        weight=lambda y, m: _inverse_counts(y).expand_as(m),
    ),
    "mse": Objective(
        first_weights=_inverse_mean,
        cost=lambda y, m: 0.5 * _inverse_mean(y) * (y - m) ** 2,
        slope=lambda y, m: _inverse_mean(y) * (m - y),
        weight=lambda y, m: _inverse_mean(y).expand_as(m),
    ),
}
