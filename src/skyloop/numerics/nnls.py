"""Non-negative least squares for many right-hand sides at once, on the Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NonNegative", "nnls"]

_BLOCK = 1_000_000  # elements of the matrices of one block: they stay near the processor
_PATIENCE = (
    3  # exchanges of the whole set that may fail to improve before one component at a time is exchanged
)
_EXCHANGES = 20  # more of them cost more than the active set that takes over
_OPTIMAL = 1e-6  # a larger violation is not called a solution
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class NonNegative:
    """The solution of each row."""

    x: Tensor
    """[..., k], never negative."""
    kkt: Tensor
    """[...], the largest violation of gradient = 0 (x > 0) and gradient >= 0 (x = 0), relative to max |c| of
    the row, in units in which the columns have length one; 0 where c = 0."""
    free: Tensor
    """[..., k], the passive set: true where x > 0."""
    converged: Tensor
    """[...], false where no set was found that meets the conditions to 1e-6."""


def nnls(gram: Tensor, projected: Tensor, *, ridge: float = 0.0, start: Tensor | None = None) -> NonNegative:
    """Minimise x^T G x / 2 - c^T x for x >= 0, G = B^T B and c = B^T y: the best y = B x of each row.

    Block principal pivoting for all rows together: solve for the free components, free and fix those that
    break the conditions, until none does; rows with the same free set share one Cholesky factor when they
    share the matrix. Murty's rule of one exchange at a time takes over where whole sets do not improve, and
    Lawson and Hanson's active set solves, row by row, what is left after a bounded number of exchanges.

    The columns are scaled to length one first, so that their units do not matter. A column of zeros has
    x = 0. A column that is, within rounding (the square of its sine below 4 k eps), a combination of columns
    already free adds nothing and stays at 0: of two equal columns the first is used.

    Args:
        gram: G [k, k], shared by all rows, or [..., k, k], one per row; symmetric, positive semidefinite.
        projected: c [..., k].
        ridge: is added to the diagonal of G as a share of it.
        start: [..., k] or [k], true for the components that are free at first; all when not given. The
            free set of a similar problem saves most exchanges.

    References:
        J. Kim and H. Park, SIAM J. Sci. Comput. 33, 3261 (2011), doi:10.1137/110821172;
        K. G. Murty, Math. Program. 7, 213 (1974), doi:10.1007/BF01585518 (the backup rule);
        C. L. Lawson and R. J. Hanson, Solving Least Squares Problems (1974), doi:10.1137/1.9781611971217.

    Raises:
        ValueError: the shapes do not fit, a number is not finite, or G has a negative diagonal.

    >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    >>> nnls(gram, torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)).x
    tensor([[0.6667, 0.6667],
            [1.0000, 0.0000]], dtype=torch.float64)
    """
    _check(gram, projected, ridge, start)
    k = projected.shape[-1]
    scaled, units = _scaled(gram.reshape(-1, k, k), projected.reshape(-1, k), ridge)
    live = scaled.gram.diagonal(dim1=1, dim2=2) > 0
    free = (
        live.expand(len(scaled.c), k)
        if start is None
        else live & start.expand(projected.shape).reshape(-1, k)
    )
    parts = [_solved(scaled.take(rows), free[rows]) for rows in _blocks(scaled)]
    x, kkt = torch.cat([x for x, _ in parts]), torch.cat([kkt for _, kkt in parts])
    for unit in units:  # one after the other: their product may overflow
        x = x * unit
    return NonNegative(
        x=x.reshape(projected.shape),
        kkt=kkt.reshape(projected.shape[:-1]),
        free=(x > 0).reshape(projected.shape),
        converged=(kkt <= _OPTIMAL).reshape(projected.shape[:-1]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Rows with columns of length one (or zero) and max |c| = 1 (or c = 0)."""

    gram: Tensor
    """[1, k, k] shared, or [rows, k, k]."""
    c: Tensor
    """[rows, k]."""

    @property
    def shared(self) -> bool:
        return len(self.gram) == 1

    def take(self, rows: Tensor) -> _Problem:
        return _Problem(self.gram if self.shared else self.gram[rows], self.c[rows])

    def gradient(self, x: Tensor) -> Tensor:
        product = x @ self.gram[0] if self.shared else (self.gram @ x[..., None])[..., 0]
        return product - self.c


