"""Where a plan finds the analysis of the point it has just measured."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import RLock
from typing import Any
from weakref import WeakValueDictionary

from skyloop.errors import ConfigError

__all__ = ["Analysis", "Inbox", "Key", "inbox_named"]

Key = tuple[str, str, int]
"""Raw run uid, name of the raw stream, number of the event in it."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """One result, as the analysis run holds it."""

    result: Any
    """Result dataclass of the technique."""
    event_uid: str
    """Uid of the analysis event that carries the result."""
    seq_num: int
    """Number of that event in the analysis run."""


# A queue server sends strings: the name is all that a plan submitted to it can say of an analysis. The
# entries are weak, so an analysis that nobody holds cannot be found by its name.
_named: WeakValueDictionary[str, Inbox] = WeakValueDictionary()


def inbox_named(name: str) -> Inbox:
    """The inbox of the live analysis of that name.

    Raises:
        ConfigError: no live analysis has that name.
    """
    inbox = _named.get(name)
    if inbox is None:
        known = ", ".join(sorted(_named)) or "none"
        raise ConfigError(
            f"no analysis is named '{name}' (known: {known}); "
            f"mend: make it in the same process, with name='{name}'"
        )
    return inbox


class Inbox:
    """Results by key, as futures; safe to use from any thread.

    A future that was asked for before its result exists is pending, and resolves when the result is put. When
    a point is measured again (pause and resume), `renew` makes its future pending again, so that nobody takes
    the old result for the new point. `close` cancels what is still pending when a run ends.

    Args:
        name: makes the inbox findable by `inbox_named` as long as somebody holds it.
        capacity: how many results are kept; the oldest are forgotten first.
        config: configuration of the analysis as JSON values, as in its start document; empty: not known.
        units: unit of each field of the results; empty: not known.
    """

    def __init__(
        self,
        name: str = "",
        capacity: int = 10_000,
        *,
        config: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.config: Mapping[str, Any] = config or {}
        self.units: Mapping[str, str] = units or {}
        self.retired = False
        self._capacity = capacity
        self._lock = RLock()
        self._futures: OrderedDict[Key, Future[Analysis]] = OrderedDict()
        if name:
            _named[name] = self

    def retire(self) -> None:
        """No result will be put any more: the analysis was closed."""
        self.retired = True

    def future(self, key: Key) -> Future[Analysis]:
        """The future of a key, pending until its result is put."""
        with self._lock:
            return self._future(key)

    def _future(self, key: Key) -> Future[Analysis]:
        future = self._futures.get(key)
        if future is None:
            future = self._futures[key] = Future()
            self._forget_oldest()
        return future

    def _forget_oldest(self) -> None:
        while len(self._futures) > self._capacity:
            _, oldest = self._futures.popitem(last=False)
            oldest.cancel()

    def put(self, key: Key, analysis: Analysis) -> None:
        """Resolve the future of a key; a later result for the same key takes the place of the older one."""
        with self._lock:
            future = self._future(key)
            # once running it cannot be cancelled any more, so that its result can be set
            if future.done() or not future.set_running_or_notify_cancel():
                future = self._futures[key] = Future()
            future.set_result(analysis)

    def renew(self, key: Key) -> Analysis | None:
        """Forget the result of a point that is being measured again; returns what was forgotten."""
        with self._lock:
            future = self._futures.get(key)
            if future is None or not future.done():
                return None
            self._futures[key] = Future()
            return None if future.cancelled() else future.result()

    def close(self, run_uid: str) -> None:
        """Cancel every pending future of a run that has ended."""
        with self._lock:
            pending = [f for (run, _, _), f in self._futures.items() if run == run_uid and not f.done()]
        for future in pending:
            future.cancel()
