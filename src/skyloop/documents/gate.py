"""The gate that every document passes before anything else sees it."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from skyloop.documents._checks import field_fault, plain
from skyloop.documents._ledger import Ledger, Refused, Waits, Word
from skyloop.documents._pages import is_page, rows_of
from skyloop.documents._parking import Lot, Parent, Parked
from skyloop.documents._schemas import schema_fault
from skyloop.documents.run import NamedDocument

__all__ = ["Admission", "Expiry", "Gate", "Quarantined"]


_SINGLE = frozenset(
    ("start", "descriptor", "event", "resource", "datum", "stream_resource", "stream_datum", "stop")
)
_KINDS = {
    "start": "run",
    "descriptor": "descriptor",
    "resource": "resource",
    "stream_resource": "resource",
}
_NOTHING: Parent = ("", "")
_REMEMBERED = 10_000
_NEVER_CAME = {
    "run": "run '{0}' began before this callback was subscribed: no start document came; "
    "mend: subscribe before the run begins",
    "descriptor": "descriptor '{0}' never came: its run began before this callback was subscribed, "
    "or the document was lost",
    "resource": "resource '{0}' never came: the document was lost",
}


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that was put aside."""

    name: str
    """Name under which it came."""
    uid: str
    """Its uid; empty when it has none."""
    reason: str
    """What is wrong, in one line."""
    run_uid: str
    """Uid of its run; empty when that is not known."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What one document led to."""

    accepted: tuple[NamedDocument, ...]
    """Single documents that may pass now, in order: this one, and those that waited for it."""
    quarantined: tuple[Quarantined, ...]
    """Documents that were put aside: this one, or some that waited in vain."""
    absorbed: int = 0
    """Documents, of those that came in, that had come before with the same content."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What time ended."""

    runs: tuple[str, ...]
    """Uids of runs that were open without a document for too long; they are closed."""
    quarantined: tuple[Quarantined, ...]
    """Documents that waited in vain."""


@dataclass(slots=True)
class _Batch:
    accepted: list[NamedDocument] = field(default_factory=list[NamedDocument])
    quarantined: list[Quarantined] = field(default_factory=list[Quarantined])
    absorbed: int = 0


@dataclass(frozen=True, slots=True)
class _Gone:
    """A document that others may refer to and that will not come any more."""

    why: str
    run_uid: str


