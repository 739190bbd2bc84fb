"""What fluorescence detectors record of a known sample: noise, dead time, full channels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from skyloop.quantities import FloatArray, Quantity
from skyloop.sim.counting import detected
from skyloop.sim.element_map import ElementSample
from skyloop.sim.fluorescence_spectra import FluorescenceProbe, expected_rates

__all__ = ["FluorescenceCounting", "Spectra"]


@dataclass(frozen=True, slots=True, eq=False)
class Spectra:
    """What one exposure gives."""

    counts: Annotated[NDArray[np.uint32], Quantity("count", ("detector", "channel"))]
    """As they came, not corrected; a channel that is full stays at the ceiling."""
    live_time: Annotated[FloatArray, Quantity("s", ("detector",))]
    """real_time output_counts / input_counts: what the counts are to be divided by for a rate."""
    real_time: Annotated[FloatArray, Quantity("s", ("detector",))]
    """How long was counted."""
    input_counts: Annotated[NDArray[np.int64], Quantity("count", ("detector",))]
    """Photons that came in the real time."""
    output_counts: Annotated[NDArray[np.int64], Quantity("count", ("detector",))]
    """Photons that were recorded; the sum of the counts where no channel is full."""
    i0: Annotated[float, Quantity("count")]
    """Incident counts in the real time."""


@dataclass(frozen=True, slots=True)
class FluorescenceCounting:
    """Exposures of a sample: the same seed and the same exposures give the same counts."""

    sample: ElementSample
    """The sample."""
    probe: FluorescenceProbe
    """The instrument."""
    seed: int
    """Of all noise."""
    stream: int = 0
    """Which of the independent series of this seed; one for each device that counts."""

    def expose(self, x: float, y: float, count_time: float, *, number: int, time: float) -> Spectra:
        """Exposure `number` (which keys the noise) at a place [mm], begun at beam time `time` [s].

        Beam and gain are seen as they are half way through the exposure.
        """
        middle = time + count_time / 2
        rates = expected_rates(self.sample, self.probe, x, y, time=middle)
        taken = [self._record(own, count_time, number, sensor) for sensor, own in enumerate(rates)]
        counts, lost = (list(part) for part in zip(*taken, strict=True))
        output = np.array([each.sum() for each in counts], dtype=np.int64)
        came = output + np.array(lost, dtype=np.int64)
        real = np.full(len(rates), count_time)
        return Spectra(
            counts=np.minimum(np.stack(counts), self.probe.ceiling).astype(np.uint32),
            live_time=real * np.where(came > 0, output / np.maximum(came, 1), 1.0),
            real_time=real,
            input_counts=came,
            output_counts=output,
            i0=self.probe.i0_at(middle) * count_time,
        )

    def row(
        self, x: Iterable[float], y: float, count_time: float, *, number: int, time: float
    ) -> list[Spectra]:
        """Exposures at several places x [mm], one after the other, the first with this number and beam time.

        A pixel of a flight is seen as it is in its center.
        """
        return [
            self.expose(at, y, count_time, number=number + i, time=time + i * count_time)
            for i, at in enumerate(x)
        ]

    def nothing(self) -> Spectra:
        """What a detector holds before its first exposure: no counts, times that are no numbers."""
        n = len(self.probe.sensors)
        none, zero = np.full(n, math.nan), np.zeros(n, dtype=np.int64)
        counts = np.zeros((n, self.probe.channels), dtype=np.uint32)
        return Spectra(counts, none, none, zero, zero, math.nan)

    def _record(
        self, rates: FloatArray, count_time: float, number: int, sensor: int
    ) -> tuple[NDArray[np.int64], int]:
        """Counts [channel] of one detector, and how many photons it missed.

        How many are recorded follows the law of a blind interval after each count; the others are Poisson in
        the time in which it was blind.
        """
        key, place = [self.seed, self.stream], [0, 0, sensor, number]
        noise: Any = np.random.Generator(np.random.Philox(key=key, counter=place))
        total = float(rates.sum())
        recorded = detected(1.0 - noise.random(), total, count_time, self.probe.dead_time)
        if not recorded:
            return np.zeros(len(rates), dtype=np.int64), 0
        lost = int(noise.poisson(total * min(recorded * self.probe.dead_time, count_time)))
        return noise.multinomial(recorded, rates / total), lost
