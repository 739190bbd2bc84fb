"""Documents that came before their parents, kept for a while."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Lot", "Parent", "Parked"]

Parent = tuple[str, str]
"""What a document refers to: the kind (run, descriptor or resource) and its uid."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A document that waits for the one it refers to."""

    name: str
    """Name of the document."""
    doc: Any
    """The document itself."""
    parent: Parent
    """What it waits for."""
    since: float
    """When it came [s]."""


class Lot:
    """Waiting documents, found by what they wait for, oldest first; bounded in number and in age.

    Args:
        most: most documents that may wait.
        seconds: longest wait [s].
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._tickets = itertools.count()
        self._parked: dict[int, Parked] = {}
        self._children: dict[Parent, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def park(self, parked: Parked) -> list[Parked]:
        """Let a document wait; returns the oldest ones that had to go for it."""
        ticket = next(self._tickets)
        self._parked[ticket] = parked
        self._children.setdefault(parked.parent, {})[ticket] = None
        surplus = itertools.islice(self._parked, max(0, len(self._parked) - self._most))
        return self._take(list(surplus))

    def release(self, parent: Parent) -> list[Parked]:
        """Take out what waits for this document, oldest first."""
        return self._take(self._children.get(parent, ()))

    def overdue(self, now: float) -> list[Parked]:
        """Take out what has waited too long."""
        late: list[int] = []
        for ticket, parked in self._parked.items():
            if now - parked.since <= self._seconds:
                break
            late.append(ticket)
        return self._take(late) if late else []

    def withdraw(self, which: Callable[[Parked], bool]) -> list[Parked]:
        """Take out all that a condition holds for, oldest first."""
        return self._take([ticket for ticket, parked in self._parked.items() if which(parked)])

    def _take(self, tickets: Iterable[int]) -> list[Parked]:
        taken = [(ticket, self._parked.pop(ticket)) for ticket in list(tickets)]
        for ticket, parked in taken:
            siblings = self._children[parked.parent]
            del siblings[ticket]
            if not siblings:
                del self._children[parked.parent]
        return [parked for _, parked in taken]
