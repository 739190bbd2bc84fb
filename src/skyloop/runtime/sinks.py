"""Sinks on threads of their own: a slow or dead one slows nobody, and what is lost to it is told."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count, islice
from threading import Thread, current_thread
from typing import Any, Protocol, runtime_checkable

from skyloop.errors import UnavailableError
from skyloop.runtime.endings import ended, ends_with, waits_for_itself
from skyloop.runtime.guarded import Broken, guarded
from skyloop.runtime.mailbox import Mailbox

__all__ = ["Callback", "Sink", "handed_over"]

Callback = Callable[[str, dict[str, Any]], Any]
"""What Bluesky calls a callback: it takes the name of a document and the document."""

_log = logging.getLogger(__name__)
_RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
_RUNS_SHOWN = 5
_KEPT = 1000  # runs, and reasons, which may name a uid: a session lasts for months
_GRACE_SECONDS = 2.0  # for the one document that is on its way when time is up


@runtime_checkable
class _Closes(Protocol):
    """A callback that holds files or connections."""

    def close(self) -> object:
        """Let go of them."""
        ...


def handed_over(name: str, doc: Any) -> Any:
    """A copy that another thread may keep: Bluesky shares one dictionary among all callbacks.

    Arrays in events are not copied: no known device changes an array that it has emitted, and a copy of a
    frame costs more than the rest of the hand-over together.
    """
    if name in ("event", "event_page") and isinstance(doc, Mapping):
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in doc.items()}
    return deepcopy(doc)


@dataclass
class _Losses:
    """What a sink did not take."""

    failed: int = 0
    last: str = ""
    runs: dict[str, None] = field(default_factory=dict[str, None])
    reasons: set[str] = field(default_factory=set[str])

    def record(self, name: str, doc: Any, reason: str, error: BaseException | None = None) -> None:
        self.failed += 1
        self.last = f"{name}: {reason}"
        run = _run_named_by(name, doc)
        if run and len(self.runs) < _KEPT:
            self.runs[run] = None
        # once: a store that is down would fill the screen with the same words
        if reason not in self.reasons and len(self.reasons) < _KEPT:
            self.reasons.add(reason)
            _log.error("a sink lost a %s document: %s", name, reason, exc_info=error)

    def tell(self, waiting: int) -> None:
        if not self.failed + waiting:
            return
        _log.error(
            "%d documents did not reach a sink%s; the last: %s; "
            "mend: `skyloop replay` makes analysis runs again from their raw runs",
            self.failed + waiting,
            self._runs_in_words(),
            self.last or "the sink is still busy with an earlier document",
        )

    def _runs_in_words(self) -> str:
        if not self.runs:
            return ""
        shown = list(islice(self.runs, _RUNS_SHOWN))
        least = "at least " if len(self.runs) >= _KEPT else ""
        more = f" and {least}{len(self.runs) - len(shown)} more" if len(self.runs) > len(shown) else ""
        return f", of the runs {', '.join(shown)}{more}"


class Sink:
    """Gives every document to a callback, in order, on a thread of its own.

    It can be subscribed to a RunEngine and to an analysis at once, so that one writer gets raw and analysis
    documents on one thread. A callback that raises `UnavailableError` is offered the same document again
    until it takes it; any other exception is logged and counted in `failed`, and the next document follows.
    Closing the sink closes its callback too, if that has a `close`. A sink that nobody holds any more, or
    that is open when the program ends, is closed then.
    """

    def __init__(self, callback: Callback) -> None:
        self._delivery = _Delivery(callback)
        ends_with(self, self._delivery, last=True)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document over; never waits and never raises."""
        copy = guarded(handed_over, name, doc)
        self._delivery.take(name, doc if isinstance(copy, Broken) else copy)

    @property
    def failed(self) -> int:
        """How many documents were lost."""
        return self._delivery.losses.failed

    @property
    def last_failure(self) -> str:
        """Name of the last document that was lost, and why; empty when none was."""
        return self._delivery.losses.last

    @property
    def trouble(self) -> str:
        """What is wrong now, or was lost; empty in good order."""
        delivery = self._delivery
        if delivery.refused:
            return f"does not answer, {self.waiting} documents wait: {delivery.refused}"
        return f"{self.failed} documents lost; the last: {self.last_failure}" if self.failed else ""

    @property
    def waiting(self) -> int:
        """How many documents the callback has not taken yet."""
        return self._delivery.mailbox.waiting

    @property
    def is_here(self) -> bool:
        """Whether this is asked from within the callback, on the thread of the sink."""
        return current_thread() is self._delivery.thread

    def flush(self, timeout: float) -> bool:
        """Wait until the callback has taken everything; false when it did not within `timeout` seconds.

        Raises:
            RuntimeError: the callback itself calls it.
        """
        if self.is_here:
            raise waits_for_itself("Sink.flush()")
        return self._delivery.flush(timeout)

    def close(self, timeout: float = 10.0) -> bool:
        """Flush, then end the thread; false when documents are left that the callback did not take.

        When `timeout` is up, the document that is on its way has 2 s more.

        Raises:
            RuntimeError: the callback itself calls it.
        """
        if self.is_here:
            raise waits_for_itself("Sink.close()")
        return self._delivery.close(timeout)


