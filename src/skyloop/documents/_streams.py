"""One stream of a run: which of its points have everything they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skyloop.documents._ranges import Announced, common

__all__ = ["Event", "Layout", "Stream"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a descriptor says, as far as points need it."""

    entries: Mapping[str, Any]
    """What the descriptor says of each data key."""
    configuration: Mapping[str, Any]
    """Configuration of the devices, by key."""
    external: frozenset[str]
    """Data keys stored elsewhere that are wanted."""
    unwanted: frozenset[str]
    """Data keys stored elsewhere that are not."""
    bare: bool
    """All data keys are stored elsewhere: the stream may have no events at all."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event, sorted into what it holds and what it refers to."""

    time: float
    """When it was recorded [s since 1970]; NaN for a point of a stream without events."""
    layout: Layout
    """What its descriptor says."""
    data: Mapping[str, Any]
    """Values that it holds."""
    datums: Mapping[str, str]
    """Data key to datum_id, for values in `resource` files."""
    frames: frozenset[str]
    """Data keys whose values come by `stream_datum`."""


@dataclass(slots=True)
class Stream:
    """Points of one stream of one run."""

    run: Mapping[str, Any]
    """Start document of the run."""
    name: str
    """Name of the stream."""
    events: dict[int, Event] = field(default_factory=dict[int, Event])
    """Events that are not points yet, by number."""
    announced: dict[str, Announced] = field(default_factory=dict[str, Announced])
    """Frames of each data key that are not in a point yet."""
    layout: Layout | None = None
    """What the descriptor of the last stream_datum says."""
    ready: list[range] = field(default_factory=list[range])
    """Numbers whose data are all announced and not read yet, in the order in which they became so."""
    wanting: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Numbers of events that wait for a datum, by datum_id."""
    late: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    """Data key and reason of the points that were asked for before their data were there."""

    def add_event(self, seq_num: int, event: Event, known: Mapping[str, Any]) -> None:
        """Take an event in; `known` are the datums that have come."""
        self.events[seq_num] = event  # measured again after a pause: the newest counts
        for datum_id in event.datums.values():
            if datum_id not in known:
                self.wanting.setdefault(datum_id, []).append(seq_num)
        self._check([seq_num], known)

    def add_datum(self, datum_id: str, known: Mapping[str, Any]) -> None:
        """A datum has come."""
        self._check(self.wanting.pop(datum_id, ()), known)

    def add_frames(self, key: str, doc: Mapping[str, Any], layout: Layout, known: Mapping[str, Any]) -> None:
        """Take in the frames that a `stream_datum` announces for a data key."""
        seq_nums = range(doc["seq_nums"]["start"], doc["seq_nums"]["stop"])
        table = self.announced.setdefault(key, Announced())
        table.put(seq_nums, doc["indices"]["start"], doc["stream_resource"])
        self.layout = layout
        if layout.bare:
            tables = [self.announced[k].ranges() for k in layout.external if k in self.announced]
            complete = len(tables) == len(layout.external)
            self.ready.extend(common(seq_nums, tables) if complete else [])
        few = self.events if len(self.events) < len(seq_nums) else seq_nums
        self._check([n for n in few if n in self.events and n in seq_nums], known)

    def event_of(self, seq_num: int) -> Event | None:
        """The event of a point, made up for a stream without events; None when the point was made before."""
        event = self.events.get(seq_num)
        if event is None and self.layout is not None and self.layout.bare:
            event = Event(float("nan"), self.layout, {}, {}, self.layout.external)
        if event is None or any(self.frame_of(key, seq_num) is None for key in event.frames):
            return None
        return event

    def frame_of(self, key: str, seq_num: int) -> tuple[str, int] | None:
        """Resource and index of the frame of a point; None when it is not announced."""
        table = self.announced.get(key)
        return table.find(seq_num) if table else None

    def settle(self, seq_num: int) -> None:
        """Forget a point that is made or given up, with the frames that it took."""
        self.events.pop(seq_num, None)
        self.late.pop(seq_num, None)
        for table in self.announced.values():
            table.take(seq_num)

    def unsettled(self) -> list[int]:
        """Numbers that are neither made nor given up, ascending."""
        announced = (numbers for table in self.announced.values() for numbers in table.ranges())
        return sorted(set(self.events).union(*announced))

    def lack(self, seq_num: int, known: Mapping[str, Any]) -> tuple[str, str] | None:
        """Data key of which a number was never announced, and what did not come; None where all was."""
        event = self.events.get(seq_num)
        if event is None and not (self.layout and self.layout.bare):
            return "", "its frames came, its event did not"
        for key, datum_id in event.datums.items() if event else ():
            if datum_id not in known:
                return key, f"datum '{datum_id}' did not come"
        frames = event.frames if event else self.layout.external if self.layout else ()
        for key in sorted(frames):
            if self.frame_of(key, seq_num) is None:
                return key, "no stream_datum announced it"
        return None

    def _check(self, seq_nums: Iterable[int], known: Mapping[str, Any]) -> None:
        for seq_num in seq_nums:
            event = self.events.get(seq_num)
            if (
                event
                and all(datum_id in known for datum_id in event.datums.values())
                and all(self.frame_of(key, seq_num) for key in event.frames)
            ):
                self.ready.append(range(seq_num, seq_num + 1))
