"""The one callback that all techniques share: documents in, analysis documents out."""

from __future__ import annotations

import logging
import time
from threading import Thread
from typing import Any

from skyloop.callbacks._newest import Newest
from skyloop.callbacks._options import Health, Options
from skyloop.callbacks._pipeline import Pipeline
from skyloop.callbacks._technique import Technique
from skyloop.documents.gate import Quarantined
from skyloop.documents.inbox import Inbox
from skyloop.documents.run import NamedDocument
from skyloop.engines import Engine
from skyloop.runtime.guarded import Broken, guarded
from skyloop.runtime.mailbox import Mailbox
from skyloop.runtime.runners import LocalRunner, Runner
from skyloop.runtime.sinks import Callback, Sink, handed_over
from skyloop.runtime.worker import WorkerRunner

__all__ = ["Analyzer"]

_log = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 0.05
_IDLE_SECONDS = 5.0


class Analyzer:
    """Analyses raw documents and publishes the results as documents of its own.

    Subscribe it to a RunEngine with `RE.subscribe(analysis)`, and sinks to it with
    `analysis.subscribe(sink)`. It never raises into its caller. With the executors `"thread"` and
    `"process"` it never blocks it either: the call hands the document over and returns. Each frame that
    comes in leaves exactly one result; when the engine falls behind, the frames that wait are folded in one
    step, whose result covers them all.

    Args:
        technique: how events become frames, and which engine analyses them.
        config: configuration of the engine.
        options: executor, limits and file access.
        name: makes the analysis findable by plans that are given a string.
    """

    def __init__(
        self, technique: Technique, config: Any, options: Options | None = None, *, name: str = ""
    ) -> None:
        options = options or Options()
        self.technique = technique
        self.engine = technique.engine(config)
        self.inbox = Inbox(name)
        self._newest = Newest(self.inbox)
        self._sinks: list[Sink] = []
        self._own_sinks: list[Sink] = []
        self._documents = 0
        self._faults: list[str] = []
        self._runner = _runner(self.engine, options)
        self._pipeline = Pipeline(
            technique,
            self.engine,
            self._runner,
            publish=self._publish,
            inbox=self.inbox,
            newest=self._newest,
            options=options,
        )
        self._mailbox: Mailbox[tuple[str, Any, float]] = Mailbox()
        self._inline = options.executor == "inline"
        self._thread = Thread(target=self._run, name="skyloop-analysis", daemon=True)
        if not self._inline:
            self._thread.start()

    @property
    def config(self) -> Any:
        """The configuration of the engine."""
        return self.engine.config

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a raw document; never raises, and returns at once unless the executor is `"inline"`."""
        self._documents += 1
        guarded(self._newest.see, name, doc)  # what it cannot read, the gate puts aside with its reason
        if self._inline:
            self._work(name, doc, time.monotonic())
            self._note(guarded(self._pipeline.advance))
            return
        copy = guarded(handed_over, name, doc)
        if not self._mailbox.put((name, doc if isinstance(copy, Broken) else copy, time.monotonic())):
            reason = "the analysis was closed before this document came"
            self._pipeline.quarantine(Quarantined(str(name), "", reason, ""))

    def subscribe(self, sink: Callback) -> Sink:
        """Give all analysis documents to a callback, on a thread of its own; returns its `Sink`.

        A `Sink` that is given may be shared with others: whoever made it closes it.
        """
        if isinstance(sink, Sink):
            self._sinks.append(sink)
            return sink
        own = Sink(sink)
        self._sinks.append(own)
        self._own_sinks.append(own)
        return own

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until everything that came in is analysed and in the sinks; false when it takes longer."""
        deadline = time.monotonic() + timeout
        done = [self._mailbox.wait_idle(timeout)]
        done += [sink.flush(max(0.0, deadline - time.monotonic())) for sink in self._sinks]
        return all(done)

    def close(self, timeout: float = 60.0) -> bool:
        """Flush, end the open runs, then the threads and the process; false when something was left."""
        done = [self.flush(timeout)]
        self.inbox.retire()
        self._mailbox.close()
        if self._inline:
            self._note(guarded(self._pipeline.close))
        else:
            if not self._mailbox.wait_idle(0.0):
                self._runner.close()  # an engine that hangs is ended, so that its frames get their results
            self._thread.join(timeout)
        self._runner.close()
        shared = [sink for sink in self._sinks if sink not in self._own_sinks]
        done += [sink.flush(timeout) for sink in shared] + [sink.close() for sink in self._own_sinks]
        return all(done)

    def __enter__(self) -> Analyzer:
        """The analyzer itself; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def health(self) -> Health:
        """What came in, what went out and what went wrong."""
        counts = self._pipeline.counts
        return Health(
            documents=self._documents,
            results=counts.results,
            failures=counts.failures,
            quarantined=dict(counts.reasons),
            faults=tuple(self._faults),
            sinks=tuple(sink.last_failure for sink in self._sinks if sink.failed),
        )

    def _run(self) -> None:
        while (items := self._mailbox.take(self._patience())) is not None:
            for name, doc, arrived in items:
                self._work(name, doc, arrived)
            self._note(guarded(self._pipeline.advance))
            self._note(guarded(self._pipeline.expire, time.monotonic()))
        self._note(guarded(self._pipeline.close))

    def _patience(self) -> float:
        return _LOOK_AGAIN_SECONDS if self._pipeline.unfinished else _IDLE_SECONDS

    def _work(self, name: str, doc: Any, arrived: float) -> None:
        self._note(guarded(self._pipeline.handle, name, doc, arrived))

    def _note(self, outcome: object) -> None:
        if isinstance(outcome, Broken):
            self._faults.append(outcome.reason)
            _log.error("fault of the analyzer: %s", outcome.reason, exc_info=outcome.error)

    def _publish(self, document: NamedDocument) -> None:
        for sink in self._sinks:
            sink(*document)


def _runner(engine: Engine[Any, Any, Any], options: Options) -> Runner:
    if options.executor == "process":
        return WorkerRunner(engine, options.deadline)
    return LocalRunner(engine)
