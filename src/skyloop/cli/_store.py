"""The end of a store: a command that lost a document says so and does not end as if all were well."""

from __future__ import annotations

from skyloop.errors import StorageError
from skyloop.runtime.sinks import Sink

__all__ = ["finish_store"]

_STUCK_SECONDS = 10.0
_MEND = "run the command again, with --out on a disk that has room and keeps up"


def finish_store(sink: Sink) -> None:
    """Close a store, and refuse to go on when it did not take every document.

    A store is waited for as long as it takes documents; one that takes none for 10 s is given up.

    Raises:
        StorageError: documents were refused by the store, or still waited for it when it was given up.
    """
    waiting = sink.waiting
    while not sink.flush(_STUCK_SECONDS) and sink.waiting < waiting:
        waiting = sink.waiting
    sink.close(0.0)
    lost = sink.failed + sink.waiting
    if lost:
        last = f"the last: {sink.last_failure}" if sink.last_failure else "the store is still busy"
        why, _, mend = last.partition("; mend: ")
        raise StorageError(f"documents were not stored: at least {lost} ({why}); mend: {mend or _MEND}")
