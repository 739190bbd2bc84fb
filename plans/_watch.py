"""How long a plan waits for its analysis: never so long that the measurement suffers."""

import logging
import time

from bluesky.utils import MsgGenerator

from skyloop.documents.inbox import Analysis, Inbox
from skyloop.errors import Outcome
from skyloop.plans._wait import peek, wait_result

__all__ = ["LATE", "LOST", "SILENT", "STREAM", "UNHEARD", "Watch", "patience"]

_log = logging.getLogger(__name__)

STREAM = "primary"
"""Stream of the points."""
LATE = "late"
"""Fault: the wait was in vain."""
LOST = "lost"
"""Fault: nobody waited, because the last wait was in vain or all patience is used up."""

SILENT = "silent"
"""Fault: not one result of this run has arrived yet."""
UNHEARD = "no result for this run arrived: is the analysis subscribed? mend: RE.subscribe(analysis)"
"""What a person is told then."""


_SHARE = 0.05
"""Share of the fixed scan's beam time that waits may add to it."""
_LEAST = 0.5
"""Seconds that they may add to a scan of less than ten: the first result takes longer than the others."""


def patience(planned: float) -> float:
    """Longest sum of waits, in s, for a fixed scan of some beam time."""
    return max(_SHARE * planned, _LEAST)


class Watch:
    """Waits for the analysis of each point of a run, with limited patience.

    After a wait in vain it waits no more, but looks: when the result of an earlier point has arrived the
    analysis lives again, and the next point is waited for. All waits together stay within the patience, but
    for those that were given back because their result was needed.

    Args:
        inbox: where the analyzer puts its results.
        run_uid: the raw run.
        timeout: longest wait for one point, in s.
        patience: longest sum of all waits that are not given back, in s.
        lag: take the newest result of an earlier point where that of the last is not there.
    """

    def __init__(self, inbox: Inbox, run_uid: str, *, timeout: float, patience: float, lag: bool) -> None:
        self._inbox, self._run_uid = inbox, run_uid
        self._timeout, self._patience, self._lag = timeout, patience, lag
        self._last = 0.0
        self._used = 0
        self._lost = False
        self._heard = False

    def news(self, seq_num: int) -> MsgGenerator[tuple[Analysis | None, str]]:
        """The analysis of a point and what is wrong with it; empty if it can be used."""
        if self._lost and self._peek(seq_num - 1) is not None:
            self._lost, self._heard = False, True
        self._last = 0.0
        seconds = 0.0 if self._lost else min(self._timeout, self._patience)
        if seconds > 0:
            analysis = yield from self._wait(seq_num, seconds)
        else:
            analysis = self._peek(seq_num)
        found = seq_num
        if analysis is None and self._lag:
            analysis, found = self._newest_before(seq_num)
        if analysis is None:
            return None, self._missed(waited=seconds > 0)
        self._lost, self._heard, self._used = False, True, found
        return analysis, _fault(analysis)

    def give_back(self) -> None:
        """Take the last wait as not made: its result led the measurement, as a plan that chooses needs it."""
        self._patience += self._last
        self._last = 0.0

    def _newest_before(self, seq_num: int) -> tuple[Analysis | None, int]:
        """The newest usable result that was not used yet; points of one batch share that of the last."""
        for earlier in range(seq_num - 1, self._used, -1):
            analysis = self._peek(earlier)
            if analysis is not None and not _fault(analysis):
                return analysis, earlier
        return None, seq_num

    def _missed(self, *, waited: bool) -> str:
        if not (self._heard or self._lost):
            _log.warning("%s; the fixed scan goes on", UNHEARD)  # once, and at the first point
        self._lost = True
        if not self._heard:
            return SILENT
        return LATE if waited else LOST

    def _wait(self, seq_num: int, seconds: float) -> MsgGenerator[Analysis | None]:
        began = time.monotonic()
        key = (self._run_uid, STREAM, seq_num)
        analysis = yield from wait_result(self._inbox, key, seconds)
        # a pause during the wait lasts as long as its operator likes: that costs no patience
        self._last = min(time.monotonic() - began, seconds) if analysis else seconds
        self._patience -= self._last
        return analysis

    def _peek(self, seq_num: int) -> Analysis | None:
        return peek(self._inbox, (self._run_uid, STREAM, seq_num))


def _fault(analysis: Analysis) -> str:
    outcome = Outcome(analysis.result.outcome)
    return "" if outcome in (Outcome.OK, Outcome.DEGRADED) else str(outcome)
