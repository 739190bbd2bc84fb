"""Which components a spectrum shows: each kept or added by what it changes of the Poisson deviance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from skyloop.engines.xrf.forward import line_shapes
from skyloop.engines.xrf.problem import Problem
from skyloop.numerics.nnls import nnls
from skyloop.quantities import FloatArray

__all__ = ["Evidence", "Selection", "evidence", "select", "threshold"]

_WEAK_PRIOR = 1e-10  # columns that are nearly one have errors that are nearly infinite
_ALIKE = 9.0
"""Another component that lowers the deviance by this less, or more, may be meant as well."""
_CLEARLY = 1.0  # an exchange must lower the deviance by more, so that nothing is exchanged for ever
_MOST_ROUNDS = 400
_MATTERS = 1e-3  # variances of counting that an unknown branching ratio must move the spectrum by


def threshold(false_positives: float, candidates: int) -> float:
    """Standard deviations that an amplitude must be above zero, so that of all candidates none is false.

    With `false_positives` expected false components among `candidates` that are not there, each is one-sided
    normal: z = Phi^-1(1 - false_positives / candidates); its square is the change of the Poisson deviance.

    >>> round(threshold(0.01, 100), 2)
    3.72
    """
    return float(-ndtri(false_positives / max(1, candidates)))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Weighted least squares of all candidates, with what the model does not know taken out."""

    names: tuple[str, ...]
    """Candidates; columns after them are background and always there."""
    gram: FloatArray
    """[column, column]."""
    projected: FloatArray
    """[column]."""

    def solved(self, chosen: Collection[int]) -> tuple[list[int], FloatArray, FloatArray]:
        """Columns that are used, their amplitudes >= 0, and those over their standard deviations.

        Only columns that are chosen may be used; those at zero have no part in the errors of the others.
        """
        at = [*sorted(chosen), *range(len(self.names), len(self.gram))]
        inner = torch.from_numpy(self.gram[np.ix_(at, at)])
        found = nnls(inner, torch.from_numpy(self.projected[at]))
        used = [k for k, is_free in zip(at, found.free.tolist(), strict=True) if is_free]
        amplitudes = found.x[found.free].numpy()
        return used, amplitudes, amplitudes / np.sqrt(np.diag(self._inverse(used)))

    def gains(self, used: Sequence[int], amplitudes: FloatArray) -> FloatArray:
        """[column], in standard deviations, what each column would have of what the used ones leave."""
        cross = self.gram[:, used]
        left = self.projected - cross @ amplitudes
        own = np.diag(self.gram) - np.einsum("ij,jk,ik->i", cross, self._inverse(used), cross)
        scale = np.diag(self.gram)
        is_new = own > 1e-9 * scale  # the rest is what the used columns make up already
        return np.where(is_new, left / np.sqrt(np.where(is_new, own, 1.0)), 0.0)

    def _inverse(self, used: Sequence[int]) -> FloatArray:
        inner = self.gram[np.ix_(used, used)]
        scale = 1 / np.sqrt(np.diag(inner))
        unit = inner * scale[:, None] * scale[None, :]
        inverse = np.linalg.inv(unit + _WEAK_PRIOR * np.eye(len(used)))
        return inverse * scale[:, None] * scale[None, :]


@dataclass(frozen=True, slots=True)
class Selection:
    """Components that a spectrum shows."""

    names: tuple[str, ...]
    """In the order of the candidates."""
    significance: Mapping[str, float]
    """Of each, amplitude over its standard deviation."""
    alike: Mapping[str, tuple[str, ...]]
    """Of each that may be confused: the candidates that would describe the spectrum about as well."""


def evidence(
    problem: Problem, x: Tensor, amplitudes: Tensor, *, branching_sigma: float, tolerance: float = 0.0
) -> Evidence:
    """All components at parameters x [free], linearised at amplitudes [component + spline].

    Taken out are the branching ratios of the minor lines, within their uncertainty, and the free parameters
    within their ranges. `tolerance` is a relative error of the model besides that of counting.
    """
    rows = problem.rows
    basis = problem.basis(x)
    model = amplitudes @ basis + problem.known
    weight = 1 / (model.clamp(min=0.05) + (tolerance * model) ** 2)
    minor = rows.minor_lines
    size = branching_sigma * amplitudes[rows.of[minor], None]
    minor, size = minor[size[:, 0] > 0], size[size[:, 0] > 0]
    loose = size * line_shapes(rows, problem.theta(x), problem.span, minor)
    loose = loose[(loose**2 * weight).sum(-1) > _MATTERS]
    slopes = problem.slopes(x, amplitudes) * ((problem.high - problem.low) / 2)[:, None]
    nuisance = torch.cat([loose, slopes])
    columns = torch.cat([basis, nuisance])
    weighted = columns * weight
    gram, projected = weighted @ columns.T, weighted @ (problem.counts - problem.known)
    n = len(basis)
    inner = gram[n:, n:] + torch.eye(len(nuisance), dtype=gram.dtype)
    taken = torch.linalg.solve(inner, torch.cat([gram[n:, :n], projected[n:, None]], 1))
    cross = gram[:n, n:]
    left, seen = gram[:n, :n] - cross @ taken[:, :n], projected[:n] - cross @ taken[:, n]
    return Evidence(rows.names, left.numpy(), seen.numpy())


