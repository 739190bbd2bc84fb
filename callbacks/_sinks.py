"""The sinks of one analysis: those it made itself, and those that it shares."""

from __future__ import annotations

import time
from collections.abc import Callable

from skyloop.documents.run import NamedDocument
from skyloop.runtime.sinks import Callback, Sink

__all__ = ["Sinks"]

_Wanted = Callable[[NamedDocument], bool]


class Sinks:
    """Where the documents of an analysis go."""

    def __init__(self) -> None:
        self._all: list[tuple[Sink, _Wanted]] = []
        self._own: list[Sink] = []

    def add(self, callback: Callback, wanted: _Wanted = lambda _: True) -> Sink:
        """Give the wanted documents to a callback; one that is no `Sink` yet gets one of its own."""
        sink = callback if isinstance(callback, Sink) else Sink(callback)
        if sink is not callback:
            self._own.append(sink)
        self._all.append((sink, wanted))
        return sink

    def publish(self, document: NamedDocument) -> None:
        """Give a document to each of them that wants it."""
        for sink, wanted in self._all:
            if wanted(document):
                sink(*document)

    @property
    def is_here(self) -> bool:
        """Whether this is asked from within one of them, on its thread."""
        return any(sink.is_here for sink, _ in self._all)

    def flush(self, deadline: float) -> bool:
        """Wait until they took everything; false when they did not before `deadline` [s, monotonic]."""
        return all(sink.flush(_until(deadline)) for sink, _ in self._all)

    def close(self, deadline: float) -> bool:
        """Flush and close our own; whoever made a shared one closes it, and waits for it."""
        closed = [sink.close(_until(deadline)) for sink in self._own]  # the next one also after a failure
        return all(closed)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong with each that is not in order."""
        return tuple(trouble for sink, _ in self._all if (trouble := sink.trouble))


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
