"""Activities of simulated devices on ophyd-async: time that passes on the clock of the beam."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from skyloop.sim.clock import BeamClock

__all__ = ["passing"]


async def passing(clock: BeamClock, kind: str, seconds: float, done: Callable[[float], None]) -> None:
    """Wait for an activity; at its end, also when it is cut short, call `done(elapsed seconds)`."""
    started, speed, elapsed = time.monotonic(), clock.speed, seconds
    try:
        await asyncio.sleep(seconds / speed)
    except asyncio.CancelledError:
        elapsed = min((time.monotonic() - started) * speed, seconds)
        raise
    finally:
        clock.spend(kind, elapsed)
        done(elapsed)
