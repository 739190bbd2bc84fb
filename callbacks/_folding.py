"""Frames of a run to results, through an engine that may break."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from skyloop.callbacks._open_run import OpenRun, Waiting
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

    def fold(self, open_run: OpenRun, waiting: list[Waiting]) -> None:
        """Analyse frames in one step, and publish a result for each of them."""
        if open_run.tripped:
            self._outlet.give_up(open_run, waiting, Outcome.FAILED, open_run.tripped)
            return
        began = time.monotonic()
        replaced = open_run.place(waiting)
        if replaced:
            self._runner.forget(open_run.raw_uid)
        result = self._result_of(self._runner.step, open_run)
        if not isinstance(result, Broken):
            open_run.failures = 0
            self._outlet.emit_batch(open_run, waiting, result, began)
            return
        for item in waiting:
            open_run.remove(item.spot)
        if replaced or isinstance(result.error, NoResultError):
            self._runner.forget(open_run.raw_uid)  # it may have folded some of what was taken out
        self._after_failure(open_run, waiting, result, began)

    def _result_of(self, call: Callable[[str, Batches], Any], open_run: OpenRun) -> Any:
        """What the runner gives, or `Broken`; also where it is nothing that a document can hold."""
        result = guarded(call, open_run.raw_uid, open_run.frame_batches())
        checked = None if isinstance(result, Broken) else guarded(self._outlet.check, result)
        return checked if isinstance(checked, Broken) else result

    def _after_failure(self, open_run: OpenRun, waiting: list[Waiting], broken: Broken, began: float) -> None:
        if len(waiting) > 1:  # one bad frame must not take its neighbours with it
            for item in waiting:
                self.fold(open_run, [item])
            return
        open_run.failures += 1
        outcome = Outcome.TIMEOUT if isinstance(broken.error, DeadlineError) else Outcome.FAILED
        _log.warning("analysis of point %s %d: %s", *waiting[0].spot, broken.reason)
        self._outlet.give_up(open_run, waiting, outcome, broken.reason, began=began)
        if open_run.failures >= self._max_failures:
            open_run.tripped = (
                f"the analysis is off after {open_run.failures} failures in a row: {broken.reason}"
            )

    def final(self, open_run: OpenRun) -> Any:
        """The final word on a run, or what there is instead."""
        if open_run.tripped:
            return self._outlet.nothing(Outcome.FAILED, open_run.tripped)
        if not open_run.batches:
            outcome = Outcome.FAILED if open_run.broke else Outcome.REJECTED
            reason = f"no frame of this run could be analysed; the last one: {open_run.last_reason}"
            return self._outlet.nothing(outcome, reason)
        result = self._result_of(self._runner.finish, open_run)
        if isinstance(result, Broken):
            outcome = Outcome.TIMEOUT if isinstance(result.error, DeadlineError) else Outcome.FAILED
            return self._outlet.nothing(outcome, result.reason)
        return result
