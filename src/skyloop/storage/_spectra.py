"""Measured fluorescence spectra, whatever file they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from skyloop.errors import DataError
from skyloop.quantities import FloatArray, Quantity

Counts = NDArray[np.floating[Any]]
Calibration = tuple[float, float, float]

_PIXEL = ("y", "x")
_PER_DETECTOR = ("y", "x", "detector")


@dataclass(frozen=True, slots=True, eq=False)
class Spectra:
    """Spectra of every pixel and detector; a single spectrum is a map of 1 x 1 pixels.

    What a file does not have is empty: arrays of shape (y, x, 0), no scalers, no calibration.

    Raises:
        DataError: shapes that do not belong together.
    """

    counts: Annotated[Counts, Quantity("count", ("y", "x", "detector", "channel"))]
    """Counts as the file has them (float32 from MDA, float64 from text); NaN where no pixel was measured."""
    x: Annotated[FloatArray, Quantity("", _PIXEL)]
    """Position along a row, in `x_unit`; NaN where the file has none."""
    y: Annotated[FloatArray, Quantity("", _PIXEL)]
    """Position across the rows, in `y_unit`; NaN where the file has none."""
    detectors: tuple[str, ...]
    """Name of each detector."""
    source: str
    """File that the spectra come from."""
    live_time: Annotated[FloatArray, Quantity("s", _PER_DETECTOR)]
    """Time in which a detector could count."""
    real_time: Annotated[FloatArray, Quantity("s", _PER_DETECTOR)]
    """Time that passed."""
    input_rate: Annotated[FloatArray, Quantity("count/s", _PER_DETECTOR)]
    """Rate of photons that arrived, as the electronics reckon it."""
    output_rate: Annotated[FloatArray, Quantity("count/s", _PER_DETECTOR)]
    """Rate of photons that were recorded."""
    scalers: Mapping[str, FloatArray] = field(default_factory=dict[str, FloatArray])
    """Readings by name, such as `US_IC`; each has one value per pixel."""
    calibration: Calibration | None = None
    """Offset, slope, quadratic term [keV, keV/channel, keV/channel^2] that the file gives for every detector.

    A setting of the electronics: good as a start, rarely good enough without a fit."""
    x_unit: str = ""
    """Unit of `x` in the words of the file."""
    y_unit: str = ""
    """Unit of `y` in the words of the file."""
    notes: tuple[str, ...] = ()
    """What was left out and what was assumed, one line each."""

    def __post_init__(self) -> None:
        pixels = self.counts.shape[:2]
        timed = (self.live_time, self.real_time, self.input_rate, self.output_rate)
        right = self.counts.ndim == 4 and self.counts.shape[2] == len(self.detectors)
        right &= all(map_.shape == pixels for map_ in (self.x, self.y, *self.scalers.values()))
        right &= all(values.shape in (self.counts.shape[:3], (*pixels, 0)) for values in timed)
        if not right:
            raise DataError(
                f"{self.source}: counts of shape {self.counts.shape} and shapes beside them do not belong "
                "together; mend: counts are [y, x, detector, channel]"
            )


def nothing(pixels: tuple[int, ...]) -> FloatArray:
    """What stands for values that a file does not have: shape (y, x, 0).

    >>> nothing((2, 3)).shape
    (2, 3, 0)
    """
    return np.empty((pixels[0], pixels[1], 0))


def doubts(counts: Counts) -> list[str]:
    """Notes on counts that no detector can have counted."""
    negative, infinite = int((counts < 0).sum()), int(np.isinf(counts).sum())
    return [
        f"{count} channels hold {what} counts: kept as they are"
        for count, what in ((negative, "negative"), (infinite, "infinite"))
        if count
    ]


def usable(values: Calibration) -> bool:
    """Whether three numbers can be a calibration; files that were never calibrated hold zeros.

    >>> usable((0.0, 0.01, 0.0)), usable((0.0, 0.0, 0.0))
    (True, False)
    """
    return bool(np.isfinite(values).all()) and values[1] > 0
