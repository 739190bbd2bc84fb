"""The instrument in numbers, and the spectra that it shows of a known sample in the mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated

import numpy as np
import torch

from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, energies, shapes
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.parameters import defaults
from skyloop.engines.xrf.rows import Rows, rows_of
from skyloop.errors import ConfigError
from skyloop.quantities import FloatArray, Quantity
from skyloop.sim.element_map import ElementSample
from skyloop.sim.probe import Flux, Probe

__all__ = ["FluorescenceProbe", "Sensor", "expected_rates", "parameters_of"]

_DIGITS = 6  # of the gain: the peaks of a drifting detector move in steps of at most 0.002 channels
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Sensor:
    """One of the detectors that look at the sample."""

    slope: Annotated[float, Quantity("keV/channel")] = 0.01
    """Energy per channel at the start."""
    offset: Annotated[float, Quantity("keV")] = 0.0
    """Energy of channel 0."""
    share: float = 1.0
    """What it sees, relative to the rates of the sample."""


@dataclass(frozen=True, slots=True)
class FluorescenceProbe:
    """Beam, detectors and stage, in numbers.

    Raises:
        ConfigError: a number that no instrument has.
    """

    sensors: tuple[Sensor, ...] = (Sensor(),)
    """The detectors."""
    channels: int = 2048
    """Of each."""
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Parameters of the spectrum by MAPS name; those of calibration and beam come from elsewhere."""
    i0: Annotated[float, Quantity("count/s")] = 1e6
    """Incident rate at beam time 0."""
    lifetime: Annotated[float, Quantity("s")] = math.inf
    """Beam time in which I0 falls to 1/e."""
    dead_time: Annotated[float, Quantity("s")] = 1e-6
    """Time after each count in which a detector is blind (non-paralyzable)."""
    ceiling: Annotated[int, Quantity("count")] = 2**32 - 1
    """What a channel holds when it is full: it counts no further."""
    drift: Annotated[float, Quantity("1/hour")] = 0.0
    """Relative change of the energy per channel with beam time: above 0, peaks go to lower channels."""
    jump: float = 0.0
    """Relative change of the energy per channel at `jump_time`, to stay."""
    jump_time: Annotated[float, Quantity("s")] = math.inf
    """Beam time of the jump."""
    limits: Annotated[tuple[float, float], Quantity("mm")] = (-0.5, 10.5)
    """Range of both axes of the stage."""
    velocity: Annotated[float, Quantity("mm/s")] = 5.0
    """How fast each axis moves."""
    settling: Annotated[float, Quantity("s")] = 0.05
    """What every move costs besides."""

    def __post_init__(self) -> None:
        told = {
            "sensors": bool(self.sensors) and all(s.slope > 0 and s.share >= 0 for s in self.sensors),
            "channels": self.channels > 0,
            "i0": 0 <= self.i0 < math.inf,
            "lifetime": self.lifetime > 0,
            "dead_time": 0 <= self.dead_time < math.inf,
            "drift": math.isfinite(self.drift),
            "jump": -1 < self.jump < math.inf,
            "jump_time": not math.isnan(self.jump_time),
            "ceiling": 0 < self.ceiling < 2**32,
            "limits": self.limits[0] < self.limits[1],
            "velocity": 0 < self.velocity < math.inf,
            "settling": 0 <= self.settling < math.inf,
        }
        for name, holds in told.items():
            if not holds:
                raise ConfigError(
                    f"{name}: found {getattr(self, name)}; mend: a value that an instrument has"
                )

    @property
    def motion(self) -> Probe:
        """How the axes of the stage travel, in the words of a `Travel`: everything in mm."""
        return Probe(Flux(0.0), self.limits, self.velocity, self.settling)

    def i0_at(self, time: float) -> float:
        """Incident rate [count/s] at a beam time [s].

        >>> round(FluorescenceProbe(i0=1e6, lifetime=100.0).i0_at(100.0))
        367879
        """
        return self.i0 * math.exp(-time / self.lifetime)

    def gain(self, time: float) -> float:
        """Energy per channel at a beam time [s], relative to that at the start.

        >>> FluorescenceProbe(drift=0.005, jump=0.01, jump_time=7200.0).gain(3600.0)
        1.005
        """
        jumped = 1 + self.jump if time >= self.jump_time else 1.0
        return round((1 + self.drift * time / _HOUR) * jumped, _DIGITS)


def parameters_of(
    sample: ElementSample, probe: FluorescenceProbe, *, sensor: int = 0, time: float = 0.0
) -> dict[str, float]:
    """The true parameters of a detector's spectrum by MAPS name, at a beam time [s].

    Raises:
        ConfigError: a parameter that does not exist, or out of its range.
    """
    own = probe.sensors[sensor]
    calibration = {"ENERGY_OFFSET": own.offset, "ENERGY_SLOPE": own.slope * probe.gain(time)}
    return defaults({"COHERENT_SCT_ENERGY": sample.incident_energy, **probe.parameters, **calibration})


def expected_rates(
    sample: ElementSample, probe: FluorescenceProbe, x: float, y: float, *, time: float = 0.0
) -> FloatArray:
    """Expected counts per second of live time [detector, channel] at a place [mm] and a beam time [s].

    The forward model of the engine times the rates of the main lines, and a continuum that falls with energy
    and has a hump below the scatter.
    """
    i0 = probe.i0_at(time)
    rates = sample.rates(x, y, i0=i0)
    continuum = sample.continuum * i0 / sample.nominal_i0
    seen = [_columns(sample, probe, sensor, time) for sensor in range(len(probe.sensors))]
    shares = np.array([sensor.share for sensor in probe.sensors])
    spectra = [rates @ components + continuum * smooth for components, smooth in seen]
    return shares[:, None] * np.stack(spectra)


def _columns(
    sample: ElementSample, probe: FluorescenceProbe, sensor: int, time: float
) -> tuple[FloatArray, FloatArray]:
    values = parameters_of(sample, probe, sensor=sensor, time=time)
    return _shapes(sample.names, sample.incident_energy, probe.channels, tuple(values.items()))


@lru_cache(maxsize=64)
def _shapes(
    names: tuple[str, ...], beam: float, channels: int, values: tuple[tuple[str, float], ...]
) -> tuple[FloatArray, FloatArray]:
    """Components [component, channel] at one count in the main line, and the continuum [channel], area 1."""
    span, theta = Span(0, channels), theta_of(dict(values))
    with torch.no_grad():
        components = shapes(_rows(names, beam), theta, span).numpy()
        energy = energies(theta, span).numpy()
    return components, _continuum(energy, beam)


@lru_cache(maxsize=64)
def _rows(names: tuple[str, ...], beam: float) -> Rows:
    return rows_of(names, line_table(), incident_energy=beam)


def _continuum(energy: FloatArray, beam: float) -> FloatArray:
    shape = np.exp(-np.maximum(energy, 0.0) / 4) + 0.5 * np.exp(-0.5 * ((energy - 0.6 * beam) / 2.0) ** 2)
    return shape / shape.sum()
