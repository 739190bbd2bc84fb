"""How an analyzer works, apart from what it computes, and what it counts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from skyloop.documents.external import Handler
from skyloop.documents.gate import Quarantined
from skyloop.errors import ConfigError

__all__ = ["Counts", "Executor", "Health", "Options"]

Executor = Literal["inline", "thread", "process"]
"""Where the engine runs: in the caller, on a thread, or in a supervised process of its own."""

_MOST_SECONDS = 2e6  # the system waits no longer than 2**31 milliseconds in one call
_KEPT = 1000  # reasons, which may name a uid, and documents: a session lasts for months


@dataclass(frozen=True)
class Options:
    """How an analyzer works, apart from what it computes.

    Raises:
        ConfigError: the executor is none, a limit is no number above 0, or the deadline is above 2e6 s.
    """

    executor: Executor = "process"
    """`"process"` for a live scan; `"inline"` for replay and tests, where the caller may wait."""
    deadline: float = 60.0
    """Longest time of one engine call, which the `"process"` executor alone can end, and of reading the
    external data of one frame, which ends with any executor; at most 2e6, which is 23 days [s]."""
    max_failures: int = 3
    """Failures in a row after which the engine is left alone for the rest of the run."""
    time_to_live: float = 24 * 3600.0
    """Time without a document after which a run without a stop document is closed [s]."""
    root_map: Mapping[str, str] | None = None
    """Replaces the beginning of file paths in documents by the path on this machine."""
    allowed_roots: Sequence[str] = ()
    """Folders that external data may be read from."""
    handlers: Mapping[str, Handler] = field(default_factory=dict[str, Handler])
    """Readers of `resource` documents, by spec: `handler(path, **resource_kwargs)(**datum_kwargs)`."""

    def __post_init__(self) -> None:
        known = get_args(Executor)
        if self.executor not in known:
            raise ConfigError(f"executor '{self.executor}' is not known; mend: use one of {', '.join(known)}")
        for name in ("deadline", "time_to_live"):
            if not _is_positive(getattr(self, name)):
                raise ConfigError(f"{name}: found {getattr(self, name)!r:.40}; mend: give seconds above 0")
        if self.deadline > _MOST_SECONDS:
            raise ConfigError(f"deadline: found {self.deadline:g}; mend: give at most {_MOST_SECONDS:g} s")
        if not _is_count(self.max_failures):
            raise ConfigError(f"max_failures: found {self.max_failures!r:.40}; mend: a whole number above 0")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


@dataclass
class Counts:
    """What a pipeline counts while it works."""

    results: int = 0
    failures: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    aside: deque[Quarantined] = field(default_factory=lambda: deque[Quarantined](maxlen=_KEPT))

    def put_aside(self, document: Quarantined) -> bool:
        """Count a quarantined document; true when its reason is new."""
        self.aside.append(document)
        reason = document.reason
        if reason not in self.reasons and len(self.reasons) >= _KEPT:
            reason = "other reasons"
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        return self.reasons[reason] == 1


@dataclass(frozen=True)
class Health:
    """What went through an analyzer so far."""

    documents: int
    """Documents that came in."""
    waiting: int
    """Those of them that are not analysed yet."""
    results: int
    """Results published: one per frame and one per run."""
    failures: int
    """Results without an analysis: failed, timeout or rejected."""
    quarantined: Mapping[str, int]
    """Documents that were put aside, by reason."""
    put_aside: Sequence[Quarantined]
    """The last thousand of them: what they are called, their uid, their reason and their run."""
    faults: Sequence[str]
    """Faults of the analyzer itself; none in good order."""
    sinks: Sequence[str]
    """What is wrong with each sink that does not answer or that lost documents."""
