"""What the commands print: tables of results, with units and uncertainties."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skyloop.engines.panel import Facts, Panel
from skyloop.errors import Outcome
from skyloop.figures.pen import number, unit_text

__all__ = ["show_facts"]

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
