"""What counts as a number: policies and queues give many kinds, documents hold plain floats."""

from math import isfinite
from numbers import Real
from typing import Any

from skyloop.runtime.guarded import Broken, guarded

__all__ = ["NAN", "is_finite", "number", "shown"]

NAN = float("nan")
_LONGEST = 80
"""Characters of a value that a message shows."""


def is_finite(value: Any) -> bool:
    """Whether a value of any make is a real number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def number(value: Any) -> float:
    """The value as a plain float; NaN if it is no finite number."""
    return float(value) if is_finite(value) else NAN


def shown(value: Any) -> str:
    """The value for a message, however long it is and whatever it does when it is printed."""
    text = guarded(repr, value)
    return f"a {type(value).__name__}" if isinstance(text, Broken) else text[:_LONGEST]
