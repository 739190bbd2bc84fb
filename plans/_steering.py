"""What a measurement is made with: its devices, who decides, on what, and how long they may take."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bluesky.protocols import Movable, Readable

from skyloop.documents.inbox import Inbox
from skyloop.errors import ConfigError
from skyloop.plans._approval import ApprovalGate
from skyloop.plans._course import Course, Policy
from skyloop.plans._guard import Rule

__all__ = ["Instrument", "Steering"]


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
    """Longest wait for one result, in s; the beam time of the fixed scan bounds their sum."""
    answer_timeout: float = 60.0
    """Longest wait for a person, in s; no answer is never an acceptance."""
    lag: bool = False
    """Decide by the newest result of an earlier point where that of the last is not there in time: right for
    a policy that leaves the points as they are."""
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
        told = policy | self.course.describe() | {"timeout": self.timeout, "lag": self.lag}
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return told | {"config_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value
