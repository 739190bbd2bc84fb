"""The loop of every adaptive plan: measure, wait, decide, record, act."""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky.utils import Msg, MsgGenerator, RunEngineControlException, short_uid

from skyloop.documents.inbox import Analysis, Inbox
from skyloop.errors import ConfigError, RefusedError
from skyloop.plans._approval import Answer, ApprovalGate, confirm
from skyloop.plans._course import Action, Course, Policy, Proposal, Reason, Situation, Stop
from skyloop.plans._decision import DecisionRecord, Decisions, decision_uid, write_decision
from skyloop.plans._guard import ACCEPTED, Guard, Guarded, Rule, Verdict
from skyloop.plans._settle import REFUSED, REFUSED_AGAIN, Asked, Facts, known, propose, settle
from skyloop.plans._watch import STREAM, Watch

__all__ = ["Instrument", "Steering", "steer"]

NAN = float("nan")
_PATIENCE = 0.05
"""Share of the fixed scan's beam time that all waits together may take."""


@dataclass(frozen=True)
class Instrument:
    """The devices of a measurement."""

    detectors: tuple[Readable[Any], ...]
    """What is read at each point."""
    axis: Movable[float]
    """What moves."""

    @property
    def readable(self) -> list[Readable[Any]]:
        """Everything that is read at each point."""
        axis = [self.axis] if isinstance(self.axis, Readable) else []
        return [*self.detectors, *axis]

    @property
    def count_times(self) -> list[Movable[float]]:
        """The settings `count_time` of those detectors that have one."""
        settings = (getattr(detector, "count_time", None) for detector in self.detectors)
        return [setting for setting in settings if isinstance(setting, Movable)]


@dataclass(frozen=True)
class Steering:
    """Who decides, on what, and how long they may take."""

    policy: Policy
    """Chooses the next point."""
    course: Course
    """The fixed scan, and how far the policy may leave it."""
    inbox: Inbox
    """Where results arrive."""
    gate: ApprovalGate | None = None
    """Where a person answers; needed in confirm mode."""
    timeout: float = 5.0
    """Longest wait for one result, in s."""
    answer_timeout: float = 60.0
    """Longest wait for a person, in s; no answer is never an acceptance."""
    rules: tuple[Rule, ...] = ()
    """Extra rules of the guard."""

    def __post_init__(self) -> None:
        if self.course.mode == "confirm" and self.gate is None:
            raise ConfigError("confirm mode has no approval gate; mend: give one, or its name")

    def describe(self) -> dict[str, Any]:
        """What the start document must hold so that every decision can be recomputed."""
        policy = {
            "technique": self.policy.technique,
            "policy": self.policy.name,
            "policy_version": self.policy.version,
            "parameters": _plain(asdict(self.policy)),
        }
        told = policy | self.course.describe() | {"timeout": self.timeout}
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return told | {"config_sha256": hashlib.sha256(text.encode()).hexdigest()}


def steer(
    instrument: Instrument, steering: Steering, *, md: Mapping[str, Any] | None = None
) -> MsgGenerator[dict[str, Any]]:
    """Measure one run, whose points a policy chooses from the results of the points before.

    Each point is followed by one decision: event `n` of the stream `decision` leads to event `n` of `primary`
    unless the guard refused it at the last moment. While the analysis is late, wrong or gone, the fixed scan
    is measured; no raw point depends on it. All waits for results together take at most one `timeout` or 5 %
    of the fixed scan's beam time, whichever is longer.

    Args:
        instrument: what is moved and read; axis and detectors are staged.
        steering: who decides.
        md: more metadata for the start document.

    Yields:
        Messages of one run with the streams `primary` and `decision`.

    Returns:
        JSON values: run_uid, reason, target, target_sigma, points, decisions, beam_time, mode.

    Raises:
        RefusedError: the fixed scan itself leaves the limits; nothing was moved yet.
    """
    course, settings = steering.course, tuple(instrument.count_times)
    guard = Guard(instrument.axis, course.limits, course.pace, steering.rules, settings)
    _check_course(guard, course)
    uid = ""
    loop: _Loop | None = None

    def inner() -> MsgGenerator[None]:
        nonlocal uid, loop
        uid = yield from bps.open_run(_metadata(instrument, steering, md))
        loop = _Loop(instrument, steering, guard, uid)
        yield from bpp.contingency_wrapper(loop.run(), except_plan=loop.interrupted, else_plan=bps.close_run)

    staged = [*instrument.detectors, instrument.axis]
    yield from bpp.stage_wrapper(inner(), staged)
    return loop.summary() if loop else {}


