"""A decision in words: for its record, and for the person who is asked."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skyloop.figures import words
from skyloop.plans._approval import Answer
from skyloop.plans._course import Action, Proposal, Reason
from skyloop.plans._guard import Verdict
from skyloop.plans._numbers import NAN, number
from skyloop.plans._settle import Asked, known
from skyloop.plans._steering import Instrument, Steering
from skyloop.runtime.guarded import guarded

__all__ = ["Names", "advice", "names_of", "point", "question", "said", "wanted"]

_WHY_STOP: Mapping[str, str] = {
    Reason.TARGET_REACHED: "it is known well enough, and an independent analysis agrees",
    Reason.FLOOR_REACHED: "no further point makes it better known",
    Reason.BUDGET: "no further point fits into the beam time",
}


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers of a question are called, and their units."""

    target: str = "the target"
    """Name of what is sought."""
    target_unit: str = ""
    """Its unit."""
    goal: float = NAN
    """Uncertainty at which it is known well enough."""
    axis: str = "position"
    """Name of what moves."""
    axis_unit: str = ""
    """Its unit; empty where the axis does not tell it at once."""


def names_of(instrument: Instrument, steering: Steering) -> Names:
    """What analysis and axis say of themselves."""
    inbox, axis = steering.inbox, instrument.axis
    return Names(
        target=str(inbox.config.get("target", Names().target)),
        target_unit=inbox.units.get("target", ""),
        goal=number(getattr(steering.policy, "target_sigma", NAN)),
        axis=getattr(axis, "name", Names().axis),
        axis_unit=_unit_of(axis),
    )


def _unit_of(axis: Any) -> str:
    said: Any = guarded(lambda: axis.describe())  # not every axis can be read
    if inspect.iscoroutine(said):
        said.close()  # ophyd-async: nothing here can wait for it
    key = said.get(axis.name) if isinstance(said, Mapping) else None
    return str(key.get("units") or "") if isinstance(key, Mapping) else ""


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


def question(asked: Asked, results: Sequence[Any], names: Names) -> str:
    """What a person is asked: what is known, what the policy wants, and why."""
    return advice(asked, results, names) + (". Measure there?" if asked.proposal else "?")


def advice(asked: Asked, results: Sequence[Any], names: Names) -> str:
    """What is known, what the policy wants, and why."""
    last = known(results)
    now = f"{_known(last, names)}. " if results else ""
    if asked.proposal is None:
        why = _WHY_STOP.get(asked.reason)
        return f"{now}Stop the measurement here ({asked.reason}{f': {why}' if why else ''})"
    return f"{now}{_wish(asked.proposal, last['target_sigma'], names)}"


def _known(last: Mapping[str, float], names: Names) -> str:
    unit, value = names.target_unit, words.number(last["target"], last["target_sigma"])
    goal = "" if math.isnan(names.goal) else f", wanted to ± {_with_unit(words.spread(names.goal), unit)}"
    return f"{names.target} is {_with_unit(value, unit)}{goal}"


def _wish(proposal: Proposal, sigma: float, names: Names) -> str:
    action, gain = proposal.action, proposal.gain
    place = f"{names.axis} = {_with_unit(f'{action.position:g}', names.axis_unit)}"
    counting = f"Counting {words.number(action.count_time)} s at {place}"
    if math.isnan(gain):
        return f"{counting} is to look around: no gain is stated for it"
    told = f"expected gain {gain:.2g} nat"
    if gain < 0 or not math.isfinite(sigma):
        return f"{counting} is wanted ({told})"
    # of a normal distribution a gain of one nat divides the standard deviation by e
    then = _with_unit(words.spread(sigma * math.exp(-gain)), names.target_unit)
    return f"{counting} should bring it to about ± {then} ({told})"


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {words.unit_text(unit)}".rstrip()
