"""A decision in words: for its record, and for the person who is asked."""

import math
from collections.abc import Sequence
from typing import Any

from skyloop.plans._approval import Answer
from skyloop.plans._course import Action
from skyloop.plans._guard import Verdict
from skyloop.plans._numbers import NAN, number
from skyloop.plans._settle import Asked, known

__all__ = ["point", "question", "said", "wanted"]


def point(prefix: str, action: Action | None) -> dict[str, float]:
    """Where and how long; NaN where there is no point, or no number: the guard's message says what it was."""
    place, seconds = (action.position, action.count_time) if action else (NAN, NAN)
    return {f"{prefix}_position": number(place), f"{prefix}_count_time": number(seconds)}


def wanted(asked: Asked, verdict: Verdict) -> dict[str, Any]:
    """What the policy wanted, and what the guard said of it."""
    proposal = asked.proposal
    return {
        "choice": asked.word,
        "choice_reason": asked.reason,
        "gain": proposal.gain if proposal else NAN,
        "guard_rule": verdict.rule,
        "guard_message": verdict.message,
        **point("proposed", proposal.action if proposal else None),
    }


def said(answer: Answer | None) -> dict[str, Any]:
    """What a person answered."""
    if answer is None:
        return {}
    return {
        "answer": answer.verb,
        "operator": answer.operator,
        "comment": answer.comment,
        "answer_seconds": answer.seconds,
    }


def question(asked: Asked, results: Sequence[Any]) -> str:
    """What a person is asked."""
    last = known(results)
    now = f"the target is {last['target']:.5g} +- {last['target_sigma']:.2g}; " if results else ""
    if asked.proposal is None:
        return f"{now}stop ({asked.reason})?"
    action, gain = asked.proposal.action, asked.proposal.gain
    worth = "" if math.isnan(gain) else f", expected gain {gain:.2g} nat"
    return f"{now}measure at {action.position:g} for {action.count_time:g} s{worth}?"
