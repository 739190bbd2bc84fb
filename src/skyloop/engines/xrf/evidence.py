"""How strongly spectra ask for each component: weighted least squares with the unknown taken out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.xrf.joint import Doubts, loose_columns
from skyloop.engines.xrf.problem import Problem
from skyloop.numerics.nnls import nnls
from skyloop.quantities import FloatArray

__all__ = ["Evidence", "Pool", "evidence"]

_WEAK_PRIOR = 1e-9  # columns that are nearly one have errors that are nearly infinite
_NEW = 1e-9  # a column with a smaller share of its own is what the used ones make up already


def evidence(
    problem: Problem, x: Tensor, amplitudes: Tensor, doubts: Doubts | None, *, tolerance: float = 0.0
) -> Evidence:
    """All components at parameters x [free], linearised at amplitudes [component + spline].

    Taken out are the free parameters within their ranges and, unless `doubts` is None, what is known of the
    lines only about. `tolerance` is a relative error of the model besides that of counting.
    """
    rows = problem.rows
    basis = problem.basis(x)
    model = amplitudes @ basis + problem.known
    weight = 1 / (model.clamp(min=0.05) + (tolerance * model) ** 2)
    slopes = problem.slopes(x, amplitudes) * ((problem.high - problem.low) / 2)[:, None]
    loose = [loose_columns(problem, x, amplitudes, doubts, weight)] if doubts else []
    nuisance = torch.cat([*loose, slopes])
    columns = torch.cat([basis, nuisance])
    weighted = columns * weight
    gram, projected = weighted @ columns.T, weighted @ (problem.counts - problem.known)
    n = len(basis)
    inner = gram[n:, n:] + torch.eye(len(nuisance), dtype=gram.dtype)
    taken = torch.linalg.solve(inner, torch.cat([gram[n:, :n], projected[n:, None]], 1))
    cross = gram[:n, n:]
    left, rest = gram[:n, :n] - cross @ taken[:, :n], projected[:n] - cross @ taken[:, n]
    return Evidence(rows.names, left.numpy(), rest.numpy())


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
        own = np.diag(self.gram) - np.einsum("ij,ij->i", cross @ self._inverse(used), cross)
        scale = np.diag(self.gram)
        is_new = own > _NEW * scale
        return np.where(is_new, left / np.sqrt(np.where(is_new, own, 1.0)), 0.0)

    def gains_without(self, used: Sequence[int], amplitudes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """[column, used], what each column would gain without one used column; and what that one has [used].

        The others are let free for it, also below zero.
        """
        inverse = self._inverse(used)
        pull = self.gram[:, used] @ inverse
        left = self.projected - self.gram[:, used] @ amplitudes
        own = np.diag(self.gram) - np.einsum("ij,ij->i", pull, self.gram[:, used])
        variance = np.diag(inverse)
        freed = left[:, None] + pull * (amplitudes / variance)
        norm = own[:, None] + pull**2 / variance
        is_new = norm > _NEW * np.diag(self.gram)[:, None]
        gains = np.where(is_new, freed / np.sqrt(np.where(is_new, norm, 1.0)), 0.0)
        return gains, amplitudes / np.sqrt(variance)

    def deviance(self, chosen: Collection[int]) -> float:
        """Up to a constant."""
        used, amplitudes, _ = self.solved(chosen)
        return -float(self.projected[used] @ amplitudes)

    def _inverse(self, used: Sequence[int]) -> FloatArray:
        inner = self.gram[np.ix_(used, used)]
        scale = 1 / np.sqrt(np.diag(inner))
        unit = inner * scale[:, None] * scale[None, :]
        # what was taken out leaves rounding, which may be below zero
        size, vectors = np.linalg.eigh(unit)
        inverse = (vectors / np.maximum(size, _WEAK_PRIOR)) @ vectors.T
        return inverse * scale[:, None] * scale[None, :]


@dataclass(frozen=True, slots=True)
class Pool:
    """Evidence of several detectors that see the same elements, each with amplitudes of its own.

    What they say together is the root of the sum of squares of what each says for a component.
    """

    parts: tuple[Evidence, ...]
    """Of the same candidates."""

    @property
    def names(self) -> tuple[str, ...]:
        """Candidates."""
        return self.parts[0].names

    def significance(self, chosen: Collection[int]) -> dict[int, float]:
        """Of each candidate that is used, its amplitude in standard deviations."""
        squares: dict[int, float] = {}
        for part in self.parts:
            used, _, z = part.solved(chosen)
            for k, each in zip(used, z.tolist(), strict=True):
                if k < len(self.names):
                    squares[k] = squares.get(k, 0.0) + each**2
        return {k: square**0.5 for k, square in squares.items()}

    def gains(self, chosen: Collection[int]) -> FloatArray:
        """[candidate], in standard deviations, what each would have of what the chosen ones leave."""
        total = np.zeros(len(self.names))
        for part in self.parts:
            used, amplitudes, _ = part.solved(chosen)
            total += np.maximum(part.gains(used, amplitudes)[: len(total)], 0.0) ** 2
        return np.sqrt(total)

    def gains_without(self, chosen: Collection[int]) -> tuple[FloatArray, FloatArray]:
        """[candidate, candidate], what the first would gain without the second; and what that one has."""
        n = len(self.names)
        total, own = np.zeros((n, n)), np.zeros(n)
        for part in self.parts:
            used, amplitudes, _ = part.solved(chosen)
            gains, has = part.gains_without(used, amplitudes)
            at = [i for i, k in enumerate(used) if k < n]
            of = [used[i] for i in at]
            total[:, of] += np.maximum(gains[:n, at], 0.0) ** 2
            own[of] += has[at] ** 2
        return np.sqrt(total), np.sqrt(own)

    def deviance(self, chosen: Collection[int]) -> float:
        """Up to a constant."""
        return sum(part.deviance(chosen) for part in self.parts)
