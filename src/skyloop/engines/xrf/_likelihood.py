"""Poisson maximum likelihood of non-negative amplitudes, for many pixels at once."""

from __future__ import annotations

import torch
from torch import Tensor

from skyloop.numerics.nnls import nnls

__all__ = ["Likelihood"]

_TINY = 1e-10  # of the mean counts of a channel: keeps channels that no component reaches out of a logarithm
_INSIDE = 2e-3  # of the counts: what the search starts with in components at zero, shared among all
_STEADY = 1e-3  # of the expected curvature: for amplitudes that the counts of a pixel say nothing about
_OPTIMAL = 1e-6
_MOST_SWEEPS = 60


class Likelihood:
    """Likelihood of counts y that are Poisson with the means m = aB."""

    def __init__(self, columns: Tensor) -> None:
        """The columns B are [component, channel], each with positive area, and nowhere negative."""
        n = len(columns)
        self._columns = columns
        self._area = columns.sum(1)
        self._is_reached = (columns.sum(0) > 0).to(columns.dtype)
        row, column = torch.triu_indices(n, n)
        # One matrix product with these gives the curvature of all pixels.
        self._pairs = (columns[row] * columns[column]).T.contiguous()
        self._rough_pairs = self._pairs.float()
        self._place = torch.zeros(n, n, dtype=torch.int64)
        self._place[row, column] = self._place[column, row] = torch.arange(len(row))

    def information(self, model: Tensor) -> Tensor:
        """Fisher information [pixel, component, component] B diag(1/m) Bᵀ at means m > 0 [pixel, channel]."""
        return ((1 / model) @ self._pairs)[:, self._place]

    def maximum(self, counts: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitudes a ≥ 0 [pixel, component] that minimise Σ(m - y ln m), and the violation [pixel].

        Newton's method: each sweep solves the quadratic model by non-negative least squares. The violation is
        that of gradient = 0 (a > 0) and gradient ≥ 0 (a = 0), relative to the area of each component; more
        than 1e-6 where 60 sweeps do not do.

        Args:
            counts: [pixel, channel], at least one count per pixel.
            start: [pixel, component], not negative.
        """
        tiny = _TINY * counts.mean(1, keepdim=True)
        best, kkt = torch.empty_like(start), torch.empty_like(start[:, 0])
        pixels, a = torch.arange(len(counts)), self._inside(counts, start)
        for _ in range(_MOST_SWEEPS):
            model = a @ self._columns + tiny
            ratio = counts / model * self._is_reached  # other counts no amplitude explains
            gradient = self._area - ratio @ self._columns.T
            wrong = torch.where(a > 0, gradient.abs(), -gradient) / self._area
            best[pixels], kkt[pixels] = a, wrong.amax(1).clamp(min=0)
            left = (kkt[pixels] > _OPTIMAL).nonzero()[:, 0]
            if not len(left):
                break
            pixels, counts, tiny = pixels[left], counts[left], tiny[left]
            a = self._next(a[left], model[left], ratio[left], gradient[left])
        return best, kkt

    def _inside(self, counts: Tensor, start: Tensor) -> Tensor:
        """A start without zeros, with as many counts as there are."""
        total = counts.sum(1, keepdim=True)
        a = torch.maximum(start, _INSIDE * total / (self._area * len(self._area)))
        return a * (total / (a @ self._area)[:, None])

    def _next(self, a: Tensor, model: Tensor, ratio: Tensor, gradient: Tensor) -> Tensor:
        # In single precision: it tells where to step, the gradient where to stop.
        weights = (ratio + _STEADY) / model
        largest = weights.amax(1, keepdim=True)
        rough = (weights / largest).float() @ self._rough_pairs
        curvature = (largest * rough)[:, self._place]
        return nnls(curvature, (curvature @ a[..., None])[..., 0] - gradient).x
