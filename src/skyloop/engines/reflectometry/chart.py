"""Coordinates in which a fit walks: a curve depends on a roughness by its square."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skyloop.engines.reflectometry.model import Parameters

__all__ = ["Chart"]


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    r"""Points x [batch, p] of the unit cube: those of the prior, but linear in the square of a roughness.

    By a roughness itself no curve changes at zero, so that a search which came there would stay.

    >>> from skyloop.engines.reflectometry.config import load
    >>> chart = Chart(Parameters.of(load("sample:\n  backing: {sld: 2, roughness: [0, 8]}\n")))
    >>> chart.theta(torch.tensor([[0.25]], dtype=torch.float64))
    tensor([[4.]], dtype=torch.float64)
    """

    parameters: Parameters
    """What the coordinates mean."""

    def theta(self, x: Tensor) -> Tensor:
        """Values of the parameters at points x."""
        low, high = self.parameters.low.square(), self.parameters.high.square()
        rough = (low + (high - low) * x).sqrt()
        # the root of an end of the range is not always that end
        rough = rough.clamp(self.parameters.low, self.parameters.high)
        return torch.where(self.parameters.is_roughness, rough, self.parameters.theta(x))

    def of_prior(self, u: Tensor) -> Tensor:
        """The points x of points u of the prior's cube."""
        low, high = self.parameters.low, self.parameters.high
        square = u * (2 * low + (high - low) * u) / (low + high)
        return torch.where(self.parameters.is_roughness, square, u)

    def slope(self, theta: Tensor) -> Tensor:
        """Derivative by x, elementwise, of what `Parameters.gather` derives by."""
        span = self.parameters.high.square() - self.parameters.low.square()
        return torch.where(self.parameters.is_roughness, span, self.parameters.slope(theta))

    def sigma(self, theta: Tensor, sigma: Tensor) -> Tensor:
        """Standard deviations of the parameters, from those of x; NaN for a roughness of zero."""
        rough = self.parameters.is_roughness
        root = torch.where(rough, torch.where(theta > 0, 2 * theta, torch.nan), 1.0)
        return sigma * self.slope(theta) / root
