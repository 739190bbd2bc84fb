"""What a technique tells the analyzer that all techniques share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyloop.documents.frames import Point
from skyloop.documents.run import NamedDocument
from skyloop.engines import Engine
from skyloop.errors import ConfigError

__all__ = ["Prior", "Technique"]


@dataclass(frozen=True, slots=True)
class Prior:
    """What was believed of a free parameter before the data."""

    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    sigma: float
    """Standard deviation."""
    is_log: bool = False
    """Whether it is uniform in the logarithm."""
    is_target: bool = False
    """Whether this is the parameter that the user wants to know."""
    is_instrument: bool = False
    """Whether it belongs to the instrument: the values of the sample depend on it."""


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
    read_file: Callable[[Path, Any], tuple[list[NamedDocument], Sequence[str]]] | None = None
    """Turns a measured file into a raw run; also says what was left out or assumed, one line each."""
    for_file: Callable[[Any, Sequence[Any]], Any] | None = None
    """The configuration for the frames of a file, where the user left something open."""
    assumed: Callable[[Any], Sequence[str]] | None = None
    """What a configuration takes as exactly known, in a few lines."""
    priors: Callable[[Any], Mapping[str, Prior]] | None = None
    """Prior of each free parameter, by the name that it has in tables."""
    wanted: Callable[[Mapping[str, Any]], set[str]] | None = None
    """Data keys to read of a descriptor; None reads them all. What nobody wants stays unread."""
    keys: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What `frame_of` takes the data to be called, as JSON values: part of the identity of an analysis."""
    with_keys: Callable[[Mapping[str, Any]], Technique] | None = None
    """The technique for data that are called otherwise; takes what `keys` of another one hold, or a part.

    Raises `ConfigError` for what cannot be used. None: there is no choice."""

    def called(self, keys: Mapping[str, Any]) -> Technique:
        """The technique for data that are called so.

        Raises:
            ConfigError: these keys cannot be used; says why.
        """
        if self.with_keys is not None:
            return self.with_keys(keys)
        if keys != self.keys:
            raise ConfigError(f"technique '{self.name}' lets nobody choose keys; mend: leave them out")
        return self
