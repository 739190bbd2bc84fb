"""The child of `Reader`: opens files that nobody vouches for, and may be ended by any of them."""

from __future__ import annotations

import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from skyloop.documents.external import ExternalData, Roots, Unreadable


def _serve(pipe: Connection) -> None:
    path, root_map, allowed, most_memory, deadline = pipe.recv()
    sys.path[:] = path
    resource.setrlimit(resource.RLIMIT_DATA, (most_memory, most_memory))
    external = ExternalData(Roots(root_map, allowed))
    pipe.send("ready")
    while True:
        verb, again, given = pipe.recv()
        # the parent may be gone, and HDF5 may hang with the lock of Python in its hands: a signal ends that
        signal.setitimer(signal.ITIMER_REAL, 2.0 * deadline)
        if again:
            external.new_round()
        _send(pipe, _answer(external, verb, given))
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _answer(external: ExternalData, verb: str, given: tuple[Any, ...]) -> Any:
    match verb:
        case "frame":
            return external.frame(*given)
        case "datum":
            return external.datum(*given)
        case _:
            return external.close()


def _send(pipe: Connection, answer: Any) -> None:
    """An array goes as it lies in memory, behind its type and shape."""
    if not isinstance(answer, np.ndarray):
        pipe.send((answer, None))
    elif answer.dtype.kind not in "biufc":
        pipe.send((Unreadable(f"its data are no numbers ({answer.dtype})"), None))
    else:
        pipe.send((None, (answer.dtype.str, answer.shape)))
        left = np.ascontiguousarray(answer).reshape(-1).view("u1").data
        while left:
            left = left[os.write(pipe.fileno(), left) :]


def _main() -> None:
    # Ctrl-C pauses the scan, and a service manager tells all processes to end: our parent decides about us
    for told in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _serve(Connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    _main()
