"""What a queue server does not check: arguments of plans, before anything moves."""

from collections.abc import Sequence
from operator import index
from typing import Any, get_args

from bluesky.protocols import Movable, Readable

from skyloop.documents.inbox import Inbox, inbox_named
from skyloop.errors import ConfigError
from skyloop.plans._approval import ApprovalGate, gate_named
from skyloop.plans._course import Mode
from skyloop.plans._numbers import is_finite, shown
from skyloop.runtime.guarded import Broken, guarded

__all__ = [
    "finite",
    "gate_of",
    "inbox_of",
    "instrument_of",
    "mode_of",
    "pair",
    "positive",
    "target_sigma_of",
    "told",
    "whole",
]


def instrument_of(detectors: Any, axis: Any) -> tuple[tuple[Readable[Any], ...], Movable[float]]:
    """Detectors and axis, if they are what they are called.

    Raises:
        ConfigError: one of them cannot be read, or cannot be moved.
    """
    if isinstance(detectors, str | Readable) or not isinstance(detectors, Sequence) or not detectors:
        raise ConfigError(f"detectors: found {_told(detectors)}; mend: give a list of detectors")
    for number, detector in enumerate(detectors):
        if not isinstance(detector, Readable):
            raise ConfigError(f"detectors[{number}]: {_told(detector)} cannot be read; mend: give a detector")
    if not isinstance(axis, Movable):
        raise ConfigError(f"axis: {_told(axis)} cannot be moved; mend: give a motor or another axis")
    return tuple(detectors), axis


def inbox_of(analysis: Any) -> Inbox:
    """The inbox of an analysis that is given as the object or by its name.

    Raises:
        ConfigError: it is neither, no live analysis has that name, or it was closed.
    """
    inbox: Any = analysis if isinstance(analysis, Inbox) else getattr(analysis, "inbox", None)
    if isinstance(analysis, str):
        inbox = inbox_named(analysis)
    if not isinstance(inbox, Inbox):
        raise ConfigError(f"analysis: {_told(analysis)} has no inbox; mend: give an analysis, or its name")
    if inbox.retired:
        raise ConfigError(
            "analysis: it was closed and will give no result; mend: make and subscribe a new one"
        )
    return inbox


def told(inbox: Inbox, key: str) -> Any:
    """What an analysis says of its own configuration.

    Raises:
        ConfigError: it has nothing of that name.
    """
    if key not in inbox.config:
        raise ConfigError(f"analysis: it tells no {key}; mend: give a live analysis of this technique")
    return inbox.config[key]


def target_sigma_of(given: Any, inbox: Inbox) -> float:
    """The uncertainty at which a target is known well enough: as given, or that of the analysis.

    Raises:
        ConfigError: none is given and the analysis has none, or the one given is larger than its own.
    """
    if given is None:
        return float(told(inbox, "target_sigma"))
    wanted, own = positive(given, "target_sigma"), inbox.config.get("target_sigma")
    if own is not None and wanted > own:
        raise ConfigError(
            f"target_sigma: found {wanted:g}, but the analysis takes a target for known at {own:g} and not "
            "before; mend: leave it out, or write the larger one into the model of the analysis"
        )
    return wanted


def gate_of(approval: Any, mode: str) -> ApprovalGate | None:
    """The approval gate, given as the object or by its name; needed in confirm mode alone.

    Raises:
        ConfigError: it is needed and not there.
    """
    if mode != "confirm":
        return None
    if approval is None or approval == "":
        raise ConfigError(
            "confirm mode has no approval gate; mend: make one, gate = ApprovalGate(), pass approval=gate, "
            "and let somebody answer, as with answer_from_terminal"
        )
    gate = gate_named(approval) if isinstance(approval, str) else approval
    if not isinstance(gate, ApprovalGate):
        raise ConfigError(f"approval: {_told(approval)} is no approval gate; mend: give one, or its name")
    return gate


def mode_of(mode: str) -> Mode:
    """The mode, if there is such a one.

    Raises:
        ConfigError: there is not.
    """
    for known in get_args(Mode):
        if mode == known:
            return known
    raise ConfigError(f"mode: found {mode!r}; mend: one of {', '.join(get_args(Mode))}")


def finite(values: Any, what: str) -> tuple[float, ...]:
    """A list of finite numbers.

    Raises:
        ConfigError: it is none, or empty.
    """
    given = [] if isinstance(values, str) else guarded(list[Any], values)
    if isinstance(given, Broken):
        raise ConfigError(f"{what}: found {shown(values)}; mend: give a list of finite numbers")
    numbers = [float(value) for value in given if is_finite(value)]
    if not given or len(numbers) < len(given):
        raise ConfigError(f"{what}: found {shown(values)}; mend: give finite numbers")
    return tuple(numbers)


def positive(value: Any, what: str) -> float:
    """A finite number above 0.

    Raises:
        ConfigError: it is not.
    """
    if not is_finite(value) or value <= 0:
        raise ConfigError(f"{what}: found {shown(value)}; mend: give a number above 0")
    return float(value)


def whole(value: Any, what: str, least: int) -> int:
    """A whole number that an integer of 64 bits holds.

    Raises:
        ConfigError: it is none, or below `least`.
    """
    number = guarded(index, value)
    if isinstance(value, bool) or isinstance(number, Broken) or not least <= number < 2**63:
        raise ConfigError(f"{what}: found {shown(value)}; mend: give a whole number from {least} to 2^63 - 1")
    return number


def pair(values: Any, what: str) -> tuple[float, float]:
    """Two finite numbers, the lower one first.

    Raises:
        ConfigError: they are not.
    """
    numbers = finite(values, what)
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ConfigError(f"{what}: found {shown(values)}; mend: give [low, high] with low below high")
    return numbers[0], numbers[1]


def _told(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})"