class _Delivery:
    """What the thread of a sink does; it does not know the sink, so that dropping that ends it.

    A forked process has a copy without the thread, whose locks may be held for ever: there nothing is taken
    and nothing is waited for.
    """

    def __init__(self, callback: Callback) -> None:
        self.mailbox: Mailbox[tuple[str, Any]] = Mailbox()
        self.losses = _Losses()
        self.refused = ""  # why the callback does not take what it is offered
        self._callback = callback
        self._given_up: Broken | None = None
        self._process = os.getpid()
        self.thread = Thread(target=self._run, name="skyloop-sink", daemon=True)
        self.thread.start()

    def take(self, name: str, doc: Any) -> None:
        if self._process != os.getpid():
            self.losses.record(name, doc, "the sink is in the process that this one was forked from")
        elif not self.mailbox.put((name, doc)):
            self.losses.record(name, doc, "the sink was closed before this document came")

    def flush(self, timeout: float, /) -> bool:
        return self._process != os.getpid() or self.mailbox.wait_idle(timeout)

    def left(self) -> str:
        waiting = self.mailbox.waiting
        called = getattr(self._callback, "__qualname__", type(self._callback).__qualname__)
        return f"{waiting} documents for {called}" if waiting else ""

    def close(self, timeout: float = 10.0, /) -> bool:
        if self._process != os.getpid():
            return True
        deadline, lost_before = time.monotonic() + timeout, self.losses.failed
        idle = self.mailbox.wait_idle(timeout)
        self.mailbox.close()
        self.thread.join(max(_GRACE_SECONDS, deadline - time.monotonic()))
        ended(self)
        waiting = self.mailbox.waiting
        self.losses.tell(waiting)
        if self.thread.is_alive() and not waiting:
            _log.error("a sink took every document, but its callback hangs in close()")
        return idle or (not waiting and self.losses.failed == lost_before)

    def _run(self) -> None:
        while (items := self.mailbox.take()) is not None:
            for name, doc in items:
                self._deliver(name, doc)
                self.mailbox.did_one()
        closed = guarded(self._callback.close) if isinstance(self._callback, _Closes) else None
        if isinstance(closed, Broken):
            _log.error("a sink could not be closed: %s", closed.reason, exc_info=closed.error)

    def _deliver(self, name: str, doc: Any) -> None:
        if self._given_up:
            self.losses.record(name, doc, self._given_up.reason, self._given_up.error)
            return
        for tries in count():
            outcome = guarded(self._callback, name, doc)
            if not isinstance(outcome, Broken):
                self.refused = ""
                return
            away = isinstance(outcome.error, UnavailableError)
            self.refused = outcome.reason if away else ""
            if not away or self._closed_while_waiting(tries):
                self._given_up = outcome if away else None  # what waits behind it would be refused too
                self.refused = ""
                self.losses.record(name, doc, outcome.reason, outcome.error)
                return
            if tries == 0:
                _log.warning("a sink does not answer, documents are kept for it: %s", outcome.reason)

    def _closed_while_waiting(self, tries: int) -> bool:
        return self.mailbox.wait_closed(_RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)])


def _run_named_by(name: str, doc: Any) -> str:
    """Uid of the run where the document itself says it; the stop of a run always does."""
    key = "uid" if name == "start" else "run_start"
    return str(doc.get(key, "")) if isinstance(doc, Mapping) else ""
