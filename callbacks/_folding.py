"""Frames of a run to results, through an engine that may break."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from skyloop.callbacks._course import Course, Waiting
from skyloop.callbacks._outlet import NoResultError, Outlet
from skyloop.errors import Outcome
from skyloop.runtime.guarded import Broken, guarded
from skyloop.runtime.runners import Batches, Runner
from skyloop.runtime.worker import DeadlineError

__all__ = ["Folding"]

_log = logging.getLogger(__name__)


class Folding:
    """Folds the frames that wait in one step; where that breaks, one by one.

    Args:
        runner: where the engine runs.
        outlet: takes the results.
        max_failures: failures in a row after which the engine is left alone for the rest of the run.
    """

    def __init__(self, runner: Runner, outlet: Outlet, max_failures: int) -> None:
        self._runner = runner
        self._outlet = outlet
        self._max_failures = max_failures

    def fold(self, course: Course, waiting: list[Waiting]) -> None:
        """Analyse frames in one step, and publish a result for each of them."""
        if course.tripped:
            self._outlet.give_up(course, waiting, Outcome.FAILED, course.tripped)
            return
        began = time.monotonic()
        replaced = course.place(waiting)
        if replaced:
            self._runner.forget(course.raw_uid)
        result = self._result_of(self._runner.step, course)
        if not isinstance(result, Broken):
            course.failures = 0
            self._outlet.emit_batch(course, waiting, result, began)
            return
        for item in waiting:
            course.remove(item.spot)
        if replaced or isinstance(result.error, NoResultError):
            self._runner.forget(course.raw_uid)  # it may have folded some of what was taken out
        self._after_failure(course, waiting, result, began)

    def _result_of(self, call: Callable[[str, Batches], Any], course: Course) -> Any:
        """What the runner gives, or `Broken`; also where it is nothing that a document can hold."""
        result = guarded(call, course.raw_uid, course.frame_batches())
        checked = None if isinstance(result, Broken) else guarded(self._outlet.check, result)
        return checked if isinstance(checked, Broken) else result

    def _after_failure(self, course: Course, waiting: list[Waiting], broken: Broken, began: float) -> None:
        if len(waiting) > 1:  # one bad frame must not take its neighbours with it
            for item in waiting:
                self.fold(course, [item])
            return
        course.failures += 1
        outcome = Outcome.TIMEOUT if isinstance(broken.error, DeadlineError) else Outcome.FAILED
        _log.warning("analysis of point %s %d: %s", *waiting[0].spot, broken.reason)
        self._outlet.give_up(course, waiting, outcome, broken.reason, began=began)
        if course.failures >= self._max_failures:
            course.tripped = f"the analysis is off after {course.failures} failures in a row: {broken.reason}"

    def final(self, course: Course) -> Any:
        """The final word on a run, or what there is instead."""
        if course.tripped:
            return self._outlet.nothing(Outcome.FAILED, course.tripped)
        if not course.batches:
            outcome = Outcome.FAILED if course.broke else Outcome.REJECTED
            reason = f"no frame of this run could be analysed; the last one: {course.last_reason}"
            return self._outlet.nothing(outcome, reason)
        result = self._result_of(self._runner.finish, course)
        if isinstance(result, Broken):
            outcome = Outcome.TIMEOUT if isinstance(result.error, DeadlineError) else Outcome.FAILED
            return self._outlet.nothing(outcome, result.reason)
        return result
