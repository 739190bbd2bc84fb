"""How things end that nobody closed: those that were dropped, and those still open when the program ends.

The program's end has two moments. While Python still has its pools, a sink that works with them can take what
waits, so everything is flushed then, and closed too unless another thread of the user goes on, which may
bring more. What is open after the last thread is closed at exit.
"""

from __future__ import annotations

import atexit
import concurrent.futures.process  # pyright: ignore[reportUnusedImport] - see `_register`
import concurrent.futures.thread
import logging
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from weakref import finalize

from skyloop.runtime.guarded import Broken, guarded

__all__ = ["EXIT_SECONDS", "Works", "ended", "ends_with", "flush_all", "waits_for_itself"]

_log = logging.getLogger(__name__)

EXIT_SECONDS = 20.0
"""Longest wait for open analyses and sinks when the program ends [s]; what hangs has a few more."""

_SETTLE_SECONDS = 0.2  # a worker that has given its answer goes back to wait for work


class Works(Protocol):
    """Something with threads or processes, whose work should not be lost."""

    def flush(self, timeout: float, /) -> bool:
        """Finish what came in, within `timeout` seconds; false when something is left."""
        ...

    def close(self, timeout: float = ..., /) -> bool:
        """Finish within about `timeout` seconds; false when something is left, which is also told."""
        ...

    def left(self) -> str:
        """What is not finished, in words; empty when nothing is known of."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """How and where something is to end."""

    last: bool
    finalizer: finalize[..., Any]
    process: int


_open: dict[Works, _Entry] = {}


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
    _open[works] = _Entry(last, finalizer, os.getpid())


def ended(works: Works) -> None:
    """Say that it was closed, and that nothing more is to be done."""
    entry = _open.pop(works, None)
    if entry is not None:
        entry.finalizer.detach()


def flush_all(timeout: float) -> str:
    """Finish what came in everywhere, within `timeout` seconds; returns in words what is left."""
    deadline = time.monotonic() + timeout
    for works in _ours():
        guarded(works.flush, max(0.0, deadline - time.monotonic()))
    return ", ".join(words for works in _ours() if (words := works.left()))


def waits_for_itself(call: str) -> RuntimeError:
    """What to raise when `call` comes from a thread that it would wait for."""
    return RuntimeError(
        f"{call} was called from within a sink, or from what the analysis itself calls, and would wait for "
        f"its own end; mend: call it where the documents come from, for example after RE(...)"
    )


@cache
def _register() -> None:
    # Private, but the only hook of that moment. Without it, and when the end has begun already, all is left
    # to `_at_exit`: sinks that use pools then lose what waits for them, and say so. What was registered last
    # is called first, and pools register their end when they are imported: so they are imported here.
    hook: Any = getattr(threading, "_register_atexit", _no_hook)
    try:
        hook(_while_pools_last)
    except RuntimeError:
        atexit.register(_at_exit)


def _no_hook(_: object) -> None:
    raise RuntimeError


def _while_pools_last() -> None:
    atexit.register(_at_exit)  # not before: so it is the first one there, and finds the stores open
    with _told_what_ctrl_c_leaves():
        deadline = time.monotonic() + EXIT_SECONDS
        flush_all(EXIT_SECONDS)
        if _settled():
            _close_all(deadline)


def _at_exit() -> None:
    with _told_what_ctrl_c_leaves():
        _close_all(time.monotonic() + EXIT_SECONDS)


def _close_all(deadline: float) -> None:
    for works in _ours():
        if works in _open:  # an analysis closes its own sinks
            closed = guarded(works.close, max(0.0, deadline - time.monotonic()))
            if isinstance(closed, Broken):  # the others are closed all the same
                _log.error("could not be closed at the end: %s", closed.reason, exc_info=closed.error)


def _ours() -> list[Works]:
    """What is open, the last ones last; what a forked process finds in its memory is not its own."""
    entries = sorted(_open.copy().items(), key=lambda item: item[1].last)
    return [works for works, entry in entries if entry.process == os.getpid()]


@contextmanager
def _told_what_ctrl_c_leaves() -> Generator[None]:
    try:
        yield
    except KeyboardInterrupt:
        left = ", ".join(words for works in _ours() if (words := works.left()))
        _open.clear()
        _log.warning(
            "stopped by Ctrl-C while the program ended; left behind: %s; "
            "mend: `skyloop replay` makes analysis runs again from their raw runs",
            left or "no documents, but runs that had not stopped are not finished",
        )


def _settled() -> bool:
    until = time.monotonic() + _SETTLE_SECONDS
    while _others_work():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _others_work() -> bool:
    """Whether threads go on for which Python waits, other than workers of a pool that wait for work."""
    idle = getattr(concurrent.futures.thread, "_worker", None)
    frames = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - yet documented
    codes = [
        getattr(frames.get(thread.ident or 0), "f_code", None)
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.current_thread()
    ]
    return any(code is not getattr(idle, "__code__", None) for code in codes)


def _in_background(works: Works) -> None:
    # the garbage collector calls from any thread and at any place, also where a lock is held
    threading.Thread(target=works.close, name="skyloop-ending", daemon=True).start()
