"""A raw run on its way through its analysis: its frames, their batches and what was published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skyloop.documents.frames import Points
from skyloop.documents.run import AnalysisRun

__all__ = ["Ending", "OpenRun", "Spot", "Waiting"]

Spot = tuple[str, int]
"""Name of the raw stream and number of the event in it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A frame that came in and is not analysed yet."""

    spot: Spot
    """Where in the raw run it belongs."""
    emitted: float
    """Time of the raw event, which tells one emission of a point from the next; NaN without an event."""
    frame: Any
    """Frame of the technique."""
    arrived: float
    """When it came in [s, monotonic]."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a raw run ended whose data are not all written yet."""

    exit_status: str
    """That of the raw run."""
    reason: str
    """That of the raw run."""
    deadline: float
    """How long to wait for the data [s, monotonic]."""


@dataclass
class OpenRun:
    """Everything the analyzer remembers of one raw run until it stops."""

    raw_start: Mapping[str, Any]
    run: AnalysisRun
    points: Points
    frames: dict[Spot, Any] = field(default_factory=dict[Spot, Any])
    batches: list[list[Spot]] = field(default_factory=list[list[Spot]])
    _frames_of: list[list[Any]] | None = None  # frames of the batches, kept so that a long run stays cheap
    waiting: list[Waiting] = field(default_factory=list[Waiting])
    opened: bool = False
    frames_in: int = 0
    of_others: int = 0
    """Events that hold no frame of the technique."""
    not_analysed: int = 0
    last_reason: str = ""
    """Why the last frame without an analysis has none."""
    broke: bool = False
    """Whether a frame has no analysis although its data were not at fault."""
    quarantined: int = 0
    failures: int = 0
    tripped: str = ""
    ending: Ending | None = None

    @property
    def raw_uid(self) -> str:
        """Uid of the raw run."""
        return self.raw_start["uid"]

    def frame_batches(self) -> list[list[Any]]:
        """Frames of all batches, oldest first."""
        if self._frames_of is None:
            self._frames_of = [[self.frames[spot] for spot in batch] for batch in self.batches]
        return self._frames_of

    def place(self, waiting: list[Waiting]) -> bool:
        """Put frames into the batches: new spots as one new batch, known spots where they were.

        Returns:
            True when an older frame was replaced, so that the run must be folded again.
        """
        known = {w.spot for w in waiting if w.spot in self.frames}
        new = list(dict.fromkeys(w.spot for w in waiting if w.spot not in known))
        self.frames.update({w.spot: w.frame for w in waiting})
        if new:
            self.batches.append(new)
        if known:
            self._frames_of = None
        elif self._frames_of is not None and new:
            self._frames_of.append([self.frames[spot] for spot in new])
        return bool(known)

    def remove(self, spot: Spot) -> None:
        """Take a frame out that the engine cannot fold."""
        self.frames.pop(spot, None)
        self._frames_of = None
        self.batches = [kept for batch in self.batches if (kept := [s for s in batch if s != spot])]
