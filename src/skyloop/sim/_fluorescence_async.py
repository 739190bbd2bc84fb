"""Detectors of the simulated fluorescence beamline on ophyd-async: they write HDF5 files."""

from __future__ import annotations

import asyncio

from ophyd_async.core import PathProvider, StandardDetector, soft_signal_rw

from skyloop.sim._fluorescence_logics import Exposures, Files, Recorder, Triggers
from skyloop.sim._fluorescence_stage_async import AsyncStageAxis
from skyloop.sim.fluorescence_counting import FluorescenceCounting
from skyloop.sim.fluorescence_path import Row

_PLACES = ("x", "y")


class AsyncFluorescenceDetector(StandardDetector):
    """All detectors together, one exposure at a time where the stage is; written to a file."""

    def __init__(
        self,
        counting: FluorescenceCounting,
        path_provider: PathProvider,
        *,
        x: AsyncStageAxis,
        y: AsyncStageAxis,
        name: str = "",
    ) -> None:
        self.count_time = soft_signal_rw(float, 1.0, units="s", precision=3)
        recorder = Recorder(counting, x, y, self.count_time)
        self.add_detector_logics(
            Triggers(recorder), Exposures(recorder, None), Files(recorder, path_provider, ())
        )
        self.add_config_signals(self.count_time)
        super().__init__(name=name)


class AsyncFluorescenceRow(StandardDetector):
    """The same detectors, read out while the x axis flies over a row; all of it is written to a file.

    To be prepared with `TriggerInfo(collections_per_event=pixels)`, so that a row is an event; the stream has
    no other device, for "x" and "y" [pixel] are in the file. With a clock that waits, give an
    `exposure_timeout` longer than a row.
    """

    def __init__(
        self,
        counting: FluorescenceCounting,
        path_provider: PathProvider,
        *,
        x: AsyncStageAxis,
        y: AsyncStageAxis,
        name: str = "",
    ) -> None:
        self.x_start = soft_signal_rw(float, 0.0, units="mm", precision=6)
        self.x_stop = soft_signal_rw(float, 1.0, units="mm", precision=6)
        self.pixels = soft_signal_rw(int, 101)
        self.count_time = soft_signal_rw(float, 0.1, units="s", precision=3)
        recorder = Recorder(counting, x, y, self.count_time)
        self.add_detector_logics(
            Triggers(recorder),
            Exposures(recorder, self.planned),
            Files(recorder, path_provider, _PLACES),
        )
        self.add_config_signals(self.x_start, self.x_stop, self.pixels, self.count_time)
        self._limits, self._velocity = x.limits, x.probe.velocity
        super().__init__(name=name)

    async def planned(self) -> Row:
        """The next row.

        Raises:
            ValueError: the stage cannot fly it.
        """
        signals = self.x_start, self.x_stop, self.pixels, self.count_time
        first, last, pixels, count_time = await asyncio.gather(*(s.get_value() for s in signals))
        row = Row(float(first), float(last), int(pixels), float(count_time), self._velocity)
        low, high = self._limits
        for end in row.ends:
            if not low <= end <= high:
                raise ValueError(f"{self.name}: {end} is not within [{low}, {high}] mm")
        return row
