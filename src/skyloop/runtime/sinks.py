"""Sinks on threads of their own: a slow or dead one slows nobody, and no document is lost to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import count
from threading import Thread
from typing import Any

from skyloop.errors import UnavailableError
from skyloop.runtime.guarded import Broken, guarded
from skyloop.runtime.mailbox import Mailbox

__all__ = ["Callback", "Sink", "handed_over"]

Callback = Callable[[str, dict[str, Any]], Any]
"""What Bluesky calls a callback: it takes the name of a document and the document."""

_log = logging.getLogger(__name__)
_RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)


def handed_over(name: str, doc: Any) -> Any:
    """A copy that another thread may keep: Bluesky shares one dictionary among all callbacks.

    Arrays in events are not copied: no known device changes an array that it has emitted, and a copy of a
    frame costs more than the rest of the hand-over together.
    """
    if name in ("event", "event_page") and isinstance(doc, Mapping):
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in doc.items()}
    return deepcopy(doc)


class Sink:
    """Gives every document to a callback, in order, on a thread of its own.

    It can be subscribed to a RunEngine and to an analysis at once, so that one writer gets raw and analysis
    documents on one thread. A callback that raises `UnavailableError` is offered the same document again
    until it takes it; any other exception is logged and counted in `failed`, and the next document follows.
    """

    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self._mailbox: Mailbox[tuple[str, Any]] = Mailbox()
        self._reasons: set[str] = set()
        self.failed = 0
        self.last_failure = ""
        self._thread = Thread(target=self._run, name="skyloop-sink", daemon=True)
        self._thread.start()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document over; never waits and never raises."""
        copy = guarded(handed_over, name, doc)
        if not self._mailbox.put((name, doc if isinstance(copy, Broken) else copy)):
            self._record(name, "the sink was closed before this document came")

    @property
    def waiting(self) -> int:
        """How many documents the callback has not taken yet."""
        return self._mailbox.waiting

    def flush(self, timeout: float) -> bool:
        """Wait until the callback has taken everything; false when it did not within `timeout` seconds."""
        return self._mailbox.wait_idle(timeout)

    def close(self, timeout: float = 10.0) -> bool:
        """Flush, then end the thread; false when documents are left that the callback did not take."""
        done = self.flush(timeout)
        self._mailbox.close()
        self._thread.join(timeout)
        if self.failed:
            _log.error("%d documents did not reach a sink; the last: %s", self.failed, self.last_failure)
        return done

    def _run(self) -> None:
        while (items := self._mailbox.take()) is not None:
            for name, doc in items:
                self._deliver(name, doc)
                self._mailbox.did_one()

    def _deliver(self, name: str, doc: Any) -> None:
        for tries in count():
            outcome = guarded(self._callback, name, doc)
            if not isinstance(outcome, Broken):
                return
            if not isinstance(outcome.error, UnavailableError) or self._closed_while_waiting(tries):
                self._record(name, outcome.reason, outcome.error)
                return
            if tries == 0:
                _log.warning("a sink does not answer, documents are kept for it: %s", outcome.reason)

    def _closed_while_waiting(self, tries: int) -> bool:
        return self._mailbox.wait_closed(_RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)])

    def _record(self, name: str, reason: str, error: BaseException | None = None) -> None:
        self.failed += 1
        self.last_failure = f"{name}: {reason}"
        if reason not in self._reasons:  # a store that is down would fill the screen with the same words
            self._reasons.add(reason)
            _log.error("a sink lost a %s document: %s", name, reason, exc_info=error)