def _check(gram: Tensor, projected: Tensor, ridge: float, start: Tensor | None) -> None:
    shape = tuple(projected.shape)
    if not shape or not shape[-1] or tuple(gram.shape) not in (2 * shape[-1:], (*shape, shape[-1])):
        raise ValueError(
            f"gram {tuple(gram.shape)} does not fit projected {shape}; "
            "mend: [k, k] or [..., k, k] with [..., k], k at least 1"
        )
    if start is not None and (start.dtype != torch.bool or tuple(start.shape) not in (shape, shape[-1:])):
        raise ValueError(f"start is {start.dtype} {tuple(start.shape)}; mend: bool {shape} or {shape[-1:]}")
    if not 0 <= ridge < float("inf"):
        raise ValueError(f"ridge is {ridge}; mend: a finite number, zero or more")
    for name, array, width in (("gram", gram, 2), ("projected", projected, 1)):
        if array.dtype != torch.float64:
            raise ValueError(f"{name} is {array.dtype}; mend: convert it to float64")
        _refuse(name, "is not finite", ~array.isfinite(), width)
    _refuse("gram", "has a negative diagonal", gram.diagonal(dim1=-2, dim2=-1) < 0, 1)


def _refuse(name: str, fault: str, where: Tensor, width: int) -> None:
    """Raise for the first row, the index before the last `width` dimensions, with a fault."""
    if bool(where.any()):
        row = tuple(where.nonzero()[0].tolist()[: where.ndim - width])
        place = f"row {row[0] if len(row) == 1 else row} of {name}" if row else name
        raise ValueError(f"{place} {fault}; mend: leave it out or repair it")


def _scaled(gram: Tensor, c: Tensor, ridge: float) -> tuple[_Problem, tuple[Tensor, ...]]:
    """The problem without units, and the factors that give x its units again."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    live = diagonal > 0
    length = torch.where(live, diagonal, 1.0).sqrt()
    unit = (
        torch.where(live[:, :, None] & live[:, None, :], gram, 0.0) / length[:, :, None] / length[:, None, :]
    )
    # Twice, since c / length may overflow where a column is very short.
    before = _largest(c)
    shares = c / before / length
    after = _largest(shares)
    problem = _Problem(unit + ridge * torch.diag_embed(live.to(c.dtype)), shares / after)
    return problem, (1 / length, after, before)


def _largest(c: Tensor) -> Tensor:
    largest = c.abs().amax(dim=1, keepdim=True)
    return torch.where(largest > 0, largest, 1.0)


def _blocks(problem: _Problem) -> Iterator[Tensor]:
    rows, k = problem.c.shape
    # At least one block, also without rows.
    return iter(torch.arange(rows, device=problem.c.device).split(max(1, _BLOCK // k**2)))


def _solved(problem: _Problem, free: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum x [rows, k] and the violation [rows]."""
    x, last = _pivoted(problem, free)
    kkt = _violation(problem, x)
    rows = (kkt > _OPTIMAL).nonzero()[:, 0]
    if len(rows):
        left = problem.take(rows)
        x[rows] = _active_set(left, last[rows])
        kkt[rows] = _violation(left, x[rows])
    return x, kkt


def _violation(problem: _Problem, x: Tensor) -> Tensor:
    gradient = problem.gradient(x)
    return torch.where(x > 0, gradient.abs(), -gradient).amax(dim=1).clamp(min=0)


def _pivoted(problem: _Problem, free: Tensor) -> tuple[Tensor, Tensor]:
    """Block principal pivoting: x, 0 for a row that ran out of exchanges, and the last set."""
    count, k = problem.c.shape
    x = torch.zeros_like(problem.c)
    last = free.clone()
    rows = torch.arange(count, device=x.device)
    fewest, patience = torch.full_like(rows, k + 1), torch.full_like(rows, _PATIENCE)
    for _ in range(_EXCHANGES):
        if not len(rows):
            break
        trial, free, idle = _passive(problem, free)
        wrong = torch.where(free, trial <= 0, (problem.gradient(trial) < -_tolerance(trial)) & ~idle)
        faults = wrong.sum(dim=1)
        done = faults == 0
        x[rows[done]] = trial[done]
        last[rows] = free
        better = faults < fewest
        patience = torch.where(better, _PATIENCE, patience - 1)
        fewest = torch.minimum(fewest, faults)
        free = free ^ torch.where((patience >= 0)[:, None], wrong, _last(wrong))
        left = ~done
        rows, free, fewest, patience = rows[left], free[left], fewest[left], patience[left]
        problem = problem.take(left.nonzero()[:, 0])
    return x, last


def _tolerance(x: Tensor) -> Tensor:
    """Rounding [rows, 1] of the gradient."""
    return 16 * x.shape[1] * _EPS * x.abs().amax(dim=1, keepdim=True).clamp(min=1)


def _last(wrong: Tensor) -> Tensor:
    """Only the last true one of each row."""
    return wrong & (wrong.flip(1).cumsum(dim=1).flip(1) == 1)


