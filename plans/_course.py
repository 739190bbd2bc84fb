"""The course of a measurement: its fixed scan, what a policy may choose, and what both cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isnan
from typing import Any, ClassVar, Literal, Protocol

from skyloop.plans._numbers import NAN

__all__ = [
    "Action",
    "Choice",
    "Continue",
    "Course",
    "Limits",
    "Mode",
    "Pace",
    "Policy",
    "Proposal",
    "Reason",
    "Situation",
    "Stop",
]

Mode = Literal["shadow", "advise", "confirm", "auto"]
"""`shadow` records, `advise` logs it too, `confirm` asks a person, `auto` acts."""


class Reason(StrEnum):
    """Why a measurement ended."""

    TARGET_REACHED = "target_reached"
    """The target is known well enough, and an independent analysis agrees."""
    FLOOR_REACHED = "floor_reached"
    """No further point of the grid makes the target better known."""
    BUDGET = "budget"
    """The beam time, the dose or the number of points is used up."""
    SCAN_COMPLETE = "scan_complete"
    """Every point of the fixed scan is measured."""
    MODEL_MISFIT = "model_misfit"
    """The model does not describe the data: the fixed scan was measured instead."""
    ANALYSIS_LOST = "analysis_lost"
    """The analysis was late, wrong or gone: the fixed scan was measured instead."""
    POLICY_FAILED = "policy_failed"
    """The policy could not choose: the fixed scan was measured instead."""
    GUARD = "guard"
    """No point was left that the guard accepts."""
    OPERATOR = "operator"
    """A person stopped or aborted the plan."""


@dataclass(frozen=True, slots=True)
class Action:
    """Go to a position and count there."""

    position: float
    """Where to measure, in units of the axis."""
    count_time: float
    """How long to count, in s."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A policy wants a point to be measured."""

    action: Action
    """The point."""
    gain: float = NAN
    """Expected information on the target, in nats."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A policy, or the end of the fixed scan, ends the measurement."""

    reason: Reason
    """Why."""


@dataclass(frozen=True, slots=True)
class Continue:
    """A policy leaves the next point to the fixed scan."""

    reason: str = ""
    """Why, if it is not the normal course."""


Choice = Proposal | Stop | Continue


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy may know besides the results; all of it follows from stored documents."""

    measured: tuple[Action, ...]
    """Points measured so far, in their order."""
    spent: float
    """Beam time of these points with their moves, in s."""
    seed: int
    """Seed of everything random; use it with the number of measured points, never a global generator."""

    @property
    def position(self) -> float:
        """Where the axis stands; NaN before the first point."""
        return self.measured[-1].position if self.measured else NAN

    @property
    def dose(self) -> float:
        """Time the sample was in the beam, in s."""
        return sum(action.count_time for action in self.measured)


class Policy(Protocol):
    """Chooses the next point from results: a frozen dataclass of its parameters, pure and without clock."""

    name: ClassVar[str]
    """Name in documents; `POLICIES` of the technique's plan module finds the class by it."""
    version: ClassVar[str]
    """Changes whenever the same results may lead to another choice."""
    technique: ClassVar[str]
    """Technique whose results it reads."""
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __call__(self, results: Sequence[Any], situation: Situation, /) -> Choice:
        """The choice after the results so far; empty before the first point."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """What a move costs: `overhead + per_unit * |distance|` seconds."""

    overhead: float = 0.0
    """Seconds per point, whatever the distance."""
    per_unit: float = 0.0
    """Seconds per unit of the axis: one over its speed."""

    def cost(self, position: float, action: Action) -> float:
        """Seconds of going from a position to a point and counting there; NaN stands for nowhere yet."""
        distance = 0.0 if isnan(position) else abs(action.position - position)
        return self.overhead + self.per_unit * distance + action.count_time

    def total(self, actions: Sequence[Action], position: float = NAN) -> float:
        """Seconds of measuring some points one after the other, from a position."""
        seconds = 0.0
        for action in actions:
            seconds += self.cost(position, action)
            position = action.position
        return seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user allows; `None` is no limit."""

    position: tuple[float, float] | None = None
    """Lowest and highest position."""
    count_time: tuple[float, float] | None = None
    """Shortest and longest count time, in s."""
    step: float | None = None
    """Largest distance between two points."""
    time: float | None = None
    """Beam time with moves, in s."""
    dose: float | None = None
    """Time of the sample in the beam, in s."""
    points: int | None = None
    """Number of points."""


