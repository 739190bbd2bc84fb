"""From facts to the next point: the same pure functions decide live and verify a stored run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skyloop.plans._course import (
    Action,
    Choice,
    Continue,
    Course,
    Policy,
    Proposal,
    Reason,
    Situation,
    Stop,
)
from skyloop.plans._guard import ACCEPTED, Verdict, within
from skyloop.plans._numbers import NAN, is_finite, number, shown
from skyloop.plans._watch import SILENT, UNHEARD
from skyloop.runtime.guarded import Broken, guarded

__all__ = [
    "BUDGETS",
    "REFUSED",
    "REFUSED_AGAIN",
    "REFUSED_BEFORE",
    "Asked",
    "Facts",
    "Settled",
    "known",
    "propose",
    "settle",
]

REFUSED = "refused"
"""Fault: the guard refused the last decision at the moment of execution."""
REFUSED_AGAIN = "refused again"
"""Fault: and the next one too."""
REFUSED_BEFORE = "refused before"
"""Answer: nobody was asked, because a person refused the same point or the same stop earlier in the run."""

BUDGETS = ("time", "dose", "points")
"""Rules of the guard that end a measurement."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking the policy."""

    choice: Choice | None = None
    """Its choice; None if it was not asked, or broke."""
    error: str = ""
    """How it broke."""

    @property
    def proposal(self) -> Proposal | None:
        """The point it wants, if it wants one."""
        return self.choice if isinstance(self.choice, Proposal) else None

    @property
    def about(self) -> Action | str | None:
        """What a person is asked about: the point, or the reason to stop; None: nothing."""
        if isinstance(self.choice, Stop):
            return self.reason
        return self.proposal.action if self.proposal else None

    @property
    def word(self) -> str:
        """The choice in one word, for the record."""
        if self.error:
            return "broken"
        words = {Proposal: "measure", Stop: "stop", Continue: "continue"}
        return words[type(self.choice)] if self.choice else ""

    @property
    def reason(self) -> str:
        """The policy's own reason, or its error."""
        return self.error or str(getattr(self.choice, "reason", ""))


@dataclass(frozen=True, slots=True)
class Facts:
    """What cannot be recomputed from numbers, and is therefore recorded."""

    fault: str = ""
    """What was wrong with the analysis, or `REFUSED`, `REFUSED_AGAIN`; empty: nothing."""
    verdict: Verdict = ACCEPTED
    """What the guard said of the policy's point."""
    answer: str = ""
    """What a person said: accept, reject, stop or expired; or `REFUSED_BEFORE`; empty: not asked."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What is done next."""

    source: str
    """Who chose it: policy, human, guard, fallback or plan."""
    executed: Action | None
    """The next point; None: stop."""
    reason: str
    """Why it is not the policy's point, or why the measurement stops."""


def propose(policy: Policy, results: Sequence[Any], situation: Situation) -> Asked:
    """Ask the policy; one that raises is a bug, which must not cost the measurement."""
    choice: Any = guarded(policy, results, situation)
    if isinstance(choice, Broken):  # recorded in the decision; the fixed scan goes on
        return Asked(error=choice.reason)
    if not isinstance(choice, Choice) or not _holds_an_action(choice):
        return Asked(error=f"the policy returned {shown(choice)}, which is no choice")
    return Asked(_in_floats(choice) if isinstance(choice, Proposal) else choice)


def _holds_an_action(choice: Choice) -> bool:
    action: Any = choice.action if isinstance(choice, Proposal) else None
    return not isinstance(choice, Proposal) or isinstance(action, Action)


def _in_floats(proposal: Proposal) -> Proposal:
    """The proposal as it can be executed and recorded; what is no number stays for the guard to refuse."""
    given = proposal.action.position, proposal.action.count_time
    position, count_time = (number(value) if is_finite(value) else value for value in given)
    return Proposal(Action(position, count_time), number(proposal.gain))


def known(results: Sequence[Any]) -> dict[str, float]:
    """Target and its uncertainty after the last result; NaN before the first."""
    last = results[-1] if results else None
    return {name: float(getattr(last, name, NAN)) for name in ("target", "target_sigma")}


def settle(course: Course, situation: Situation, asked: Asked, facts: Facts) -> Settled:
    """The next point, from what the policy wants and what the facts allow."""
    if facts.fault == REFUSED_AGAIN:
        return Settled("guard", None, Reason.GUARD)
    if facts.answer == "stop":
        return Settled("human", None, Reason.OPERATOR)
    detour = _detour(course, asked, facts)
    if detour is not None:
        return _follow(course, situation, detour)
    if isinstance(asked.choice, Stop):
        return Settled("policy", None, asked.choice.reason)
    return Settled("policy", asked.proposal.action if asked.proposal else None, "")


@dataclass(frozen=True, slots=True)
class _Detour:
    """What sends the measurement along the fixed scan."""

    source: str
    """Who."""
    reason: str
    """Why."""
    end: Reason = Reason.SCAN_COMPLETE
    """Why it ends where nothing of the scan is left."""


def _detour(course: Course, asked: Asked, facts: Facts) -> _Detour | None:
    """What sends the measurement along the fixed scan; None if nothing does."""
    if facts.fault == REFUSED:
        return _Detour("guard", REFUSED, Reason.GUARD)
    if facts.fault:
        reason = UNHEARD if facts.fault == SILENT else facts.fault
        return _Detour("fallback", reason, Reason.ANALYSIS_LOST)
    if asked.error:
        return _Detour("fallback", "broken policy", Reason.POLICY_FAILED)
    if isinstance(asked.choice, Continue):
        return _left_to_the_scan(asked.choice.reason)
    if course.mode in ("shadow", "advise"):
        return _Detour("plan", course.mode)
    if not facts.verdict.accepted:
        return _Detour("guard", facts.verdict.rule, Reason.GUARD)
    if course.mode == "confirm" and facts.answer != "accept":
        return _Detour("fallback" if facts.answer == "expired" else "human", facts.answer)
    return None


def _left_to_the_scan(reason: str) -> _Detour:
    end = Reason.MODEL_MISFIT if reason == Reason.MODEL_MISFIT else Reason.SCAN_COMPLETE
    return _Detour("fallback" if reason else "plan", reason, end)


def _follow(course: Course, situation: Situation, detour: _Detour) -> Settled:
    left = course.left(situation)
    if not left:
        return Settled(detour.source, None, detour.end)
    for action in left:
        if within(course.limits, course.pace, action, situation).accepted:
            return Settled(detour.source, action, detour.reason)
    refusal = within(course.limits, course.pace, left[0], situation)
    return Settled("guard", None, Reason.BUDGET if refusal.rule in BUDGETS else Reason.GUARD)
