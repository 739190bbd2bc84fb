"""The child of `Reader`: opens files that nobody vouches for, and may be ended by any of them."""

from __future__ import annotations

import resource
import signal
import sys
from socket import socket
from typing import Any

import numpy as np

from skyloop.documents.external import ExternalData, NotYet, Roots, Unreadable
from skyloop.runtime._child_process import leave_signals_to_the_parent
from skyloop.runtime._messages import hear, say, say_array


def _serve(pipe: socket) -> None:
    given = hear(pipe)
    sys.path[:] = given["path"]
    most_memory, longest = given["most_memory"], 2.0 * given["deadline"]
    _limit_memory(most_memory)
    external = ExternalData(Roots(given["root_map"], given["allowed_roots"]))
    say(pipe, "ready")
    while True:
        asked = hear(pipe)
        # the parent may be gone, and HDF5 may hang with the GIL in its hands: a signal ends that
        signal.setitimer(signal.ITIMER_REAL, longest)
        if asked["again"]:
            external.new_round()
        _reply(pipe, _answer(external, asked["verb"], asked["given"]))
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _limit_memory(most: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)  # nobody may raise it again
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _answer(external: ExternalData, verb: str, given: list[Any]) -> Any:
    match verb:
        case "frame":
            return external.frame(*given)
        case "datum":
            return external.datum(*given)
        case _:
            return external.forget(*given)


def _reply(pipe: socket, answer: Any) -> None:
    match answer:
        case None:
            say(pipe, {"kind": "done"})
        case NotYet(reason):
            say(pipe, {"kind": "not_yet", "reason": reason})
        case Unreadable(reason):
            say(pipe, {"kind": "unreadable", "reason": reason})
        case value:
            array = np.asarray(value)
            if array.dtype.kind in "biufc":
                say_array(pipe, array, single=not isinstance(value, np.ndarray))
            else:
                _reply(pipe, Unreadable(f"its data are no numbers ({array.dtype})"))


def _main() -> None:
    leave_signals_to_the_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _serve(socket(fileno=int(sys.argv[1])))
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    _main()
