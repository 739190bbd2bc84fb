"""Fly scans of the simulated fluorescence beamline: a whole row of pixels in one event."""

from __future__ import annotations

import math
import time
from typing import Any

from bluesky.protocols import Status
from ophyd.utils import LimitError

from skyloop.sim._ophyd import Component, Device, DeviceStatus, Signal, SignalStatus
from skyloop.sim.clock import BeamClock
from skyloop.sim.detector import CountTime
from skyloop.sim.fluorescence_counting import FluorescenceCounting
from skyloop.sim.fluorescence_detector import Acquisition
from skyloop.sim.fluorescence_keys import arrays, row_keys
from skyloop.sim.fluorescence_path import Row
from skyloop.sim.fluorescence_stage import StageAxis

__all__ = ["FluorescenceRow"]


class _Setting(Signal):
    """A number that a row is made of; set at once."""

    def set(self, value: float, **_: Any) -> Status:
        """Take effect from the next row on."""
        self.put(value)
        status = SignalStatus(self)
        status.set_finished()
        return status


class _Pixels(_Setting):
    """How many pixels a row has."""

    def check_value(self, value: float) -> None:
        """Refuse what is no number of pixels; raises `LimitError`."""
        if not (1 <= value < math.inf and value == int(value)):
            raise LimitError(f"{self.name}: {value} is no number of pixels; mend: 1, 2, ...")


class FluorescenceRow(Device):
    """The same detectors, read out while the x axis flies over a row: trigger, then read.

    Trigger moves to the beginning of the row, flies over it in `pixels * count_time`, and ends half a pixel
    behind it; the beam time of the flight counts as counting. A row that is stopped leaves the reading as it
    was.

    Keys: those of the detector, each with an axis of pixels in front, and "x" [pixel] in mm, in the order in
    which the pixels were measured. The place of the row itself is that of the y axis, so
    `bp.list_scan([row], y, places)` gives one event per row with all that belongs to it. Bluesky describes a
    device once in each stream: rows of another number of pixels belong into another stream, or another run.
    """

    x_start = Component(_Setting, value=0.0, kind="config")
    """Center of the first pixel [mm]."""
    x_stop = Component(_Setting, value=1.0, kind="config")
    """Center of the last pixel [mm]."""
    pixels = Component(_Pixels, value=101, kind="config")
    """How many."""
    count_time = Component(CountTime, value=0.1, kind="config")
    """Of each pixel [s]."""
    snake = Component(_Setting, value=False, kind="config")
    """Whether a row begins at the end that is nearer, and not always at `x_start`."""

    def __init__(self, counting: FluorescenceCounting, *, x: StageAxis, y: StageAxis, name: str) -> None:
        super().__init__("", name=name)
        self.counting = counting
        self.exposures = 0
        self._x, self._y = x, y
        self._taken: tuple[dict[str, Any], float] = ({}, time.time())
        self._flight: _Flight | None = None

    @property
    def clock(self) -> BeamClock:
        """That of the stage."""
        return self._x.clock

    def planned(self) -> Row:
        """The next row.

        Raises:
            ValueError: the stage cannot fly it; a `LimitError` where it is out of reach.
        """
        ends = self.x_start.get(), self.x_stop.get()
        here = self._x.position
        if self.snake.get() and abs(here - ends[1]) < abs(here - ends[0]):
            ends = ends[1], ends[0]
        row = Row(*ends, int(self.pixels.get()), self.count_time.get(), self._x.velocity)
        for end in row.ends:
            self._x.check_value(end)
        return row

    def trigger(self) -> Status:
        """Fly over the row once.

        Raises:
            ValueError: the stage cannot fly it; a `LimitError` where it is out of reach.
            RuntimeError: the row before is still measured.
        """
        if self._flight is not None:
            raise RuntimeError(f"{self.name}: is still flying; mend: wait for it or stop it")
        self._flight = flight = _Flight(self, self.planned(), self._x)
        flight.begin()
        return flight.status

    def measured(self, row: Row, begun: float) -> dict[str, Any]:
        """Called by a flight that begins over the first pixel: what it will give, by key."""
        number, self.exposures = self.exposures, self.exposures + row.pixels
        y = self._y.position
        spectra = self.counting.row(row.x, y, row.count_time, number=number, time=begun)
        return {**arrays(spectra, self.counting.probe), "x": row.x}

    def leave(self, values: dict[str, Any] | None) -> None:
        """Called by a flight that is over, with what it has measured unless it was given up."""
        self._flight = None
        if values is not None:
            self._taken = (values, time.time())

    def stop(self, *, success: bool = False) -> None:
        """Give up the row; it counts as done when `success`."""
        flight = self._flight
        if flight is not None:
            flight.stop(success)

    def pause(self) -> None:
        """Give up the row: after a pause the RunEngine triggers again."""
        self.stop(success=True)

    def unstage(self) -> list[object]:
        """Give up a row that an aborted plan has left behind."""
        self.stop(success=True)
        return super().unstage()

    @property
    def hints(self) -> dict[str, Any]:
        """Nothing of a row is a single number."""
        return {"fields": []}

    def read(self) -> dict[str, Any]:
        """The last row that was flown.

        Raises:
            RuntimeError: none was.
        """
        values, timestamp = self._taken
        if not values:
            raise RuntimeError(f"{self.name}: no row was measured yet; mend: trigger it first")
        return {key: {"value": value, "timestamp": timestamp} for key, value in values.items()}

    def describe(self) -> dict[str, Any]:
        """Data keys of a row with the present number of pixels."""
        return row_keys(self.counting.probe, f"SIM:{self.name}", int(self.pixels.get()))


class _Flight:
    """One row on its way: first to where it begins, then over it."""

    def __init__(self, device: FluorescenceRow, row: Row, x: StageAxis) -> None:
        self.status = DeviceStatus(device)
        self._device, self._row, self._x = device, row, x
        self._is_stopped = self._stopped_as = False
        self._over: Acquisition | None = None

    def begin(self) -> None:
        self._x.set(self._row.ends[0]).add_callback(self._arrived)

    def stop(self, success: bool) -> None:
        self._stopped_as, self._is_stopped = success, True
        self._x.stop(success=False)
        if self._over is not None:
            self._over.stop(success)

    def _arrived(self, status: Any) -> None:
        if self._is_stopped or not status.success:
            self._leave(None)
            return
        device, row = self._device, self._row
        values = device.measured(row, device.clock.time)

        def done(elapsed: float) -> None:
            self._x.arrive(row.reached(elapsed))
            self._leave(values if elapsed >= row.seconds else None)

        over = Acquisition(device, device.clock, row.seconds, done)
        over.begin()
        self._over = over
        if self._is_stopped:  # meanwhile, by another thread
            over.stop(self._stopped_as)

    def _leave(self, values: dict[str, Any] | None) -> None:
        self._device.leave(values)
        if values is not None or self._stopped_as:
            self.status.set_finished()
        else:
            self.status.set_exception(RuntimeError(f"{self._device.name}: row was stopped"))
