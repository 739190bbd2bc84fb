"""The last step of a fit: amplitudes, background, parameters and branching together, with their covariance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skyloop.engines.xrf.forward import line_shapes, shapes
from skyloop.engines.xrf.objective import Objective
from skyloop.engines.xrf.problem import Problem
from skyloop.numerics.least_squares import Quadratic, covariance, least_squares

__all__ = ["Joint", "joint_fit"]

_MATTERS = 0.02
"""A branching ratio is left free when its uncertainty moves the spectrum by this many standard deviations."""
_MOST_BRANCHING = 4.0  # standard deviations


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """A spectrum taken apart."""

    x: Tensor
    """[free], parameters."""
    amplitudes: Tensor
    """[component + spline]."""
    branching: Tensor
    """[line], factor on the ratio of each line."""
    covariance: Tensor
    """[n, n] of components, splines, free parameters and free branching ratios; NaN rows for what is at its end."""
    basis: Tensor
    """[component + spline, channel]."""
    model: Tensor
    """[channel], expected counts."""
    cost: float
    """Of the objective."""
    converged: bool
    """False where the steps ran out."""
    at_bound: tuple[str, ...]
    """Free parameters at an end of their range."""


def joint_fit(
    problem: Problem,
    objective: Objective,
    x: Tensor,
    amplitudes: Tensor,
    *,
    branching_sigma: float,
    max_steps: int = 30,
) -> Joint:
    """Minimise the objective plus 1/2 sum ((b - 1) / branching_sigma)^2 from a start near the minimum.

    Args:
        problem: what is fitted.
        objective: what is made small.
        x: [free], where to start.
        amplitudes: [component + spline], where to start.
        branching_sigma: relative standard deviation of the intensity of a minor line about the table's.
        max_steps: of the search.
    """
    lines = _free_lines(problem, objective, x, amplitudes, branching_sigma)
    work = _Work(problem, objective, lines, branching_sigma)
    start = torch.cat([amplitudes, x, torch.zeros(len(lines), dtype=torch.float64)])
    low, high = work.bounds(len(amplitudes))
    found = least_squares(
        work.quadratic, start[None], low=low, high=high, max_steps=max_steps, tolerance=1e-4
    )
    return work.told(found.x[0], found.curvature[0], found.at_bound[0], bool(found.converged[0]))


def _free_lines(
    problem: Problem, objective: Objective, x: Tensor, amplitudes: Tensor, branching_sigma: float
) -> Tensor:
    """Minor lines whose branching matters."""
    rows = problem.rows
    minor = rows.minor_lines
    if not (len(minor) and branching_sigma):
        return minor[:0]
    theta = problem.theta(x)
    model = amplitudes @ problem.basis(x) + problem.known
    moved = branching_sigma * amplitudes[rows.of[minor], None] * line_shapes(rows, theta, problem.span, minor)
    weight = objective.weight(problem.counts, model)
    # in standard deviations of the counts whatever the objective
    size = (
        (moved**2 / model.clamp(min=1)).sum(-1)
        if not bool((weight != 1).any())
        else (moved**2 * weight).sum(-1)
    )
    return minor[size > _MATTERS**2]


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    problem: Problem
    objective: Objective
    lines: Tensor
    branching_sigma: float

    def bounds(self, n_amplitudes: int) -> tuple[Tensor, Tensor]:
        infinite = torch.full((n_amplitudes,), torch.inf, dtype=torch.float64)
        most = torch.full((len(self.lines),), _MOST_BRANCHING, dtype=torch.float64)
        low = torch.cat([0 * torch.ones_like(infinite), self.problem.low, -most])
        return low, torch.cat([infinite, self.problem.high, most])

    def split(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, free = len(z) - len(self.lines), len(self.problem.free)
        return z[: n - free], z[n - free : n], z[n:]

    def at(self, branching: Tensor) -> Problem:
        """The problem with other branching ratios."""
        factor = torch.ones_like(self.problem.rows.ratio)
        factor[self.lines] = 1 + self.branching_sigma * branching
        return replace(self.problem, rows=self.problem.rows.with_branching(factor))

    def quadratic(self, z: Tensor) -> Quadratic:
        each = [self._one(row) for row in z]
        return Quadratic(*(torch.stack(parts) for parts in zip(*each, strict=True)))

    def _one(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        amplitudes, x, branching = self.split(z)
        problem = self.at(branching)
        basis = problem.basis(x)
        y = problem.counts
        model = amplitudes @ basis + problem.known
        jacobian = self._jacobian(problem, basis, amplitudes, x)
        prior = torch.cat([torch.zeros(len(z) - len(branching), dtype=z.dtype), torch.ones_like(branching)])
        cost = self.objective.cost(y, model).sum() + 0.5 * (prior * z * z).sum()
        gradient = jacobian @ self.objective.slope(y, model) + prior * z
        curvature = (jacobian * self.objective.weight(y, model)) @ jacobian.T + torch.diag(prior)
        return cost, gradient, curvature

    def _jacobian(self, problem: Problem, basis: Tensor, amplitudes: Tensor, x: Tensor) -> Tensor:
        """[z, channel]."""
        parts = [basis, problem.slopes(x, amplitudes)]
        if len(self.lines):
            rows = self.problem.rows  # a line's own shape is proportional to the ratio of the table
            own = line_shapes(rows, problem.theta(x), problem.span, self.lines)
            parts.append(self.branching_sigma * amplitudes[rows.of[self.lines], None] * own)
        return torch.cat(parts)

    def told(self, z: Tensor, curvature: Tensor, at_bound: Tensor, converged: bool) -> Joint:
        amplitudes, x, branching = self.split(z)
        problem = self.at(branching)
        basis = problem.basis(x)
        model = amplitudes @ basis + problem.known
        n = len(amplitudes)
        ends = at_bound[n : n + len(x)].tolist()
        factor = torch.ones_like(problem.rows.ratio)
        factor[self.lines] = 1 + self.branching_sigma * branching
        return Joint(
            x=x,
            amplitudes=amplitudes,
            branching=factor,
            covariance=self._covariance(problem, curvature, at_bound, model, basis, amplitudes, x),
            basis=basis,
            model=model,
            cost=float(self.objective.cost(problem.counts, model).sum()),
            converged=converged,
            at_bound=tuple(name for name, is_end in zip(problem.free, ends, strict=True) if is_end),
        )

    def _covariance(
        self,
        problem: Problem,
        curvature: Tensor,
        at_bound: Tensor,
        model: Tensor,
        basis: Tensor,
        amplitudes: Tensor,
        x: Tensor,
    ) -> Tensor:
        """Inverse curvature; for weights that are not those of the counts, the spread that the counts give."""
        free = (~at_bound).nonzero()[:, 0]
        inverse = covariance(curvature[free][:, free][None])[0]
        jacobian = self._jacobian(problem, basis, amplitudes, x)[free]
        weight = self.objective.weight(problem.counts, model)
        spread = (jacobian * (weight**2 * model)) @ jacobian.T
        is_prior = free >= len(at_bound) - len(self.lines)
        spread = spread + torch.diag(is_prior.to(spread.dtype))
        full = torch.full_like(curvature, torch.nan)
        full[free[:, None], free[None, :]] = inverse @ spread @ inverse
        return full
