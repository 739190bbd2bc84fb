"""The scanning stage of the simulated fluorescence beamline."""

from __future__ import annotations

from skyloop.sim.clock import BeamClock
from skyloop.sim.fluorescence_spectra import FluorescenceProbe
from skyloop.sim.positioners import QAxis

__all__ = ["StageAxis"]


class StageAxis(QAxis):
    """An axis of the stage [mm], read under its own name.

    A move costs `|distance| / velocity + settling` of beam time; where the axis already is, it costs nothing.
    """

    egu = "mm"

    def __init__(self, probe: FluorescenceProbe, clock: BeamClock, *, name: str) -> None:
        super().__init__(probe.motion, clock, name=name)

    @property
    def velocity(self) -> float:
        """How fast it moves [mm/s]."""
        return self._probe.speed
