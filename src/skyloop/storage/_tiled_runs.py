"""The documents of a run that TiledWriter stored, as they were before it stored them.

The server's own export is not enough: of a point that was measured again after a pause it keeps one event,
and from there on gives every event the arrays of another. Rows and arrays are read here side by side
instead; the export is asked only for what it alone knows.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import merge
from typing import Any

import numpy as np

from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError

__all__ = ["is_run", "runs_in", "stored_documents"]

_TABLE = re.compile(r"internal(_\d+)?")
_COLUMNS = ("seq_num", "time")


def is_run(node: Any) -> bool:
    """Whether a node of a Tiled tree is a Bluesky run."""
    return any(spec.name == "BlueskyRun" for spec in node.specs)


def stored_documents(run: Any) -> Iterator[NamedDocument]:
    """Documents of a run: start, then descriptors and events by time, then references to files, stop.

    What differs from the live run: events have new uids, pages are single events, arrays are numpy arrays,
    NaN in the start document came back as None, and each file is announced once, after the events.

    Raises:
        DataError: rows and arrays of a finished run do not match, or the server cannot export what is needed.
    """
    if not any(s.name == "BlueskyRun" and str(s.version).startswith("3.") for s in run.specs):
        yield from _exported(run)
        return
    streams = [_stream(run, name, node) for name, node in _nodes(run).items()]
    if any(stream.unreadable for stream in streams):
        yield from _once(_exported(run), run)
        return
    yield "start", _start(run)
    timed = merge(*(stream.documents() for stream in streams), key=lambda item: item[0])
    yield from (document for _, document in timed)
    if any(stream.external for stream in streams):
        yield from ((n, doc) for n, doc in _exported(run) if n.startswith("stream_"))
    if run.metadata.get("stop"):
        yield "stop", dict(run.metadata["stop"])


def _start(run: Any) -> dict[str, Any]:
    """The start document, with the specs that the writer took out of it."""
    specs = [spec.name for spec in run.specs if spec.name != "BlueskyRun"]
    return dict(run.metadata["start"]) | ({"tiled_specs": specs} if specs else {})


@dataclass(frozen=True)
class _Stream:
    """One stream: what was declared, its rows, its arrays."""

    descriptors: list[dict[str, Any]]
    rows: int
    columns: dict[str, list[Any]]
    arrays: dict[str, Any]
    unreadable: bool

    @property
    def external(self) -> bool:
        return any("external" in entry for entry in self.descriptors[0]["data_keys"].values())

    def documents(self) -> Iterator[tuple[float, NamedDocument]]:
        """Each document with its time; a descriptor comes before its first event."""
        since = [descriptor["time"] for descriptor in self.descriptors]
        told = 0
        for row in range(self.rows):
            time = self.columns["time"][row]
            current = max(0, bisect_right(since, time) - 1)
            for descriptor in self.descriptors[told : current + 1]:
                yield min(time, descriptor["time"]), ("descriptor", descriptor)
            told = max(told, current + 1)
            yield time, ("event", self._event(row, self.descriptors[current]["uid"]))
        for descriptor in self.descriptors[told:]:
            yield descriptor["time"], ("descriptor", descriptor)

    def _event(self, row: int, descriptor: str) -> dict[str, Any]:
        times = {k[3:]: v[row] for k, v in self.columns.items() if k.startswith("ts_")}
        values = {key: self.columns[key][row] for key in times if key in self.columns}
        values |= {key: array[row] for key, array in self.arrays.items()}
        return {
            "uid": f"event-{descriptor}-{row + 1}",
            "descriptor": descriptor,
            "seq_num": self.columns["seq_num"][row],
            "time": self.columns["time"][row],
            "data": values,
            "timestamps": {key: times.get(key, self.columns["time"][row]) for key in values},
            "filled": {},
        }


def _nodes(run: Any) -> dict[str, Any]:
    """Streams by name, as plain containers: what a run client shows depends on what was asked of others.

    databroker changes the client classes of the whole process. Runs written before mid 2025 keep their
    streams one level down.
    """
    nodes = dict(run.base.items())
    inner = nodes.get("streams")
    if inner is not None and not any(spec.name == "BlueskyEventStream" for spec in inner.specs):
        return dict(inner.items())
    return nodes


def _stream(run: Any, name: str, node: Any) -> _Stream:
    descriptors = [dict(descriptor) for descriptor in node.descriptors]
    keys: dict[str, dict[str, Any]] = descriptors[0]["data_keys"]
    parts = list(node.base)
    # the table first: of a run that is being written, arrays are then at least as long as the table
    columns = _columns(node.base[part] for part in parts if _is_table(part, keys))
    rows = len(columns["seq_num"]) if columns else 0
    external = {key for key, entry in keys.items() if "external" in entry}
    inside = [p for p in parts if p not in external and not _is_table(p, keys)]
    arrays = {part: node.base[part].read() for part in inside}
    if run.metadata.get("stop"):
        _check_lengths(arrays, rows, f"{run.metadata['start']['uid']}/{name}")
    in_table = {k: e for k, e in keys.items() if k in columns and e.get("dtype") == "array"}
    empty = {k: e["shape"] for k, e in in_table.items() if math.prod(e["shape"]) == 0}
    arrays |= {key: np.empty((rows, *shape)) for key, shape in empty.items()}
    return _Stream(descriptors, rows, columns, arrays, unreadable=len(empty) < len(in_table))


def _is_table(part: str, keys: dict[str, Any]) -> bool:
    return part not in keys and _TABLE.fullmatch(part) is not None


def _columns(tables: Iterable[Any]) -> dict[str, list[Any]]:
    frames = [table.read() for table in tables]
    return {str(name): frame[name].tolist() for frame in frames for name in frame.columns}


def _check_lengths(arrays: dict[str, Any], rows: int, where: str) -> None:
    wrong = {key: len(array) for key, array in arrays.items() if len(array) != rows}
    if wrong:
        raise DataError(
            f"{where} has {rows} events, but its arrays hold another number of them: {wrong}; which "
            "belongs to which is lost; mend: replay the run from another store"
        )


def _exported(run: Any) -> Iterator[NamedDocument]:
    for name, doc in run.documents():
        yield name, dict(doc)


def _once(documents: Iterable[NamedDocument], run: Any) -> Iterator[NamedDocument]:
    """The documents, if no point was measured twice: the export would mix such points up."""
    known = list(documents)
    points = Counter((doc["descriptor"], doc["seq_num"]) for name, doc in known if name == "event")
    events = sum((run.metadata.get("stop") or {}).get("num_events", {}).values())
    if events and events != len(points):
        raise DataError(
            f"run {run.metadata['start']['uid']} was paused and some points were measured again; the server "
            "cannot tell them apart; mend: replay the run from another store"
        )
    yield from known


def runs_in(node: Any) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Uid, start document and reader of every run in a catalog, or of the one run that the node is."""
    for run in [node] if is_run(node) else node.values():
        if is_run(run):
            start = dict(run.metadata["start"])
            yield start["uid"], start, partial(_answered, stored_documents, run)


def _answered(read: Any, run: Any) -> Iterator[NamedDocument]:
    import httpx

    try:
        yield from read(run)
    except httpx.HTTPError as error:
        raise DataError(
            f"the Tiled server does not give run {run.metadata['start']['uid']}: {error}; "
            "mend: see that it runs and has an exporter for application/json-seq"
        ) from error
