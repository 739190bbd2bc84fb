"""The parent's end of the process that reads external data."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from socket import socketpair
from typing import Any

from skyloop.documents.external import MOST_BYTES, NotYet, Unreadable
from skyloop.runtime._child_process import START_SECONDS, ChildProcess
from skyloop.runtime._messages import hear, hear_array, say

__all__ = ["ReadingProcess"]

_MOST_MEMORY = 4 * MOST_BYTES  # one read, the chunk it lies in, and a filter that doubles its buffer


class ReadingProcess:
    """One child that reads; it is ended with this object.

    A hostile file may have taken it over: what it says is read as JSON and bare numbers, up to a size, and is
    never run.

    Args:
        root_map: replaces the beginning of paths.
        allowed_roots: folders that may be read from.
        deadline: longest time of one reading [s]; the child ends itself after twice that.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, root_map: Mapping[str, str], allowed_roots: Sequence[str], deadline: float) -> None:
        self._deadline = deadline
        self._pipe, theirs = socketpair()
        # with this object and not at `close`: another thread may be listening then
        weakref.finalize(self, self._pipe.close)
        with theirs:
            self._child = ChildProcess("skyloop.runtime._reading_child", theirs.fileno())
        self._ready = False
        settings = {"root_map": root_map, "allowed_roots": allowed_roots, "deadline": deadline}
        say(self._pipe, settings | {"path": sys.path, "most_memory": _MOST_MEMORY})

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def await_ready(self) -> None:
        """Wait until the child has started.

        Raises:
            TimeoutError: it took longer than a minute.
            EOFError, ConnectionError: it has ended.
            ValueError: it says what is no message.
        """
        if not self._ready:
            hear(self._pipe, time.monotonic() + START_SECONDS)
            self._ready = True

    def ask(self, verb: str, again: bool, given: Sequence[Any]) -> Any:
        """What the child answers, once it is ready.

        Args:
            verb: what to do.
            again: whether to look again for what was not there.
            given: what to do it with.

        Raises:
            TimeoutError: it took longer than the deadline.
            EOFError, ConnectionError: it has ended.
            ValueError, KeyError, TypeError: it says what is no answer, or `given` cannot be sent.
        """
        deadline = time.monotonic() + self._deadline
        self._pipe.settimeout(self._deadline)
        say(self._pipe, {"verb": verb, "again": again, "given": given})
        answer = hear(self._pipe, deadline)
        match answer["kind"]:
            case "array":
                return hear_array(self._pipe, answer, deadline)
            case "not_yet":
                return NotYet(str(answer["reason"]))
            case "unreadable":
                return Unreadable(str(answer["reason"]))
            case "done":
                return None
            case other:
                raise ValueError(f"the process that reads them says {str(other)[:100]!r}")

    def close(self) -> None:
        """End the child, whatever it does."""
        self._child.end()
