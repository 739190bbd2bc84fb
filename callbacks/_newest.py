"""Which emission of each point counts, known before the point is analysed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from threading import RLock
from typing import Any

from skyloop.documents.inbox import Analysis, Inbox, Key
from skyloop.documents.run import NamedDocument

__all__ = ["Newest"]


class Newest:
    """Watches events on the caller's thread, so that a rewound point is pending again at once.

    After pause and resume the RunEngine emits the same seq_num with a new time and uid. A plan that waits
    for that point must not be given the result of the first emission, not even one still being computed. But
    an event may also be damaged, or delivered twice. So its point is in doubt until the gate has judged it,
    and the result of the last good emission is held back as long.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._lock = RLock()  # the caller sees an event either before a result is given, or after
        self._streams: dict[str, tuple[str, str]] = {}
        self._times: dict[Key, float] = {}
        self._doubted: dict[Key, int] = {}
        self._held: dict[Key, Analysis] = {}

    def see(self, name: str, doc: Mapping[str, Any]) -> list[Key]:
        """Note a raw document as it comes in; returns the points that are in doubt for it."""
        with self._lock:
            if name == "descriptor":
                self._streams.setdefault(doc["uid"], (doc["run_start"], doc["name"]))
            if name not in ("event", "event_page") or doc["descriptor"] not in self._streams:
                return []
            stream = self._streams[doc["descriptor"]]
            numbers = [doc["seq_num"]] if name == "event" else doc["seq_num"]
            doubted = list(dict.fromkeys((*stream, number) for number in numbers))
            for key in doubted:
                self._doubt(key)
            return doubted

    def _doubt(self, key: Key) -> None:
        self._doubted[key] = self._doubted.get(key, 0) + 1
        if result := self._inbox.renew(key):
            self._held[key] = result

    def judged(self, doubted: Iterable[Key], accepted: Iterable[NamedDocument]) -> None:
        """The gate has judged a document: what it accepted for it, and the points that were in doubt."""
        with self._lock:
            for name, doc in accepted:
                if name == "descriptor":
                    self._streams[doc["uid"]] = (doc["run_start"], doc["name"])
                elif name == "event" and doc["descriptor"] in self._streams:
                    self._emitted((*self._streams[doc["descriptor"]], doc["seq_num"]), doc["time"])
            for key in doubted:
                self._settle(key)

    def _emitted(self, key: Key, emitted: float) -> None:
        if self._times.get(key, emitted) != emitted:
            self._held.pop(key, None)
            self._inbox.renew(key)  # it may have come before its descriptor, and was not seen
        self._times[key] = emitted

    def _settle(self, key: Key) -> None:
        left = self._doubted.get(key, 0) - 1
        if left > 0:
            self._doubted[key] = left
            return
        self._doubted.pop(key, None)
        if key in self._held:
            self._inbox.put(key, self._held.pop(key))

    def give(self, key: Key, emitted: float, analysis: Analysis) -> None:
        """Put a result into the inbox, unless a later emission of that point counts; NaN is the only one."""
        with self._lock:
            if not math.isnan(emitted) and self._times.get(key, emitted) != emitted:
                return
            if key in self._doubted:
                self._held[key] = analysis
            else:
                self._inbox.put(key, analysis)

    def forget(self, run_uid: str) -> None:
        """Drop what is known of a run that has ended."""
        with self._lock:
            for uid in [u for u, (run, _) in self._streams.items() if run == run_uid]:
                del self._streams[uid]
            for of_points in (self._times, self._doubted, self._held):
                for key in [k for k in of_points if k[0] == run_uid]:
                    del of_points[key]
