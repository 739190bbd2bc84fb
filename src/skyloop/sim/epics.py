"""The reflectometer of the soft IOC as ophyd devices: the same keys as the simulated ones.

The variables of `Ioc.environment` must be set before this module, or anything of ophyd, is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ophyd

from skyloop.sim._ophyd import Component, Device
from skyloop.sim.counting import KEYS

__all__ = ["EpicsCounter", "EpicsReflectometer", "epics_reflectometer"]

_EpicsSignal: Any = ophyd.EpicsSignal
_EpicsSignalRO: Any = ophyd.EpicsSignalRO
_EpicsMotor: Any = ophyd.EpicsMotor


class EpicsCounter(Device):
    """A counting detector: `acquire` is put to 1 and is 0 again when the exposure has ended."""

    count_time = Component(_EpicsSignal, "count_time", limits=True, kind="omitted")
    """How long the next exposure counts [s]."""
    acquire = Component(_EpicsSignal, "acquire", trigger_value=1, kind="omitted")
    """Counts."""
    counts = Component(_EpicsSignalRO, "counts", kind="hinted")
    """Counts corrected for dead time."""
    exposure = Component(_EpicsSignalRO, "exposure", kind="normal")
    """Counts expected at a reflectivity of one."""
    measured_time = Component(_EpicsSignalRO, "measured_time", kind="normal")
    """How long the last exposure counted [s], key "count_time"."""
    monitor = Component(_EpicsSignalRO, "monitor", kind="normal")
    """Incident counts before the attenuator."""
    transmission = Component(_EpicsSignalRO, "transmission", kind="normal")
    """Of the attenuator."""
    q_sigma = Component(_EpicsSignalRO, "q_sigma", kind="normal")
    """Resolution, one sigma [1/angstrom]."""

    def __init__(self, prefix: str, *, name: str) -> None:
        super().__init__(prefix, name=name)
        readings = (
            self.counts,
            self.exposure,
            self.measured_time,
            self.monitor,
            self.transmission,
            self.q_sigma,
        )
        for key, signal in zip(KEYS, readings, strict=True):
            signal.name = key


@dataclass(frozen=True, slots=True)
class EpicsReflectometer:
    """The devices of one instrument."""

    q: Any
    """An `ophyd.EpicsMotor`, key "q" [1/angstrom]."""
    detector: EpicsCounter
    """Keys "counts", "exposure", "count_time", "monitor", "transmission" and "q_sigma"."""


def epics_reflectometer(prefix: str, *, timeout: float = 30.0) -> EpicsReflectometer:
    """Connect to the IOC with this prefix.

    Raises:
        TimeoutError: it does not answer within `timeout` seconds.
    """
    q = _EpicsMotor(f"{prefix}q", name="q")
    q.user_setpoint.kind = "omitted"
    detector = EpicsCounter(f"{prefix}det:", name="detector")
    for device in (q, detector):
        device.wait_for_connection(timeout=timeout)
    return EpicsReflectometer(q, detector)
