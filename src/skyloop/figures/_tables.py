"""Tables beside each other on a figure, as text."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from matplotlib.figure import Figure

from skyloop.engines.panel import Fact, Facts, Log
from skyloop.errors import Outcome
from skyloop.figures.words import fact_text, unit_text, verdict

__all__ = ["draw_tables", "lines_of"]

_TEXT_SIZE = 9.0
"""Largest size of the text, in points."""
_TEXT_WIDTH = 60
"""Longest line of a reason, in letters."""
_LOG_ROWS = 12
"""Rows of a log that are shown, the last ones."""
_GAP = 4
"""Between two tables, in letters."""
_LETTER = 0.61 / 72
"""Width of a letter, in inches per point of its size."""


def draw_tables(figure: Figure, cell: Any, tables: Sequence[Sequence[str]]) -> None:
    """Write tables into a cell of a grid, from the left to the right, as large as they fit."""
    widths = [max(map(len, lines)) + _GAP for lines in tables]
    inches = figure.get_figwidth()
    size = min(_TEXT_SIZE, inches / (sum(widths) * _LETTER))
    spare = max(0.0, inches / (size * _LETTER) - sum(widths))
    grid = cell.subgridspec(1, len(tables) + 1, width_ratios=[*widths, max(spare, 1e-3)], wspace=0.0)
    for place, lines in zip(grid, tables, strict=False):
        axes = figure.add_subplot(place)
        axes.set_axis_off()
        text = axes.text(0.0, 1.0, "\n".join(lines), va="top", family="monospace", parse_math=False)
        text.set(fontsize=size, transform=axes.transAxes)


def lines_of(table: Facts | Log) -> list[str]:
    """A table as lines of text."""
    return _lines_of_log(table) if isinstance(table, Log) else _lines_of_facts(table)


def _lines_of_log(log: Log) -> list[str]:
    left_out = len(log.rows) > _LOG_ROWS
    title = f"{log.title}, the last {_LOG_ROWS} of {len(log.rows)}" if left_out else log.title
    return [title, *_in_columns([log.columns, *log.rows[-_LOG_ROWS:]])]


def _lines_of_facts(facts: Facts) -> list[str]:
    width = max((len(fact.name) for fact in facts.rows), default=0)
    rows = (line for fact in facts.rows for line in _lines_of_fact(fact, width, facts.outcome))
    return [*facts.title.splitlines(), *rows, *wrap(f"outcome: {verdict(facts)}", _TEXT_WIDTH)]


def _in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def _lines_of_fact(fact: Fact, width: int, outcome: Outcome) -> list[str]:
    line = f"{fact.name:<{width}}  {fact_text(fact, outcome)} {unit_text(fact.unit)}".rstrip()
    return [line, f"{'':<{width}}  {fact.note}"] if fact.note else [line]
