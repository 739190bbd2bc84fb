"""What the commands print: tables of results, with units and uncertainties."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skyloop.callbacks import Technique
from skyloop.engines.panel import Facts, Panel
from skyloop.errors import Outcome
from skyloop.figures.pen import number, unit_text
from skyloop.runtime.sinks import Callback

__all__ = ["columns_of", "newest", "show_facts"]

_COLOURS = {Outcome.OK: "green", Outcome.DEGRADED: "yellow"}


def show_facts(panels: Sequence[Panel], console: Console) -> None:
    """Print the tables of values among the panels, each with its outcome."""
    for facts in (p for p in panels if isinstance(p, Facts)):
        table = Table("quantity", "value", "unit", title=escape(facts.title), title_justify="left")
        for row in facts.rows:
            table.add_row(escape(row.name), number(row.value, row.sigma), unit_text(row.unit))
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
