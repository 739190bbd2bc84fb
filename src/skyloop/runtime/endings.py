"""How things end that nobody closed: those that were dropped, and those still open when the program ends."""

from __future__ import annotations

import atexit
import logging
import time
from functools import cache
from threading import Thread
from typing import Any, Protocol
from weakref import WeakKeyDictionary, finalize

from skyloop.runtime.guarded import Broken, guarded

__all__ = ["EXIT_SECONDS", "Works", "ended", "ends_with"]

_log = logging.getLogger(__name__)

EXIT_SECONDS = 20.0
"""Longest wait for open analyses and sinks when the program ends [s]; what hangs has a few more."""


class Works(Protocol):
    """Something with threads or processes, whose work should not be lost."""

    def close(self, timeout: float = ..., /) -> bool:
        """Finish within about `timeout` seconds; false when something is left, which is also told."""
        ...


_open: WeakKeyDictionary[Works, tuple[bool, finalize[..., Any]]] = WeakKeyDictionary()


def ends_with(owner: object, works: Works, *, last: bool = False) -> None:
    """Close `works` when nobody holds its owner any more, or when the program ends.

    Args:
        owner: what the user holds; `works` must not know it.
        works: what goes on in the background.
        last: at the end of the program, close it after all that may still fill it.
    """
    _register()
    finalizer = finalize(owner, _in_background, works)
    finalizer.atexit = False  # the program ends more slowly than that: `_close_all` waits
    _open[works] = (last, finalizer)


def ended(works: Works) -> None:
    """Say that it was closed, and that nothing more is to be done."""
    _, finalizer = _open.pop(works, (False, None))
    if finalizer is not None:
        finalizer.detach()


@cache
def _register() -> None:
    atexit.register(_close_all)


def _close_all() -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    for works, _ in sorted(_open.items(), key=lambda item: item[1][0]):
        if works in _open:  # an analysis closes its own sinks
            closed = guarded(works.close, max(0.0, deadline - time.monotonic()))
            if isinstance(closed, Broken):  # the others are closed all the same
                _log.error("could not be closed at the end: %s", closed.reason, exc_info=closed.error)


def _in_background(works: Works) -> None:
    # the garbage collector calls from any thread and at any place, also where a lock is held
    Thread(target=works.close, name="skyloop-ending", daemon=True).start()
