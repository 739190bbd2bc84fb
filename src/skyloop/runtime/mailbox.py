"""A queue between two threads that never makes the giver wait, and that knows when it is empty."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Items in order from any thread to one thread, which takes all that wait at once."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._in_hand = 0
        self._closed = False

    def put(self, item: T) -> bool:
        """Leave an item; false when the box is closed and nobody will take it."""
        with self._changed:
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self, timeout: float | None = None, *, kept: int = 0) -> list[T] | None:
        """All waiting items, `[]` when none came within `timeout` seconds, None once the box is closed.

        Taking the next items says that those taken before are done with, but for the `kept` ones.
        """
        with self._changed:
            self._in_hand = kept
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            if self._closed and not self._items:
                return None
            taken = list(self._items)
            self._items.clear()
            self._in_hand += len(taken)
            return taken

    def did_one(self) -> None:
        """One of the taken items is done with."""
        with self._changed:
            self._in_hand -= 1

    @property
    def waiting(self) -> int:
        """How many items are not done with."""
        with self._changed:
            return len(self._items) + self._in_hand

    def wait_idle(self, timeout: float) -> bool:
        """Wait until every item is done with; false when that takes longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._items and not self._in_hand, timeout)

    def wait_closed(self, timeout: float) -> bool:
        """Pause for `timeout` seconds, or until the box is closed (true)."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout)

    def close(self) -> None:
        """Take no more items; those that wait can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
