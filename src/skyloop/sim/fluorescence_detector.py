"""The detectors of the simulated fluorescence beamline, for step scans."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bluesky.protocols import Status

from skyloop.sim._ophyd import Component, Device, DeviceStatus
from skyloop.sim.clock import Activity, BeamClock
from skyloop.sim.detector import CountTime
from skyloop.sim.fluorescence_counting import FluorescenceCounting
from skyloop.sim.fluorescence_keys import point_keys, point_values
from skyloop.sim.fluorescence_stage import StageAxis

__all__ = ["Acquisition", "FluorescenceDetector"]


class Acquisition:
    """Counting on its way: its status is done when all of the time has passed, or when it was given up.

    Args:
        device: whose status it is.
        clock: whose beam time it spends.
        seconds: how long it takes.
        done: called with the beam time that has passed [s], before the status is done.
    """

    def __init__(self, device: Any, clock: BeamClock, seconds: float, done: Callable[[float], None]) -> None:
        self.status = DeviceStatus(device)
        self._device, self._seconds, self._done = device, seconds, done
        self._stopped_as = False
        self._activity = Activity(clock, "counting", seconds, self._end)

    def begin(self) -> None:
        """Let the time run."""
        self._activity.start()

    def stop(self, success: bool) -> None:
        """Give up; that counts as done when `success`."""
        self._stopped_as = success
        self._activity.cut()

    def _end(self, elapsed: float) -> None:
        self._done(elapsed)
        if elapsed >= self._seconds or self._stopped_as:
            self.status.set_finished()
        else:
            self.status.set_exception(RuntimeError(f"{self._device.name}: exposure was stopped"))


class FluorescenceDetector(Device):
    """All detectors together, and the counter of the incident beam: trigger, then read.

    All values of a reading belong to the last exposure that ended. An exposure costs `count_time` of beam
    time; one that is stopped costs what it has lasted, and leaves the reading as it was.

    Keys: "fluo_counts" [channel], "fluo_live_time", "fluo_real_time" [s], "fluo_input_counts",
    "fluo_output_counts", each with an axis of detectors in front where there are several, and "i0".
    """

    count_time = Component(CountTime, value=1.0, kind="config")
    """How long the next exposure counts [s]."""

    def __init__(self, counting: FluorescenceCounting, *, x: StageAxis, y: StageAxis, name: str) -> None:
        super().__init__("", name=name)
        self.counting = counting
        self.exposures = 0
        self._x, self._y = x, y
        self._taken = (counting.nothing(), time.time())
        self._running: Acquisition | None = None

    @property
    def clock(self) -> BeamClock:
        """That of the stage."""
        return self._x.clock

    def trigger(self) -> Status:
        """Count once, where the stage is.

        Raises:
            RuntimeError: the detector is still counting.
        """
        if self._running is not None:
            raise RuntimeError(f"{self.name}: is still counting; mend: wait for it or stop it")
        number, self.exposures = self.exposures, self.exposures + 1
        count_time, place = self.count_time.get(), (self._x.position, self._y.position)
        spectra = self.counting.expose(*place, count_time, number=number, time=self.clock.time)

        def done(elapsed: float) -> None:
            self._running = None
            if elapsed >= count_time:
                self._taken = (spectra, time.time())

        self._running = running = Acquisition(self, self.clock, count_time, done)
        running.begin()
        return running.status

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
        return {"fields": ["i0"]}

    def read(self) -> dict[str, Any]:
        """The last exposure."""
        spectra, timestamp = self._taken
        values = point_values(spectra, self.counting.probe)
        return {key: {"value": value, "timestamp": timestamp} for key, value in values.items()}

    def describe(self) -> dict[str, Any]:
        """Data keys of an exposure."""
        return point_keys(self.counting.probe, f"SIM:{self.name}")