def select(
    found: Evidence,
    *,
    least: float,
    kept: Collection[str] = (),
    needs: Mapping[str, str] | None = None,
    start: Collection[str] | None = None,
) -> Selection:
    """Components by backward elimination, then forward selection and exchange, until nothing changes.

    Args:
        found: the evidence.
        least: standard deviations above zero that a component needs.
        kept: components that stay whatever the evidence is.
        needs: components that are there only together with another one.
        start: where to begin; all candidates when not given.
    """
    needs = needs or {}
    index = {name: i for i, name in enumerate(found.names)}
    fixed = {index[name] for name in kept}
    parent = {index[a]: index[b] for a, b in needs.items() if a in index and b in index}
    chosen = set(index.values()) if start is None else {index[name] for name in start} | fixed
    for _ in range(_MOST_ROUNDS):
        used, amplitudes, z = found.solved(chosen)
        dropped = _dropped(chosen, dict(zip(used, z.tolist(), strict=True)), fixed, parent, least)
        if dropped:
            chosen -= dropped
            continue
        added = _added(found, chosen, used, amplitudes, parent, least)
        if added is not None:
            chosen.add(added)
            continue
        exchanged = _exchanged(found, chosen - fixed, chosen, parent)
        if exchanged is None:
            break
        chosen = (chosen - {exchanged[0]}) | {exchanged[1]}
    return _told(found, chosen, fixed, parent)


def _dropped(
    chosen: set[int], z: Mapping[int, float], fixed: set[int], parent: Mapping[int, int], least: float
) -> set[int]:
    """Those at zero, then the least significant one; and what needs it."""
    zero = {k for k in chosen - fixed if k not in z}
    weak = {k for k in chosen - fixed if z.get(k, 0.0) < min(1.0, least)}
    below = [k for k in chosen - fixed if z.get(k, 0.0) < least]
    gone = zero or weak or ({min(below, key=lambda k: z[k])} if below else set())
    return gone | {k for k in chosen - fixed if parent.get(k, k) in gone}


def _added(
    found: Evidence,
    chosen: set[int],
    used: list[int],
    amplitudes: FloatArray,
    parent: Mapping[int, int],
    least: float,
) -> int | None:
    """The component that would gain most, if that is enough."""
    gains = found.gains(used, amplitudes)
    open_to = [k for k in range(len(found.names)) if k not in chosen and parent.get(k, k) in chosen | {k}]
    best = max(open_to, key=lambda k: gains[k], default=None)
    # more than what keeps it, so that nothing goes in and out for ever
    return best if best is not None and gains[best] > 1.05 * least else None


def _exchanged(
    found: Evidence, movable: set[int], chosen: set[int], parent: Mapping[int, int]
) -> tuple[int, int] | None:
    """The component that another one would best take the place of, and that one; None where all are best."""
    best: tuple[float, int, int] | None = None
    for out in sorted(movable - {parent[k] for k in chosen if k in parent}):
        gains = _without(found, chosen, out, parent)
        other = max((k for k in gains if k != out), key=lambda k: gains[k], default=None)
        if other is None or gains[other] <= 0:
            continue
        better = gains[other] ** 2 - max(gains[out], 0.0) ** 2
        if better > _CLEARLY and (best is None or better > best[0]):
            best = (better, out, other)
    return best and (best[1], best[2])


def _without(found: Evidence, chosen: set[int], out: int, parent: Mapping[int, int]) -> dict[int, float]:
    """What each component that is not chosen would gain if `out` were not there, and `out` itself."""
    rest = chosen - {out}
    used, amplitudes, _ = found.solved(rest)
    gains = found.gains(used, amplitudes)
    names = range(len(found.names))
    return {k: float(gains[k]) for k in names if k not in rest and parent.get(k, k) in rest | {k}}


def _told(found: Evidence, chosen: set[int], fixed: set[int], parent: Mapping[int, int]) -> Selection:
    used, _, z = found.solved(chosen)
    significance = dict(zip(used, z.tolist(), strict=True))
    alike: dict[str, tuple[str, ...]] = {}
    for k in sorted(chosen - fixed):
        gains = _without(found, chosen, k, parent)
        least = gains[k] ** 2 - _ALIKE
        near = tuple(found.names[j] for j, gain in gains.items() if j != k and gain > 0 and gain**2 > least)
        if near:
            alike[found.names[k]] = near
    names = tuple(name for i, name in enumerate(found.names) if i in chosen)
    return Selection(names, {found.names[k]: significance.get(k, 0.0) for k in sorted(chosen)}, alike)
