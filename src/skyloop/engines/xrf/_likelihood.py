"""Poisson maximum likelihood of non-negative amplitudes, for many pixels at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skyloop.numerics.nnls import nnls

__all__ = ["Likelihood"]

_TINY = 1e-10  # of the mean counts of a channel: keeps channels that no component reaches out of a logarithm
_INSIDE = 2e-3  # of the counts: what the search starts with in components at zero, shared among all
_STEADY = 1e-3  # of the expected curvature: for amplitudes that the counts of a pixel say nothing about
_OPTIMAL = 1e-6
_MOST_SWEEPS = 60
_MOST_CUTS = 12


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """Where the search of some pixels stands."""

    a: Tensor
    """[pixel, component]."""
    model: Tensor
    """[pixel, channel]."""
    cost: Tensor
    """[pixel], Σ(m - y ln m)."""

    def take(self, pixels: Tensor) -> _Point:
        return _Point(self.a[pixels], self.model[pixels], self.cost[pixels])


class Likelihood:
    """Likelihood of counts y that are Poisson with the means m = aB."""

    def __init__(self, columns: Tensor) -> None:
        """The columns B are [component, channel], each with positive area, and nowhere negative."""
        n = len(columns)
        self._columns = columns
        self._area = columns.sum(1)
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

        Newton's method: each sweep solves the quadratic model by non-negative least squares and steps towards
        its solution as far as the cost falls. The violation is that of gradient = 0 (a > 0) and gradient ≥ 0
        (a = 0), relative to the area of each component.

        Args:
            counts: [pixel, channel], at least one count per pixel.
            start: [pixel, component], not negative.
        """
        tiny = _TINY * counts.mean(1, keepdim=True)
        best, kkt = torch.empty_like(start), torch.empty_like(start[:, 0])
        pixels, here = torch.arange(len(counts)), self._at(self._inside(counts, start), counts, tiny)
        for _ in range(_MOST_SWEEPS):
            ratio = counts / here.model
            gradient = self._area - ratio @ self._columns.T
            wrong = torch.where(here.a > 0, gradient.abs(), -gradient) / self._area
            best[pixels], kkt[pixels] = here.a, wrong.amax(1).clamp(min=0)
            left = (kkt[pixels] > _OPTIMAL).nonzero()[:, 0]
            if not len(left):
                break
            pixels, counts, tiny, here = pixels[left], counts[left], tiny[left], here.take(left)
            here = self._moved(here, ratio[left], gradient[left], counts, tiny)
        return best, kkt

    def _inside(self, counts: Tensor, start: Tensor) -> Tensor:
        """A start without zeros, with as many counts as there are."""
        total = counts.sum(1, keepdim=True)
        a = torch.maximum(start, _INSIDE * total / (self._area * len(self._area)))
        return a * (total / (a @ self._area)[:, None])

    def _at(self, a: Tensor, counts: Tensor, tiny: Tensor) -> _Point:
        model = a @ self._columns + tiny
        return _Point(a, model, (model - counts * model.log()).sum(1))

    def _moved(self, here: _Point, ratio: Tensor, gradient: Tensor, counts: Tensor, tiny: Tensor) -> _Point:
        # In single precision: it tells where to step, the gradient where to stop.
        weights = (ratio + _STEADY) / here.model
        largest = weights.amax(1, keepdim=True)
        rough = (weights / largest).float() @ self._rough_pairs
        curvature = (largest * rough)[:, self._place]
        aim = nnls(curvature, (curvature @ here.a[..., None])[..., 0] - gradient).x
        descent = (gradient * (aim - here.a)).sum(1)
        share = torch.ones_like(descent)[:, None]
        there = self._at(aim, counts, tiny)
        for _ in range(_MOST_CUTS):
            rounding = 1e-12 * here.cost.abs()
            is_too_far = there.cost > here.cost + 1e-4 * share[:, 0] * descent + rounding
            if not bool(is_too_far.any()):
                break
            share = torch.where(is_too_far[:, None], share / 3, share)
            there = self._at(torch.where(share == 1, aim, torch.lerp(here.a, aim, share)), counts, tiny)
        return there
