"""The simulated fluorescence beamline of ophyd-async devices, whose detectors write HDF5 files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from skyloop.errors import MissingExtraError
from skyloop.quantities import FloatArray
from skyloop.sim.clock import BeamClock
from skyloop.sim.element_map import ElementSample, centers
from skyloop.sim.fluorescence_counting import FluorescenceCounting
from skyloop.sim.fluorescence_spectra import FluorescenceProbe

if TYPE_CHECKING:
    from skyloop.sim._fluorescence_async import AsyncFluorescenceDetector, AsyncFluorescenceRow
    from skyloop.sim._fluorescence_stage_async import AsyncStageAxis

__all__ = ["AsyncFluorescenceBeamline", "fluorescence_beamline_async"]


@dataclass(frozen=True, slots=True)
class AsyncFluorescenceBeamline:
    """The devices of one instrument and the truth behind them."""

    clock: BeamClock
    """Beam time that all devices spend."""
    x: AsyncStageAxis
    """Axis, key "x"."""
    y: AsyncStageAxis
    """Axis, key "y"."""
    detector: AsyncFluorescenceDetector
    """One exposure at a time; "fluo_counts", "fluo_live_time", ... and "i0" are in its file."""
    row: AsyncFluorescenceRow
    """A row of pixels in flight; the same, "x" and "y" are in its file."""
    sample: ElementSample
    """The sample."""
    probe: FluorescenceProbe
    """The instrument in numbers."""

    def columns(self, count: int) -> FloatArray:
        """[x], centers in mm of so many pixels that tile the field of the sample."""
        return centers(*self.sample.field[0], count)

    def rows(self, count: int) -> FloatArray:
        """[y], centers in mm of so many pixels that tile the field of the sample."""
        return centers(*self.sample.field[1], count)


def fluorescence_beamline_async(
    sample: ElementSample,
    folder: Path,
    *,
    seed: int,
    probe: FluorescenceProbe | None = None,
    clock: BeamClock | None = None,
) -> AsyncFluorescenceBeamline:
    """A fluorescence beamline with a sample on its stage; to be called after a RunEngine was made.

    Args:
        sample: the truth.
        folder: where the detectors write, a new file each time they are staged.
        seed: of all noise; the same seed and the same exposures give the same counts as the classic devices.
        probe: the instrument; by default one detector of 2048 channels that does not drift.
        clock: whose beam time it spends; `BeamClock(speed=1.0)` to wait for it. Its own unless it is given.

    Raises:
        MissingExtraError: ophyd-async is not installed.
    """
    if find_spec("ophyd_async") is None:
        raise MissingExtraError("ophyd-async", "async")
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices

    from skyloop.sim._fluorescence_async import AsyncFluorescenceDetector, AsyncFluorescenceRow
    from skyloop.sim._fluorescence_stage_async import AsyncStageAxis

    probe, clock = probe or FluorescenceProbe(), clock or BeamClock()
    paths = StaticPathProvider(UUIDFilenameProvider(), folder)
    one = FluorescenceCounting(sample, probe, seed)
    many = FluorescenceCounting(sample, probe, seed, stream=1)
    with init_devices():
        x = AsyncStageAxis(probe, clock)
        y = AsyncStageAxis(probe, clock)
        detector = AsyncFluorescenceDetector(one, paths, x=x, y=y)
        row = AsyncFluorescenceRow(many, paths, x=x, y=y)
    return AsyncFluorescenceBeamline(clock, x, y, detector, row, sample, probe)
