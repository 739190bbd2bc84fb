"""Axes of the simulated reflectometer."""

from __future__ import annotations

import math
import time
from typing import Any

from bluesky.protocols import Status
from ophyd.utils import LimitError

from skyloop.sim._ophyd import Device, DeviceStatus
from skyloop.sim.clock import Activity, BeamClock
from skyloop.sim.probe import Probe, Travel

__all__ = ["QAxis", "ThetaTwoTheta"]


class QAxis(Device):
    """An axis in wavevector transfer [1/angstrom], read under its own name.

    A move costs `|distance| / speed + settling` of beam time; where the axis already is, it costs nothing.
    """

    egu = "1/angstrom"

    def __init__(self, probe: Probe, clock: BeamClock, *, name: str) -> None:
        super().__init__(name=name)
        self.clock = clock
        self._probe = probe
        self._at = probe.limits[0]
        self._timestamp = time.time()
        self._move: _Move | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest q [1/angstrom]."""
        return self._probe.limits

    @property
    def position(self) -> float:
        """Where the axis is now [1/angstrom], also on its way."""
        move = self._move
        return self._at if move is None else move.position

    @property
    def moving(self) -> bool:
        """True from `set` to the end of settling."""
        return self._move is not None

    def check_value(self, value: float) -> None:
        """Refuse what the axis cannot reach.

        Raises:
            LimitError: the value is outside the limits, or not a number.
        """
        low, high = self.limits
        if not low <= value <= high:
            raise LimitError(f"{self.name}: {value} is not within [{low}, {high}] {self.egu}")

    def set(self, value: float) -> Status:
        """Move to `value` [1/angstrom].

        Raises:
            LimitError: the value is outside the limits, or not a number.
            RuntimeError: the axis is still moving.
        """
        self.check_value(value)
        if self.moving:
            raise RuntimeError(f"{self.name}: is still moving; mend: wait for it or stop it")
        move = _Move(self, Travel(self._at, float(value), self._probe))
        self._move = move
        move.begin()
        return move.status

    def stop(self, *, success: bool = False) -> None:
        """Stop where the axis is; the move counts as done when `success`."""
        move = self._move
        if move is not None:
            move.stop(success)

    def arrive(self, position: float) -> None:
        """Called by the move when it has ended, here or short of its target."""
        self._at, self._timestamp, self._move = position, time.time(), None

    @property
    def hints(self) -> dict[str, Any]:
        """What to show."""
        return {"fields": [self.name]}

    def read(self) -> dict[str, Any]:
        """Position [1/angstrom]."""
        timestamp = time.time() if self.moving else self._timestamp
        return {self.name: {"value": self.position, "timestamp": timestamp}}

    def describe(self) -> dict[str, Any]:
        """Data key of the position."""
        return {self.name: data_key(f"SIM:{self.name}", self.egu, 6)}


def data_key(source: str, units: str, precision: int) -> dict[str, Any]:
    """Data key of a number."""
    return {
        "source": source,
        "dtype": "number",
        "shape": [],
        "dtype_numpy": "<f8",
        "units": units,
        "precision": precision,
    }


class _Move:
    """One move on its way."""

    def __init__(self, axis: QAxis, travel: Travel) -> None:
        self.status = DeviceStatus(axis)
        self._axis, self._travel, self._stopped_as = axis, travel, False
        self._activity = Activity(axis.clock, "moving", travel.seconds, self._end)

    def begin(self) -> None:
        self._activity.start()

    @property
    def position(self) -> float:
        return self._travel.position(self._activity.elapsed)

    def stop(self, success: bool) -> None:
        self._stopped_as = success
        self._activity.cut()

    def _end(self, elapsed: float) -> None:
        self._axis.arrive(self._travel.position(elapsed))
        if elapsed < self._travel.seconds and not self._stopped_as:
            self.status.set_exception(RuntimeError(f"{self._axis.name}: stopped on its way"))
        else:
            self.status.set_finished()


class ThetaTwoTheta(Device):
    """The q axis in angles: `q = 4 pi sin(theta) / wavelength`, theta and two_theta in degrees."""

    egu = "degree"

    def __init__(self, q: QAxis, wavelength: float, *, name: str) -> None:
        super().__init__(name=name)
        self.q = q
        self.wavelength = wavelength

    def to_q(self, theta: float) -> float:
        """Wavevector transfer [1/angstrom] at an angle of incidence [degree]."""
        return 4 * math.pi * math.sin(math.radians(theta)) / self.wavelength

    def to_theta(self, q: float) -> float:
        """Angle of incidence [degree] at a wavevector transfer [1/angstrom]."""
        return math.degrees(math.asin(q * self.wavelength / (4 * math.pi)))

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest theta [degree]."""
        low, high = self.q.limits
        return self.to_theta(low), self.to_theta(high)

    @property
    def position(self) -> float:
        """Angle of incidence now [degree]."""
        return self.to_theta(self.q.position)

    def check_value(self, value: float) -> None:
        """Refuse what the q axis cannot reach; raises `LimitError`."""
        self.q.check_value(self.to_q(value))

    def set(self, value: float) -> Status:
        """Move the q axis to where theta is `value` [degree]."""
        return self.q.set(self.to_q(value))

    def stop(self, *, success: bool = False) -> None:
        """Stop the q axis."""
        self.q.stop(success=success)

    @property
    def hints(self) -> dict[str, Any]:
        """What to show."""
        return {"fields": [self.name]}

    def read(self) -> dict[str, Any]:
        """Angles [degree], keys "theta" (the device's name) and "two_theta"."""
        angle, now = self.position, time.time()
        return {
            self.name: {"value": angle, "timestamp": now},
            f"two_{self.name}": {"value": 2 * angle, "timestamp": now},
        }

    def describe(self) -> dict[str, Any]:
        """Data keys of both angles."""
        keys = (self.name, f"two_{self.name}")
        return {key: data_key(f"SIM:{key}", self.egu, 5) for key in keys}
