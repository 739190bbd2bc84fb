"""To wait for what other threads or processes do, where nothing tells of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


def until(happened: Callable[[], Any], seconds: float = 60.0) -> None:
    """Return when it has happened; fail when it does not happen in time."""
    deadline, tick = time.monotonic() + seconds, threading.Event()
    while not happened():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} s"
        tick.wait(0.005)
