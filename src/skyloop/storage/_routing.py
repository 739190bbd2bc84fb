"""Which run a document belongs to, when the documents of several runs come interleaved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from event_model import unpack_datum_page, unpack_event_page

from skyloop.documents.run import NamedDocument

__all__ = ["Once", "Routes", "singles"]

_PARENTS = ("run_start", "descriptor", "resource", "stream_resource")


class Routes:
    """Remembers what belongs to what: events name their descriptor only, and that names the run."""

    def __init__(self) -> None:
        self._run_of: dict[str, str] = {}

    def of(self, name: str, doc: Mapping[str, Any]) -> str | None:
        """Uid of the run; None when the document refers to something that did not come.

        >>> routes = Routes()
        >>> routes.of("start", {"uid": "r"}), routes.of("event", {"descriptor": "d"})
        ('r', None)
        """
        uid = str(doc.get("uid", ""))
        if name == "start":
            return self._learn(uid, uid)
        if "run_start" in doc and name != "stop":
            return self._learn(uid, str(doc["run_start"]))
        parents = (doc.get(key) for key in _PARENTS)
        return self._run_of.get(str(next((uid for uid in parents if uid), "")))

    def forget(self, run: str) -> None:
        """Drop all that is known of a run that has stopped."""
        self._run_of = {uid: owner for uid, owner in self._run_of.items() if owner != run}

    def _learn(self, uid: str, run: str) -> str:
        self._run_of[uid] = run
        return run


class Once:
    """Which documents of a run have come: two analyses may send the same ones to one store."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def is_new(self, name: str, doc: Mapping[str, Any]) -> bool:
        """Whether a document comes for the first time; one without an uid always does.

        >>> once = Once()
        >>> once.is_new("event", {"uid": "e"}), once.is_new("event", {"uid": "e"})
        (True, False)
        """
        uid = str(doc.get("uid") or doc.get("datum_id") or "")  # a list in a page
        new = not uid or (name, uid) not in self._seen
        self._seen.add((name, uid))
        return new


def singles(name: str, doc: dict[str, Any]) -> Iterator[NamedDocument]:
    """Events and datums one by one; any other document as it is."""
    if name == "event_page":
        yield from (("event", dict(event)) for event in unpack_event_page(doc))  # pyright: ignore[reportArgumentType]
    elif name == "datum_page":
        yield from (("datum", dict(datum)) for datum in unpack_datum_page(doc))  # pyright: ignore[reportArgumentType]
    else:
        yield name, doc
