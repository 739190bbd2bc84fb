"""What a technique tells the analyzer that all techniques share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyloop.documents.frames import Point
from skyloop.documents.run import NamedDocument
from skyloop.engines import Engine

__all__ = ["Technique"]


@dataclass(frozen=True)
class Technique:
    """One technique: how a raw event becomes a frame, and which engine analyses it."""

    name: str
    """Technique word: the name of its modules and the prefix of its data keys."""
    load: Callable[[str | Path], Any]
    """Reads the engine's configuration from a YAML file or from YAML text."""
    engine: Callable[[Any], Engine[Any, Any, Any]]
    """Makes an engine from a configuration."""
    frame_of: Callable[[Point], Any]
    """Frame of a raw event; None when the event is not for this technique.

    Raises `DataError` when the event should hold a frame and does not."""
    hints: tuple[str, ...]
    """One to four scalar result fields that tables and plots show."""
    panels: Callable[..., Sequence[Any]] | None = None
    """Pictures of results: frames and results to panels."""
    read_file: Callable[[Path, Any], tuple[list[NamedDocument], str]] | None = None
    """Turns a measured file into a raw run; also says what was left out."""
    wanted: Callable[[Mapping[str, Any]], set[str]] | None = None
    """Data keys to read of a descriptor; None reads them all. What nobody wants stays unread."""