def _check_course(guard: Guard, course: Course) -> None:
    """Refuse a fixed scan that the guard would not let happen, before anything moves."""
    measured: list[Action] = []
    for action in course.fixed:
        guard.assure(action, course.situation(measured))
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
        patience = max(steering.timeout, _PATIENCE * steering.course.planned)
        self._watch = Watch(steering.inbox, uid, timeout=steering.timeout, patience=patience)
        self._device = Decisions()
        self._measured: list[Action] = []
        self._results: list[Any] = []
        self._refused = ""
        self._t_data = NAN
        self._next = Action(NAN, NAN)
        # one for the whole run: at a pause the RunEngine stops each device that was ever set
        self._axis = Guarded(instrument.axis, self._assure)
        self._settings = [Guarded(setting, self._assure) for setting in instrument.count_times]

    def run(self) -> MsgGenerator[None]:
        """Decide and measure until a decision is to stop."""
        yield from bps.checkpoint()
        while True:
            action = yield from self._decide()
            if action is None:
                return
            yield from self._execute(action)

    def _decide(self) -> MsgGenerator[Action | None]:
        situation = self._steering.course.situation(self._measured)
        analysis, fault = yield from self._news()
        t_posterior = time.time() if analysis else NAN
        used = analysis if not fault else None
        asked = Asked()
        if not fault:
            self._results += [used.result] if used else []
            asked = propose(self._steering.policy, tuple(self._results), situation)
        verdict = self._verdict(asked, situation)
        answer = yield from self._answer(asked, verdict)
        facts = Facts(fault, verdict, answer.verb if answer else "")
        settled = settle(self._steering.course, situation, asked, facts)
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
            **_what("executed", settled.executed),
            **_wanted(asked, verdict),
            **_said(answer),
        )
        return settled.executed

    def _news(self) -> MsgGenerator[tuple[Analysis | None, str]]:
        if self._refused:
            return None, self._refused
        if not self._measured:
            return None, ""
        return (yield from self._watch.news(len(self._measured)))

    def _verdict(self, asked: Asked, situation: Situation) -> Verdict:
        if asked.proposal is None:
            return ACCEPTED
        return self._guard.check(asked.proposal.action, situation)

    def _answer(self, asked: Asked, verdict: Verdict) -> MsgGenerator[Answer | None]:
        steering = self._steering
        questioned = isinstance(asked.choice, Proposal | Stop) and verdict.accepted
        if steering.gate is None or steering.course.mode != "confirm" or not questioned:
            return None
        uid = decision_uid(self._uid, self._seq + 1)
        return (
            yield from confirm(
                steering.gate, uid, _question(asked, self._results), timeout=steering.answer_timeout
            )
        )

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
            spent=self._steering.course.situation(self._measured).spent,
            t_data=self._t_data,
            t_decided=time.time(),
            **known(self._results),
            **given,
        ).chained(self._last)
        yield from write_decision(self._device, record)

    def _execute(self, action: Action) -> MsgGenerator[None]:
        self._next = action
        try:
            yield from self._move(action)
            readings = yield from bps.trigger_and_read(self._instrument.readable, STREAM)
            # the point is measured: a resumed plan waits for its result again, and does not repeat it
            yield Msg("checkpoint")
        except RefusedError:
            self._refused = REFUSED_AGAIN if self._refused else REFUSED
            return
        self._refused = ""
        self._measured.append(action)
        self._t_data = max((r["timestamp"] for r in readings.values()), default=NAN)

    def _move(self, action: Action) -> MsgGenerator[None]:
        group = short_uid("steer")
        yield Msg("set", self._axis, float(action.position), group=group)
        for setting in self._settings:
            yield Msg("set", setting, float(action.count_time), group=group)
        yield Msg("wait", None, group=group)

    def _assure(self) -> None:
        """Asked by the devices themselves, each time that they are set."""
        self._guard.assure(self._next, self._steering.course.situation(self._measured))

    def interrupted(self, error: Exception) -> MsgGenerator[None]:
        """Close the run after an error; an operator's stop or abort is the last decision."""
        if isinstance(error, RunEngineControlException):
            yield from self._write(source="human", action="stop", reason=str(Reason.OPERATOR))
            yield from bps.close_run(exit_status=getattr(error, "exit_status", "abort"))
        else:
            yield from bps.close_run(exit_status="fail", reason=str(error))

    def summary(self) -> dict[str, Any]:
        """What the plan returns."""
        last = known(self._results)
        return {
            "run_uid": self._uid,
            "reason": self._last.reason if self._last else "",
            "target": _json(last["target"]),
            "target_sigma": _json(last["target_sigma"]),
            "points": len(self._measured),
            "decisions": self._seq,
            "beam_time": self._steering.course.situation(self._measured).spent,
            "mode": self._steering.course.mode,
        }


def _what(prefix: str, action: Action | None) -> dict[str, float]:
    place, seconds = (action.position, action.count_time) if action else (NAN, NAN)
    return {f"{prefix}_position": _number(place), f"{prefix}_count_time": _number(seconds)}


def _number(value: Any) -> float:
    # what a broken policy proposes may be no number at all; the guard's message says what it was
    return float(value) if isinstance(value, int | float) and abs(value) < math.inf else NAN


def _wanted(asked: Asked, verdict: Verdict) -> dict[str, Any]:
    proposal = asked.proposal
    return {
        "choice": asked.word,
        "choice_reason": asked.reason,
        "gain": _number(proposal.gain) if proposal else NAN,
        "guard_rule": verdict.rule,
        "guard_message": verdict.message,
        **_what("proposed", proposal.action if proposal else None),
    }


def _said(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {}
    return {
        "answer": answer.verb,
        "operator": answer.operator,
        "comment": answer.comment,
        "answer_seconds": answer.seconds,
    }


def _question(asked: Asked, results: Sequence[Any]) -> str:
    said = known(results)
    now = f"the target is {said['target']:.5g} +- {said['target_sigma']:.2g}; " if results else ""
    if asked.proposal is None:
        return f"{now}stop ({asked.reason})?"
    action, gain = asked.proposal.action, asked.proposal.gain
    worth = "" if math.isnan(gain) else f", expected gain {gain:.2g} nat"
    return f"{now}measure at {action.position:g} for {action.count_time:g} s{worth}?"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
