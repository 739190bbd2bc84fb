"""A spectrum, what it may be made of, and what is sought: the problem that every fit of a spectrum solves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, shapes, slopes
from skyloop.engines.xrf.parameters import PARAMETERS
from skyloop.engines.xrf.rows import Rows

__all__ = ["Problem"]

_NAMES = tuple(PARAMETERS)


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Counts, and a spectrum that is linear in amplitudes >= 0 and nonlinear in some parameters."""

    counts: Tensor
    """[channel]."""
    span: Span
    """Which channels these are."""
    rows: Rows
    """Peaks of the components."""
    background: Tensor
    """[spline, channel], columns that are fitted as amplitudes are."""
    known: Tensor
    """[channel], counts that are not fitted."""
    values: Mapping[str, float]
    """Every parameter, those that are not free at their value."""
    free: Mapping[str, tuple[float, float]]
    """Lowest and highest value of each free parameter."""

    @property
    def low(self) -> Tensor:
        """[free]."""
        return torch.tensor([low for low, _ in self.free.values()], dtype=torch.float64)

    @property
    def high(self) -> Tensor:
        """[free]."""
        return torch.tensor([high for _, high in self.free.values()], dtype=torch.float64)

    @property
    def start(self) -> Tensor:
        """[free], the values inside their ranges."""
        values = torch.tensor([self.values[name] for name in self.free], dtype=torch.float64)
        return values.clamp(self.low, self.high)

    def theta(self, x: Tensor) -> Tensor:
        """All parameters [..., parameter] with the free ones at x [..., free]."""
        theta = theta_of(self.values).expand(*x.shape[:-1], -1).clone()
        theta[..., [_NAMES.index(name) for name in self.free]] = x
        return theta

    def basis(self, x: Tensor) -> Tensor:
        """[..., component + spline, channel], counts at amplitude 1."""
        peaks = shapes(self.rows, self.theta(x), self.span)
        smooth = self.background.expand(*x.shape[:-1], *self.background.shape)
        return torch.cat([peaks, smooth], dim=-2)

    def slopes(self, x: Tensor, amplitudes: Tensor) -> Tensor:
        """[..., free, channel], derivatives of the spectrum with amplitudes [..., component (+ spline)]."""
        peaks = amplitudes[..., : len(self.rows.names)]
        return slopes(self.rows, self.theta(x), self.span, peaks, tuple(self.free))

    def at(self, x: Tensor) -> Problem:
        """The problem that starts from x [free]."""
        found = dict(zip(self.free, x.tolist(), strict=True))
        return replace(self, values={**self.values, **found})
