"""What the commands read from documents and print: tables of results, with units and uncertainties."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skyloop.callbacks import Prior, Technique
from skyloop.documents.frames import Point, Points
from skyloop.documents.run import NamedDocument
from skyloop.engines.panel import Fact, Facts, Panel
from skyloop.errors import Outcome
from skyloop.figures.words import MARK, fact_text, number, unit_text, verdict
from skyloop.runtime.sinks import Callback

__all__ = [
    "columns_of",
    "data_of",
    "each_result",
    "frames_of",
    "marked",
    "newest",
    "panels_of",
    "points_of",
    "show_facts",
]

_OPEN = "not determined by the data"
_NOTHING = "no check speaks against these values"
_UNDETERMINED = 0.8
"""Above this share of the standard deviation of the prior, the data have said nothing."""
_NARROW, _NEAR = 0.5, 1.5
"""Narrower than this share of the prior, and nearer to an end than so many of its own sigmas: it piles up."""


def panels_of(technique: Technique, config: Any, frames: Sequence[Any], result: Any) -> list[Panel]:
    """The panels of a result, marked; none where the technique draws none."""
    if technique.panels is None:
        return []
    priors = technique.priors(config) if technique.priors else {}
    return marked(technique.panels(frames, result, config=config), priors)


def marked(panels: Sequence[Panel], priors: Mapping[str, Prior]) -> list[Panel]:
    """The panels, with a note at each parameter that the data leave open or push to an end of its range.

    The title of the values says whether they can be trusted, and what the target is. Where the target or a
    parameter of the instrument is at an end of its range, a result that is `ok` has a reason that says so.
    """
    return [_marked(panel, priors) if isinstance(panel, Facts) else panel for panel in panels]


def _marked(facts: Facts, priors: Mapping[str, Prior]) -> Facts:
    rows = tuple(_with_remark(row, priors[row.name]) if row.name in priors else row for row in facts.rows)
    title = facts.title if facts.outcome == Outcome.OK else f"{facts.title}: not to be trusted"
    title += "".join(f"\ntarget: {name}" for name, prior in priors.items() if prior.is_target)
    reason = facts.reason or (_carried(rows, priors) if facts.outcome == Outcome.OK else "")
    return replace(facts, title=title, rows=rows, reason=reason)


def _carried(rows: Sequence[Fact], priors: Mapping[str, Prior]) -> str:
    """What keeps the values from being used as they are, although no check speaks against them; or empty."""
    known = [row for row in rows if row.name in priors]
    for row in known:
        if priors[row.name].is_target and row.note == _OPEN:
            return f"the data do not determine {row.name}"
    free = [(row, end) for row in known if (end := _end_of(row.note))]
    at = [
        f"{row.name} is at the {end} end of its range"
        for row, end in free
        if priors[row.name].is_target or priors[row.name].is_instrument
    ]
    it = "it ends" if len(at) == 1 else "they end"
    return f"{' and '.join(at)}: the other values depend on where {it}" if at else ""


def _end_of(note: str) -> str:
    """The end of its range at which a parameter is, from its note; empty when it is at none."""
    return next((end for end in ("lower", "upper") if note.startswith(f"at the {end} end of")), "")


def _with_remark(fact: Fact, prior: Prior) -> Fact:
    if fact.sigma > _UNDETERMINED * prior.sigma:
        return replace(fact, note=_OPEN)
    ends = {"lower": fact.value - prior.low, "upper": prior.high - fact.value}
    end = min(ends, key=ends.__getitem__)
    if not (fact.sigma < _NARROW * prior.sigma and ends[end] < _NEAR * fact.sigma):
        return fact
    # the range cuts the distribution off: its width says where the range ends, not how well it is known
    value = round(fact.value, 1 - math.floor(math.log10(fact.sigma)))
    note = f"at the {end} end of its range [{prior.low:g}, {prior.high:g}]"
    if prior.is_log and end == "lower":  # which in its logarithm may be far away
        note = f"upper limit: below about {fact.value + 2 * fact.sigma:.1g}"
    return replace(fact, value=value, sigma=math.nan, note=note)


def show_facts(panels: Sequence[Panel], console: Console) -> None:
    """Print the tables of values among the panels, each below its outcome."""
    for facts in (p for p in panels if isinstance(p, Facts)):
        _show_outcome(facts, console)
        heads = ("quantity", "value", "unit", *(["remark"] if any(row.note for row in facts.rows) else []))
        table = Table(*heads, title=escape(facts.title), title_justify="left")
        for row in facts.rows:
            cells = (fact_text(row, facts.outcome), unit_text(row.unit), f"[yellow]{escape(row.note)}[/]")
            table.add_row(escape(row.name), *cells[: len(heads) - 1])
        console.print(table)


def _show_outcome(facts: Facts, console: Console) -> None:
    if facts.outcome == Outcome.OK:
        line = f"[yellow]{escape(verdict(facts))}[/]" if facts.reason else "[green]ok[/]: " + _NOTHING
        console.print(line, soft_wrap=True, highlight=False)
        return
    for line in (
        f"[bold]NOT TO BE TRUSTED[/] ({facts.outcome}): {escape(facts.reason)}",
        f"The errors of the values marked{MARK} do not hold: do not use these values as they are.",
    ):
        console.print(f"[yellow]{line}[/]", soft_wrap=True, highlight=False)


def columns_of(technique: Technique) -> dict[str, str]:
    """Hinted fields that a table shows, each with that of its uncertainty, or with nothing.

    An uncertainty stands with its value and has no column of its own.
    """
    hints = technique.hints
    values = [
        hint for hint in hints if hint.removesuffix("_sigma") not in hints or not hint.endswith("_sigma")
    ]
    return {hint: f"{hint}_sigma" if f"{hint}_sigma" in hints else "" for hint in values}


def data_of(documents: Iterable[NamedDocument]) -> list[dict[str, Any]]:
    """Data of each event; of an analysis run, the last is the summary."""
    return [doc["data"] for name, doc in documents if name == "event"]


def points_of(documents: Iterable[NamedDocument]) -> list[Point]:
    """Every event of a raw run, with everything filled."""
    points = Points()
    return [point for name, doc in documents for point in points.feed(name, doc)]


def frames_of(technique: Technique, points: Iterable[Point]) -> list[Any]:
    """Those of the points that are frames of a technique."""
    return [frame for frame in map(technique.frame_of, points) if frame is not None]


def each_result(technique: Technique, show: Callable[[int, float, float], None]) -> Callback:
    """A sink that gives the point, the first hinted value and its uncertainty of each result but the summary.

    The uncertainty is NaN where the technique has none.
    """
    (value, sigma), *_ = columns_of(technique).items()

    def follow(name: str, doc: dict[str, Any]) -> None:
        if name != "event" or "raw_seq_num" not in doc["data"]:
            return
        data, prefix = doc["data"], technique.name
        known = float(data[f"{prefix}_{sigma}"]) if sigma else math.nan
        show(int(data["raw_seq_num"]), float(data[f"{prefix}_{value}"]), known)

    return follow


def newest(technique: Technique, show: Callable[[str], None]) -> Callback:
    """A sink that shows the newest result in words, for as long as an analysis takes."""
    name, numbers = next(iter(columns_of(technique))), count(1)
    return each_result(
        technique,
        lambda _, value, sigma: show(f"result {next(numbers)}: {name} {number(value, sigma)}"),
    )
