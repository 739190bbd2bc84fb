"""The instrument in numbers: flux, detector, and how its axis travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from skyloop.quantities import Quantity

__all__ = ["NEUTRON", "PROBES", "XRAY", "Flux", "Probe", "Travel"]


@dataclass(frozen=True, slots=True)
class Flux:
    """Incident rate at the sample: `constant + quadratic (q / 0.25)^2`.

    The quadratic part is that of slits opened in proportion to the angle.

    >>> Flux(500.0, 2e5)(0.25)
    200500.0
    """

    constant: Annotated[float, Quantity("count/s")]
    """Rate at q = 0."""
    quadratic: Annotated[float, Quantity("count/s")] = 0.0
    """What is added at q = 0.25 / angstrom."""

    def __call__(self, q: float) -> float:
        """Incident rate [count/s] at q [1/angstrom]."""
        return self.constant + self.quadratic * (q / 0.25) ** 2


@dataclass(frozen=True, slots=True)
class Probe:
    """A source with its diffractometer and detector, in numbers."""

    flux: Flux
    """Incident rate before the attenuator."""
    limits: Annotated[tuple[float, float], Quantity("1/angstrom")]
    """Range of the q axis."""
    speed: Annotated[float, Quantity("1/angstrom/s")]
    """How fast q moves."""
    settling: Annotated[float, Quantity("s")]
    """What every move costs besides."""
    dead_time: Annotated[float, Quantity("s")] = 0.0
    """Time after each count in which the detector is blind (non-paralyzable)."""
    background: Annotated[float, Quantity("count/s")] = 0.0
    """Counts that come without any beam on the sample."""
    resolution: float = 0.0
    """Relative width of the resolution, q_sigma / q (one sigma)."""
    systematic: float = 0.0
    """Relative standard deviation of an error that is fixed for each q, such as that of a footprint."""
    transmissions: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)
    """What the attenuator can let through."""
    wavelength: Annotated[float, Quantity("angstrom")] = 1.54056
    """Of the incident beam."""


@dataclass(frozen=True, slots=True)
class Travel:
    """A move of the q axis: at constant speed, then settling. Where it is already, it is at once."""

    start: Annotated[float, Quantity("1/angstrom")]
    """Where the axis was."""
    target: Annotated[float, Quantity("1/angstrom")]
    """Where it goes."""
    probe: Probe
    """How fast."""

    @property
    def moving(self) -> float:
        """How long it moves [s]."""
        return abs(self.target - self.start) / self.probe.speed

    @property
    def seconds(self) -> float:
        """How long it takes with settling [s].

        >>> Travel(0.1, 0.2, NEUTRON).seconds
        15.0
        """
        return self.moving + self.probe.settling if self.target != self.start else 0.0

    def position(self, elapsed: float) -> float:
        """Where the axis is some time after the start [s].

        >>> round(Travel(0.1, 0.2, NEUTRON).position(4.0), 9)
        0.14
        """
        if elapsed >= self.moving:
            return self.target
        return self.start + (self.target - self.start) * elapsed / self.moving


NEUTRON = Probe(Flux(500.0, 2e5), (0.005, 0.3), speed=0.01, settling=5.0, dead_time=1e-6, wavelength=4.75)
"""A monochromatic neutron reflectometer."""

XRAY = Probe(Flux(1e6), (0.005, 0.7), speed=0.2, settling=0.2, dead_time=5e-8)
"""An x-ray reflectometer at a laboratory source or a weak bending magnet."""

PROBES = {"neutron": NEUTRON, "xray": XRAY}
"""Probes by name."""
