"""Raw documents to results, on one thread: gate, frames, engine, analysis documents."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from skyloop.callbacks._faults import Faults
from skyloop.callbacks._folding import Folding
from skyloop.callbacks._newest import Newest
from skyloop.callbacks._open_run import Ending, OpenRun, Spot, Waiting
from skyloop.callbacks._options import Options
from skyloop.callbacks._outlet import MEASURED_AGAIN, Outlet
from skyloop.callbacks._technique import Technique
from skyloop.documents.frames import Missing, Point, Points, Wanted
from skyloop.documents.gate import Gate, Quarantined
from skyloop.documents.inbox import Key
from skyloop.documents.run import AnalysisIdentity, AnalysisRun
from skyloop.errors import DataError, Outcome
from skyloop.runtime.external_reader import Reader
from skyloop.runtime.guarded import Broken, guarded
from skyloop.runtime.runners import Runner

__all__ = ["Pipeline"]

_log = logging.getLogger(__name__)
_FILES_SECONDS = 5.0
"""How long a stopped run waits for data that are not written yet; a network file system shows them late."""


class Pipeline:
    """Folds the frames of every open run and publishes one result per frame.

    Args:
        technique: how events become frames.
        identity: what analyses them.
        runner: where the engine runs.
        outlet: takes the results.
        newest: which emission of a point counts.
        options: limits and file access.
    """

    def __init__(
        self,
        technique: Technique,
        identity: AnalysisIdentity,
        runner: Runner,
        *,
        outlet: Outlet,
        newest: Newest,
        options: Options,
    ) -> None:
        self._technique = technique
        self._runner = runner
        self._outlet = outlet
        self._folding = Folding(runner, outlet, options.max_failures)
        self._newest = newest
        self._options = options
        self._identity = identity
        self._gate = Gate()
        self.reader = Reader(
            options.root_map, options.allowed_roots, options.handlers, deadline=options.deadline
        )
        self._open_runs: dict[str, OpenRun] = {}
        self.counts = outlet.counts
        self.faults = Faults("fault of the analyzer")
        self._fits_or_told = False
        self._no_frames = Faults(f"technique '{technique.name}' breaks on events")

    # ---------------------------------------------------------------- documents in

    def handle(self, name: str, doc: Any, arrived: float, doubted: Iterable[Key]) -> None:
        """Take one raw document, with the points it put in doubt, as far as a frame that waits."""
        admission = self._gate.admit(name, doc, arrived)
        self._newest.judged(doubted, admission.accepted)
        for quarantined in admission.quarantined:
            self.quarantine(quarantined)
        for accepted_name, accepted in admission.accepted:
            run_uid = self._gate.run_of(accepted_name, accepted)
            self._guard(run_uid, self._route, run_uid, accepted_name, accepted, arrived)

    def _guard(self, run_uid: str, call: Callable[..., None], *args: Any) -> None:
        """A fault with one document or one run must not take others with it."""
        self.faults.note(guarded(call, *args), run_uid)

    def quarantine(self, what: Quarantined) -> None:
        """Count a document that was put aside, and say so once per reason."""
        if self.counts.put_aside(what):
            _log.warning("put aside document '%s' (uid '%s'): %s", what.name, what.uid, what.reason)
        open_run = self._open_runs.get(what.run_uid)
        if open_run is not None:
            open_run.quarantined += 1
        else:  # of a run that did not begin for us: nothing else would free what was noted of it
            self._newest.forget(what.run_uid)

    def _route(self, run_uid: str, name: str, doc: dict[str, Any], arrived: float) -> None:
        if name == "start":
            if run_uid in self._open_runs:  # it stopped, and waits for its data; now it begins once more
                self._stop(self._open_runs[run_uid])
            self._open_runs[run_uid] = self._opened(doc)
        open_run = self._open_runs.get(run_uid)
        if open_run is None:
            self._newest.forget(run_uid)
            self.faults.run_ended(run_uid)
            return
        for point in open_run.points.feed(name, doc):
            self._take(open_run, point, arrived)
        if name == "stop":
            patience = 0.0 if self._options.executor == "inline" else _FILES_SECONDS
            deadline = time.monotonic() + patience
            open_run.ending = Ending(doc.get("exit_status", "success"), doc.get("reason", ""), deadline)

    def _opened(self, start: dict[str, Any]) -> OpenRun:
        run = AnalysisRun(start, self._identity, self._outlet.schema)
        wanted = self._technique.wanted
        chosen = partial(self._wanted, start["uid"], wanted) if wanted else None
        points = Points(self.reader, wanted=chosen)
        return OpenRun(start, run, points)

    def _wanted(self, run_uid: str, choose: Wanted, descriptor: Mapping[str, Any]) -> set[str]:
        """What the technique chooses; all there is where it breaks, so that no frame is lost."""
        chosen = guarded(lambda: set(choose(descriptor)))
        self.faults.note(chosen, run_uid)
        return set(descriptor["data_keys"]) if isinstance(chosen, Broken) else chosen

    def _take(self, open_run: OpenRun, point: Point, arrived: float) -> None:
        frame = guarded(self._technique.frame_of, point)
        if frame is None:
            open_run.of_others += 1
            return
        self._fits_or_told = True
        open_run.frames_in += 1
        spot = (point.stream, point.seq_num)
        if isinstance(frame, Broken):
            outcome, reason = Outcome.REJECTED, str(frame.error)
            if not isinstance(frame.error, DataError):
                outcome, reason = Outcome.FAILED, frame.reason
                self._no_frames.note(frame, open_run.raw_uid)
            self._leave_out(open_run, spot)
            self._outlet.give_up(open_run, [Waiting(spot, point.time, None, arrived)], outcome, reason)
            return
        open_run.waiting.append(Waiting(spot, point.time, frame, arrived))

    def _leave_out(self, open_run: OpenRun, spot: Spot) -> None:
        """Drop what was measured at a spot before: the newest counts, also where it is no frame."""
        older = [w for w in open_run.waiting if w.spot == spot]
        open_run.waiting = [w for w in open_run.waiting if w.spot != spot]
        self._outlet.give_up(open_run, older, Outcome.SUPERSEDED, MEASURED_AGAIN)
        if spot in open_run.frames:
            open_run.remove(spot)
            self._runner.forget(open_run.raw_uid)

    # ---------------------------------------------------------------- frames to results

    def advance(self) -> None:
        """Analyse what waits, in one step per run; look again for files; end the runs that stopped."""
        for open_run in list(self._open_runs.values()):
            self._guard(open_run.raw_uid, self._advance, open_run)
            self._stop_in_time(open_run)

    def _advance(self, open_run: OpenRun) -> None:
        if open_run.points.waiting:
            for point in open_run.points.retry():
                self._take(open_run, point, time.monotonic())
        for missing in open_run.points.refused():
            self._miss(open_run, missing)
        waiting, open_run.waiting = open_run.waiting, []
        if waiting:
            self._folding.fold(open_run, waiting)

    # ---------------------------------------------------------------- the end of a run

    def _stop_in_time(self, open_run: OpenRun) -> None:
        """End a run that has stopped, once its data are there or time is up."""
        if open_run.ending and not (open_run.points.waiting and time.monotonic() < open_run.ending.deadline):
            self._stop(open_run)

    def _stop(self, open_run: OpenRun, exit_status: str = "abort", reason: str = "") -> None:
        """End a run as its raw run ended, or, where that did not stop, as is given."""
        if open_run.ending:
            exit_status, reason = open_run.ending.exit_status, open_run.ending.reason
        self._guard(open_run.raw_uid, self._settle, open_run)
        if open_run.opened:
            self._guard(open_run.raw_uid, self._conclude, open_run, exit_status, reason)
        elif open_run.of_others and not self._fits_or_told:
            self._say_that_nothing_fits(open_run.raw_uid)
        self._guard(open_run.raw_uid, self._runner.forget, open_run.raw_uid)
        self._outlet.forget(open_run)
        for faults in (self.faults, self._no_frames):
            faults.run_ended(open_run.raw_uid)
        del self._open_runs[open_run.raw_uid]

    def _say_that_nothing_fits(self, raw_uid: str) -> None:
        """Once, and only before the first frame: later runs without one are those of others."""
        self._fits_or_told = True
        keys = ", ".join(f"{of}='{key}'" for of, key in self._technique.keys.items() if isinstance(key, str))
        _log.warning(
            "run %s holds nothing for '%s'%s; mend, if it should: give the names of its data",
            raw_uid,
            self._technique.name,
            f", which looks for {keys}" if keys else "",
        )

    def _settle(self, open_run: OpenRun) -> None:
        self._advance(open_run)
        while late := open_run.points.retry():  # what was too much for one call is there to be read
            for point in late:
                self._take(open_run, point, time.monotonic())
            self._advance(open_run)
        for missing in open_run.points.close():
            self._miss(open_run, missing)

    def _miss(self, open_run: OpenRun, missing: Missing) -> None:
        open_run.frames_in += 1
        self._leave_out(open_run, (missing.stream, missing.seq_num))
        item = Waiting((missing.stream, missing.seq_num), math.nan, None, time.monotonic())
        self._outlet.give_up(open_run, [item], Outcome.FAILED, missing.reason)

    def _conclude(self, open_run: OpenRun, exit_status: str, reason: str) -> None:
        result = self._folding.final(open_run)
        if open_run.tripped:
            exit_status, reason = "fail", open_run.tripped
        self._outlet.end(open_run, result, exit_status, reason)

    def close(self) -> None:
        """End the runs that are still open with what is known of them."""
        for open_run in list(self._open_runs.values()):
            self._stop(open_run, "abort", "the analysis was closed before the run stopped")
        self.reader.close()

    def expire(self, now: float) -> None:
        """Close runs from which nothing was heard for longer than their time to live."""
        limit = self._options.time_to_live
        expiry = self._gate.expire(now, limit)
        for quarantined in expiry.quarantined:
            self.quarantine(quarantined)
        for uid in expiry.runs:
            if uid in self._open_runs:
                self._stop(self._open_runs[uid], "abort", f"no document and no stop for {limit:g} s")
            self.faults.run_ended(uid)

    @property
    def unfinished(self) -> bool:
        """Whether a run waits for external data that is not written yet."""
        return any(open_run.points.waiting for open_run in self._open_runs.values())

    @property
    def late(self) -> int:
        """How many runs have stopped, and wait for their data."""
        return sum(open_run.ending is not None for open_run in self._open_runs.values())
