"""A stored run by streams and event numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["NamedDocument", "Stored"]

NamedDocument = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Stored:
    """A run as start document and events, the last of each number."""

    start: Mapping[str, Any]
    """Its start document."""
    events: Mapping[str, Mapping[int, Mapping[str, Any]]]
    """Events by stream and number, but for those that the RunEngine took back and did not repeat."""

    @staticmethod
    def read(documents: Iterable[NamedDocument]) -> "Stored":
        """The run in some documents, single events or pages."""
        start: Mapping[str, Any] = {}
        streams: dict[str, str] = {}
        kept: Mapping[str, int] = {}
        events: dict[str, dict[int, Mapping[str, Any]]] = {}
        for name, doc in documents:
            if name == "start":
                start = doc
            elif name == "descriptor":
                streams[doc["uid"]] = doc["name"]
            elif name in ("event", "event_page"):
                for event in _single(name, doc):
                    events.setdefault(streams[event["descriptor"]], {})[event["seq_num"]] = event
            elif name == "stop":
                kept = doc.get("num_events") or {}
        return Stored(start, {stream: _kept(found, kept.get(stream)) for stream, found in events.items()})

    def data(self, stream: str) -> list[Mapping[str, Any]]:
        """Data of a stream, in the order of its events."""
        found = self.events.get(stream, {})
        return [found[seq_num]["data"] for seq_num in sorted(found)]


def _kept(events: Mapping[int, Mapping[str, Any]], count: int | None) -> dict[int, Mapping[str, Any]]:
    return {number: event for number, event in events.items() if count is None or number <= count}


def _single(name: str, doc: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    if name == "event":
        return [doc]
    return [
        {
            "descriptor": doc["descriptor"],
            "seq_num": doc["seq_num"][i],
            "data": {key: values[i] for key, values in doc["data"].items()},
        }
        for i in range(len(doc["uid"]))
    ]
