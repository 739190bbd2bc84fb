"""The stage of the simulated fluorescence beamline on ophyd-async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ophyd_async.core import (
    MovableLogic,
    StandardMovable,
    StandardReadable,
    StandardReadableFormat,
    TimeoutCalculator,
    soft_signal_r_and_setter,
    soft_signal_rw,
)

from skyloop.sim._passing import passing
from skyloop.sim.clock import BeamClock
from skyloop.sim.fluorescence_spectra import FluorescenceProbe
from skyloop.sim.probe import Travel


@dataclass
class _Within(MovableLogic[float]):
    """Moves of an axis of the stage."""

    probe: FluorescenceProbe
    clock: BeamClock
    arrive: Callable[[float], None]

    async def check_move(self, new_position: float) -> None:
        low, high = self.probe.limits
        if not low <= new_position <= high:
            raise ValueError(f"{self.readback.name}: {new_position} is not within [{low}, {high}] mm")

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        travel = Travel(await self.readback.get_value(), new_position, self.probe.motion)
        await self.setpoint.set(new_position)
        moving = passing(self.clock, "moving", travel.seconds, lambda t: self.arrive(travel.position(t)))
        await asyncio.wait_for(moving, timeout())


class AsyncStageAxis(StandardReadable, StandardMovable[float]):
    """An axis of the stage [mm], read under its own name.

    A move costs `|distance| / velocity + settling` of beam time; where the axis already is, it costs nothing.
    """

    def __init__(self, probe: FluorescenceProbe, clock: BeamClock, name: str = "") -> None:
        self.clock = clock
        self.probe = probe
        start = probe.limits[0]
        with self.add_children_as_readables(StandardReadableFormat.HINTED_SIGNAL):
            self.readback, self.arrive = soft_signal_r_and_setter(float, start, units="mm", precision=6)
        self.setpoint = soft_signal_rw(float, start, units="mm", precision=6)
        super().__init__(name=name)

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest place [mm]."""
        return self.probe.limits

    @cached_property
    def movable_logic(self) -> MovableLogic[float]:
        """How the axis moves."""
        return _Within(self.setpoint, self.readback, self.probe, self.clock, self.arrive)
