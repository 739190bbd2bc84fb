"""The guard: nothing leaves its limits, and nothing is clipped unseen."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bluesky.protocols import Movable, Status, Stoppable

from skyloop.errors import RefusedError
from skyloop.plans._course import Action, Limits, Pace, Situation
from skyloop.plans._numbers import is_finite, shown
from skyloop.runtime.guarded import Broken, guarded

__all__ = ["ACCEPTED", "PLAIN_RULES", "Guard", "Guarded", "Rule", "Verdict", "refused_by", "within"]

Rule = Callable[[Action, Situation], str]
"""An extra rule: why a point is refused, or empty."""

PLAIN_RULES = ("finite", "user_limits", "count_time", "step", "time", "dose", "points")
"""Rules that need no device, in their order."""

_ROUNDING = 1e-9
"""Share of a time limit that sums of floating-point seconds may exceed it by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard says of one point."""

    rule: str = ""
    """Name of the rule that refuses the point; empty if none does."""
    message: str = ""
    """What is refused, why, and the mend."""

    @property
    def accepted(self) -> bool:
        """Whether the point may be measured."""
        return not self.rule

    def assure(self) -> None:
        """Do nothing if the point may be measured.

        Raises:
            RefusedError: it may not; the message names the rule.
        """
        if not self.accepted:
            raise RefusedError(f"{self.rule}: {self.message}")


ACCEPTED = Verdict()


@dataclass(frozen=True)
class Guard:
    """Judges every point before it is measured; frozen, so that nobody widens its limits during a run.

    The rules in their order: finite numbers; the user's limits; the device's limits, which are unknown
    where low >= high (then the user must give limits); the device's own `check_value`; extra rules. A device
    or a rule that raises refuses the point. Where that check is a coroutine, as in ophyd-async,
    `AsyncChecks` waits for it.
    """

    axis: Any
    """The device that moves."""
    limits: Limits
    """What the user allows."""
    pace: Pace
    """What moves cost."""
    rules: tuple[Rule, ...] = ()
    """Extra rules, asked last."""
    settings: tuple[Any, ...] = ()
    """Devices that are set to the count time; they may refuse it."""

    def check(self, action: Action, situation: Situation) -> Verdict:
        """The verdict on a point, here and now: call it again at the moment of execution."""
        # one after the other: what is no number must never reach a device's own check
        verdicts = self._verdicts(action, situation)
        return next((verdict for verdict in verdicts if not verdict.accepted), ACCEPTED)

    def values(self, action: Action) -> list[tuple[Any, float]]:
        """Each device with what it is set to."""
        settings = [(setting, action.count_time) for setting in self.settings]
        return [(self.axis, action.position), *settings]

    def _verdicts(self, action: Action, situation: Situation) -> Iterator[Verdict]:
        yield within(self.limits, self.pace, action, situation)
        yield self._device_limits(action.position)
        for device, value in self.values(action):
            yield _device_check(device, value)
        for rule in self.rules:
            yield _by_rule(rule, action, situation)

    def _device_limits(self, position: float) -> Verdict:
        verdict = guarded(self._between_device_limits, position)
        if isinstance(verdict, Broken):
            return Verdict("device", f"{_name(self.axis)} does not tell its limits: {verdict.reason}")
        return verdict

    def _between_device_limits(self, position: float) -> Verdict:
        low, high = _limits_of(self.axis)
        if low >= high:
            if self.limits.position is not None:
                return ACCEPTED
            return Verdict(
                "device_limits_unknown",
                f"{_name(self.axis)} has no limits of its own ({low:g}, {high:g}); "
                "mend: give limits=[low, high]",
            )
        if low <= position <= high:
            return ACCEPTED
        return Verdict(
            "device_limits",
            f"position {position:g} is outside the limits [{low:g}, {high:g}] of {_name(self.axis)}",
        )


def within(limits: Limits, pace: Pace, action: Action, situation: Situation) -> Verdict:
    """The part of the verdict that needs no device: finite numbers and the user's limits."""
    for value, what in ((action.position, "position"), (action.count_time, "count time")):
        if not is_finite(value):
            return Verdict("finite", f"the {what} {shown(value)} is not a finite number")
    return _between(limits, action) or _affordable(limits, pace, action, situation) or ACCEPTED


