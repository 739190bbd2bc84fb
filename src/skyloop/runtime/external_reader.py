"""External data read in a process of its own: a file may hang, lie or explode, and the scan goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skyloop.documents.external import ExternalData, Handler, Loaded, NotYet, Roots, Unreadable
from skyloop.runtime._reading_process import ReadingProcess
from skyloop.runtime.guarded import Broken, guarded

__all__ = ["Reader"]

_log = logging.getLogger(__name__)
_DIED = (EOFError, ConnectionError)
_MOST_IN_VAIN = 3
_SLOW_SECONDS = 1.0  # to look in vain for what is not written yet takes a millisecond


@dataclass(frozen=True, slots=True)
class _InVain:
    """Readings of a resource, in a row, that gave nothing and took long, or the process."""

    readings: int = 0
    last_reason: str = ""
    round: int = 0
    """Of the last of them: until the next round the process answers without a look at the file."""


class Reader:
    """What `ExternalData` does, in one supervised child process.

    HDF5 holds the GIL while it opens a file, and inflates a chunk to whatever size is packed in
    it: in this process a dead mount would stop the scan, and a hostile file could end it. The child is ended
    when a reading overruns its deadline, and gets no more than 4 GiB; the next reading starts another. A
    resource that took a long time in vain, or ended the child, three times in a row is left alone. Handlers
    of one's own have no part in this: they work in the thread that asks.

    Args:
        root_map: replaces the beginning of file paths in documents by the path on this machine.
        allowed_roots: folders that data may be read from; without one, no process is started.
        handlers: spec of a `resource` document to a reader of event-model's kind.
        deadline: longest time of one reading [s].

    Raises:
        ConfigError: an allowed root is not an absolute path.
    """

    def __init__(
        self,
        root_map: Mapping[str, str] | None = None,
        allowed_roots: Sequence[str] = (),
        handlers: Mapping[str, Handler] | None = None,
        *,
        deadline: float = 60.0,
    ) -> None:
        self._root_map = dict(root_map or {})
        self._allowed_roots = [str(root) for root in allowed_roots]
        self._here = ExternalData(Roots(self._root_map, self._allowed_roots), handlers)
        self._handlers = handlers or {}
        self._deadline = deadline
        self._again = False
        self._round = 0
        self._began = 0.0
        self._in_vain: dict[str, _InVain] = {}
        self._closed = False
        self._process: ReadingProcess | None = None
        if self._allowed_roots:
            with suppress(OSError):  # no process to be had: the first reading tries again, and says so
                self._process = self._started()  # at once, so that the first frame does not wait for it

    def new_round(self) -> None:
        """Look again for what was not there."""
        self._again = True
        self._round += 1

    def frame(self, resource: Mapping[str, Any], index: int, entry: Mapping[str, Any]) -> Loaded:
        """One frame of a stream, as `ExternalData` reads it."""
        if not self._allowed_roots:
            return self._here.frame(resource, index, entry)  # it refuses, and says how to allow
        return self._read("frame", resource, index, entry)

    def datum(
        self, resource: Mapping[str, Any], datum: Mapping[str, Any], entry: Mapping[str, Any]
    ) -> Loaded:
        """What a `datum` document refers to, as `ExternalData` reads it."""
        if not self._allowed_roots or resource["spec"] in self._handlers:
            return self._here.datum(resource, datum, entry)
        return self._read("datum", resource, datum, entry)

    def forget(self, resources: Iterable[str]) -> None:
        """Close all files, and forget these resources; the process stays, for the next run."""
        uids = list(resources)
        self._here.forget(uids)
        for uid in uids:
            self._in_vain.pop(uid, None)
        if self._process is not None:
            self._ask("forget", uids)

    def close(self) -> None:
        """End the process, whatever it does, also from another thread; nothing is read any more."""
        self._closed = True
        self._drop()

    @property
    def pid(self) -> int:
        """Process id of the child, 0 when none runs."""
        process = self._process
        return process.pid if process else 0

    def _read(self, verb: str, resource: Mapping[str, Any], *what: Any) -> Loaded:
        uid = resource["uid"]
        in_vain = self._in_vain.get(uid)
        if in_vain and in_vain.readings >= _MOST_IN_VAIN:
            return Unreadable(
                f"resource '{uid}' is left alone after {_MOST_IN_VAIN} long readings in vain, the last one: "
                f"{in_vain.last_reason}"
            )
        answer = self._ask(verb, resource, *what)
        if not self._closed:
            self._note(uid, answer, time.monotonic() - self._began)
        return Unreadable(answer.reason) if isinstance(answer, Broken) else answer

    def _note(self, uid: str, answer: Any, seconds: float) -> None:
        """Count the readings in vain, in a row, that took long, or the process."""
        before = self._in_vain.get(uid, _InVain())
        if isinstance(answer, Broken):
            _log.warning("resource '%s': %s", uid, answer.reason)
        elif not isinstance(answer, NotYet | Unreadable):
            self._in_vain.pop(uid, None)
            return
        elif seconds < _SLOW_SECONDS:
            if before.round != self._round:
                self._in_vain.pop(uid, None)
            return
        self._in_vain[uid] = _InVain(before.readings + 1, answer.reason, self._round)

    def _ask(self, verb: str, *given: Any) -> Any:
        """What the process says, or `Broken`: then it was ended."""
        answer = self._told(verb, given)
        if isinstance(answer, Broken) and isinstance(answer.error, _DIED) and not self._closed:
            answer = self._told(verb, given)  # it may have been killed from outside
        return Broken(self._why(answer), answer.error) if isinstance(answer, Broken) else answer

    def _told(self, verb: str, given: tuple[Any, ...]) -> Any:
        answer = guarded(self._exchange, verb, given)
        if isinstance(answer, Broken):
            self._drop()
        return answer

    def _exchange(self, verb: str, given: tuple[Any, ...]) -> Any:
        if self._process is None and not self._closed:
            self._process = self._started()
        process = self._process
        if process is None or self._closed:  # by another thread, perhaps just now
            raise EOFError
        process.await_ready()
        self._began = time.monotonic()
        again, self._again = self._again, False
        return process.ask(verb, again, given)

    def _started(self) -> ReadingProcess:
        return ReadingProcess(self._root_map, self._allowed_roots, self._deadline)

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _why(self, broken: Broken) -> str:
        match broken.error:
            case _ if self._closed:
                return "the analysis was closed before its data were read"
            case TimeoutError():
                return f"its data could not be read within {self._deadline:g} s"
            case EOFError() | ConnectionError():
                return "the process that reads its data ended, and so did the next; is the file damaged?"
            case OSError():
                return f"no process can be started to read it: {broken.reason}"
            case _:
                return f"its data cannot be read: {broken.reason}"
