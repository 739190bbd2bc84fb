"""A simulated fluorescence beamline of classic ophyd devices: no EPICS, no waiting, exact beam time."""

from __future__ import annotations

from dataclasses import dataclass

from skyloop.quantities import FloatArray
from skyloop.sim.clock import BeamClock
from skyloop.sim.element_map import ElementSample, centers
from skyloop.sim.fluorescence_counting import FluorescenceCounting
from skyloop.sim.fluorescence_detector import FluorescenceDetector
from skyloop.sim.fluorescence_row import FluorescenceRow
from skyloop.sim.fluorescence_spectra import FluorescenceProbe, Sensor
from skyloop.sim.fluorescence_stage import StageAxis

__all__ = [
    "BeamClock",
    "FluorescenceBeamline",
    "FluorescenceDetector",
    "FluorescenceProbe",
    "FluorescenceRow",
    "Sensor",
    "StageAxis",
    "fluorescence_beamline",
]


@dataclass(frozen=True, slots=True)
class FluorescenceBeamline:
    """The devices of one instrument and the truth behind them."""

    clock: BeamClock
    """Beam time that all devices spend."""
    x: StageAxis
    """Axis, key "x"."""
    y: StageAxis
    """Axis, key "y"."""
    detector: FluorescenceDetector
    """One exposure at a time; keys "fluo_counts", "fluo_live_time", ... and "i0"."""
    row: FluorescenceRow
    """A row of pixels in flight; the same keys with an axis of pixels in front, and "x"."""
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


def fluorescence_beamline(
    sample: ElementSample,
    *,
    seed: int,
    probe: FluorescenceProbe | None = None,
    clock: BeamClock | None = None,
) -> FluorescenceBeamline:
    """A fluorescence beamline with a sample on its stage.

    Args:
        sample: the truth.
        seed: of all noise; the same seed and the same exposures give the same counts.
        probe: the instrument; by default one detector of 2048 channels that does not drift.
        clock: whose beam time it spends; `BeamClock(speed=1.0)` to wait for it. Its own unless it is given.
    """
    probe, clock = probe or FluorescenceProbe(), clock or BeamClock()
    x, y = StageAxis(probe, clock, name="x"), StageAxis(probe, clock, name="y")
    detector = FluorescenceDetector(FluorescenceCounting(sample, probe, seed), x=x, y=y, name="detector")
    row = FluorescenceRow(FluorescenceCounting(sample, probe, seed, stream=1), x=x, y=y, name="row")
    return FluorescenceBeamline(clock, x, y, detector, row, sample, probe)
