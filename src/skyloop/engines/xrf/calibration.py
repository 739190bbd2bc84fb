"""Where a fit starts: the energy calibrations that suit the peaks, from a grid that grows where it must."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, shapes
from skyloop.engines.xrf.problem import Problem

__all__ = ["Grid", "calibrated"]

_WIDTH = 0.16  # keV, FWHM_OFFSET of the search: wider peaks are found from farther away
_BINNED = 8
_TABLE_STEP = 0.008  # keV
_SWEEPS = 25
_TOLERATED = 0.1  # relative: what a cell misses of a strong peak must not outweigh all else
_AT_ONCE = 16
_MOST_GROWTH = 3
_REFINED = 12

Cell = tuple[int, int]
"""A calibration by whole steps from the middle of the grid."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Calibrations to try: slopes equidistant in the logarithm, offsets equidistant."""

    slope: float = 0.01
    """Middle of ENERGY_SLOPE [keV/channel]."""
    slope_range: float = 0.1
    """Relative, to both sides."""
    slope_step: float = 0.006
    """Relative."""
    offset: float = 0.0
    """Middle of ENERGY_OFFSET [keV]."""
    offset_range: float = 0.05
    """To both sides [keV]."""
    offset_step: float = 0.025
    """keV."""

    def cells(self) -> tuple[int, int]:
        """Steps to either side."""
        return math.ceil(self.slope_range / self.slope_step), math.ceil(self.offset_range / self.offset_step)

    def at(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Slope [keV/channel] and offset [keV] of cells [..., 2], also between them."""
        slope = self.slope_step if self.slope_range else 0.0
        offset = self.offset_step if self.offset_range else 0.0
        return self.slope * torch.exp(cells[..., 0] * slope), self.offset + cells[..., 1] * offset


def calibrated(problem: Problem, grid: Grid, *, best: int) -> list[dict[str, float]]:
    """The calibrations that describe the spectrum best, no two of them neighbours.

    Each is judged by the squared residuals of a non-negative fit of all components, in units of the counting
    error and of a tenth of the counts. A grid whose best calibration is at its edge grows there.
    """
    search = _Search.of(problem, grid)
    n, m = grid.cells()
    low, high = [-n, -m], [n, m]
    costs: dict[Cell, float] = {}
    for _ in range(_MOST_GROWTH + 1):
        every = [(i, j) for i in range(low[0], high[0] + 1) for j in range(low[1], high[1] + 1)]
        new = [cell for cell in every if cell not in costs]
        if not new:
            break
        costs |= dict(zip(new, search.costs(torch.tensor(new, dtype=torch.float64)), strict=True))
        at = min(costs, key=lambda cell: costs[cell])
        for axis, more in ((0, n // 2), (1, m)):
            low[axis] -= more * (at[axis] == low[axis])
            high[axis] += more * (at[axis] == high[axis])
    return search.refined(_apart(costs, max(best, _REFINED)), best)


def _apart(costs: Mapping[Cell, float], count: int) -> list[Cell]:
    """The best cells, none next to a better one."""
    chosen: list[Cell] = []
    for cell in sorted(costs, key=lambda each: costs[each]):
        if all(abs(cell[0] - c[0]) > 1 or abs(cell[1] - c[1]) > 1 for c in chosen):
            chosen.append(cell)
        if len(chosen) == count:
            break
    return chosen


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """The spectrum in bins, and the components over the energy."""

    grid: Grid
    counts: Tensor
    """[bin]."""
    background: Tensor
    """[spline, bin]."""
    channels: Tensor
    """[bin], channel in the middle."""
    table: Tensor
    """[component, energy], counts per keV."""

    @classmethod
    def of(cls, problem: Problem, grid: Grid) -> _Search:
        count = problem.span.count // _BINNED

        def binned(x: Tensor) -> Tensor:
            parts = x[..., : count * _BINNED].reshape(*x.shape[:-1], count, _BINNED)
            return parts.sum(-1).to(torch.float32)

        channels = problem.span.first + _BINNED * torch.arange(count) + (_BINNED - 1) / 2
        most = 1.5 * grid.slope * math.exp(grid.slope_range) * float(channels[-1]) + 1
        return cls(
            grid=grid,
            counts=binned(problem.counts - problem.known).clamp(min=0),
            background=binned(problem.background),
            channels=channels,
            table=_table(problem, most),
        )

    def costs(self, cells: Tensor) -> list[float]:
        """What is left of the spectrum at each calibration [cell, 2]."""
        found: list[float] = []
        spread = self.counts + 1 + (_TOLERATED * self.counts) ** 2
        for chunk in cells.split(_AT_ONCE):
            model = _non_negative(self._basis(*self.grid.at(chunk)), self.counts)
            found += ((self.counts - model) ** 2 / spread).sum(-1).tolist()
        return found

    def refined(self, cells: list[Cell], best: int) -> list[dict[str, float]]:
        """The best between each cell and its neighbours."""
        between = [(i / 3, j / 2) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        around = torch.tensor([[(i + a, j + b) for a, b in between] for i, j in cells], dtype=torch.float64)
        costs = torch.tensor(self.costs(around.flatten(0, 1))).reshape(len(cells), -1)
        least, which = costs.min(1)
        order = least.argsort()[:best]
        slopes, offsets = self.grid.at(around[order, which[order]])
        pairs = zip(slopes.tolist(), offsets.tolist(), strict=True)
        return [{"ENERGY_SLOPE": slope, "ENERGY_OFFSET": offset} for slope, offset in pairs]

    def _basis(self, slope: Tensor, offset: Tensor) -> Tensor:
        """[cell, component + spline, bin], counts at amplitude 1."""
        place = (offset[:, None] + slope[:, None] * self.channels) / _TABLE_STEP
        first = place.floor().clamp(0, self.table.shape[1] - 2)
        share = (place - first).clamp(0, 1).to(torch.float32)
        index = first.to(torch.int64)
        at = self.table[:, index] * (1 - share) + self.table[:, index + 1] * share
        peaks = at.movedim(0, 1) * (slope * _BINNED).to(torch.float32)[:, None, None]
        return torch.cat([peaks, self.background.expand(len(slope), -1, -1)], 1)


def _table(problem: Problem, most: float) -> Tensor:
    """Each component over the energy from 0 to `most` keV, with wide peaks."""
    values = {**problem.values, "FWHM_OFFSET": _WIDTH}
    values |= {"ENERGY_OFFSET": 0.0, "ENERGY_SLOPE": _TABLE_STEP, "ENERGY_QUADRATIC": 0.0}
    span = Span(0, math.ceil(most / _TABLE_STEP) + 2)
    return (shapes(problem.rows, theta_of(values), span) / _TABLE_STEP).to(torch.float32)


def _non_negative(basis: Tensor, counts: Tensor) -> Tensor:
    """Expected counts [cell, bin] of a Poisson fit of amplitudes >= 0, by expectation maximisation.

    References:
        L. A. Shepp, Y. Vardi, IEEE Trans. Med. Imaging 1, 113 (1982), doi:10.1109/TMI.1982.4307558.
    """
    seen = basis.sum(-1)
    tiny = torch.finfo(basis.dtype).tiny
    amplitudes = (basis @ counts) / (seen * basis.shape[1]).clamp(min=tiny)
    for _ in range(_SWEEPS):
        model = (amplitudes[:, None, :] @ basis)[:, 0].clamp(min=1e-3)
        amplitudes = amplitudes * (basis @ (counts / model)[..., None])[..., 0] / seen.clamp(min=tiny)
    return (amplitudes[:, None, :] @ basis)[:, 0]
