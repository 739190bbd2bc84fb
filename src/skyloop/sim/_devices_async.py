"""Devices of the simulated reflectometer on ophyd-async, made of soft signals."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ophyd_async.core import (
    AsyncStatus,
    DeviceVector,
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
from skyloop.sim.counting import KEYS, Counting, Exposure, units
from skyloop.sim.probe import Probe, Travel


@dataclass
class _Within(MovableLogic[float]):
    """Moves of the q axis."""

    probe: Probe
    clock: BeamClock
    arrive: Callable[[float], None]

    async def check_move(self, new_position: float) -> None:
        low, high = self.probe.limits
        if not low <= new_position <= high:
            raise ValueError(f"q: {new_position} is not within [{low}, {high}] 1/angstrom")

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        travel = Travel(await self.readback.get_value(), new_position, self.probe)
        await self.setpoint.set(new_position)
        moving = passing(self.clock, "moving", travel.seconds, lambda t: self.arrive(travel.position(t)))
        await asyncio.wait_for(moving, timeout())


class AsyncQAxis(StandardReadable, StandardMovable[float]):
    """An axis in wavevector transfer [1/angstrom], read under its own name.

    A move costs `|distance| / speed + settling` of beam time; where the axis already is, it costs nothing.
    """

    def __init__(self, probe: Probe, clock: BeamClock, name: str = "") -> None:
        self.clock = clock
        self.probe = probe
        start = probe.limits[0]
        with self.add_children_as_readables(StandardReadableFormat.HINTED_SIGNAL):
            self.readback, self._arrive = soft_signal_r_and_setter(
                float, start, units="1/angstrom", precision=6
            )
        self.setpoint = soft_signal_rw(float, start, units="1/angstrom", precision=6)
        super().__init__(name=name)

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest q [1/angstrom]."""
        return self.probe.limits

    @cached_property
    def movable_logic(self) -> MovableLogic[float]:
        """How the axis moves."""
        return _Within(self.setpoint, self.readback, self.probe, self.clock, self._arrive)


@dataclass
class _OneOf(MovableLogic[float]):
    """Changes of the absorber, in no time."""

    transmissions: Sequence[float]
    arrive: Callable[[float], None]

    async def check_move(self, new_position: float) -> None:
        if new_position not in self.transmissions:
            raise ValueError(f"attenuator: no transmission {new_position}; mend: one of {self.transmissions}")

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        await self.setpoint.set(new_position)
        self.arrive(new_position)


class AsyncAttenuator(StandardReadable, StandardMovable[float]):
    """Absorbers in the incident beam, set and read as transmission."""

    def __init__(self, transmissions: Sequence[float], name: str = "") -> None:
        self.transmissions = tuple(transmissions)
        with self.add_children_as_readables(StandardReadableFormat.HINTED_SIGNAL):
            self.readback, self._arrive = soft_signal_r_and_setter(float, self.transmissions[0], precision=4)
        self.setpoint = soft_signal_rw(float, self.transmissions[0], precision=4)
        super().__init__(name=name)

    @cached_property
    def movable_logic(self) -> MovableLogic[float]:
        """How the absorber is changed."""
        return _OneOf(self.setpoint, self.readback, self.transmissions, self._arrive)


def _time(value: float | None) -> float:
    if value is None or not 0 < value < math.inf:
        raise ValueError(f"count_time: {value} s is no time to count; mend: give more than 0")
    return value


class AsyncCounter(StandardReadable):
    """A counting detector with its monitor: trigger, then read the last exposure that ended."""

    def __init__(
        self, counting: Counting, *, q: AsyncQAxis, attenuator: AsyncAttenuator, name: str = ""
    ) -> None:
        self.counting = counting
        self.exposures = 0
        # Their methods, not the signals themselves: those would be taken for children of this device.
        self._where, self._absorber = q.readback.get_value, attenuator.readback.get_value
        self._clock = q.clock
        self._end: asyncio.Future[None] | None = None
        self.count_time = soft_signal_rw(float, 1.0, units="s", precision=3, setter=_time)
        made = [
            soft_signal_r_and_setter(float, math.nan, units=unit, precision=6) for unit in units().values()
        ]
        self.reading = DeviceVector(dict(enumerate(signal for signal, _ in made)))
        self._setters = [setter for _, setter in made]
        first, *others = self.reading.values()
        self.add_readables([first], StandardReadableFormat.HINTED_SIGNAL)
        self.add_readables(others)
        super().__init__(name=name)

    def set_name(self, name: str, *, child_name_separator: str | None = None) -> None:
        """Name the device; what it reads is called `KEYS` under any name."""
        super().set_name(name, child_name_separator=child_name_separator)
        for key, signal in zip(KEYS, self.reading.values(), strict=True):
            signal.set_name(key if name else "")

    def trigger(self) -> AsyncStatus[None]:
        """Count once; a pause gives the exposure up."""
        if self._end is not None:
            raise RuntimeError(f"{self.name}: is still counting; mend: wait for it or pause it")
        self._end = asyncio.get_running_loop().create_future()
        return AsyncStatus(self._count(self._end), self.name)

    async def _count(self, end: asyncio.Future[None]) -> None:
        if end.done():
            return
        count_time = await self.count_time.get_value()
        exposure = await self._expose(count_time)

        def take(elapsed: float) -> None:
            if elapsed >= count_time:
                self._take(exposure)

        counting = asyncio.create_task(passing(self._clock, "counting", count_time, take))
        await asyncio.wait([counting, end], return_when=asyncio.FIRST_COMPLETED)
        counting.cancel()
        await asyncio.wait([counting])
        if self._end is end:
            self._end = None

    async def _expose(self, count_time: float) -> Exposure:
        number, self.exposures = self.exposures, self.exposures + 1
        return self.counting.expose(
            await self._where(),
            count_time,
            number=number,
            time=self._clock.time,
            transmission=await self._absorber(),
        )

    def _take(self, exposure: Exposure) -> None:
        for key, setter in zip(KEYS, self._setters, strict=True):
            setter(getattr(exposure, key))

    async def pause(self) -> None:
        """Give up the exposure: after a pause the RunEngine triggers again."""
        end, self._end = self._end, None
        if end is not None:
            end.set_result(None)

    async def resume(self) -> None:
        """Nothing to do: the RunEngine triggers again."""