def _passive(problem: _Problem, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The x of the free components, which of them are free, and which depend on those and were let go."""
    sets, owner = _distinct(free) if problem.shared else (free, torch.arange(len(free), device=free.device))
    factor, kept = _factored(problem.gram, sets)
    kept = kept[owner]
    solved = torch.cholesky_solve(torch.where(kept, problem.c, 0.0)[..., None], factor[owner])
    return torch.where(kept, solved[..., 0], 0.0), kept, free & ~kept


def _distinct(free: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of `free`, and for each row which of them it is."""
    k = free.shape[1]
    if k > 62:
        return torch.unique(free, dim=0, return_inverse=True)
    # As bits of one number: twenty times faster to sort.
    bits = torch.arange(k, device=free.device)
    codes, owner = torch.unique((free.long() << bits).sum(dim=1), return_inverse=True)
    return (codes[:, None] >> bits & 1).bool(), owner


def _factored(gram: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of the free blocks (identity elsewhere), and `free` without dependent columns."""
    kept = free.clone()
    factor, dependent = _cholesky(gram, kept)
    while bool(dependent.any()):
        kept &= ~dependent
        bad = dependent.any(dim=1).nonzero()[:, 0]
        factor[bad], again = _cholesky(gram if len(gram) == 1 else gram[bad], kept[bad])
        dependent = torch.zeros_like(kept).index_put((bad,), again)
    return factor, kept


def _cholesky(gram: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Factors, and the first column, if any, that depends on the free columns before it."""
    k = free.shape[1]
    matrix = torch.where(free[:, :, None] & free[:, None, :], gram, 0.0)
    matrix.diagonal(dim1=1, dim2=2).add_(~free)
    factor, info = torch.linalg.cholesky_ex(matrix)
    # The factor is only meant up to the column before `info`.
    order = torch.arange(1, k + 1, device=free.device)
    small = factor.diagonal(dim1=1, dim2=2) ** 2 <= 4 * k * _EPS
    stopped = info[:, None] > 0
    dependent = free & torch.where(
        stopped, (order == info[:, None]) | (small & (order < info[:, None])), small
    )
    return factor, dependent & (dependent.cumsum(dim=1) == 1)


def _active_set(problem: _Problem, free: Tensor) -> Tensor:
    """Lawson and Hanson's method, from the positive part of `free`: each step lowers the cost."""
    found = _positive(problem, free)
    rows = torch.arange(len(found), device=found.device)
    x, entering, barred = found, torch.zeros_like(free), torch.zeros_like(free)
    for _ in range(10 * found.shape[1]):
        if not len(rows):
            break
        free = (x > 0) | entering
        trial, _, idle = _passive(problem, free)
        # By rounding or dependence: that column waits until another one has entered.
        refused = (entering & (trial <= 0)).any(dim=1) | (idle & entering.any(dim=1, keepdim=True)).any(dim=1)
        x, whole = torch.where(refused[:, None], x, _towards(trial, x, free)), _whole(trial, free) & ~refused
        barred = torch.where(refused[:, None], barred | entering, barred & ~whole[:, None])
        settled = refused | whole
        entering = _steepest(problem, x, barred) & settled[:, None]
        found[rows] = x
        left = ~settled | entering.any(dim=1)
        rows, x, entering, barred = rows[left], x[left], entering[left], barred[left]
        problem = problem.take(left.nonzero()[:, 0])
    return found


def _positive(problem: _Problem, free: Tensor) -> Tensor:
    """The minimum on a part of `free` on which it is positive."""
    x, free, _ = _passive(problem, free)
    while not bool(_whole(x, free).all()):
        x, free, _ = _passive(problem, free & (x > 0))
    return x


def _whole(trial: Tensor, free: Tensor) -> Tensor:
    return ~(free & (trial <= 0)).any(dim=1)


def _towards(trial: Tensor, x: Tensor, free: Tensor) -> Tensor:
    """From x to the trial, or to where the first component reaches zero."""
    leaving = free & (trial <= 0)
    shares = torch.where(leaving, x / (x - trial), torch.inf)
    share = shares.amin(dim=1, keepdim=True)
    return torch.where(free & (shares > share.clamp(max=1)), torch.lerp(x, trial, share.clamp(max=1)), 0.0)


def _steepest(problem: _Problem, x: Tensor, barred: Tensor) -> Tensor:
    """The component, if any, that lowers the cost most."""
    descent = torch.where(barred | (x > 0), -torch.inf, -problem.gradient(x))
    best, index = descent.max(dim=1, keepdim=True)
    return torch.zeros_like(barred).scatter(1, index, best > _tolerance(x))
