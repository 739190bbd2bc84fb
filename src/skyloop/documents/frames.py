"""Raw documents to points: each event with all its data, wherever they are stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skyloop.documents._streams import Event, Layout, Stream
from skyloop.documents.external import External, ExternalData, Loaded, NotYet, Roots, Unreadable
from skyloop.errors import DocumentError

__all__ = ["Missing", "Point", "Points", "Wanted"]

Wanted = Callable[[Mapping[str, Any]], set[str]]
"""Which data keys of a descriptor are worth reading when they are stored elsewhere."""

_ROUND_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One raw event with everything filled in. What it holds is shared: read, never change."""

    run: Mapping[str, Any]
    """Start document of the raw run."""
    stream: str
    """Name of the stream."""
    seq_num: int
    """Number of the event in its stream, from 1."""
    time: float
    """When it was recorded [s since 1970]; NaN in a stream that has frames and no events."""
    data: Mapping[str, Any]
    """Data key to value; external data have the shape that the descriptor declares."""
    configuration: Mapping[str, Any]
    """Configuration of the devices, such as count times, by key."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A point that could not be made."""

    run_uid: str
    """Uid of the raw run."""
    stream: str
    """Name of the stream."""
    seq_num: int
    """Number of the event in its stream."""
    key: str
    """Data key that has no value; empty when the event itself is missing."""
    reason: str
    """Why, in one line."""


