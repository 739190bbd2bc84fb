"""A simulated reflectometer of classic ophyd devices: no EPICS, no waiting, exact beam time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from skyloop.sim.clock import BeamClock
from skyloop.sim.counting import Counting, Truth
from skyloop.sim.detector import Attenuator, Counter, Fault
from skyloop.sim.positioners import QAxis, ThetaTwoTheta
from skyloop.sim.probe import PROBES, Probe

__all__ = [
    "Attenuator",
    "BeamClock",
    "Counter",
    "Fault",
    "QAxis",
    "Reflectometer",
    "ThetaTwoTheta",
    "reflectometer",
]


@dataclass(frozen=True, slots=True)
class Reflectometer:
    """The devices of one instrument and the truth behind them."""

    clock: BeamClock
    """Beam time that all devices spend."""
    q: QAxis
    """Axis, key "q"."""
    theta: ThetaTwoTheta
    """The same axis in angles, keys "theta" and "two_theta"."""
    attenuator: Attenuator
    """In the incident beam, key "attenuator"."""
    detector: Counter
    """Keys "counts", "exposure", "count_time", "monitor", "transmission" and "q_sigma"."""
    truth: Truth
    """The sample."""


def reflectometer(
    sample: Truth,
    *,
    seed: int,
    probe: Literal["neutron", "xray"] | Probe = "neutron",
    speed: float = math.inf,
    faults: Mapping[int, Fault] | None = None,
) -> Reflectometer:
    """A reflectometer with a sample on it.

    Args:
        sample: the truth.
        seed: of all noise; the same seed and the same exposures give the same counts.
        probe: the instrument; `dataclasses.replace(NEUTRON, resolution=0.02)` for another one.
        speed: how much faster than beam time the simulation runs; infinite: nothing is waited for.
        faults: what goes wrong, by the number of the exposure (from 0).
    """
    probe = PROBES[probe] if isinstance(probe, str) else probe
    clock = BeamClock(speed=speed)
    q = QAxis(probe, clock, name="q")
    attenuator = Attenuator(probe.transmissions, name="attenuator")
    detector = Counter(
        Counting(sample, probe, seed), q=q, attenuator=attenuator, faults=faults, name="detector"
    )
    theta = ThetaTwoTheta(q, probe.wavelength, name="theta")
    return Reflectometer(clock, q, theta, attenuator, detector, sample)
