"""Beam time: what moving and counting cost, however fast the simulation runs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["Activity", "BeamClock"]


class BeamClock:
    """Adds up the beam time of all activities, and lets them last `1 / speed` of it in real time.

    Beam time passes only while something moves or counts, and two activities cost the sum of both even when
    they overlap: the account depends on what was done, never on how fast the computer is.

    >>> clock = BeamClock()
    >>> clock.spend("moving", 2.5)
    >>> clock.spend("counting", 10.0)
    >>> clock.time, clock.spent("moving")
    (12.5, 2.5)
    """

    def __init__(self, *, speed: float = math.inf) -> None:
        if not speed > 0:
            raise ValueError(f"clock speed is {speed}, which must be positive; mend: 1 is real time")
        self.speed = speed
        self._spent: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def time(self) -> float:
        """Beam time so far [s]."""
        with self._lock:
            return math.fsum(self._spent.values())

    def spent(self, kind: str) -> float:
        """Beam time so far of one kind of activity [s], for example "moving" or "counting"."""
        with self._lock:
            return self._spent.get(kind, 0.0)

    def spend(self, kind: str, seconds: float) -> None:
        """Pass beam time at once, for example for a wait between two scans."""
        with self._lock:
            self._spent[kind] = self._spent.get(kind, 0.0) + seconds


class Activity:
    """Something that takes beam time and can be cut short.

    When it ends its beam time is spent and `done(elapsed seconds)` is called, once: in a timer thread, in the
    thread that cuts it short, or within `start` where no real time is to pass.
    """

    def __init__(self, clock: BeamClock, kind: str, seconds: float, done: Callable[[float], None]) -> None:
        self._clock, self._kind, self._seconds, self._done = clock, kind, seconds, done
        self._timer = threading.Timer(seconds / clock.speed, self._end, args=(seconds,))
        self._timer.daemon = True
        self._started = math.nan
        self._speed = clock.speed
        self._ended = False
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> float:
        """Beam time since the start [s], at most the full duration."""
        if math.isinf(self._speed):
            return self._seconds
        return min((time.monotonic() - self._started) * self._speed, self._seconds)

    def start(self) -> None:
        """Let the time run; ends at once where no real time is to pass."""
        self._started = time.monotonic()
        if self._seconds / self._speed > 0:
            self._timer.start()
        else:
            self._end(self._seconds)

    def cut(self) -> None:
        """End now, with the time that has passed; nothing happens after the end."""
        self._timer.cancel()
        self._end(self.elapsed)

    def _end(self, elapsed: float) -> None:
        with self._lock:
            first, self._ended = not self._ended, True
        if first:
            self._clock.spend(self._kind, elapsed)
            self._done(elapsed)
