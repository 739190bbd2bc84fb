"""How the detectors of the simulated fluorescence beamline count on ophyd-async, and what they write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from event_model import DataKey
from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    PathProvider,
    SignalRW,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    soft_signal_r_and_setter,
)

from skyloop.quantities import FloatArray
from skyloop.sim._fluorescence_stage_async import AsyncStageAxis, passing
from skyloop.sim.clock import BeamClock
from skyloop.sim.fluorescence_counting import FluorescenceCounting
from skyloop.sim.fluorescence_file import SpectraFile
from skyloop.sim.fluorescence_keys import FIELDS, arrays, unit_of
from skyloop.sim.fluorescence_path import Row


@dataclass
class Recorder:
    """What the logics of one detector share: what it counts, where, and into which file."""

    counting: FluorescenceCounting
    x: AsyncStageAxis
    y: AsyncStageAxis
    count_time: SignalRW[float]
    requested: int = 0
    exposures: int = 0
    file: SpectraFile | None = None
    written: Any = field(init=False)
    tell_written: Callable[[int], None] = field(init=False)

    def __post_init__(self) -> None:
        self.written, self.tell_written = soft_signal_r_and_setter(int)

    @property
    def clock(self) -> BeamClock:
        return self.x.clock

    async def record(self, places: FloatArray, seconds: float) -> dict[str, Any]:
        """Exposures at some x, begun now; they are numbered, and not written yet."""
        number, self.exposures = self.exposures, self.exposures + len(places)
        y = await self.y.readback.get_value()
        taken = self.counting.row(places, y, seconds, number=number, time=self.clock.time)
        return {**arrays(taken, self.counting.probe), "x": places, "y": np.full(len(places), y)}

    async def write(self, values: dict[str, Any]) -> None:
        """Write some exposures, and tell that they can be read."""
        if self.file is None:
            raise RuntimeError("no file is open; mend: prepare or stage the detector first")
        self.file.append(values)
        self.tell_written(await self.written.get_value() + len(values["i0"]))


@dataclass
class Triggers(DetectorTriggerLogic):
    """How many exposures, and how long each."""

    recorder: Recorder

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        if deadtime:
            raise ValueError(f"deadtime: found {deadtime} s; mend: leave it out, none is needed")
        if livetime:
            await self.recorder.count_time.set(livetime)
        self.recorder.requested = num


class Exposures(DetectorAcquireLogic):
    """Exposures in the background, one after the other."""

    def __init__(self, recorder: Recorder, flown: Callable[[], Awaitable[Row]] | None) -> None:
        self._recorder, self._flown = recorder, flown
        self._task: asyncio.Task[None] | None = None

    async def start_acquiring(self) -> None:
        recorder = self._recorder
        row = await self._flown() if self._flown else None
        if row and recorder.requested % row.pixels:
            raise ValueError(
                f"{recorder.requested} exposures are no rows of {row.pixels} pixels; "
                "mend: collections_per_event is the number of pixels"
            )
        count = recorder.requested // row.pixels if row else recorder.requested
        self._task = asyncio.create_task(self._run(row, count))

    async def wait_for_idle(self) -> None:
        if self._task:
            await self._task

    async def ensure_stopped(self) -> None:
        task, self._task = self._task, None
        if task:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self, row: Row | None, count: int) -> None:
        for _ in range(count):
            await (self._fly(row) if row else self._expose())

    async def _expose(self) -> None:
        recorder = self._recorder
        here, seconds = await recorder.x.readback.get_value(), await recorder.count_time.get_value()
        values = await recorder.record(np.array([here]), seconds)
        await passing(recorder.clock, "counting", seconds, lambda _: None)
        await recorder.write(values)

    async def _fly(self, row: Row) -> None:
        recorder = self._recorder
        await recorder.x.set(row.ends[0])
        values = await recorder.record(row.x, row.count_time)
        await passing(
            recorder.clock, "counting", row.seconds, lambda elapsed: recorder.x.arrive(row.reached(elapsed))
        )
        await recorder.write(values)


class _Resources(StreamResourceDataProvider):
    """The documents of a file, with units and with arrays told as such."""

    async def make_datakeys(self, collections_per_event: int) -> dict[str, DataKey]:
        keys = await super().make_datakeys(collections_per_event)
        for resource in self.resources:
            key = keys[resource.data_key]
            key["units"] = unit_of(resource.data_key) if resource.data_key in FIELDS else "mm"
            key["dtype"] = "array"
        return keys


@dataclass
class Files(DetectorDataLogic):
    """One file for each time the detector is staged."""

    recorder: Recorder
    path_provider: PathProvider
    places: tuple[str, ...]

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        info = self.path_provider(datakey_name)
        name = f"{info.filename}.h5"
        path = Path(info.directory_path) / name
        self.recorder.file = file = SpectraFile(path, self.recorder.counting.probe, self.places)
        self.recorder.tell_written(0)
        return _Resources(
            uri=f"{info.directory_uri}{name}",
            resources=[_resource(file, key) for key in file.shapes],
            mimetype="application/x-hdf5",
            collections_written_signal=self.recorder.written,
        )

    async def stop(self) -> None:
        file, self.recorder.file = self.recorder.file, None
        if file:
            file.close()

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        return []


def _resource(file: SpectraFile, key: str) -> StreamResourceInfo:
    return StreamResourceInfo(
        data_key=key,
        shape=file.shapes[key],
        chunk_shape=file.chunk(key),
        dtype_numpy=file.dtype(key),
        parameters={"dataset": file.dataset(key)},
    )