def _between(limits: Limits, action: Action) -> Verdict | None:
    if limits.position is not None and not _inside(action.position, limits.position):
        return Verdict("user_limits", _outside("position", action.position, limits.position, "limits"))
    if action.count_time <= 0:
        return Verdict("count_time", f"the count time {action.count_time:g} s is not positive")
    if limits.count_time is not None and not _inside(action.count_time, limits.count_time):
        return Verdict("count_time", _outside("count time", action.count_time, limits.count_time, "limits"))
    return None


def _affordable(limits: Limits, pace: Pace, action: Action, situation: Situation) -> Verdict | None:
    step = abs(action.position - situation.position)
    time = situation.spent + pace.cost(situation.position, action)
    dose = situation.dose + action.count_time
    # the step to the first point is NaN, which exceeds nothing: the run may begin anywhere
    for rule, what, value, limit in (
        ("step", "the step", step, limits.step),
        ("time", "the beam time in s", time, limits.time),
        ("dose", "the dose in s", dose, limits.dose),
        ("points", "the number of points", len(situation.measured) + 1, limits.points),
    ):
        if limit is not None and value > limit * (1 + _ROUNDING):
            return Verdict(rule, f"{what} would be {value:g}, more than the limit {limit:g}")
    return None


def _device_check(device: Any, value: float) -> Verdict:
    check = getattr(device, "check_value", None)
    if check is None:
        return ACCEPTED
    said: Any = guarded(check, value)
    if inspect.iscoroutine(said):
        said.close()  # nothing here can wait for it
    # whatever a device raises here, it says no
    return refused_by(device, value, said.error) if isinstance(said, Broken) else ACCEPTED


def refused_by(device: Any, value: float, why: object) -> Verdict:
    """The verdict of a device that says no to a value."""
    return Verdict("device", f"{_name(device)} refuses {value:g}: {why}")


def _by_rule(rule: Rule, action: Action, situation: Situation) -> Verdict:
    name, message = getattr(rule, "__name__", "rule"), guarded(rule, action, situation)
    if isinstance(message, Broken):
        return Verdict(name, f"the rule itself raised {message.reason}")
    return Verdict(name, message) if message else ACCEPTED


def _inside(value: float, pair: tuple[float, float]) -> bool:
    return pair[0] <= value <= pair[1]


def _outside(what: str, value: float, pair: tuple[float, float], whose: str) -> str:
    return f"the {what} {value:g} is outside the {whose} [{pair[0]:g}, {pair[1]:g}]"


def _limits_of(axis: Any) -> tuple[float, float]:
    """Limits of a device; (0, 0) if it does not tell any, which is how EPICS says so."""
    limits = getattr(axis, "limits", None)
    return (0.0, 0.0) if limits is None else (limits[0], limits[1])


def _name(device: Any) -> str:
    return getattr(device, "name", repr(device))


class Guarded:
    """A device that asks the guard each time it is set.

    The RunEngine sets a device again when it rewinds after a pause, without asking the plan. So the last
    check stands here, in the device's own `set`.

    Args:
        device: what is set.
        assure: raises `RefusedError` where the value may not be set.
    """

    def __init__(self, device: Movable[float], assure: Callable[[], None]) -> None:
        self._device = device
        self._assure = assure
        self.name = _name(device)
        self.parent = None

    def set(self, value: float) -> Status:
        """Ask the guard, then set the device."""
        self._assure()
        return self._device.set(value)

    def stop(self, success: bool = True) -> Any:
        """Stop the device, if it can be stopped."""
        return self._device.stop(success=success) if isinstance(self._device, Stoppable) else None
