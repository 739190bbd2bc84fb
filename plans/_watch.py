"""How long a plan waits for its analysis: never so long that the measurement suffers."""

import time

from bluesky.utils import MsgGenerator

from skyloop.documents.inbox import Analysis, Inbox
from skyloop.errors import Outcome
from skyloop.plans._wait import peek, wait_result

__all__ = ["LATE", "LOST", "STREAM", "Watch"]

STREAM = "primary"
"""Stream of the points."""
LATE = "late"
"""Fault: the wait was in vain."""
LOST = "lost"
"""Fault: nobody waited, because the last wait was in vain or all patience is used up."""


class Watch:
    """Waits for the analysis of each point of a run, with limited patience.

    After a wait in vain it waits no more, but looks: when the result of an earlier point has arrived the
    analysis lives again, and the next point is waited for. All waits together stay within the patience.

    Args:
        inbox: where the analyzer puts its results.
        run_uid: the raw run.
        timeout: longest wait for one point, in s.
        patience: longest sum of all waits, in s.
    """

    def __init__(self, inbox: Inbox, run_uid: str, *, timeout: float, patience: float) -> None:
        self._inbox, self._run_uid = inbox, run_uid
        self._timeout, self._patience = timeout, patience
        self._lost = False

    def news(self, seq_num: int) -> MsgGenerator[tuple[Analysis | None, str]]:
        """The analysis of a point and what is wrong with it; empty if it can be used."""
        if self._lost and self._peek(seq_num - 1) is not None:
            self._lost = False
        seconds = 0.0 if self._lost else min(self._timeout, self._patience)
        if seconds > 0:
            analysis = yield from self._wait(seq_num, seconds)
        else:
            analysis = self._peek(seq_num)
        if analysis is None:
            self._lost = True
            return None, LATE if seconds > 0 else LOST
        self._lost = False
        return analysis, _fault(analysis)

    def _wait(self, seq_num: int, seconds: float) -> MsgGenerator[Analysis | None]:
        began = time.monotonic()
        key = (self._run_uid, STREAM, seq_num)
        analysis = yield from wait_result(self._inbox, key, seconds)
        # a pause during the wait lasts as long as its operator likes: that costs no patience
        self._patience -= min(time.monotonic() - began, seconds) if analysis else seconds
        return analysis

    def _peek(self, seq_num: int) -> Analysis | None:
        return peek(self._inbox, (self._run_uid, STREAM, seq_num))


def _fault(analysis: Analysis) -> str:
    outcome = Outcome(analysis.result.outcome)
    return "" if outcome in (Outcome.OK, Outcome.DEGRADED) else str(outcome)
