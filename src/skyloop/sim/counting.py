"""What a detector behind a reflecting sample counts: flux, noise, dead time, and nothing of Bluesky."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from scipy.special import gammainc

from skyloop.quantities import FloatArray, Quantity, quantities
from skyloop.sim.probe import Probe

__all__ = ["KEYS", "Counting", "Exposure", "Truth", "detected", "units"]

KEYS = ("counts", "exposure", "count_time", "monitor", "transmission", "q_sigma")
"""What a detector reads, in every make: fields of `Exposure`."""


_LARGEST_DEAD_FRACTION = 0.5
_GRID = 1e-5  # [1/angstrom] two q closer than this are the same place for the systematic error


class Truth(Protocol):
    """A sample whose true reflectivity is known."""

    def reflectivity(self, q: FloatArray, q_sigma: FloatArray, time: float) -> FloatArray:
        """Reflectivity [] at q [1/angstrom] with resolution q_sigma (one sigma), at a beam time [s]."""
        ...


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one exposure gives; NaN before the first."""

    counts: Annotated[float, Quantity("count")] = math.nan
    """Counts corrected for dead time; NaN where the detector was blind for more than half of the time."""
    exposure: Annotated[float, Quantity("count")] = math.nan
    """Counts expected at a reflectivity of one: monitor times transmission."""
    count_time: Annotated[float, Quantity("s")] = math.nan
    """How long was counted."""
    monitor: Annotated[float, Quantity("count")] = math.nan
    """Incident counts before the attenuator."""
    transmission: Annotated[float, Quantity("")] = math.nan
    """Of the attenuator."""
    q_sigma: Annotated[float, Quantity("1/angstrom")] = math.nan
    """Resolution, one sigma."""
    observed: Annotated[float, Quantity("count")] = math.nan
    """Counts as they came, not corrected."""


def units() -> dict[str, str]:
    """Unit of each of `KEYS`.

    >>> units()["count_time"]
    's'
    """
    of = quantities(Exposure)
    return {key: of[key][1].unit for key in KEYS}


@dataclass(frozen=True, slots=True)
class Counting:
    """Exposures of a sample: the same seed and the same exposures give the same counts."""

    truth: Truth
    """The sample."""
    probe: Probe
    """The instrument."""
    seed: int
    """Of all noise."""

    def rate(self, q: float, time: float, transmission: float = 1.0) -> float:
        """True rate at the detector [count/s] at q [1/angstrom] and beam time [s]."""
        at, sigma = np.array([q]), np.array([self.probe.resolution * q])
        reflectivity = float(self.truth.reflectivity(at, sigma, time)[0])
        signal = self.probe.flux(q) * transmission * reflectivity * self._systematic(q)
        return signal + self.probe.background

    def expose(
        self, q: float, count_time: float, *, number: int, time: float, transmission: float = 1.0
    ) -> Exposure:
        """Exposure `number` (which keys the noise), begun at beam time `time` [s].

        A sample that changes is seen as it is half way through the exposure.
        """
        rate = self.rate(q, time + count_time / 2, transmission)
        return self._record(q, rate, count_time, number, transmission)

    def saturate(self, q: float, count_time: float, *, number: int, transmission: float = 1.0) -> Exposure:
        """The same exposure in the glare of a thousand times what the detector can count."""
        if self.probe.dead_time == 0:
            raise ValueError("a detector without dead time cannot saturate; mend: set dead_time")
        return self._record(q, 1e3 / self.probe.dead_time, count_time, number, transmission)

    def _record(self, q: float, rate: float, count_time: float, number: int, transmission: float) -> Exposure:
        noise = np.random.Generator(np.random.Philox(key=[self.seed, 0], counter=[0, 0, 0, number]))
        dead_time = self.probe.dead_time
        observed = detected(1.0 - noise.random(), rate, count_time, dead_time)
        dead = observed * dead_time / count_time
        monitor = self.probe.flux(q) * count_time
        return Exposure(
            counts=observed / (1 - dead) if dead <= _LARGEST_DEAD_FRACTION else math.nan,
            exposure=monitor * transmission,
            count_time=count_time,
            monitor=monitor,
            transmission=transmission,
            q_sigma=self.probe.resolution * q,
            observed=float(observed),
        )

    def _systematic(self, q: float) -> float:
        """A factor of mean one that belongs to this place: counts times it are negative binomial."""
        spread = self.probe.systematic
        if spread == 0:
            return 1.0
        place = round(q / _GRID)
        noise = np.random.Generator(np.random.Philox(key=[self.seed, 1], counter=[0, 0, 0, place]))
        return float(noise.gamma(spread**-2, spread**2))


def detected(chance: float, rate: float, count_time: float, dead_time: float) -> int:
    """Counts of a non-paralyzable detector, as the quantile of their law at `chance` in (0, 1].

    The k-th count comes after k exponential intervals and k - 1 dead times, so
    `P(N >= k) = P(Gamma(k) <= rate (count_time - (k - 1) dead_time))`, which for a dead time of zero is the
    Poisson law.

    References:
        J. W. Müller, Nucl. Instrum. Methods 112, 47 (1973), doi:10.1016/0029-554X(73)90773-8.

    Raises:
        ValueError: the rate is negative or not finite, so there is no such law.

    >>> detected(0.5, rate=10.0, count_time=1.0, dead_time=0.0)
    10
    """
    if not 0 <= rate < math.inf:
        raise ValueError(f"a count rate of {rate}; mend: let truth and probe give finite positive rates")

    def reached(k: int) -> bool:
        alive = count_time - (k - 1) * dead_time
        return alive > 0 and float(gammainc(k, rate * alive)) >= chance

    low, high = 0, 1
    while reached(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reached(middle) else (low, middle)
    return low
