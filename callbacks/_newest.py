"""Which emission of each point is the newest, known before the point is analysed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from skyloop.documents.inbox import Inbox, Key

__all__ = ["Newest"]


class Newest:
    """Watches events on the caller's thread, so that a rewound point is pending again at once.

    After pause and resume the RunEngine emits the same seq_num with a new time and uid. A plan that waits
    for that point must not be given the result of the first emission, not even one still being computed.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._streams: dict[str, tuple[str, str]] = {}
        self._times: dict[Key, float] = {}

    def see(self, name: str, doc: Mapping[str, Any]) -> None:
        """Note a raw document."""
        match name:
            case "descriptor":
                self._streams[doc["uid"]] = (doc["run_start"], doc["name"])
            case "event":
                self._emitted(doc["descriptor"], doc["seq_num"], doc["time"])
            case "event_page":
                for number, emitted in zip(doc["seq_num"], doc["time"], strict=True):
                    self._emitted(doc["descriptor"], number, emitted)
            case _:
                return

    def _emitted(self, descriptor: str, number: int, emitted: float) -> None:
        if descriptor not in self._streams:
            return
        key = (*self._streams[descriptor], number)
        if self._times.get(key, emitted) != emitted:
            self._inbox.renew(key)
        self._times[key] = emitted

    def is_newest(self, key: Key, emitted: float) -> bool:
        """Whether no later emission of that point was seen; NaN is the only one there is."""
        return math.isnan(emitted) or self._times.get(key, emitted) == emitted

    def forget(self, run_uid: str) -> None:
        """Drop what is known of a run that has ended."""
        # lists first: the caller's thread may add an entry of another run meanwhile
        for uid in [u for u, (run, _) in list(self._streams.items()) if run == run_uid]:
            self._streams.pop(uid, None)
        for key in [k for k in list(self._times) if k[0] == run_uid]:
            self._times.pop(key, None)
