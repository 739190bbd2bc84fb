"""The loop of every adaptive plan: measure, wait, decide, record, act."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.utils import Msg, MsgGenerator, RunEngineControlException

from skyloop.documents.inbox import Analysis
from skyloop.errors import RefusedError
from skyloop.plans._approval import Answer, confirm
from skyloop.plans._async_checks import AsyncChecks
from skyloop.plans._course import Action, Course, Reason, Situation
from skyloop.plans._decision import DecisionRecord, Decisions, decision_uid, write_decision
from skyloop.plans._guard import ACCEPTED, Guard, Guarded, Verdict
from skyloop.plans._numbers import NAN
from skyloop.plans._point import drop_open, move, read_point
from skyloop.plans._settle import (
    BUDGETS,
    REFUSED,
    REFUSED_AGAIN,
    REFUSED_BEFORE,
    Asked,
    Facts,
    known,
    propose,
    settle,
)
from skyloop.plans._steering import Instrument, Steering
from skyloop.plans._watch import STREAM, Watch, patience
from skyloop.plans._words import advice, names_of, point, question, said, wanted

__all__ = ["steer"]

_log = logging.getLogger(__name__)


def steer(
    instrument: Instrument, steering: Steering, *, md: Mapping[str, Any] | None = None
) -> MsgGenerator[dict[str, Any]]:
    """Measure one run, whose points a policy chooses from the results of the points before.

    Each point is followed by one decision: event `n` of the stream `decision` leads to event `n` of `primary`
    unless the guard refused it at the last moment. While the analysis is late, wrong or gone, the fixed scan
    is measured; no raw point depends on it. Waits that do not lead to a point or a stop of the policy take
    together at most 5 % of the fixed scan's beam time, or 0.5 s if that is longer.

    Args:
        instrument: what is moved and read; axis and detectors are staged.
        steering: who decides.
        md: more metadata for the start document.

    Yields:
        Messages of one run with the streams `primary` and `decision`.

    Returns:
        JSON values: run_uid, reason, target, target_sigma, outcome, analysis_reason and confirmed of the last
        result, points (measured), points_used (those that it rests on), decisions, beam_time, mode.

    Raises:
        RefusedError: the fixed scan itself leaves the limits; nothing was moved yet.
    """
    course, settings = steering.course, tuple(instrument.count_times)
    guard = Guard(instrument.axis, course.limits, course.pace, steering.rules, settings)
    yield from _check_course(AsyncChecks(guard), course)

    def inner() -> MsgGenerator[dict[str, Any]]:
        uid = yield from bps.open_run(_metadata(instrument, steering, md))
        loop = _Loop(instrument, steering, guard, uid)
        yield from bpp.contingency_wrapper(loop.run(), except_plan=loop.interrupted, else_plan=bps.close_run)
        return loop.summary()

    return (yield from bpp.stage_wrapper(inner(), [*instrument.detectors, instrument.axis]))


def _check_course(checks: AsyncChecks, course: Course) -> MsgGenerator[None]:
    """Refuse a fixed scan that the guard would not let happen, before anything moves.

    One that is longer than a budget is cut there; all of it must be within the limits.
    """
    measured: list[Action] = []
    for action in course.fixed:
        verdict = yield from checks.ask(action, course.situation(measured))
        if measured and verdict.rule in BUDGETS:
            measured = []  # what comes after the cut is looked at as if it began there
            verdict = yield from checks.ask(action, course.situation(measured))
        verdict.assure()
        measured.append(action)


def _metadata(instrument: Instrument, steering: Steering, md: Mapping[str, Any] | None) -> dict[str, Any]:
    axis = getattr(instrument.axis, "name", "axis")
    return {
        "plan_name": steering.policy.name,
        "detectors": [detector.name for detector in instrument.detectors],
        "motors": [axis],
        "num_points": len(steering.course.fixed),
        "hints": {"dimensions": [[[axis], STREAM]]},
        "adaptive": steering.describe() | {"axis": axis},
    } | dict(md or {})


class _Loop:
    """One run on its way."""

    def __init__(self, instrument: Instrument, steering: Steering, guard: Guard, uid: str) -> None:
        self._instrument, self._steering, self._guard, self._uid = instrument, steering, guard, uid
        self._checks = AsyncChecks(guard)
        self._names = names_of(instrument, steering)
        allowed = patience(steering.course.planned)
        self._watch = Watch(steering.inbox, uid, timeout=steering.timeout, patience=allowed, lag=steering.lag)
        self._device = Decisions()
        self._measured: list[Action] = []
        self._results: list[Any] = []
        self._refused = ""
        self._verdict_of_next = ACCEPTED
        self._refusals: dict[Action | str, str] = {}
        self._advised: set[Action | str] = set()
        self._t_data = NAN
        self._next = Action(NAN, NAN)
        # one for the whole run: at a pause the RunEngine stops each device that was ever set
        self._axis = Guarded(instrument.axis, self._assure)
        self._settings = [Guarded(setting, self._assure) for setting in instrument.count_times]

    def run(self) -> MsgGenerator[None]:
        """Decide and measure until a decision is to stop."""
        yield Msg("checkpoint")
        while True:
            action = yield from self._decide()
            if action is None:
                return
            yield from self._execute(action)

    def _decide(self) -> MsgGenerator[Action | None]:
        situation = self._situation
        analysis, fault = yield from self._news()
        t_posterior = time.time() if analysis else NAN
        used = analysis if not fault else None
        asked = Asked()
        if not fault:
            self._results += [used.result] if used else []
            asked = propose(self._steering.policy, tuple(self._results), situation)
        verdict = yield from self._verdict(asked, situation)
        answer = yield from self._answer(asked, verdict)
        facts = Facts(fault, verdict, answer.verb if answer else "")
        settled = settle(self._steering.course, situation, asked, facts)
        if settled.source == "policy":
            self._watch.give_back()
        now = time.time()
        yield from self._write(
            source=settled.source,
            action="measure" if settled.executed else "stop",
            reason=str(settled.reason),
            analysis_seq_num=used.seq_num if used else 0,
            analysis_event_uid=used.event_uid if used else "",
            fault=fault,
            t_posterior=t_posterior,
            t_executed=now if settled.executed else NAN,
            **point("executed", settled.executed),
            **wanted(asked, verdict),
            **said(answer),
        )
        return settled.executed

    def _news(self) -> MsgGenerator[tuple[Analysis | None, str]]:
        if self._refused:
            return None, self._refused
        if not self._measured:
            return None, ""
        return (yield from self._watch.news(len(self._measured)))

    def _verdict(self, asked: Asked, situation: Situation) -> MsgGenerator[Verdict]:
        if self._refused:
            return self._verdict_of_next
        if asked.proposal is None:
            return ACCEPTED
        return (yield from self._checks.ask(asked.proposal.action, situation))

    def _answer(self, asked: Asked, verdict: Verdict) -> MsgGenerator[Answer | None]:
        steering, about = self._steering, asked.about
        if about is None or not verdict.accepted:
            return None
        if steering.course.mode == "advise":
            self._advise(about, advice(asked, self._results, self._names))
        if steering.gate is None or steering.course.mode != "confirm":
            return None
        if about in self._refusals:
            return Answer(REFUSED_BEFORE, self._refusals[about])
        uid = decision_uid(self._uid, self._seq + 1)
        words = question(asked, self._results, self._names)
        answer = yield from confirm(steering.gate, uid, words, timeout=steering.answer_timeout)
        if answer.verb == "reject":
            self._refusals[about] = answer.operator
        return answer

    def _advise(self, about: Action | str, words: str) -> None:
        if about not in self._advised:
            _log.warning("advice: %s", words)  # at this level, because it is what a person chose to see
        self._advised.add(about)

    @property
    def _situation(self) -> Situation:
        return self._steering.course.situation(self._measured)

    @property
    def _last(self) -> DecisionRecord | None:
        return self._device.written

    @property
    def _seq(self) -> int:
        return self._last.seq if self._last else 0

    def _write(self, **given: Any) -> MsgGenerator[None]:
        seq = self._seq + 1
        record = DecisionRecord(
            uid=decision_uid(self._uid, seq),
            seq=seq,
            mode=self._steering.course.mode,
            raw_seq_num=len(self._measured),
            spent=self._situation.spent,
            t_data=self._t_data,
            t_decided=time.time(),
            **known(self._results),
            **given,
        ).chained(self._last)
        yield from write_decision(self._device, record)

    def _execute(self, action: Action) -> MsgGenerator[None]:
        self._next = action
        try:
            # the guard itself is asked as each device is set
            self._verdict_of_next = yield from self._checks.wait(action)
            self._verdict_of_next.assure()
            settings = [(setting, float(action.count_time)) for setting in self._settings]
            yield from move([(self._axis, float(action.position)), *settings])
            readings = yield from read_point(self._instrument.readable, STREAM)
            # the point is measured: a resumed plan waits for its result again, and does not repeat it
            yield Msg("checkpoint")
        except RefusedError:
            # also in the RunEngine's replay after a pause, which takes back what the point has written
            yield from drop_open()
            self._refused = REFUSED_AGAIN if self._refused else REFUSED
            return
        self._refused = ""
        self._measured.append(action)
        self._t_data = max((r["timestamp"] for r in readings.values()), default=NAN)

    def _assure(self) -> None:
        """Asked by the devices themselves, each time that they are set."""
        verdict = self._guard.check(self._next, self._situation)
        self._verdict_of_next = self._checks.verdict if verdict.accepted else verdict
        self._verdict_of_next.assure()

    def interrupted(self, error: Exception) -> MsgGenerator[None]:
        """Close the run after an error; an operator's stop or abort is the last decision."""
        yield from drop_open()
        if isinstance(error, RunEngineControlException):
            yield from self._write(source="human", action="stop", reason=str(Reason.OPERATOR))
            yield from bps.close_run(exit_status=getattr(error, "exit_status", "abort"))
        else:
            yield from bps.close_run(exit_status="fail", reason=str(error))

    @property
    def _used(self) -> int:
        """Points that the last result rests on; where it does not tell, the points with a usable result."""
        return int(getattr(self._results[-1], "n_points", len(self._results))) if self._results else 0

    def summary(self) -> dict[str, Any]:
        """What the plan returns."""
        last = known(self._results)
        return {
            "run_uid": self._uid,
            "reason": self._last.reason if self._last else "",
            "target": _json(last["target"]),
            "target_sigma": _json(last["target_sigma"]),
            **_trust(self._results),
            "points": len(self._measured),
            "points_used": self._used,
            "decisions": self._seq,
            "beam_time": self._situation.spent,
            "mode": self._steering.course.mode,
        }


def _trust(results: Sequence[Any]) -> dict[str, Any]:
    """Whether the last result can be used."""
    if not results:
        return {"outcome": "", "analysis_reason": "", "confirmed": None}
    last = results[-1]
    return {
        "outcome": str(last.outcome),
        "analysis_reason": last.reason,
        "confirmed": getattr(last, "confirmed", None),  # not every technique can confirm
    }


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
