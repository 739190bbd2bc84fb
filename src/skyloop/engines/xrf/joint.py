"""The last step of a fit: amplitudes, background, parameters, and what is known only about, together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skyloop.engines.xrf.forward import line_shapes, strains
from skyloop.engines.xrf.objective import Objective
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows
from skyloop.numerics.least_squares import Quadratic, least_squares

__all__ = ["Doubts", "Joint", "joint_fit", "loose_columns"]

_MATTERS = 4e-4
"""What is known only about is left free where that moves the spectrum by this many variances of counting."""
_MOST = 3.9
"""Standard deviations that it may be off."""
_UNTOLD = 1e-6  # part in a direction that the counts do not tell
_LIGHT, _CHEMISTRY = 3.6, 5.0
"""K beta below this energy [keV], and how many times less its intensity is known."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """How well the table of lines and the linear energy scale are known."""

    branching: float = 0.05
    """Relative standard deviation of the intensity of a minor line about the table's; five times as much for
    the K beta lines of light elements, which chemistry changes."""
    position: float = 0.005
    """Standard deviation of a common shift of the lines of a component [keV]."""
    width: float = 0.05
    """Relative standard deviation of the width of the lines of a component about that of the parameters."""
    tail: float = 0.02
    """Share of a tail that each component may have of its own: no element is found by less."""


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """A spectrum taken apart."""

    x: Tensor
    """[free], parameters."""
    amplitudes: Tensor
    """[component + spline]."""
    covariance: Tensor
    """[component + spline + free, the same]; NaN in the rows of what is at an end of its range."""
    basis: Tensor
    """[component + spline, channel], counts at amplitude 1."""
    model: Tensor
    """[channel], expected counts."""
    cost: float
    """Of the objective."""
    strain: float
    """Sum of the squared standard deviations by which branching, positions and widths are off."""
    converged: bool
    """False where the steps ran out."""
    at_bound: tuple[str, ...]
    """Free parameters at an end of their range."""


def joint_fit(
    problem: Problem,
    objective: Objective,
    x: Tensor,
    amplitudes: Tensor,
    doubts: Doubts,
    *,
    max_steps: int = 60,
) -> Joint:
    """Minimise the objective plus half the squares of what is off, in its standard deviations.

    Args:
        problem: what is fitted.
        objective: what is made small.
        x: [free], where to start, near the minimum.
        amplitudes: [component + spline], where to start.
        doubts: what is known only about.
        max_steps: of the search.
    """
    weight = 1 / (amplitudes @ problem.basis(x) + problem.known).clamp(min=0.05)
    work = _Work(problem, objective, doubts, _loose(problem, x, amplitudes, doubts, weight))
    start = torch.cat([amplitudes, x, torch.zeros(len(work.loose), dtype=torch.float64)])
    low, high = work.bounds(len(amplitudes))
    found = least_squares(
        work.quadratic, start[None], low=low, high=high, max_steps=max_steps, tolerance=1e-3
    )
    return work.told(found.x[0], found.curvature[0], found.at_bound[0], bool(found.converged[0]))


def loose_columns(problem: Problem, x: Tensor, amplitudes: Tensor, doubts: Doubts, weight: Tensor) -> Tensor:
    """What each doubt that matters moves the spectrum by, in its standard deviation: [doubt, channel]."""
    moved = _moved(problem, x, amplitudes, doubts, _loose(problem, x, amplitudes, doubts, weight))
    single = [k for k, name in enumerate(problem.rows.names) if name not in (ELASTIC, COMPTON)]
    tails = strains(problem.rows, problem.theta(x), problem.span)[2]
    own = doubts.tail * amplitudes[single, None] * tails[single]
    return torch.cat([moved, own[(own**2 * weight).sum(-1) > _MATTERS]])


@dataclass(frozen=True, slots=True, eq=False)
class _Loose:
    """What is off by unknown amounts."""

    lines: Tensor
    """Rows whose branching is."""
    moving: Tensor
    """Components whose position is."""
    widening: Tensor
    """Components whose width is."""

    def __len__(self) -> int:
        return len(self.lines) + len(self.moving) + len(self.widening)


def _loose(problem: Problem, x: Tensor, amplitudes: Tensor, doubts: Doubts, weight: Tensor) -> _Loose:
    """Minor lines and components where it matters."""
    rows = problem.rows
    minor = rows.minor_lines
    minor = minor[amplitudes[rows.of[minor]] > 0]
    single = torch.tensor(
        [k for k, name in enumerate(rows.names) if name not in (ELASTIC, COMPTON) and amplitudes[k] > 0],
        dtype=torch.int64,
    )
    every = _Loose(minor, single, single)
    moved = _moved(problem, x, amplitudes, doubts, every)
    parts = ((moved**2 * weight).sum(-1) > _MATTERS).split([len(minor), len(single), len(single)])
    return _Loose(minor[parts[0]], single[parts[1]], single[parts[2]])


def _moved(problem: Problem, x: Tensor, amplitudes: Tensor, doubts: Doubts, loose: _Loose) -> Tensor:
    """[line + component + component, channel]."""
    rows, theta, lines = problem.rows, problem.theta(x), loose.lines
    branching = amplitudes[rows.of[lines], None] * line_shapes(rows, theta, problem.span, lines)
    shifted, widened, _ = strains(rows, theta, problem.span)
    factor = doubts.branching * _uncertain(rows)[lines, None]
    position = amplitudes[loose.moving, None] * shifted[loose.moving]
    width = amplitudes[loose.widening, None] * widened[loose.widening]
    return torch.cat([factor * branching, doubts.position * position, doubts.width * width])


def _uncertain(rows: Rows) -> Tensor:
    """[tailed + plain], how many times less a ratio is known than others."""
    light = torch.ones_like(rows.ratio)
    n = rows.n_tailed
    light[:n][rows.is_beta & (rows.energy[:n] < _LIGHT)] = _CHEMISTRY
    return light


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """The problem with what is loose in it: z = amplitudes, parameters, and what is off."""

    problem: Problem
    objective: Objective
    doubts: Doubts
    loose: _Loose

    def bounds(self, n_amplitudes: int) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros(n_amplitudes, dtype=torch.float64)
        most = torch.full((len(self.loose),), _MOST, dtype=torch.float64)
        low = torch.cat([nothing, self.problem.low, -most])
        return low, torch.cat([nothing + torch.inf, self.problem.high, most])

    def quadratic(self, z: Tensor) -> Quadratic:
        each = [self._one(row) for row in z]
        return Quadratic(*(torch.stack(parts) for parts in zip(*each, strict=True)))

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, free = len(z) - len(self.loose), len(self.problem.free)
        return z[: n - free], z[n - free : n], z[n:]

    def _at(self, off: Tensor) -> Problem:
        """The problem with other branching, positions and widths."""
        rows, doubts, loose = self.problem.rows, self.doubts, self.loose
        branching, position, width = self._parts(off)
        factor = torch.ones_like(rows.ratio)
        factor[loose.lines] = 1 + doubts.branching * _uncertain(rows)[loose.lines] * branching
        shift = torch.zeros(len(rows.names), dtype=off.dtype)
        shift[loose.moving] = doubts.position * position
        broadening = torch.ones_like(shift)
        broadening[loose.widening] = torch.exp(doubts.width * width)
        return replace(self.problem, rows=rows.strained(factor, shift, broadening))

    def _parts(self, off: Tensor) -> tuple[Tensor, ...]:
        loose = self.loose
        return off.split([len(loose.lines), len(loose.moving), len(loose.widening)])

    def _one(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        amplitudes, x, off = self._split(z)
        problem = self._at(off)
        basis = problem.basis(x)
        y = problem.counts
        model = amplitudes @ basis + problem.known
        jacobian = self._jacobian(problem, basis, amplitudes, x, off)
        prior = torch.cat([torch.zeros(len(z) - len(off), dtype=z.dtype), torch.ones_like(off)])
        cost = self.objective.cost(y, model).sum() + 0.5 * off @ off
        gradient = jacobian @ self.objective.slope(y, model) + prior * z
        curvature = (jacobian * self.objective.weight(y, model)) @ jacobian.T + torch.diag(prior)
        return cost, gradient, curvature

    def _jacobian(
        self, problem: Problem, basis: Tensor, amplitudes: Tensor, x: Tensor, off: Tensor
    ) -> Tensor:
        """[z, channel]."""
        moved = _moved(problem, x, amplitudes, self.doubts, self.loose)
        n = len(self.loose.lines)
        size = self.doubts.branching * _uncertain(problem.rows)[self.loose.lines]
        factor = 1 + (size * off[:n])[:, None]  # the lines of the problem have it already
        return torch.cat([basis, problem.slopes(x, amplitudes), moved[:n] / factor, moved[n:]])

    def told(self, z: Tensor, curvature: Tensor, at_bound: Tensor, converged: bool) -> Joint:
        amplitudes, x, off = self._split(z)
        problem = self._at(off)
        basis = problem.basis(x)
        model = amplitudes @ basis + problem.known
        jacobian = self._jacobian(problem, basis, amplitudes, x, off)
        n = len(z) - len(off)
        ends = at_bound[len(amplitudes) : n].tolist()
        return Joint(
            x=x,
            amplitudes=amplitudes,
            covariance=self._covariance(curvature, jacobian, at_bound, model, len(off))[:n, :n],
            basis=basis,
            model=model,
            cost=float(self.objective.cost(problem.counts, model).sum()),
            strain=float(off @ off),
            converged=converged,
            at_bound=tuple(name for name, is_end in zip(problem.free, ends, strict=True) if is_end),
        )

    def _covariance(
        self, curvature: Tensor, jacobian: Tensor, at_bound: Tensor, model: Tensor, n_loose: int
    ) -> Tensor:
        """What the counts and the doubts make of the minimum: H^-1 (J var(y) w^2 J^T + prior) H^-1."""
        held = (
            at_bound.clone()
        )  # of the amplitudes only: with parameters held, the others would seem too sure
        held[len(held) - n_loose - len(self.problem.free) :] = False
        free = (~held & (curvature.diagonal() > 0)).nonzero()[:, 0]
        inverse, lost = _inverse(curvature[free][:, free])
        root = self.objective.weight(self.problem.counts, model) * model.clamp(min=0).sqrt()
        is_prior = (free >= len(at_bound) - n_loose).to(root.dtype)
        half = inverse @ torch.cat([jacobian[free] * root, torch.diag(is_prior)], 1)
        full = torch.full_like(curvature, torch.nan)
        full[free[:, None], free[None, :]] = half @ half.T
        unknown = torch.cat([free[lost], at_bound.nonzero()[:, 0]])
        full[unknown] = torch.nan
        full[:, unknown] = torch.nan
        return full


def _inverse(curvature: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudo-inverse, and which rows have a part in what the counts do not tell apart."""
    scale = curvature.diagonal().rsqrt()
    values, vectors = torch.linalg.eigh(curvature * scale[:, None] * scale[None, :])
    told = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    inverse = (vectors[:, told] / values[told]) @ vectors[:, told].T
    lost = (vectors[:, ~told] ** 2).sum(1) > _UNTOLD
    return inverse * scale[:, None] * scale[None, :], lost
