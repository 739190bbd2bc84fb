"""Variable projection: amplitudes are solved for, so that only the nonlinear parameters are searched."""

from __future__ import annotations

import torch
from torch import Tensor

from skyloop.engines.xrf.problem import Problem
from skyloop.numerics.least_squares import Minimum, Quadratic, least_squares
from skyloop.numerics.nnls import nnls

__all__ = ["amplitudes", "projected_fit"]


def projected_fit(
    problem: Problem, weights: Tensor, starts: Tensor, *, max_steps: int = 40, tolerance: float = 1e-3
) -> Minimum:
    """Minimise 1/2 sum w (y - m)^2 over the free parameters from starts [start, free].

    The amplitudes are those of non-negative least squares at each step; the curvature is that of the
    residuals without what a change of free amplitudes makes good.

    References:
        G. Golub, V. Pereyra, Inverse Problems 19, R1 (2003), doi:10.1088/0266-5611/19/2/201;
        L. Kaufman, BIT 15, 49 (1975), doi:10.1007/BF01932995.
    """
    y = problem.counts - problem.known

    def quadratic(x: Tensor) -> Quadratic:
        basis = problem.basis(x)
        weighted = basis * weights
        found = nnls(weighted @ basis.mT, weighted @ y)
        residual = (found.x[..., None, :] @ basis)[..., 0, :] - y
        slopes = problem.slopes(x, found.x)
        sloped = slopes * weights
        curvature = sloped @ slopes.mT - _made_good(weighted @ basis.mT, weighted @ slopes.mT, found.free)
        return Quadratic(
            cost=0.5 * (weights * residual**2).sum(-1),
            gradient=(sloped @ residual[..., None])[..., 0],
            curvature=curvature,
        )

    return least_squares(
        quadratic, starts, low=problem.low, high=problem.high, max_steps=max_steps, tolerance=tolerance
    )


def amplitudes(problem: Problem, weights: Tensor, x: Tensor) -> Tensor:
    """Amplitudes [..., component + spline] of weighted non-negative least squares at x [..., free]."""
    basis = problem.basis(x)
    weighted = basis * weights
    return nnls(weighted @ basis.mT, weighted @ (problem.counts - problem.known)).x


def _made_good(gram: Tensor, cross: Tensor, free: Tensor) -> Tensor:
    """C^T G^-1 C over the free amplitudes: what they take of a change of the parameters."""
    mask = free.to(gram.dtype)
    held = torch.diag_embed(1 - mask)
    scale = gram.diagonal(dim1=-2, dim2=-1).clamp(min=torch.finfo(gram.dtype).tiny).rsqrt() * mask
    inner = gram * scale[..., :, None] * scale[..., None, :] + held
    inner = inner + 1e-10 * torch.eye(inner.shape[-1], dtype=gram.dtype)  # two components may be one
    factor, _ = torch.linalg.cholesky_ex(inner)
    half = torch.linalg.solve_triangular(factor, cross * scale[..., :, None], upper=False)
    return half.mT @ half
