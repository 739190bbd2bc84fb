"""Where the pixels of a row are, and how the stage flies over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from skyloop.quantities import FloatArray, Quantity

__all__ = ["Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """Equidistant pixels that the stage flies over.

    Raises:
        ValueError: the row has no pixel, a place that is no number, or is flown faster than the axis moves.

    >>> Row(0.0, 0.3, 4, 0.1).x.round(3).tolist()
    [0.0, 0.1, 0.2, 0.3]
    """

    first: Annotated[float, Quantity("mm")]
    """Center of the pixel that is measured first."""
    last: Annotated[float, Quantity("mm")]
    """Center of the pixel that is measured last; of no meaning for a single pixel, which is at `first`."""
    pixels: int
    """How many."""
    count_time: Annotated[float, Quantity("s")]
    """Of each."""
    velocity: Annotated[float, Quantity("mm/s")] = math.inf
    """The fastest that the axis moves."""

    def __post_init__(self) -> None:
        if self.pixels < 1 or not math.isfinite(self.first) or not math.isfinite(self.last):
            raise ValueError(
                f"{self.pixels} pixels from {self.first} to {self.last} mm; mend: one at least, finite ends"
            )
        # a rounding error above the limit is not faster
        if abs(self.pitch) / self.count_time > self.velocity * (1 + 1e-9):
            raise ValueError(
                f"{abs(self.pitch):g} mm in {self.count_time:g} s is faster than {self.velocity:g} mm/s; "
                "mend: count longer, or more pixels"
            )

    @property
    def pitch(self) -> float:
        """Distance of two pixels [mm], negative where x falls; 0 for a single pixel."""
        return (self.last - self.first) / (self.pixels - 1) if self.pixels > 1 else 0.0

    @property
    def x(self) -> FloatArray:
        """[pixel], centers in mm, in the order of time."""
        return np.linspace(self.first, self.last, self.pixels)

    @property
    def ends(self) -> tuple[float, float]:
        """Where the flight begins and ends [mm]: half a pixel outside."""
        return self.first - self.pitch / 2, float(self.x[-1]) + self.pitch / 2

    @property
    def seconds(self) -> float:
        """How long the flight takes [s]."""
        return self.pixels * self.count_time

    def reached(self, elapsed: float) -> float:
        """Where the stage is [mm] some time after the flight began."""
        begin, end = self.ends
        return end if elapsed >= self.seconds else begin + (end - begin) * elapsed / self.seconds
