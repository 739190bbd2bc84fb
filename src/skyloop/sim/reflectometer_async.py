"""The simulated reflectometer of ophyd-async devices: the same keys, numbers and beam time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from skyloop.errors import MissingExtraError
from skyloop.sim.clock import BeamClock
from skyloop.sim.counting import Counting, Truth
from skyloop.sim.probe import PROBES, Probe

if TYPE_CHECKING:
    from skyloop.sim._devices_async import AsyncAttenuator, AsyncCounter, AsyncQAxis

__all__ = ["AsyncReflectometer", "reflectometer_async"]


@dataclass(frozen=True, slots=True)
class AsyncReflectometer:
    """The devices of one instrument and the truth behind them."""

    clock: BeamClock
    """Beam time that all devices spend."""
    q: AsyncQAxis
    """Axis, key "q"."""
    attenuator: AsyncAttenuator
    """In the incident beam, key "attenuator"."""
    detector: AsyncCounter
    """Keys "counts", "exposure", "count_time", "monitor", "transmission" and "q_sigma"."""
    truth: Truth
    """The sample."""


def reflectometer_async(
    sample: Truth,
    *,
    seed: int,
    probe: Literal["neutron", "xray"] | Probe = "neutron",
    speed: float = math.inf,
) -> AsyncReflectometer:
    """A reflectometer with a sample on it; to be called after a RunEngine was made, whose loop it uses.

    Args:
        sample: the truth.
        seed: of all noise; the same seed and the same exposures give the same counts.
        probe: the instrument.
        speed: how much faster than beam time the simulation runs; infinite: nothing is waited for.

    Raises:
        MissingExtraError: ophyd-async is not installed.
    """
    if find_spec("ophyd_async") is None:
        raise MissingExtraError("ophyd-async", "async")
    from ophyd_async.core import init_devices

    from skyloop.sim._devices_async import AsyncAttenuator, AsyncCounter, AsyncQAxis

    probe = PROBES[probe] if isinstance(probe, str) else probe
    clock = BeamClock(speed=speed)
    with init_devices():
        q = AsyncQAxis(probe, clock)
        attenuator = AsyncAttenuator(probe.transmissions)
        detector = AsyncCounter(Counting(sample, probe, seed), q=q, attenuator=attenuator)
    return AsyncReflectometer(clock, q, attenuator, detector, sample)
