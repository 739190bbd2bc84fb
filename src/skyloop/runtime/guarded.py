"""The one place where any exception is caught, so that none can reach the RunEngine or vanish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import Any, TypeVar

__all__ = ["Broken", "guarded"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broken:
    """What is left of a call that raised."""

    reason: str
    """Type and message of the exception."""
    error: BaseException
    """The exception itself, with its traceback."""


def guarded(call: Callable[..., T], *args: Any) -> T | Broken:
    """The value of `call(*args)`, or what it raised as a `Broken` value.

    `SystemExit`, `ReferenceError` and `CancelledError` are caught too: in a callback the first hangs the
    RunEngine for ever, the second unsubscribes the callback silently, the third truncates the run. Only
    Ctrl-C on the main thread passes: there a person wants a replay to end, and no RunEngine calls.
    """
    try:
        return call(*args)
    except KeyboardInterrupt as error:
        if current_thread() is main_thread():
            raise
        return Broken(_words(error), error)
    except BaseException as error:  # noqa: BLE001 - this is the boundary; the caller records what it gets
        return Broken(_words(error), error)


def _words(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"
    except Exception:  # noqa: BLE001 - an exception may break when it is asked what it is
        return kind
