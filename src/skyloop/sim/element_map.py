"""A sample for fluorescence that is known: where which element is, and how fast its lines count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.rows import rows_of
from skyloop.errors import ConfigError
from skyloop.quantities import FloatArray, Quantity

__all__ = ["ElementMap", "ElementSample", "Field", "Grains", "Texture", "centers"]

Field = tuple[tuple[float, float], tuple[float, float]]
"""Lowest and highest x, then y [mm]."""


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """A positive factor that varies smoothly: exp(strength sqrt(2/n) sum_k cos(a_k x + b_k y + phase_k))."""

    strength: float = 0.0
    """Standard deviation of its logarithm; 0: the factor is 1 everywhere."""
    waves: Annotated[FloatArray, Quantity("1/mm", ("wave", "axis"))] = field(
        default_factory=lambda: np.zeros((1, 2))
    )
    """(a_k, b_k), phase per distance."""
    phases: Annotated[FloatArray, Quantity("rad", ("wave",))] = field(default_factory=lambda: np.zeros(1))
    """Phases."""

    def __call__(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """The factor [...] at x, y [...] in mm."""
        angle = x[..., None] * self.waves[:, 0] + y[..., None] * self.waves[:, 1] + self.phases
        return np.exp(self.strength * math.sqrt(2 / len(self.phases)) * np.cos(angle).sum(-1))


@dataclass(frozen=True, slots=True, eq=False)
class Grains:
    """Discs with sharp edges."""

    x: Annotated[FloatArray, Quantity("mm", ("grain",))]
    """Centers."""
    y: Annotated[FloatArray, Quantity("mm", ("grain",))]
    """Centers."""
    radius: Annotated[FloatArray, Quantity("mm", ("grain",))]
    """Radii."""

    def count(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """How many of them lie over each place x, y [...] in mm."""
        distance = np.hypot(x[..., None] - self.x, y[..., None] - self.y)
        return (distance <= self.radius).sum(-1).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class ElementMap:
    """Where one component is: texture (uniform + in_grain times the grains over the place)."""

    uniform: Annotated[float, Quantity("count/s")] = 0.0
    """Rate of its main line everywhere, in one detector at the nominal I0."""
    in_grain: Annotated[float, Quantity("count/s")] = 0.0
    """Rate that each grain adds."""
    grains: Grains | None = None
    """Where it is besides; none: nowhere."""
    texture: Texture = field(default_factory=Texture)
    """How it varies."""

    def rate(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Rate of the main line [count/s] at x, y [...] in mm."""
        over = self.grains.count(x, y) if self.grains is not None else np.zeros(np.broadcast(x, y).shape)
        return self.texture(x, y) * (self.uniform + self.in_grain * over)


@dataclass(frozen=True, slots=True, eq=False)
class ElementSample:
    """A sample of which the rate of every component is known at every place.

    Raises:
        ConfigError: a component is unknown or not excited, or a rate is negative or no number.

    >>> sample = ElementSample({"Fe": ElementMap(uniform=100.0)})
    >>> sample.rates(0.5, [0.1, 0.2], i0=2e6).tolist()
    [[200.0], [200.0]]
    """

    maps: Mapping[str, ElementMap]
    """By the MAPS name of the component: `"Fe"`, `"Pb_M"`, scatter, pile-up."""
    field: Annotated[Field, Quantity("mm")] = ((0.0, 1.0), (0.0, 1.0))
    """Where the sample is known to be of interest."""
    incident_energy: Annotated[float, Quantity("keV")] = 12.0
    """Of the beam that excites it."""
    continuum: Annotated[float, Quantity("count/s")] = 0.0
    """Rate of the continuous background at the nominal I0, all channels together, the same everywhere."""
    nominal_i0: Annotated[float, Quantity("count/s")] = 1e6
    """The I0 at which the rates are given."""

    def __post_init__(self) -> None:
        rows_of(self.names, line_table(), incident_energy=self.incident_energy)
        rates = {
            f"{n}.{part}": getattr(m, part) for n, m in self.maps.items() for part in ("uniform", "in_grain")
        }
        for name, rate in {**rates, "continuum": self.continuum}.items():
            if not 0 <= rate < math.inf:
                raise ConfigError(f"{name}: found {rate} count/s; mend: a rate is finite and not negative")

    @property
    def names(self) -> tuple[str, ...]:
        """Components, in the order of all arrays."""
        return tuple(self.maps)

    def rates(self, x: ArrayLike, y: ArrayLike, *, i0: float | None = None) -> FloatArray:
        """Rate of the main line of each component [count/s], [..., component].

        Args:
            x: where [mm].
            y: where [mm]; the same shape, or one that is broadcast with it.
            i0: incident rate [count/s]; the nominal one unless it is given.
        """
        at = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        scale = 1.0 if i0 is None else i0 / self.nominal_i0
        return scale * np.stack([each.rate(*at) for each in self.maps.values()], axis=-1)

    def holds(
        self, x: ArrayLike, y: ArrayLike, having: Sequence[str], lacking: Sequence[str] = ()
    ) -> NDArray[np.bool_]:
        """Where all of `having` are and none of `lacking` is, [...] of x and y in mm.

        Raises:
            ConfigError: the sample has no such component.
        """
        for name in (*having, *lacking):
            if name not in self.maps:
                raise ConfigError(f"{name}: no such component; mend: one of {', '.join(self.names)}")
        there = self.rates(x, y) > 0
        wanted, unwanted = (np.array([name in chosen for name in self.names]) for chosen in (having, lacking))
        return np.asarray((there | ~wanted).all(-1) & ~(there & unwanted).any(-1))

    def covered(self, having: Sequence[str], lacking: Sequence[str] = (), *, steps: int = 400) -> float:
        """Share of the field where `holds` is true, from the centers of `steps` squared pixels."""
        x, y = (centers(low, high, steps) for low, high in self.field)
        return float(self.holds(x[None, :], y[:, None], having, lacking).mean())


def centers(low: float, high: float, count: int) -> FloatArray:
    """Centers of so many equal parts of a range.

    >>> centers(0.0, 1.0, 4).tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    return low + (high - low) * (np.arange(count) + 0.5) / count
