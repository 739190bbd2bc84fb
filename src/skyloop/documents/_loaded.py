"""What comes of reading external data: the value, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["MOST_BYTES", "Loaded", "NotYet", "Unreadable"]

MOST_BYTES = 2**30
"""Most bytes that one read may bring into memory: 1 GiB, ten times the largest detector image."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """The data are not there, but may come: ask again."""

    reason: str
    """What is missing, in one line."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The data will not be read: asking again is of no use."""

    reason: str
    """What is wrong, where, and the mend where there is one."""


Loaded = Any | NotYet | Unreadable
"""The value of a data key, or the reason why there is none."""
