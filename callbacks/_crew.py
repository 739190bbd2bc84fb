"""What works for an analysis out of sight: its thread, the process of its engine, and its sinks."""

from __future__ import annotations

import logging
import os
import time
from threading import Lock, Thread, current_thread
from typing import Any

from skyloop.callbacks._newest import Newest
from skyloop.callbacks._pipeline import Pipeline
from skyloop.callbacks._sinks import Sinks
from skyloop.documents.gate import Quarantined
from skyloop.documents.inbox import Inbox, Key
from skyloop.runtime.endings import ended, waits_for_itself
from skyloop.runtime.guarded import Broken, guarded
from skyloop.runtime.mailbox import Mailbox
from skyloop.runtime.runners import Runner
from skyloop.runtime.sinks import handed_over

__all__ = ["Crew"]

_log = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 0.05
_IDLE_SECONDS = 5.0
_GRACE_SECONDS = 2.0  # for the last words of a run, when time is up
_MANY = 10_000


class Crew:
    """Takes raw documents through a pipeline, on a thread of its own unless it is `inline`.

    It does not know the `Analyzer`: when nobody holds that any more, the crew finishes what came in and ends.
    A forked process has a copy without the thread, whose locks may be held for ever: there nothing is taken
    and nothing is waited for.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        runner: Runner,
        sinks: Sinks,
        *,
        inbox: Inbox,
        newest: Newest,
        inline: bool,
    ) -> None:
        self._pipeline = pipeline
        self._runner = runner
        self._sinks = sinks
        self._inbox = inbox
        self._newest = newest
        self._mailbox: Mailbox[tuple[str, Any, float, list[Key]]] = Mailbox()
        self._crowd = _MANY
        self._closing = Lock()
        self._closed_well: bool | None = None
        self._process = os.getpid()
        self.thread = None if inline else Thread(target=self._run, name="skyloop-analysis", daemon=True)
        if self.thread:
            self.thread.start()

    def take(self, name: str, doc: dict[str, Any]) -> None:
        """Take a raw document; never raises."""
        if self._inbox.retired or self._is_copy:
            self._refuse(name, doc)
            return
        seen = guarded(self._newest.see, name, doc)
        doubted = [] if isinstance(seen, Broken) else seen  # the gate puts it aside with its reason
        if self.thread is None:
            self._guard(self._pipeline.handle, name, doc, time.monotonic(), doubted)
            self._go_on()
            return
        copy = guarded(handed_over, name, doc)
        kept = doc if isinstance(copy, Broken) else copy
        if not self._mailbox.put((name, kept, time.monotonic(), doubted)):
            self._refuse(name, doc)
        self._tell_of_backlog()

    @property
    def waiting(self) -> int:
        """How many documents came in and are not analysed yet."""
        return self._mailbox.waiting

    def _tell_of_backlog(self) -> None:
        if self.waiting >= self._crowd:
            _log.warning("%d documents wait for an analysis that is slow or hangs", self.waiting)
            self._crowd *= 2

    def flush(self, timeout: float) -> bool:
        """Wait until everything that came in is analysed and in the sinks; false when it takes longer."""
        self._refuse_within("analysis.flush()")
        if self._is_copy:
            return True
        deadline = time.monotonic() + timeout
        return all([self._mailbox.wait_idle(timeout), self._sinks.flush(deadline)])

    def close(self, timeout: float = 60.0, /) -> bool:
        """Flush, end the open runs, then the threads and the process; false when something was left."""
        self._refuse_within("analysis.close()")
        if self._is_copy:
            return True
        deadline = time.monotonic() + timeout
        if not self._closing.acquire(timeout=timeout):  # another thread closes it
            return False
        try:
            if self._closed_well is None:
                self._closed_well = self._close(deadline)
            return self._closed_well
        finally:
            self._closing.release()

    def left(self) -> str:
        """What is not analysed yet, in words; empty when nothing waits."""
        return f"{self.waiting} documents to analyse" if self.waiting else ""

    def _close(self, deadline: float) -> bool:
        idle = self._mailbox.wait_idle(max(0.0, deadline - time.monotonic()))
        self._inbox.retire()
        self._mailbox.close()
        if self.thread is None:
            self._guard(self._pipeline.close)
        else:
            self._end(self.thread, idle, deadline)
        self._end_what_hangs()
        ended(self)
        return self._sinks.close(max(deadline, time.monotonic() + _GRACE_SECONDS)) and idle

    def _end(self, thread: Thread, idle: bool, deadline: float) -> None:
        if not idle:
            _log.error("an analysis was closed with %d documents to analyse", self._mailbox.waiting)
            self._end_what_hangs()  # so that its frames get their results
        thread.join(max(_GRACE_SECONDS, deadline - time.monotonic()))
        if thread.is_alive():
            self._end_what_hangs()
            thread.join(_GRACE_SECONDS)

    def _end_what_hangs(self) -> None:
        self._runner.close()
        self._pipeline.reader.close()

    def _run(self) -> None:
        while (items := self._mailbox.take(self._patience(), kept=self._pipeline.late)) is not None:
            for item in items:
                self._guard(self._pipeline.handle, *item)
            self._go_on()
        self._guard(self._pipeline.close)

    def _go_on(self) -> None:
        self._guard(self._pipeline.advance)
        self._guard(self._pipeline.expire, time.monotonic())

    def _patience(self) -> float:
        return _LOOK_AGAIN_SECONDS if self._pipeline.unfinished else _IDLE_SECONDS

    def _guard(self, call: Any, *args: Any) -> None:
        self._pipeline.faults.note(guarded(call, *args))

    @property
    def _is_copy(self) -> bool:
        return self.thread is not None and self._process != os.getpid()

    def _refuse_within(self, call: str) -> None:
        if current_thread() is self.thread or self._sinks.is_here:
            raise waits_for_itself(call)

    def _refuse(self, name: str, doc: Any) -> None:
        reason = "the analysis was closed before this document came"
        if self._is_copy:
            reason = "the analysis is in the process that this one was forked from; mend: make it here"
        uid = str(doc.get("uid", "")) if isinstance(doc, dict) else ""
        self._pipeline.quarantine(Quarantined(str(name), uid, reason, ""))
