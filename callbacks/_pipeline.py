"""Raw documents to results, on one thread: gate, frames, engine, analysis documents."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from skyloop.callbacks._course import Course, Spot, Waiting
from skyloop.callbacks._newest import Newest
from skyloop.callbacks._options import Counts, Options
from skyloop.callbacks._technique import Technique
from skyloop.documents.frames import Missing, Point, Points
from skyloop.documents.gate import Gate, Quarantined
from skyloop.documents.inbox import Analysis, Inbox
from skyloop.documents.run import AnalysisIdentity, AnalysisRun, NamedDocument, ResultSchema, Source
from skyloop.documents.schema import encode
from skyloop.engines import Engine
from skyloop.errors import DataError, Outcome
from skyloop.quantities import blank
from skyloop.runtime.guarded import Broken, guarded
from skyloop.runtime.runners import Batches, Runner
from skyloop.runtime.worker import DeadlineError

__all__ = ["Pipeline"]

_log = logging.getLogger(__name__)


class NoResultError(TypeError):
    """The engine returned something that is no result, or that no document can hold."""


class Pipeline:
    """Folds the frames of every open run and publishes one result per frame.

    Args:
        technique: how events become frames.
        engine: what analyses them; says the shape of the results.
        runner: where the engine runs.
        publish: takes each analysis document.
        inbox: where plans wait for results.
        newest: which emission of a point counts.
        options: limits and file access.
    """

    def __init__(
        self,
        technique: Technique,
        engine: Engine[Any, Any, Any],
        runner: Runner,
        *,
        publish: Callable[[NamedDocument], None],
        inbox: Inbox,
        newest: Newest,
        options: Options,
    ) -> None:
        self._technique = technique
        self._runner = runner
        self._publish = publish
        self._inbox = inbox
        self._newest = newest
        self._options = options
        self._identity = AnalysisIdentity(technique.name, engine.version, engine.config)
        self._schema = ResultSchema(engine.result_type, engine.sizes, engine.units, technique.hints)
        self._gate = Gate()
        self._courses: dict[str, Course] = {}
        self.counts = Counts()

    # ---------------------------------------------------------------- documents in

    def handle(self, name: str, doc: Any, arrived: float) -> None:
        """Take one raw document as far as a frame that waits to be analysed."""
        admission = self._gate.admit(name, doc, arrived)
        for quarantined in admission.quarantined:
            self.quarantine(quarantined)
        for accepted_name, accepted in admission.accepted:
            self._route(accepted_name, accepted, arrived)

    def quarantine(self, what: Quarantined) -> None:
        """Count a document that was put aside, and say so once per reason."""
        if self.counts.put_aside(what.reason):
            _log.warning("put aside a %s document: %s", what.name, what.reason)
        course = self._courses.get(what.run_uid)
        if course is not None:
            course.quarantined += 1
        else:  # of a run that did not begin for us: nothing else would free what was noted of it
            self._newest.forget(what.run_uid)

    def _route(self, name: str, doc: dict[str, Any], arrived: float) -> None:
        if name == "start":
            self._courses[doc["uid"]] = self._course(doc)
        run_uid = self._gate.run_of(name, doc)
        course = self._courses.get(run_uid)
        if course is None:
            self._newest.forget(run_uid)
            return
        for point in course.points.feed(name, doc):
            self._take(course, point, arrived)
        if name == "stop":
            self._stop(course, doc.get("exit_status", "success"), doc.get("reason", ""))

    def _course(self, start: dict[str, Any]) -> Course:
        run = AnalysisRun(start, self._identity, self._schema)
        points = Points(
            root_map=self._options.root_map or {},
            allowed_roots=tuple(self._options.allowed_roots),
            wanted=self._technique.wanted,
        )
        return Course(start, run, points)

    def _take(self, course: Course, point: Point, arrived: float) -> None:
        frame = guarded(self._technique.frame_of, point)
        if frame is None:
            return
        course.frames_in += 1
        spot = (point.stream, point.seq_num)
        if isinstance(frame, Broken):
            outcome = Outcome.REJECTED if isinstance(frame.error, DataError) else Outcome.FAILED
            reason = str(frame.error) if outcome is Outcome.REJECTED else frame.reason
            self._leave_out(course, spot)
            self._emit(course, Waiting(spot, point.time, None, arrived), self._nothing(outcome, reason))
            return
        course.waiting.append(Waiting(spot, point.time, frame, arrived))

    def _leave_out(self, course: Course, spot: Spot) -> None:
        """Drop what was measured at a spot before: the newest counts, also where it is no frame."""
        older = [w for w in course.waiting if w.spot == spot]
        course.waiting = [w for w in course.waiting if w.spot != spot]
        self._give_up(course, older, Outcome.SUPERSEDED, "the point was measured again")
        if spot in course.frames:
            course.remove(spot)
            self._runner.forget(course.raw_uid)

    # ---------------------------------------------------------------- frames to results

    def advance(self) -> None:
        """Analyse what waits, in one step per run; look again for files that were not written yet."""
        for course in list(self._courses.values()):
            self._advance(course)

    def _advance(self, course: Course) -> None:
        if course.points.waiting:
            for point in course.points.retry():
                self._take(course, point, time.monotonic())
        for missing in course.points.refused():
            self._miss(course, missing)
        waiting, course.waiting = course.waiting, []
        if waiting:
            self._fold(course, waiting)

    def _fold(self, course: Course, waiting: list[Waiting]) -> None:
        if course.tripped:
            self._give_up(course, waiting, Outcome.FAILED, course.tripped)
            return
        began = time.monotonic()
        replaced = course.place(waiting)
        if replaced:
            self._runner.forget(course.raw_uid)
        result = self._result_of(self._runner.step, course)
        if not isinstance(result, Broken):
            course.failures = 0
            self._emit_batch(course, waiting, result, began)
            return
        for item in waiting:
            course.remove(item.spot)
        if replaced or isinstance(result.error, NoResultError):
            self._runner.forget(course.raw_uid)  # it may have folded some of what was taken out
        self._after_failure(course, waiting, result)

    def _result_of(self, call: Callable[[str, Batches], Any], course: Course) -> Any:
        """What the runner gives, or `Broken`; also where it is nothing that a document can hold."""
        result = guarded(call, course.raw_uid, course.frame_batches())
        checked = None if isinstance(result, Broken) else guarded(self._check, result)
        return checked if isinstance(checked, Broken) else result

    def _check(self, result: Any) -> None:
        kind = self._schema.result_type
        if not isinstance(result, kind):
            raise NoResultError(f"the engine returned a {type(result).__name__}, not a {kind.__name__}")
        try:
            encode(result, prefix=self._technique.name)
        except (TypeError, ValueError, OverflowError) as error:
            raise NoResultError(f"the engine returned what cannot be written: {error}") from error

    def _after_failure(self, course: Course, waiting: list[Waiting], broken: Broken) -> None:
        if len(waiting) > 1:  # one bad frame must not take its neighbours with it
            for item in waiting:
                self._fold(course, [item])
            return
        course.failures += 1
        outcome = Outcome.TIMEOUT if isinstance(broken.error, DeadlineError) else Outcome.FAILED
        _log.warning("analysis of point %s %d: %s", *waiting[0].spot, broken.reason)
        self._give_up(course, waiting, outcome, broken.reason)
        if course.failures >= self._options.max_failures:
            course.tripped = f"the analysis is off after {course.failures} failures in a row: {broken.reason}"

    def _give_up(self, course: Course, waiting: list[Waiting], outcome: Outcome, reason: str) -> None:
        for item in waiting:
            self._emit(course, item, self._nothing(outcome, reason))

    def _nothing(self, outcome: Outcome, reason: str) -> Any:
        return blank(self._schema.result_type, self._schema.sizes, outcome=outcome, reason=reason)

    # ---------------------------------------------------------------- results out

    def _emit_batch(self, course: Course, waiting: list[Waiting], result: Any, began: float) -> None:
        seconds = time.monotonic() - began
        *earlier, last = waiting
        for item in earlier:
            reason = f"folded together with {last.spot[0]} {last.spot[1]}"
            self._emit(course, item, self._nothing(Outcome.SUPERSEDED, reason), began, seconds)
        self._emit(course, last, result, began, seconds)

    def _emit(
        self, course: Course, item: Waiting, result: Any, began: float = 0.0, seconds: float = 0.0
    ) -> None:
        self._open(course)
        stream, number = item.spot
        queued = max(0.0, began - item.arrived)
        document = course.run.event(result, Source(stream, number, queued, seconds))
        self._count(course, result)
        self._publish(document)
        key = (course.raw_uid, stream, number)
        if self._newest.is_newest(key, item.emitted):
            self._inbox.put(key, Analysis(result, document[1]["uid"], document[1]["seq_num"]))

    def _count(self, course: Course, result: Any) -> None:
        self.counts.results += 1
        if result.outcome in (Outcome.REJECTED, Outcome.FAILED, Outcome.TIMEOUT):
            self.counts.failures += 1
            course.not_analysed += 1

    def _open(self, course: Course) -> None:
        # only now: a run without a frame of this technique leaves no empty analysis behind
        if not course.opened:
            course.opened = True
            for document in (course.run.start(), *course.run.descriptors()):
                self._publish(document)

    # ---------------------------------------------------------------- the end of a run

    def _stop(self, course: Course, exit_status: str, reason: str) -> None:
        self._advance(course)
        while late := course.points.retry():  # what was too much for one call is there to be read
            for point in late:
                self._take(course, point, time.monotonic())
            self._advance(course)
        for missing in course.points.close():
            self._miss(course, missing)
        self._close(course, exit_status, reason)

    def _miss(self, course: Course, missing: Missing) -> None:
        course.frames_in += 1
        self._leave_out(course, (missing.stream, missing.seq_num))
        item = Waiting((missing.stream, missing.seq_num), math.nan, None, time.monotonic())
        self._emit(course, item, self._nothing(Outcome.FAILED, missing.reason))

    def _close(self, course: Course, exit_status: str, reason: str) -> None:
        if course.opened:
            result = self._final(course)
            if course.tripped:
                exit_status, reason = "fail", course.tripped
            self._publish(
                course.run.summary(
                    result,
                    frames=course.frames_in,
                    not_analysed=course.not_analysed,
                    quarantined=course.quarantined,
                )
            )
            self._publish(course.run.stop(exit_status, reason))
            self.counts.results += 1
        self._runner.forget(course.raw_uid)
        self._inbox.close(course.raw_uid)
        self._newest.forget(course.raw_uid)
        del self._courses[course.raw_uid]

    def _final(self, course: Course) -> Any:
        if course.tripped:
            return self._nothing(Outcome.FAILED, course.tripped)
        if not course.batches:
            return self._nothing(Outcome.REJECTED, "no frame of this run could be analysed")
        result = self._result_of(self._runner.finish, course)
        if isinstance(result, Broken):
            outcome = Outcome.TIMEOUT if isinstance(result.error, DeadlineError) else Outcome.FAILED
            return self._nothing(outcome, result.reason)
        return result

    def close(self) -> None:
        """End the runs that are still open with what is known of them."""
        for course in list(self._courses.values()):
            self._stop(course, "abort", "the analysis was closed before the run stopped")

    def expire(self, now: float) -> None:
        """Close runs from which nothing was heard for longer than their time to live."""
        limit = self._options.time_to_live
        expiry = self._gate.expire(now, limit)
        for quarantined in expiry.quarantined:
            self.quarantine(quarantined)
        for course in [self._courses[uid] for uid in expiry.runs if uid in self._courses]:
            self._stop(course, "abort", f"no document and no stop for {limit:g} s")

    @property
    def unfinished(self) -> bool:
        """Whether a run waits for external data that is not written yet."""
        return any(course.points.waiting for course in self._courses.values())
