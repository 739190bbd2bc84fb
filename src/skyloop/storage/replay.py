"""A stored run, given to callbacks as if it were measured now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from skyloop.documents.run import NamedDocument

__all__ = ["ReplayReport", "replay"]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """How much was replayed."""

    documents: int
    """All documents, of any name."""
    events: int
    """Events, those in pages counted one by one."""


def replay(
    documents: Iterable[NamedDocument],
    callbacks: Sequence[Callable[[str, dict[str, Any]], Any]],
) -> ReplayReport:
    """Give every document to every callback, in order; what a callback raises goes to the caller.

    >>> seen = []
    >>> replay([("start", {"uid": "r"})], [lambda name, doc: seen.append(name)])
    ReplayReport(documents=1, events=0)
    """
    count = events = 0
    for name, doc in documents:
        for callback in callbacks:
            callback(name, doc)
        count += 1
        events += _events(name, doc)
    return ReplayReport(count, events)


def _events(name: str, doc: dict[str, Any]) -> int:
    if name == "event_page":
        return len(doc["seq_num"])
    return int(name == "event")
