"""What can go wrong: outcomes that results carry, and exceptions that callers get.

Outcome (a value in every result)
    ok, degraded, rejected, failed, timeout, superseded

SkyloopError (an exception; its message says what, where and the mend)
    ConfigError         a configuration or a sample model that cannot be used
    DataError           a file or a stored run that cannot be read
    DocumentError       a Bluesky document that breaks its contract
    StorageError        a catalog or a file that cannot be written
        UnavailableError    a store that does not answer now: the same document can be offered again
    MissingExtraError   an optional part that is not installed
    RefusedError        an answer or a move that the gate or the guard refuses
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "ConfigError",
    "DataError",
    "DocumentError",
    "MissingExtraError",
    "Outcome",
    "RefusedError",
    "SkyloopError",
    "StorageError",
    "UnavailableError",
]


class Outcome(StrEnum):
    """How an analysis ended; every result carries one, with a reason unless it is `ok`."""

    OK = "ok"
    """The result can be used."""
    DEGRADED = "degraded"
    """The result can be used with the care that its reason names."""
    REJECTED = "rejected"
    """The data cannot be analysed: the fault is in the frame."""
    FAILED = "failed"
    """The analysis broke: the fault is ours."""
    TIMEOUT = "timeout"
    """The analysis took longer than its deadline."""
    SUPERSEDED = "superseded"
    """A later result holds this frame; the reason names it."""


class SkyloopError(Exception):
    """Any error of this package that a caller can act on."""


class ConfigError(SkyloopError):
    """A configuration or a sample model cannot be used."""


class DataError(SkyloopError):
    """A file or a stored run cannot be read."""


class DocumentError(SkyloopError):
    """A Bluesky document breaks its contract."""


class StorageError(SkyloopError):
    """A catalog or a file cannot be written."""


class UnavailableError(StorageError):
    """A store does not answer now; the same document can be offered again."""


class MissingExtraError(SkyloopError):
    """An optional part is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed; mend: pip install 'skyloop[{extra}]'")


class RefusedError(SkyloopError):
    """The approval gate or the guard refuses an answer or a move."""
