"""Exceptions that come with every document: told once in each run, then counted."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from skyloop.runtime.guarded import Broken

__all__ = ["Faults"]

_log = logging.getLogger(__name__)

_Kind = tuple[str, str, int]


@dataclass
class _Fault:
    reason: str
    times: int = 0


@dataclass
class Faults:
    """Faults of one sort, by run; two are the same when the same line of code raised the same exception."""

    what: str
    """What the lines in the log begin with."""
    _of_runs: dict[str, dict[_Kind, _Fault]] = field(default_factory=dict[str, dict[_Kind, _Fault]])
    _in_all: dict[_Kind, _Fault] = field(default_factory=dict[_Kind, _Fault])

    def note(self, outcome: object, run_uid: str = "") -> None:
        """Count what a guarded call gave, if it broke; tell the first of its kind in each run."""
        if not isinstance(outcome, Broken):
            return
        kind = _kind(outcome)
        first = kind not in self._of_runs.setdefault(run_uid, {})
        for faults in (self._of_runs[run_uid], self._in_all):
            faults.setdefault(kind, _Fault(outcome.reason)).times += 1
        if first:
            _log.error("%s: %s", self.what, outcome.reason, exc_info=outcome.error)

    def run_ended(self, run_uid: str) -> None:
        """Tell how often what was told of a run has come again."""
        for fault in self._of_runs.pop(run_uid, {}).values():
            if fault.times > 1:
                _log.error("%s, %d times in run %s: %s", self.what, fault.times, run_uid, fault.reason)

    @property
    def told(self) -> tuple[str, ...]:
        """Each kind of fault so far, with its number."""
        # a list first: the thread of the analysis may add one meanwhile
        faults = list(self._in_all.values())
        return tuple(f"{f.reason} ({f.times} times)" if f.times > 1 else f.reason for f in faults)


def _kind(broken: Broken) -> _Kind:
    place = broken.error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(broken.error).__name__, "", 0
    return type(broken.error).__name__, place.tb_frame.f_code.co_filename, place.tb_lineno