class Points:
    """Joins the documents of a run, as they come from a `Gate`, to points.

    Values may be in the event, in files that a `datum` names, or in files that a `stream_datum` names for
    one frame or thousands, before the event, after it, or without any event. A number that is measured
    again gives its point again. Data stored elsewhere are read when all documents of a point are there, at
    most 256 MiB in one call; what a detector has not written yet, and what is left of a long stream, is
    read by `retry`.

    Args:
        external: reads data stored elsewhere; by default none are read.
        wanted: which external data keys to read; the others are left out. All by default.
    """

    def __init__(self, external: External | None = None, *, wanted: Wanted | None = None) -> None:
        self._external = external or ExternalData(Roots({}, ()))
        self._wanted = wanted
        self._runs: dict[str, Mapping[str, Any]] = {}
        self._streams: dict[tuple[str, str], Stream] = {}
        self._descriptors: dict[str, tuple[Stream, Layout]] = {}
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._datums: dict[str, Mapping[str, Any]] = {}
        self._refused: list[Missing] = []
        self._takers: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "start": self._start,
            "descriptor": self._descriptor,
            "event": self._event,
            "resource": self._resource,
            "datum": self._datum,
            "stream_resource": self._resource,
            "stream_datum": self._stream_datum,
            "stop": lambda doc: None,
        }

    @property
    def waiting(self) -> bool:
        """Whether there are data to read, or to wait for: `retry` may give points."""
        return any(stream.ready for stream in self._streams.values())

    def feed(self, name: str, doc: Mapping[str, Any]) -> list[Point]:
        """Take a document in; returns the points that are complete now.

        Args:
            name: name of a single document, as a `Gate` lets it through.
            doc: the document; kept, and never changed.

        Raises:
            DocumentError: the document is a page, or refers to one that was not given here before.
        """
        taker = self._takers.get(name)
        if taker is None:
            raise DocumentError(f"'{name}' is no single document; mend: put a Gate in front")
        try:
            taker(doc)
        except KeyError as error:
            raise DocumentError(
                f"{name} lacks or refers to unknown {error}; mend: put a Gate in front"
            ) from error
        return self.retry() if self.waiting else []

    def retry(self) -> list[Point]:
        """Read again what was not there, and go on with what was too much for one call."""
        self._external.new_round()
        points: list[Point] = []
        budget = _ROUND_BYTES
        for stream in self._streams.values():
            for point in self._read(stream):
                points.append(point)
                budget -= sum(v.nbytes for v in point.data.values() if isinstance(v, np.ndarray))
                if budget <= 0:
                    return points
        return points

    def refused(self) -> list[Missing]:
        """Points that were given up since this was last asked: their data will not be read."""
        given_up, self._refused = self._refused, []
        return given_up

    def close(self) -> list[Missing]:
        """Close all files and forget everything of the run; returns the points that were never complete."""
        missing = [*self.refused(), *(m for s in self._streams.values() for m in self._left(s))]
        self._external.forget(list(self._resources))
        for table in (self._runs, self._streams, self._descriptors, self._resources, self._datums):
            table.clear()
        return missing

    # ------------------------------------------------------------------ documents

    def _start(self, doc: Mapping[str, Any]) -> None:
        self._runs[doc["uid"]] = doc

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        run, name = self._runs[doc["run_start"]], doc.get("name", "")
        stream = self._streams.setdefault((doc["run_start"], name), Stream(run, name))
        self._descriptors[doc["uid"]] = (stream, self._layout(doc))

    def _layout(self, doc: Mapping[str, Any]) -> Layout:
        entries: Mapping[str, Any] = doc["data_keys"]
        elsewhere = {key for key, entry in entries.items() if entry.get("external")}
        wanted = elsewhere if self._wanted is None else elsewhere & set(self._wanted(doc))
        objects = doc.get("configuration", {}).values()
        configuration = {k: v for each in objects for k, v in each.get("data", {}).items()}
        bare = len(elsewhere) == len(entries)
        return Layout(entries, configuration, frozenset(wanted), frozenset(elsewhere - wanted), bare)

    def _event(self, doc: Mapping[str, Any]) -> None:
        stream, layout = self._descriptors[doc["descriptor"]]
        data = {k: v for k, v in doc["data"].items() if k not in layout.unwanted}
        if layout.bare and not data:
            return  # its stream_datums say all that it says
        filled = doc.get("filled", {})
        datums = {
            key: data.pop(key)
            for key in layout.external & data.keys()
            if isinstance(data[key], str) and not filled.get(key)
        }
        frames = layout.external - data.keys() - datums.keys()
        event = Event(doc["time"], layout, data, datums, frames)
        stream.add_event(doc["seq_num"], event, self._datums)

    def _resource(self, doc: Mapping[str, Any]) -> None:
        self._resources[doc["uid"]] = doc

    def _datum(self, doc: Mapping[str, Any]) -> None:
        _ = self._resources[doc["resource"]]
        self._datums[doc["datum_id"]] = doc
        for stream in self._streams.values():
            stream.add_datum(doc["datum_id"], self._datums)

    def _stream_datum(self, doc: Mapping[str, Any]) -> None:
        stream, layout = self._descriptors[doc["descriptor"]]
        key = self._resources[doc["stream_resource"]]["data_key"]
        if key in layout.external:
            stream.add_frames(key, doc, layout, self._datums)

    # ------------------------------------------------------------------ reading

    def _read(self, stream: Stream) -> Iterator[Point]:
        """Points of the ready numbers; what is not there yet, or not asked for, stays ready."""
        todo, stream.ready = deque(stream.ready), []
        try:
            while todo:
                numbers = todo.popleft()
                if len(numbers) > 1:
                    todo.appendleft(numbers[1:])
                match self._make(stream, numbers[0]):
                    case NotYet():
                        if len(numbers) > 1:  # the rest of a range is written later still
                            todo.popleft()
                        stream.ready.append(numbers)
                    case Point() as point:
                        yield point
                    case None:
                        pass
        finally:
            stream.ready.extend(todo)

    def _make(self, stream: Stream, seq_num: int) -> Point | NotYet | None:
        event = stream.event_of(seq_num)
        if event is None:
            return None
        data = dict(event.data)
        for key in (*event.datums, *event.frames):
            match self._value(stream, event, seq_num, key):
                case NotYet(reason) as later:
                    stream.late[seq_num] = (key, reason)
                    return later
                case Unreadable(reason):
                    self._refused.append(_missing(stream, seq_num, key, reason))
                    stream.settle(seq_num)
                    return None
                case value:
                    data[key] = value
        stream.settle(seq_num)
        return Point(stream.run, stream.name, seq_num, event.time, data, event.layout.configuration)

    def _value(self, stream: Stream, event: Event, seq_num: int, key: str) -> Loaded:
        entry = event.layout.entries[key]
        if key in event.datums:
            datum = self._datums[event.datums[key]]
            return self._external.datum(self._resources[datum["resource"]], datum, entry)
        frame = stream.frame_of(key, seq_num)
        if frame is None:
            return NotYet("no stream_datum announced it")
        return self._external.frame(self._resources[frame[0]], frame[1], entry)

    def _left(self, stream: Stream) -> Iterator[Missing]:
        """What became of the numbers that are no points."""
        late = "", "it was not read before the run was closed"
        for seq_num in stream.unsettled():
            late = stream.late.get(seq_num, late)  # the rest of a range is written later still
            key, reason = stream.lack(seq_num, self._datums) or late
            yield _missing(stream, seq_num, key, reason)


def _missing(stream: Stream, seq_num: int, key: str, reason: str) -> Missing:
    return Missing(stream.run["uid"], stream.name, seq_num, key, reason)
