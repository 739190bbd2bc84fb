"""What a picture shows, without how it is drawn: arrays with labels and units.

An engine's `panels.py` makes these from frames, results and decisions; any pen in `figures/` draws them.
A panel is a `Plot` of curves, bands and traces on common axes, or a table: `Facts` or a `Log`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skyloop.errors import Outcome
from skyloop.quantities import FloatArray

__all__ = ["Axis", "Band", "Curve", "Fact", "Facts", "Log", "Panel", "Plot", "Trace"]


def _none() -> FloatArray:
    return np.empty(0)


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis measures."""

    label: str
    """Name of the quantity, for example `"q"`."""
    unit: str = ""
    """Unit in words, as in the `Quantity` of the field."""
    is_log: bool = False
    """True for a logarithmic axis."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Values over an abscissa: a line, or points when they carry error bars."""

    label: str
    """What the legend says."""
    x: FloatArray
    """Abscissae."""
    y: FloatArray
    """Values."""
    y_sigma: FloatArray = field(default_factory=_none)
    """One standard deviation of each value; empty for a line without error bars."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """The region between two lines."""

    label: str
    """What the legend says."""
    x: FloatArray
    """Abscissae."""
    low: FloatArray
    """Lower line."""
    high: FloatArray
    """Upper line."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A value as the run went on, with marks where something was decided."""

    label: str
    """What the legend says."""
    x: FloatArray
    """Number of points so far, or time."""
    y: FloatArray
    """Values."""
    y_sigma: FloatArray = field(default_factory=_none)
    """One standard deviation of each value; empty when it has none."""
    marks: FloatArray = field(default_factory=_none)
    """Abscissae to be marked."""
    marks_label: str = "decision"
    """What the legend says of the marks."""


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """Curves, bands and traces on common axes."""

    title: str
    """What the picture says."""
    x: Axis
    """Horizontal axis."""
    y: Axis
    """Vertical axis."""
    items: tuple[Curve | Band | Trace, ...]
    """What is drawn, from the back to the front."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A value with its uncertainty."""

    name: str
    """Name of the quantity."""
    value: float
    """Value."""
    sigma: float = float("nan")
    """Standard deviation; NaN when there is none."""
    unit: str = ""
    """Unit in words."""
    note: str = ""
    """What else to know of it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is believed now."""

    title: str
    """What the table is about."""
    rows: tuple[Fact, ...]
    """One row per quantity."""
    outcome: Outcome = Outcome.OK
    """How the analysis ended."""
    reason: str = ""
    """Why, unless it is `ok`."""


@dataclass(frozen=True, slots=True)
class Log:
    """Rows of words, newest last."""

    title: str
    """What the table is about."""
    columns: tuple[str, ...]
    """Heads of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """One row per entry, one word per column."""


Panel = Plot | Facts | Log
"""Anything that a pen can draw."""
