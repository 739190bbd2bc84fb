"""The parent's end of the process that reads external data."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np

from skyloop.documents.external import MOST_BYTES

__all__ = ["ReadingProcess"]

_START_SECONDS = 60.0
_MOST_MEMORY = 4 * MOST_BYTES  # one read, the chunk it lies in, and a filter that doubles its buffer


class ReadingProcess:
    """One child that reads; it is ended with this object.

    Args:
        settings: root map and allowed roots.
        deadline: longest time of one reading [s]; the child ends itself after twice that.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, settings: tuple[dict[str, str], tuple[str, ...]], deadline: float) -> None:
        self._deadline = deadline
        self._pipe, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "skyloop.runtime._reading_child", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._ender = weakref.finalize(self, _kill, self._process, os.getpid())
        self._ender.atexit = False  # at exit the last results are waited for first
        self._ready = False
        self._pipe.send((sys.path, *settings, _MOST_MEMORY, deadline))

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def ask(self, message: tuple[Any, ...]) -> Any:
        """What the child answers.

        Raises:
            TimeoutError: it took longer than the deadline.
            EOFError, OSError: it has ended.
        """
        if not self._ready:
            _wait(self._pipe, time.monotonic() + _START_SECONDS)
            self._ready = self._pipe.recv() == "ready"
        deadline = time.monotonic() + self._deadline
        self._pipe.send(message)
        _wait(self._pipe, deadline)
        value, layout = self._pipe.recv()
        return value if layout is None else _array(self._pipe, layout, deadline)

    def end(self) -> None:
        """End the child, whatever it does. Whoever waits for it sees that it has ended."""
        self._ender()


def _wait(pipe: Connection, deadline: float) -> None:
    if not pipe.poll(max(0.0, deadline - time.monotonic())):
        raise TimeoutError


def _array(pipe: Connection, layout: tuple[str, tuple[int, ...]], deadline: float) -> Any:
    """Read straight into an array: to unpack a large message would hold the lock of Python for its time."""
    dtype, shape = layout
    array = np.empty(shape, dtype)
    left = array.reshape(-1).view("u1").data
    while left:
        _wait(pipe, deadline)
        size = os.readv(pipe.fileno(), [left])
        if not size:
            raise EOFError
        left = left[size:]
    return array


def _kill(process: subprocess.Popen[bytes], parent: int) -> None:
    if parent != os.getpid():
        return  # a forked copy is dropped; the child is not its own
    process.kill()
    with suppress(subprocess.TimeoutExpired):  # a process in the hands of a dead mount ends when that does
        process.wait(1.0)