class Gate:
    """Lets through only documents that everything behind it can rely on.

    Pages are split, so that behind the gate there are only `start`, `descriptor`, `event`, `resource`,
    `datum`, `stream_resource`, `stream_datum` and `stop`: valid by event-model's schemas, with sane uids,
    times and numbers, each after the documents it refers to. A document that comes before its parent waits
    for it. The gate never raises, whatever it is given, and never changes a document. Each document that
    comes in is accepted, quarantined, absorbed or waiting, exactly once; a page counts by its rows.

    Args:
        max_parked: most documents that may wait for their parents.
        park_seconds: longest wait [s].
    """

    def __init__(self, max_parked: int = 1000, park_seconds: float = 5.0) -> None:
        self._ledger = Ledger()
        self._lot = Lot(max_parked, park_seconds)
        self._crowded = f"{max_parked} documents wait for their parents already"
        self._gone: dict[Parent, _Gone] = {}

    @property
    def parked(self) -> int:
        """Number of documents that wait for their parents."""
        return len(self._lot)

    @property
    def open_runs(self) -> tuple[str, ...]:
        """Uids of the runs that began and did not stop."""
        return self._ledger.runs

    def run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        """Uid of the run that an accepted document of an open run belongs to."""
        return self._ledger.run_of(name, doc)

    def admit(self, name: Any, doc: Any, now: float) -> Admission:
        """Judge a document.

        Args:
            name: name of the document; anything else is quarantined.
            doc: the document; never changed, and passed on as it is unless it is a page.
            now: time on a clock that never goes back [s], such as `time.monotonic()`.
        """
        batch = _Batch()
        self._put_aside(self._lot.overdue(now), batch)
        for row_name, row in self._rows(name, doc, batch):
            self._take(row_name, row, now, batch)
        return Admission(tuple(batch.accepted), tuple(batch.quarantined), batch.absorbed)

    def expire(self, now: float, ttl: float) -> Expiry:
        """Put aside what has waited too long, and close runs without a document for `ttl` seconds."""
        batch = _Batch()
        self._put_aside(self._lot.overdue(now), batch)
        runs = self._ledger.idle(now, ttl)
        for uid in runs:
            self._close(uid, f"was closed after {ttl:g} s without a document", batch)
        return Expiry(runs, tuple(batch.quarantined))

    def _rows(self, name: Any, doc: Any, batch: _Batch) -> list[tuple[str, Any]]:
        if not isinstance(name, str):
            return self._refuse(_printable(name), doc, "its name is not a string", batch)
        if name in _SINGLE:
            return [(name, doc)]
        if not is_page(name):
            return self._refuse(_printable(name), doc, "no document has this name", batch)
        rows = rows_of(name, cast("Any", doc)) if isinstance(doc, dict) else "it is not a dictionary"
        return self._refuse(name, doc, rows, batch) if isinstance(rows, str) else rows

    def _take(self, name: str, doc: Any, now: float, batch: _Batch) -> None:
        queue = [Parked(name, doc, _NOTHING, now)]
        while queue:
            queue.extend(reversed(self._judge(queue.pop(), now, batch)))

    def _judge(self, item: Parked, now: float, batch: _Batch) -> list[Parked]:
        """Settle one document; returns those that waited for it, when it is accepted."""
        name, doc = item.name, item.doc
        if item.parent is _NOTHING:  # not looked at before
            if not isinstance(doc, dict):
                return self._refuse(name, doc, "it is not a dictionary", batch)
            doc = plain(doc) if name == "event" else doc
            if fault := schema_fault(name, doc) or field_fault(name, doc):
                return self._refuse(name, doc, fault, batch)
        match self._ledger.judge(name, doc, now):
            case Word.ACCEPTED:
                return self._accept(name, doc, batch)
            case Word.ABSORBED:
                batch.absorbed += 1
                return []
            case Refused(reason):
                return self._refuse(name, doc, reason, batch)
            case Waits(parent):
                return self._wait(Parked(name, doc, parent, item.since), batch)

    def _accept(self, name: str, doc: dict[str, Any], batch: _Batch) -> list[Parked]:
        if name == "stop":
            return self._stop(doc, batch)
        batch.accepted.append((name, doc))
        if name not in _KINDS:
            return []
        parent = (_KINDS[name], doc["uid"])
        self._gone.pop(parent, None)
        return self._lot.release(parent)

    def _stop(self, doc: dict[str, Any], batch: _Batch) -> list[Parked]:
        run_uid = doc["run_start"]
        if gone := self._gone.get(("run", run_uid)):
            return self._refuse("stop", doc, gone.why, batch, run_uid)
        self._close(run_uid, "has stopped", batch)
        batch.accepted.append(("stop", doc))
        return []

    def _close(self, run_uid: str, how: str, batch: _Batch) -> None:
        """Free a run, and put aside what waits for its documents in vain."""
        last = not set(self._ledger.runs) - {run_uid}
        began = run_uid in self._ledger.runs

        def in_vain(item: Parked) -> bool:
            mine = self._ledger.run_of(item.name, item.doc) == run_uid
            return last or mine or item.parent == ("run", run_uid)

        for item in self._lot.withdraw(in_vain):
            kind, uid = item.parent
            why = f"{kind} '{uid}' did not come before run '{run_uid}' ended"
            why = why if began else _NEVER_CAME["run"].format(run_uid)
            self._refuse(item.name, item.doc, why, batch, self._run_of(item.name, item.doc) or run_uid)
        for parent in self._ledger.close(run_uid):
            self._forget(parent, _Gone(f"run '{run_uid}' {how}", run_uid))

    def _wait(self, parked: Parked, batch: _Batch) -> list[Parked]:
        if gone := self._gone.get(parked.parent):
            return self._refuse(parked.name, parked.doc, gone.why, batch, gone.run_uid)
        for item in self._lot.park(parked):
            self._refuse(item.name, item.doc, self._crowded, batch)
        return []

    def _put_aside(self, overdue: Iterable[Parked], batch: _Batch) -> None:
        """Quarantine documents whose parents did not come; the reason is told in full once per parent."""
        for item in overdue:
            kind, uid = item.parent
            gone = self._gone.get(item.parent)
            run_uid = gone.run_uid if gone else uid if kind == "run" else ""
            why = gone.why if gone else _NEVER_CAME[kind].format(uid)
            self._forget(item.parent, gone or _Gone(f"as before: {kind} '{uid}' is not known", run_uid))
            self._refuse(item.name, item.doc, why, batch, run_uid)

    def _refuse(self, name: str, doc: Any, reason: str, batch: _Batch, run_uid: str = "") -> list[Any]:
        """Quarantine a document, and those that wait for it; returns an empty list."""
        uid, run_uid = _uid(doc), run_uid or self._run_of(name, doc)
        batch.quarantined.append(Quarantined(name, uid, reason, run_uid))
        parent = (_KINDS.get(name, ""), uid)
        if name in _KINDS and uid and not self._ledger.knows(parent):
            why = f"{name} '{uid}' was put aside"
            for orphan in self._lot.release(parent):
                self._refuse(orphan.name, orphan.doc, f"{why}: {reason}", batch, run_uid)
            self._forget(parent, _Gone(f"as before: {why}", run_uid))
        return []

    def _run_of(self, name: str, doc: Any) -> str:
        if not isinstance(doc, dict):
            return ""
        return _printable(self._ledger.run_of(name, cast("dict[str, Any]", doc)))

    def _forget(self, parent: Parent, gone: _Gone) -> None:
        self._gone.pop(parent, None)
        self._gone[parent] = gone
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]


def _uid(doc: Any) -> str:
    if not isinstance(doc, dict):
        return ""
    held = cast("dict[str, Any]", doc)
    return _printable(held.get("uid", held.get("datum_id", "")))


def _printable(uid: Any) -> str:
    """A uid that may be shown and kept: what is no text or too long is shortened."""
    if isinstance(uid, str) and uid.isprintable() and len(uid) <= 256:
        return uid
    return reprlib.repr(uid)[:100]
