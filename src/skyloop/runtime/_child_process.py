"""What the processes that an analysis starts have in common: how they begin, and what ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from contextlib import suppress

__all__ = ["START_SECONDS", "ChildProcess", "leave_signals_to_the_parent"]

START_SECONDS = 60.0
"""Longest time until a child says that it is ready [s]."""
_END_SECONDS = 1.0


class ChildProcess:
    """A child that holds one end of a socket pair; it is ended with this object.

    Args:
        module: what it runs, with the number of its end as argument.
        pipe: number of that end.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, module: str, pipe: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(pipe)],  # -P: what lies in the current folder is not run
            pass_fds=(pipe,),
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # it must not take every core of the beamline
            stdin=subprocess.DEVNULL,
        )
        self._ender = weakref.finalize(self, _kill, self._process, os.getpid())
        self._ender.atexit = False  # at exit the last results are waited for first

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def end(self) -> None:
        """End it, whatever it does. Whoever waits for an answer, on any thread, sees that it has ended."""
        self._ender()


def leave_signals_to_the_parent() -> None:
    """Called in the child: Ctrl-C pauses a scan, and a service manager tells all processes to end."""
    for told in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told, signal.SIG_IGN)


def _kill(process: subprocess.Popen[bytes], parent: int) -> None:
    if parent != os.getpid():
        return  # a forked copy is dropped; the child is not its own
    process.kill()
    with suppress(subprocess.TimeoutExpired):  # a process in the hands of a dead mount ends when that does
        process.wait(_END_SECONDS)
