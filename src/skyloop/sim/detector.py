"""Detector and attenuator of the simulated reflectometer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from bluesky.protocols import Status
from ophyd.utils import LimitError

from skyloop.sim._ophyd import Component, Device, DeviceStatus, Signal, SignalStatus
from skyloop.sim.clock import Activity, BeamClock
from skyloop.sim.counting import KEYS, Counting, Exposure, units
from skyloop.sim.positioners import QAxis, data_key

__all__ = ["Attenuator", "CountTime", "Counter", "Fault"]


class Fault(StrEnum):
    """What can go wrong with one exposure."""

    NAN = "nan"
    """The counts are not a number."""
    SATURATED = "saturated"
    """The detector is blind nearly all of the time."""
    HANG = "hang"
    """The exposure never ends, unless it is stopped."""
    RAISE = "raise"
    """The detector refuses to count."""


class CountTime(Signal):
    """How long the next exposure counts [s]; set at once, positive."""

    def check_value(self, value: float) -> None:
        """Refuse a time that cannot be counted for; raises `LimitError`."""
        if not 0 < value < math.inf:
            raise LimitError(f"{self.name}: {value} s is no time to count; mend: give more than 0")

    def set(self, value: float, **_: Any) -> Status:
        """Take effect from the next exposure on."""
        self.put(float(value))
        status = SignalStatus(self)
        status.set_finished()
        return status

    def describe(self) -> dict[str, Any]:
        """Data key of the setting."""
        return {self.name: data_key(self.source_name, "s", 3)}


class Attenuator(Device):
    """Absorbers in the incident beam, set and read as transmission; changed in no time."""

    def __init__(self, transmissions: Sequence[float], *, name: str) -> None:
        super().__init__(name=name)
        self.transmissions = tuple(transmissions)
        self._reading = (self.transmissions[0], time.time())

    @property
    def position(self) -> float:
        """Transmission now."""
        return self._reading[0]

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest transmission."""
        return min(self.transmissions), max(self.transmissions)

    def check_value(self, value: float) -> None:
        """Refuse a transmission that no absorber has; raises `LimitError`."""
        if value not in self.transmissions:
            raise LimitError(f"{self.name}: no transmission {value}; mend: one of {self.transmissions}")

    def set(self, value: float) -> Status:
        """Put in the absorber of this transmission."""
        self.check_value(value)
        self._reading = (value, time.time())
        status = DeviceStatus(self)
        status.set_finished()
        return status

    def read(self) -> dict[str, Any]:
        """Transmission, under the device's name."""
        value, timestamp = self._reading
        return {self.name: {"value": value, "timestamp": timestamp}}

    def describe(self) -> dict[str, Any]:
        """Data key of the transmission."""
        return {self.name: data_key(f"SIM:{self.name}", "", 4)}


class Counter(Device):
    """A counting detector with its monitor: trigger, then read.

    All values of a reading belong to the last exposure that ended. An exposure costs `count_time` of beam
    time; one that is stopped costs what it has lasted, and leaves the reading as it was.
    """

    count_time = Component(CountTime, value=1.0, kind="omitted")
    """How long the next exposure counts [s]."""

    def __init__(
        self,
        counting: Counting,
        *,
        q: QAxis,
        attenuator: Attenuator,
        name: str,
        faults: Mapping[int, Fault] | None = None,
    ) -> None:
        super().__init__("", name=name)
        self.counting = counting
        self.exposures = 0
        self._q, self._attenuator = q, attenuator
        self._faults = dict(faults or {})
        self._taken = (Exposure(), time.time())
        self._running: _Running | None = None

    @property
    def last(self) -> Exposure:
        """The last exposure that ended."""
        return self._taken[0]

    @property
    def clock(self) -> BeamClock:
        """That of the axis."""
        return self._q.clock

    def trigger(self) -> Status:
        """Count once.

        Raises:
            RuntimeError: the detector is still counting, or refuses by a fault.
        """
        if self._running is not None:
            raise RuntimeError(f"{self.name}: is still counting; mend: wait for it or stop it")
        number, self.exposures = self.exposures, self.exposures + 1
        fault = self._faults.get(number)
        if fault is Fault.RAISE:
            raise RuntimeError(f"{self.name}: refuses exposure {number} (a fault on demand)")
        running = _Running(self, self._expose(number, fault), hangs=fault is Fault.HANG)
        self._running = running
        running.begin()
        return running.status

    def _expose(self, number: int, fault: Fault | None) -> Exposure:
        q, count_time = self._q.position, self.count_time.get()
        transmission = self._attenuator.position
        if fault is Fault.SATURATED:
            return self.counting.saturate(q, count_time, number=number, transmission=transmission)
        exposure = self.counting.expose(
            q, count_time, number=number, time=self.clock.time, transmission=transmission
        )
        return replace(exposure, counts=math.nan) if fault is Fault.NAN else exposure

    def take(self, exposure: Exposure) -> None:
        """Called by an exposure that has run its full time."""
        self._taken = (exposure, time.time())

    def leave(self) -> None:
        """Called by an exposure that is over."""
        self._running = None

    def stop(self, *, success: bool = False) -> None:
        """Give up the exposure; it counts as done when `success`."""
        running = self._running
        if running is not None:
            running.stop(success)

    def pause(self) -> None:
        """Give up the exposure: after a pause the RunEngine triggers again."""
        self.stop(success=True)

    def unstage(self) -> list[object]:
        """Give up an exposure that an aborted plan has left behind."""
        self.stop(success=True)
        return super().unstage()

    @property
    def hints(self) -> dict[str, Any]:
        """What to show."""
        return {"fields": ["counts"]}

    def read(self) -> dict[str, Any]:
        """The last exposure."""
        last, timestamp = self._taken
        return {key: {"value": getattr(last, key), "timestamp": timestamp} for key in KEYS}

    def describe(self) -> dict[str, Any]:
        """Data keys of an exposure."""
        return {key: data_key(f"SIM:{self.name}.{key}", unit, 6) for key, unit in units().items()}


class _Running:
    """One exposure on its way."""

    def __init__(self, counter: Counter, exposure: Exposure, *, hangs: bool) -> None:
        self.status = DeviceStatus(counter)
        self._counter, self._exposure, self._hangs = counter, exposure, hangs
        self._stopped_as = False
        self._activity = Activity(counter.clock, "counting", exposure.count_time, self._end)

    def begin(self) -> None:
        self._activity.start()

    def stop(self, success: bool) -> None:
        self._stopped_as = success
        self._activity.cut()
        if self._hangs:
            self._give_up()

    def _end(self, elapsed: float) -> None:
        if self._hangs:
            return
        if elapsed < self._exposure.count_time:
            self._give_up()
            return
        self._counter.take(self._exposure)
        self._counter.leave()
        self.status.set_finished()

    def _give_up(self) -> None:
        self._counter.leave()
        if self._stopped_as:
            self.status.set_finished()
        else:
            self.status.set_exception(RuntimeError(f"{self._counter.name}: exposure was stopped"))