@dataclass(frozen=True, slots=True)
class Course:
    """The fixed scan that a run falls back on, and the frame within which a policy may leave it."""

    fixed: tuple[Action, ...]
    """The scan that would be measured without a policy."""
    mode: Mode = "auto"
    """Who may act."""
    limits: Limits = Limits()
    """What the user allows."""
    pace: Pace = Pace()
    """What moves cost."""
    seed: int = 0
    """Seed of the policy."""

    @property
    def planned(self) -> float:
        """Beam time of the fixed scan, in s."""
        return self.pace.total(self.fixed)

    def situation(self, measured: Sequence[Action]) -> Situation:
        """What the policy may know after some points."""
        return Situation(tuple(measured), self.pace.total(measured), self.seed)

    def left(self, situation: Situation) -> list[Action]:
        """Points of the fixed scan that are still to be measured, in its order.

        On course they are unchanged. After excursions, the time counted near a fixed position is credited to
        it, and the rest is shortened evenly where the beam time would not last, so that a lost analysis does
        not make the scan longer than its limit. What is left of a point counts as done when it is shorter
        than the shortest count time.
        """
        done = len(situation.measured)
        if situation.measured == self.fixed[:done]:
            return list(self.fixed[done:])
        left = _uncredited(self.fixed, situation.measured)
        worth = [action for action in left if action.count_time >= self._shortest]
        return self._shortened(worth, situation)

    @property
    def _shortest(self) -> float:
        return self.limits.count_time[0] if self.limits.count_time else 0.0

    def _shortened(self, left: list[Action], situation: Situation) -> list[Action]:
        if self.limits.time is None or not left:
            return left
        available = self.limits.time - situation.spent
        counting = sum(action.count_time for action in left)
        moving = self.pace.total(left, situation.position) - counting
        if counting <= 0 or moving + counting <= available:
            return left
        if available <= moving:
            return left  # nothing fits: the guard says so
        # a hair less, so that the sum stays within the limit whatever its rounding
        scale = (available - moving) / counting
        return [self._scaled(action, scale * (1 - 1e-9)) for action in left]

    def _scaled(self, action: Action, scale: float) -> Action:
        return Action(action.position, max(self._shortest, action.count_time * scale))

    def describe(self) -> dict[str, Any]:
        """The course as JSON values, for a start document."""
        plain = asdict(self)
        plain["fixed"] = [[action.position, action.count_time] for action in self.fixed]
        for name in ("position", "count_time"):
            pair = plain["limits"][name]
            plain["limits"][name] = list(pair) if pair else None
        return plain

    @staticmethod
    def from_description(plain: dict[str, Any]) -> "Course":
        """The course that `describe` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        limits = dict(plain["limits"])
        for name in ("position", "count_time"):
            limits[name] = tuple(limits[name]) if limits[name] else None
        return Course(
            fixed=tuple(Action(*pair) for pair in plain["fixed"]),
            mode=plain["mode"],
            limits=Limits(**limits),
            pace=Pace(**plain["pace"]),
            seed=plain["seed"],
        )


def _uncredited(fixed: Sequence[Action], measured: Sequence[Action]) -> list[Action]:
    places = sorted({action.position for action in fixed})
    credit = dict.fromkeys(places, 0.0)
    for action in measured:
        nearest = min(places, key=lambda place: abs(place - action.position))
        credit[nearest] += action.count_time
    left: list[Action] = []
    for action in fixed:
        used = min(credit[action.position], action.count_time)
        credit[action.position] -= used
        if used < action.count_time:
            left.append(Action(action.position, action.count_time - used))
    return left
