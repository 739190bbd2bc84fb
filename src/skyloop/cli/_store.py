"""The end of a store: a command that lost a document says so and does not end as if all were well."""

from __future__ import annotations

from skyloop.errors import StorageError
from skyloop.runtime.sinks import Sink

__all__ = ["finish_store"]


def finish_store(sink: Sink) -> None:
    """Close a store, and refuse to go on when it did not take every document.

    Raises:
        StorageError: documents were refused by the store, or still waited for it when time was up.
    """
    sink.close()
    lost = sink.failed + sink.waiting
    if lost:
        last = f"the last: {sink.last_failure}" if sink.last_failure else "the store is still busy"
        raise StorageError(
            f"documents were not stored: at least {lost} ({last}); mend: run the command again, with --out "
            "on a disk that has room and keeps up"
        )
