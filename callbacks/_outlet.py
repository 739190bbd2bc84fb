"""Results on their way out: as documents to the sinks, and as values to the plans that wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from skyloop.callbacks._newest import Newest
from skyloop.callbacks._open_run import OpenRun, Waiting
from skyloop.callbacks._options import Counts
from skyloop.documents.inbox import Analysis, Inbox
from skyloop.documents.run import NamedDocument, ResultSchema, Source
from skyloop.documents.schema import encode
from skyloop.errors import Outcome
from skyloop.quantities import blank

__all__ = ["MEASURED_AGAIN", "NoResultError", "Outlet"]

MEASURED_AGAIN = "the point was measured again"
"""Why a frame is superseded whose point has a newer one."""


class NoResultError(TypeError):
    """The engine returned something that is no result, or that no document can hold."""


class Outlet:
    """Publishes the results of every run, and counts them.

    Args:
        schema: type of the results.
        publish: takes each analysis document.
        inbox: where plans wait for results.
        newest: gives the inbox the result of that emission of a point which counts.
    """

    def __init__(
        self,
        schema: ResultSchema,
        *,
        publish: Callable[[NamedDocument], None],
        inbox: Inbox,
        newest: Newest,
    ) -> None:
        self.schema = schema
        self.counts = Counts()
        self._publish = publish
        self._inbox = inbox
        self._newest = newest

    def check(self, result: Any) -> None:
        """Whether a document can hold what the engine returned.

        Raises:
            NoResultError: it cannot.
        """
        kind = self.schema.result_type
        if not isinstance(result, kind):
            raise NoResultError(f"the engine returned a {type(result).__name__}, not a {kind.__name__}")
        try:
            encode(result, prefix="")
        except (TypeError, ValueError, OverflowError) as error:
            raise NoResultError(f"the engine returned what cannot be written: {error}") from error

    def nothing(self, outcome: Outcome, reason: str) -> Any:
        """The result where there is no analysis."""
        return blank(self.schema.result_type, self.schema.sizes, outcome=outcome, reason=reason)

    def give_up(
        self,
        open_run: OpenRun,
        waiting: list[Waiting],
        outcome: Outcome,
        reason: str,
        *,
        began: float | None = None,
    ) -> None:
        """Publish for each of some frames that it has no analysis; `began`: when the engine was asked."""
        now = time.monotonic()
        began = now if began is None else began
        for item in waiting:
            self._emit(open_run, item, self.nothing(outcome, reason), began, now - began)

    def emit_batch(self, open_run: OpenRun, waiting: list[Waiting], result: Any, began: float) -> None:
        """Publish the result of frames that were folded in one step: the last one carries it."""
        seconds = time.monotonic() - began
        *earlier, last = waiting
        newest = {item.spot: item for item in waiting}
        together = f"folded together with {last.spot[0]} {last.spot[1]}"
        for item in earlier:
            reason = together if newest[item.spot] is item else MEASURED_AGAIN
            self._emit(open_run, item, self.nothing(Outcome.SUPERSEDED, reason), began, seconds)
        self._emit(open_run, last, result, began, seconds)

    def _emit(self, open_run: OpenRun, item: Waiting, result: Any, began: float, seconds: float) -> None:
        """Publish the result of one frame."""
        self._open(open_run)
        stream, number = item.spot
        queued = max(0.0, began - item.arrived)
        document = open_run.run.event(result, Source(stream, number, queued, seconds))
        self._count(open_run, result)
        self._publish(document)
        key = (open_run.raw_uid, stream, number)
        self._newest.give(key, item.emitted, Analysis(result, document[1]["uid"], document[1]["seq_num"]))

    def _count(self, open_run: OpenRun, result: Any) -> None:
        self.counts.results += 1
        if result.outcome in (Outcome.REJECTED, Outcome.FAILED, Outcome.TIMEOUT):
            self.counts.failures += 1
            open_run.not_analysed += 1
            open_run.last_reason = result.reason
            open_run.broke |= result.outcome != Outcome.REJECTED

    def _open(self, open_run: OpenRun) -> None:
        # only now: a run without a frame of this technique leaves no empty analysis behind
        if not open_run.opened:
            open_run.opened = True
            for document in (open_run.run.start(), *open_run.run.descriptors()):
                self._publish(document)

    def end(self, open_run: OpenRun, result: Any, exit_status: str, reason: str) -> None:
        """Publish the final word on a run."""
        summary = open_run.run.summary(
            result,
            frames=open_run.frames_in,
            not_analysed=open_run.not_analysed,
            quarantined=open_run.quarantined,
        )
        self._publish(summary)
        self._publish(open_run.run.stop(exit_status, reason))
        self._count(open_run, result)

    def forget(self, open_run: OpenRun) -> None:
        """Cancel what plans still wait for, and drop what is known of the points of a run."""
        self._inbox.close(open_run.raw_uid)
        self._newest.forget(open_run.raw_uid)
