"""What is known of the open runs, and the verdict on a document in its light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from skyloop.documents._checks import Declared, declared, event_fault, same
from skyloop.documents._parking import Parent

__all__ = ["Ledger", "Refused", "Verdict", "Waits", "Word"]

_REMEMBERED = 1000


class Word(Enum):
    """The verdicts that need no explanation."""

    ACCEPTED = "accepted"
    ABSORBED = "absorbed"


@dataclass(frozen=True, slots=True)
class Waits:
    """The document refers to one that has not come."""

    parent: Parent
    """What it waits for."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The document contradicts what is known."""

    reason: str
    """What is wrong, in one line."""


Verdict = Word | Waits | Refused


@dataclass(slots=True)
class _Run:
    start: Mapping[str, Any]
    seen: float
    descriptors: set[str] = field(default_factory=set[str])
    resources: set[str] = field(default_factory=set[str])
    recent: dict[str, tuple[int, float]] = field(default_factory=dict[str, tuple[int, float]])


@dataclass(frozen=True, slots=True)
class _Descriptor:
    doc: Mapping[str, Any]
    promise: Declared


@dataclass(frozen=True, slots=True)
class _Resource:
    name: str
    doc: Mapping[str, Any]
    run_uid: str


class Ledger:
    """Open runs with their descriptors and resources; documents here have passed the schema."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._descriptors: dict[str, _Descriptor] = {}
        self._resources: dict[str, _Resource] = {}
        self._judges: Mapping[str, Callable[[Mapping[str, Any], float], Verdict]] = {
            "start": self._start,
            "descriptor": self._descriptor,
            "event": self._event,
            "resource": lambda doc, now: self._resource("resource", doc, now),
            "datum": self._datum,
            "stream_resource": lambda doc, now: self._resource("stream_resource", doc, now),
            "stream_datum": self._stream_datum,
            "stop": self._stop,
        }

    @property
    def runs(self) -> tuple[str, ...]:
        """Uids of the open runs, oldest first."""
        return tuple(self._runs)

    def judge(self, name: str, doc: Mapping[str, Any], now: float) -> Verdict:
        """The verdict on a document; an accepted one is remembered for those that refer to it."""
        return self._judges[name](doc, now)

    def knows(self, parent: Parent) -> bool:
        """Whether an open run, or a descriptor or resource of one, has this uid."""
        kind, uid = parent
        tables = {"run": self._runs, "descriptor": self._descriptors, "resource": self._resources}
        return uid in tables[kind]

    def run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        """Uid of the run a document belongs to; empty when that is not known."""
        match name:
            case "start":
                uid = doc.get("uid", "")
            case "event" | "stream_datum":
                known = self._descriptors.get(_text(doc.get("descriptor")))
                uid = known.promise.run_uid if known else ""
            case "datum":
                resource = self._resources.get(_text(doc.get("resource")))
                uid = resource.run_uid if resource else ""
            case "resource" | "stream_resource":
                resource = self._resources.get(_text(doc.get("uid")))
                uid = _text(doc.get("run_start")) or (resource.run_uid if resource else "")
            case _:
                uid = doc.get("run_start", "")
        return _text(uid)

    def idle(self, now: float, ttl: float) -> tuple[str, ...]:
        """Uids of the open runs without a document for longer than `ttl` seconds."""
        return tuple(uid for uid, run in self._runs.items() if now - run.seen > ttl)

    def close(self, run_uid: str) -> tuple[Parent, ...]:
        """Forget a run; returns it with its descriptors and resources."""
        run = self._runs.pop(run_uid, None)
        if run is None:
            return (("run", run_uid),)
        for uid in run.descriptors:
            del self._descriptors[uid]
        for uid in run.resources:
            del self._resources[uid]
        descriptors = (("descriptor", uid) for uid in run.descriptors)
        return (("run", run_uid), *descriptors, *(("resource", uid) for uid in run.resources))

    # ------------------------------------------------------------------ verdicts

    def _start(self, doc: Mapping[str, Any], now: float) -> Verdict:
        if known := self._runs.get(doc["uid"]):
            return _again(known.start, doc, "start")
        self._runs[doc["uid"]] = _Run(doc, now)
        return Word.ACCEPTED

    def _descriptor(self, doc: Mapping[str, Any], now: float) -> Verdict:
        run = self._runs.get(doc["run_start"])
        if run is None:
            return Waits(("run", doc["run_start"]))
        if known := self._descriptors.get(doc["uid"]):
            return _again(known.doc, doc, "descriptor")
        run.seen = now
        run.descriptors.add(doc["uid"])
        self._descriptors[doc["uid"]] = _Descriptor(doc, declared(doc))
        return Word.ACCEPTED

    def _event(self, doc: Mapping[str, Any], now: float) -> Verdict:
        known = self._descriptors.get(doc["descriptor"])
        if known is None:
            return Waits(("descriptor", doc["descriptor"]))
        if fault := event_fault(doc, known.promise):
            return Refused(fault)
        return self._once(known.promise.run_uid, doc, (doc["seq_num"], doc["time"]), now)

    def _resource(self, name: str, doc: Mapping[str, Any], now: float) -> Verdict:
        run_uid = doc.get("run_start") or (self.runs[0] if len(self._runs) == 1 else "")
        if not run_uid:
            return Refused(f"it does not name its run, and {len(self._runs)} runs are open")
        run = self._runs.get(run_uid)
        if run is None:
            return Waits(("run", run_uid))
        if known := self._resources.get(doc["uid"]):
            return _again(known.doc, doc, name)
        run.seen = now
        run.resources.add(doc["uid"])
        self._resources[doc["uid"]] = _Resource(name, doc, run_uid)
        return Word.ACCEPTED

    def _datum(self, doc: Mapping[str, Any], now: float) -> Verdict:
        known = self._resources.get(doc["resource"])
        if known is None:
            return Waits(("resource", doc["resource"]))
        if known.name != "resource":
            return Refused("'resource' is the uid of a stream_resource")
        self._runs[known.run_uid].seen = now
        return Word.ACCEPTED

    def _stream_datum(self, doc: Mapping[str, Any], now: float) -> Verdict:
        known = self._descriptors.get(doc["descriptor"])
        if known is None:
            return Waits(("descriptor", doc["descriptor"]))
        resource = self._resources.get(doc["stream_resource"])
        if resource is None:
            return Waits(("resource", doc["stream_resource"]))
        if fault := _mismatch(known.promise, resource):
            return Refused(fault)
        return self._once(known.promise.run_uid, doc, (doc["seq_nums"]["start"], 0.0), now)

    def _stop(self, doc: Mapping[str, Any], now: float) -> Verdict:
        # Also of an unknown run: a callback ahead of ours may have raised on the start document.
        return Word.ACCEPTED

    def _once(self, run_uid: str, doc: Mapping[str, Any], mark: tuple[int, float], now: float) -> Verdict:
        """Absorb what is delivered twice; a point that was measured again has a new uid."""
        run = self._runs[run_uid]
        run.seen = now
        before = run.recent.get(doc["uid"])
        if before is not None:
            return Word.ABSORBED if before == mark else Refused("its uid was used by another document")
        run.recent[doc["uid"]] = mark
        if len(run.recent) > _REMEMBERED:
            del run.recent[next(iter(run.recent))]
        return Word.ACCEPTED


def _again(known: Mapping[str, Any], doc: Mapping[str, Any], name: str) -> Verdict:
    if same(known, doc):
        return Word.ABSORBED
    return Refused(f"another {name} document with this uid came before, with other content")


def _mismatch(promise: Declared, resource: _Resource) -> str:
    if resource.name != "stream_resource":
        return "'stream_resource' is the uid of a resource"
    if resource.run_uid != promise.run_uid:
        return "its descriptor and its stream_resource belong to different runs"
    key = resource.doc["data_key"]
    return "" if key in promise.keys else f"its descriptor does not declare data key '{key}'"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
