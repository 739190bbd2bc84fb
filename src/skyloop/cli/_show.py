"""What the commands print: tables of results, with units and uncertainties."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skyloop.callbacks import Prior, Technique
from skyloop.engines.panel import Fact, Facts, Panel
from skyloop.errors import Outcome
from skyloop.figures.pen import number, unit_text
from skyloop.runtime.sinks import Callback

__all__ = ["columns_of", "marked", "newest", "show_facts"]

_COLOURS = {Outcome.OK: "green", Outcome.DEGRADED: "yellow"}
_UNDETERMINED = 0.8
"""Above this share of the standard deviation of the prior, the data have said nothing."""
_NARROW, _NEAR = 0.5, 1.5
"""Narrower than this share of the prior, and nearer to an end than so many of its own sigmas: it piles up."""


def marked(panels: Sequence[Panel], priors: Mapping[str, Prior]) -> list[Panel]:
    """The panels, with a note at each parameter that the data leave open or push to an end of its range."""
    return [_marked(panel, priors) if isinstance(panel, Facts) else panel for panel in panels]


def _marked(facts: Facts, priors: Mapping[str, Prior]) -> Facts:
    rows = (replace(r, note=_remark(r, priors[r.name])) if r.name in priors else r for r in facts.rows)
    return replace(facts, rows=tuple(rows))


def _remark(fact: Fact, prior: Prior) -> str:
    if fact.sigma > _UNDETERMINED * prior.sigma:
        return "not determined by the data"
    ends = {"lower": fact.value - prior.low, "upper": prior.high - fact.value}
    end = min(ends, key=ends.__getitem__)
    piles_up = fact.sigma < _NARROW * prior.sigma and ends[end] < _NEAR * fact.sigma
    return f"at the {end} end of its range" if piles_up else ""


def show_facts(panels: Sequence[Panel], console: Console) -> None:
    """Print the tables of values among the panels, each with its outcome."""
    for facts in (p for p in panels if isinstance(p, Facts)):
        heads = ("quantity", "value", "unit", *(["remark"] if any(row.note for row in facts.rows) else []))
        table = Table(*heads, title=escape(facts.title), title_justify="left")
        for row in facts.rows:
            cells = (number(row.value, row.sigma), unit_text(row.unit), f"[yellow]{escape(row.note)}[/]")
            table.add_row(escape(row.name), *cells[: len(heads) - 1])
        console.print(table)
        colour = _COLOURS.get(facts.outcome, "red")
        console.print(f"[{colour}]{facts.outcome}[/] {escape(facts.reason)}".rstrip())


def columns_of(technique: Technique) -> dict[str, str]:
    """Hinted fields that a table shows, each with that of its uncertainty, or with nothing.

    An uncertainty stands with its value and has no column of its own.
    """
    hints = technique.hints
    values = [
        hint for hint in hints if hint.removesuffix("_sigma") not in hints or not hint.endswith("_sigma")
    ]
    return {hint: f"{hint}_sigma" if f"{hint}_sigma" in hints else "" for hint in values}


def newest(technique: Technique, show: Callable[[str], None]) -> Callback:
    """A sink that shows the newest result in words, for as long as an analysis takes."""
    (value, sigma), *_ = columns_of(technique).items()
    numbers = count(1)

    def follow(name: str, doc: dict[str, Any]) -> None:
        if name != "event" or "raw_seq_num" not in doc["data"]:
            return
        data, prefix = doc["data"], technique.name
        known = float(data[f"{prefix}_{sigma}"]) if sigma else math.nan
        show(f"result {next(numbers)}: {value} {number(float(data[f'{prefix}_{value}']), known)}")

    return follow
