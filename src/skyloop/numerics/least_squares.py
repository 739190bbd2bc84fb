"""Bounded least squares and maximum likelihood from many starts at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

__all__ = ["Minimum", "Quadratic", "covariance", "least_squares"]

_ROUNDING = 1e-14  # a promised decrease below this share of the cost is beyond float64


@dataclass(frozen=True, slots=True, eq=False)
class Quadratic:
    """What the search knows of its problem at one x per start."""

    cost: Tensor
    """[batch], half the sum of squares, or minus the log likelihood."""
    gradient: Tensor
    """[batch, p], of the cost."""
    curvature: Tensor
    """[batch, p, p], J^T J of the residuals or the Fisher information: positive semidefinite."""


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Where each start ended."""

    x: Tensor
    """[batch, p]."""
    cost: Tensor
    """[batch]."""
    curvature: Tensor
    """[batch, p, p], of the cost at x; see `covariance`."""
    converged: Tensor
    """[batch], false where the steps ran out or the cost was not a number."""
    at_bound: Tensor
    """[batch, p], true where the cost would fall further beyond the bound."""


def least_squares(
    problem: Callable[[Tensor], Quadratic],
    start: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    max_steps: int = 100,
    tolerance: float = 1e-9,
) -> Minimum:
    """Levenberg-Marquardt from each start [batch, p] inside the box from low [p] to high [p].

    A step solves (curvature + damping diag(curvature)) step = -gradient and is cut at the box; a
    parameter that is at its bound and would leave is held. A start is done when its model promises a
    decrease of the cost below `tolerance`: with residuals in standard deviations that is a step of about
    sqrt(2 tolerance) of them. Finished starts cost nothing more.

    References:
        J. J. More, Lect. Notes Math. 630, 105 (1978), doi:10.1007/BFb0067700;
        H. B. Nielsen, IMM-REP-1999-05, Technical University of Denmark (the damping rule).

    Raises:
        ValueError: a start is outside the box.
    """
    if not bool(((low <= start) & (start <= high)).all()):
        raise ValueError("a start is outside its bounds; mend: start inside the box")
    search = _Search.begin(problem, start)
    for _ in range(max_steps):
        rows = search.running.nonzero()[:, 0]
        if not len(rows):
            break
        search.put(rows, _advanced(search.take(rows), problem, (low, high), tolerance))
    return Minimum(
        x=search.x,
        cost=search.cost,
        curvature=search.curvature,
        converged=~search.running,
        at_bound=_held(search, low, high),
    )


def covariance(curvature: Tensor) -> Tensor:
    """Inverse [batch, p, p] of the curvature; NaN for a start whose curvature is singular.

    Bounds are not considered: for a parameter at its bound this is what the data alone say.

    >>> covariance(torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))[None]).diagonal(dim1=1, dim2=2)
    tensor([[0.2500, 1.0000]], dtype=torch.float64)
    """
    scale = _scale(curvature)
    spread = scale[:, :, None] * scale[:, None, :]
    values, vectors = torch.linalg.eigh(curvature / spread)
    inverse = (vectors / values[:, None, :]) @ vectors.transpose(1, 2) / spread
    least = values.shape[1] * torch.finfo(values.dtype).eps
    regular = values[:, :1] > least * values[:, -1:]
    return torch.where(regular[..., None], inverse, torch.nan)


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """The state of all starts; only `put` changes it, and only its own tensors."""

    x: Tensor
    cost: Tensor
    gradient: Tensor
    curvature: Tensor
    damping: Tensor
    growth: Tensor
    running: Tensor

    @classmethod
    def begin(cls, problem: Callable[[Tensor], Quadratic], start: Tensor) -> _Search:
        here = problem(start)
        return cls(
            x=start.clone(),
            cost=here.cost.clone(),
            gradient=here.gradient.clone(),
            curvature=here.curvature.clone(),
            damping=torch.full_like(here.cost, 1e-3),
            growth=torch.full_like(here.cost, 2.0),
            running=torch.ones_like(here.cost, dtype=torch.bool),
        )

    def take(self, rows: Tensor) -> _Search:
        return _Search(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: Tensor, part: _Search) -> None:
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(part, field.name)


def _advanced(
    search: _Search,
    problem: Callable[[Tensor], Quadratic],
    box: tuple[Tensor, Tensor],
    tolerance: float,
) -> _Search:
    trial = (search.x + _step(search, *box)).clamp(*box)
    step = trial - search.x
    promised = _promised(search, step)
    there = problem(trial)
    gain = (search.cost - there.cost) / promised
    better = (promised > 0) & (gain > 0)
    # Also when the step was cut to nothing by the box: then damping cannot help.
    done = (promised.abs() <= tolerance + _ROUNDING * search.cost.abs()) & ~search.cost.isnan()
    return replace(
        _moved(search, trial, there, better),
        damping=search.damping * torch.where(better, _eased(gain), search.growth),
        growth=torch.where(better, 2.0, 2 * search.growth),
        running=~done,
    )


def _moved(search: _Search, trial: Tensor, there: Quadratic, better: Tensor) -> _Search:
    column = better[:, None]
    return replace(
        search,
        x=torch.where(column, trial, search.x),
        cost=torch.where(better, there.cost, search.cost),
        gradient=torch.where(column, there.gradient, search.gradient),
        curvature=torch.where(column[..., None], there.curvature, search.curvature),
    )


def _step(search: _Search, low: Tensor, high: Tensor) -> Tensor:
    free = (~_held(search, low, high)).to(search.x.dtype)
    scale = _scale(search.curvature)
    mask = free[:, :, None] * free[:, None, :]
    matrix = search.curvature / (scale[:, :, None] * scale[:, None, :]) * mask
    matrix = matrix + torch.diag_embed(search.damping[:, None] + 1 - free)
    solved, _ = torch.linalg.solve_ex(matrix, (-search.gradient * free / scale)[..., None])
    return solved[..., 0] / scale


def _promised(search: _Search, step: Tensor) -> Tensor:
    along = (search.gradient * step).sum(dim=1)
    return -along - 0.5 * torch.einsum("bi,bij,bj->b", step, search.curvature, step)


def _eased(gain: Tensor) -> Tensor:
    return (1 - (2 * gain - 1) ** 3).clamp(min=1 / 3)


def _held(search: _Search, low: Tensor, high: Tensor) -> Tensor:
    below = (search.x <= low) & (search.gradient > 0)
    return below | ((search.x >= high) & (search.gradient < 0))


def _scale(curvature: Tensor) -> Tensor:
    """Units in which the curvature has ones on its diagonal; 1 where nothing depends on x."""
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    return torch.where(diagonal > 0, diagonal, 1.0).sqrt()
