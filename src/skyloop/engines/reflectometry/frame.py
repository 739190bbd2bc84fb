"""What a reflectometer measures: one point while a scan runs, or a whole curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skyloop.errors import DataError
from skyloop.quantities import FloatArray, Quantity

__all__ = ["Frame", "join"]

_LIMITS = {
    "q": (0.0, 10.0),
    "q_sigma": (0.0, 10.0),
    "counts": (0.0, 1e18),
    "exposure": (1e-30, 1e18),
    "reflectivity": (-1e12, 1e12),  # also that of a curve which nobody has normalised
    "reflectivity_sigma": (1e-30, 1e12),
}
"""What an instrument can give. One number far beyond it, as fill values are, takes the fit of all others."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Points of one reflectivity curve; each is counted (Poisson) or measured (Gaussian).

    The pair that does not apply to a point is NaN. A reflectivity may be negative, as it is after
    subtraction of a background; a wavevector transfer may not. What no instrument gives is refused.

    >>> frame = Frame.counted(0.05, counts=90, exposure=1e5)
    >>> len(frame), bool(frame.is_counted[0])
    (1, True)
    """

    q: Annotated[FloatArray, Quantity("1/angstrom", ("point",))]
    """Wavevector transfer, 4 pi sin(theta) / wavelength."""
    q_sigma: Annotated[FloatArray, Quantity("1/angstrom", ("point",))]
    """Resolution as one standard deviation; 0 where there is none."""
    counts: Annotated[FloatArray, Quantity("count", ("point",))]
    """Counts, corrected for dead time."""
    exposure: Annotated[FloatArray, Quantity("count", ("point",))]
    """Counts expected at a reflectivity of one."""
    reflectivity: Annotated[FloatArray, Quantity("", ("point",))]
    """Normalised reflectivity."""
    reflectivity_sigma: Annotated[FloatArray, Quantity("", ("point",))]
    """Standard deviation of `reflectivity`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            array = np.atleast_1d(np.asarray(getattr(self, field.name), dtype=np.float64))
            object.__setattr__(self, field.name, array)
        _check(self)

    def __len__(self) -> int:
        return len(self.q)

    @property
    def is_counted(self) -> NDArray[np.bool_]:
        """True for points with Poisson statistics."""
        return ~np.isnan(self.counts)

    @classmethod
    def counted(cls, q: ArrayLike, counts: ArrayLike, exposure: ArrayLike, q_sigma: ArrayLike = 0.0) -> Frame:
        """Points given by counts and the counts expected at a reflectivity of one."""
        q, counts, exposure, q_sigma = _alike(q, counts, exposure, q_sigma)
        nothing = np.full_like(q, np.nan)
        return cls(q, q_sigma, counts, exposure, nothing, nothing)

    @classmethod
    def measured(
        cls, q: ArrayLike, reflectivity: ArrayLike, sigma: ArrayLike, q_sigma: ArrayLike = 0.0
    ) -> Frame:
        """Points given by a reflectivity and its standard deviation."""
        q, reflectivity, sigma, q_sigma = _alike(q, reflectivity, sigma, q_sigma)
        nothing = np.full_like(q, np.nan)
        return cls(q, q_sigma, nothing, nothing, reflectivity, sigma)


def join(frames: Sequence[Frame]) -> Frame:
    """All points of all frames, in their order.

    >>> len(join([Frame.counted(0.1, 4, 1e3), Frame.measured([0.2, 0.3], [1e-3, 1e-4], 1e-5)]))
    3
    """
    if not frames:
        raise DataError("no frames to join; mend: give at least one")
    columns = (np.concatenate([getattr(f, field.name) for f in frames]) for field in fields(Frame))
    return Frame(*columns)


def _alike(*columns: ArrayLike) -> list[FloatArray]:
    arrays = [np.atleast_1d(np.asarray(column, dtype=np.float64)) for column in columns]
    lengths = {a.size for a in arrays if a.size != 1}
    if len(lengths) > 1 or any(a.ndim != 1 for a in arrays):
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise DataError(f"columns of shapes {shapes} make no frame; mend: one value per point each")
    return [np.broadcast_to(a, (max(lengths, default=1),)).copy() for a in arrays]


def _check(frame: Frame) -> None:
    columns = {field.name: getattr(frame, field.name) for field in fields(frame)}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) > 1 or frame.q.ndim != 1:
        raise DataError(f"columns of a frame differ in shape: {shapes}; mend: one value per point")
    counted = frame.is_counted
    _demand(np.isfinite(frame.q) & (frame.q > 0), frame.q, "q", "be positive and finite")
    _demand(np.isfinite(frame.q_sigma) & (frame.q_sigma >= 0), frame.q_sigma, "q_sigma", "be >= 0")
    _demand_pair(counted, frame.counts, frame.exposure, ("counts", "exposure"))
    measured = (frame.reflectivity, frame.reflectivity_sigma)
    _demand_pair(~counted, *measured, ("reflectivity", "reflectivity_sigma"))
    _demand(~(frame.counts < 0), frame.counts, "counts", "be >= 0")
    for name, (low, high) in _LIMITS.items():
        column = columns[name]
        _demand(~((column < low) | (column > high)), column, name, f"be from {low:g} to {high:g}", _FILL)


def _demand_pair(
    applies: NDArray[np.bool_], value: FloatArray, scale: FloatArray, names: tuple[str, str]
) -> None:
    exclusive = "be finite, or NaN where the other pair (counts, exposure or reflectivity) is given"
    _demand(np.isfinite(value) == applies, value, names[0], exclusive)
    _demand(~np.isnan(scale) == applies, scale, names[1], exclusive)
    positive = np.isfinite(scale) & (scale > 0)
    _demand(positive | ~applies, scale, names[1], "be positive and finite")


_CORRECT = "mend: correct or leave out these points"
_FILL = "mend: a fill value, or another unit? leave these points out, or correct them"


def _demand(good: NDArray[np.bool_], column: FloatArray, name: str, what: str, mend: str = _CORRECT) -> None:
    if good.all():
        return
    at = int(np.argmin(good))
    raise DataError(
        f"{name}[{at}] = {column[at]:g} must {what} ({int((~good).sum())} of {len(good)} points); {mend}"
    )
