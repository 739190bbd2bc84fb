"""The matplotlib pen: panels to a figure, with units on every axis and bands behind every line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from skyloop.engines.panel import Axis, Band, Curve, Fact, Facts, Log, Panel, Plot, Trace

__all__ = ["draw", "number", "save", "unit_text"]

# Okabe and Ito: told apart by eyes that confuse red and green, and in print
_BLUE, _ORANGE, _GREEN, _RED, _PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
_POINTS, _BARS, _LINES = "#333333", "#999999", (_ORANGE, _BLUE, _GREEN, _PINK)
_MANY = 200
"""Beyond so many points each is drawn small, so that lines stay visible among them."""
_UNITS = {"angstrom": "Å", "1/angstrom": "Å⁻¹", "1e-6/angstrom^2": "10⁻⁶ Å⁻²", "count": "counts"}
_UNDATED: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
_TEXT_SIZE, _TEXT_WIDTH, _LOG_ROWS = 8.0, 48, 12
_TINY = 1e-3
"""Below it a value without an uncertainty is a matter of its power of ten."""
_PLAIN = 5
"""Powers of ten that are written out."""


def draw(panels: Sequence[Panel], *, title: str = "") -> Figure:
    """A figure with one row per plot and the tables beside them.

    A plot whose only course is a single value is left out: the tables hold it. Plots over the same abscissa
    have the same limits. The figure belongs to no window and no global state; `save` writes it.
    """
    plots = [p for p in panels if isinstance(p, Plot) and _has_a_course(p)]
    tables = [p for p in panels if not isinstance(p, Plot)]
    rows = max(len(plots), 1)
    figure = Figure(figsize=(11.0 if tables else 7.5, 1.0 + 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, 2 if tables else 1, width_ratios=[2.2, 1.0] if tables else None)
    over: dict[Axis, Axes] = {}
    for row, plot in enumerate(plots):
        axes = figure.add_subplot(grid[row, 0], sharex=over.get(plot.x))
        over.setdefault(plot.x, axes)
        _draw_plot(axes, plot)
    if tables:
        _draw_tables(figure.add_subplot(grid[:, 1]), tables)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, parse_math=False)
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format of the suffix, making its folder; returns the path.

    The same figure gives the same bytes: no date is written, and nothing random.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    undated = _UNDATED.get(target.suffix.lower())
    with rc_context({"svg.hashsalt": "skyloop"}):
        figure.savefig(target, dpi=130, metadata=undated)
    return target


def unit_text(unit: str) -> str:
    """A unit as people write it.

    >>> unit_text("1/angstrom")
    'Å⁻¹'
    """
    return _UNITS.get(unit, unit)


def number(value: float, sigma: float = float("nan")) -> str:
    """A value with its uncertainty, to the digits that the uncertainty leaves.

    >>> number(308.6371, 0.2149), number(2.07, 0.0), number(1234.5)
    ('308.64 ± 0.21', '2.07 (known)', '1234')
    >>> number(1.2036e-6, 3.1e-8), number(7.391e-46), number(True)
    ('(1.204 ± 0.031)e-06', '7e-46', 'yes')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not np.isfinite(value):
        return "not known"
    if sigma == 0:
        return f"{value:g} (known)"
    if np.isnan(sigma):
        return f"{value:.1g}" if 0 < abs(value) < _TINY else f"{value:.4g}"
    if not np.isfinite(sigma):
        return f"{value:.4g} ± not known"
    largest = _exponent(max(abs(value), sigma))
    if -_PLAIN <= largest <= _PLAIN and _exponent(sigma) > -_PLAIN:
        return _rounded(value, sigma)
    return f"({_rounded(value / 10.0**largest, sigma / 10.0**largest)})e{largest:+03d}"


def _rounded(value: float, sigma: float) -> str:
    """Both with two digits of the uncertainty; an integer part is written in full."""
    digits = max(0, 1 - _exponent(sigma))
    return f"{value:.{digits}f} ± {sigma:.{digits}f}"


def _exponent(value: float) -> int:
    """Power of ten of the first digit, after rounding to two digits: 0.996 is 1.0."""
    return int(f"{value:.1e}".partition("e")[2])


def _draw_plot(axes: Axes, plot: Plot) -> None:
    colours = cycle(_LINES)
    for item in plot.items:
        match item:
            case Band():
                axes.fill_between(
                    item.x, item.low, item.high, color=_BLUE, alpha=0.25, lw=0, label=item.label
                )
            case Curve():
                _draw_curve(axes, item, colours)
            case Trace():
                _draw_trace(axes, item)
    _label(axes, plot.x, axes.set_xlabel, axes.set_xscale)
    _label(axes, plot.y, axes.set_ylabel, axes.set_yscale)
    if plot.y.is_log:
        _keep_to_the_values(axes, plot)
    # names and reasons come from documents and files: a dollar sign in them is no formula
    axes.set_title(plot.title, loc="left", fontsize=10, parse_math=False)
    if len(plot.items) > 1 or any(isinstance(item, Trace) and item.marks.size for item in plot.items):
        for text in axes.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)
    axes.grid(alpha=0.2)


def _has_a_course(plot: Plot) -> bool:
    traces = [item for item in plot.items if isinstance(item, Trace)]
    return not traces or any(trace.x.size > 1 for trace in traces)


def _keep_to_the_values(axes: Axes, plot: Plot) -> None:
    # an error bar that reaches zero has no end on a logarithmic axis; the values say how far to look
    values = np.concatenate([item.high if isinstance(item, Band) else item.y for item in plot.items])
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size:
        axes.set_ylim(positive.min() / 5, positive.max() * 3)


def _draw_curve(axes: Axes, curve: Curve, colours: Any) -> None:
    if curve.y_sigma.size:
        size = 4.0 if curve.x.size <= _MANY else 2.0
        style: dict[str, Any] = {"color": _POINTS, "ecolor": _BARS, "elinewidth": size / 5, "zorder": 2}
        axes.errorbar(curve.x, curve.y, curve.y_sigma, fmt=".", ms=size, label=curve.label, **style)
    else:
        axes.plot(curve.x, curve.y, lw=1.4, zorder=3, color=next(colours), label=curve.label)


def _draw_trace(axes: Axes, trace: Trace) -> None:
    sigma = trace.y_sigma if trace.y_sigma.size else None
    axes.errorbar(trace.x, trace.y, sigma, fmt="o-", ms=3, lw=1.0, color=_BLUE, label=trace.label)
    if trace.marks.size:
        # ticks along the lower edge: lines across the picture would hide the values
        foot = axes.get_xaxis_transform()
        axes.plot(
            trace.marks, np.zeros_like(trace.marks), "^", ms=7, color=_RED, transform=foot, label="decision"
        )


def _label(axes: Axes, axis: Axis, set_label: Any, set_scale: Any) -> None:
    text = f"{axis.label} [{unit_text(axis.unit)}]" if axis.unit else axis.label
    set_label(text, parse_math=False)
    if axis.is_log:
        set_scale("log")


def _draw_tables(axes: Axes, tables: Sequence[Facts | Log]) -> None:
    axes.set_axis_off()
    lines = [line for table in tables for line in [*_lines_of(table), ""]]
    size = _TEXT_SIZE * min(1.0, _TEXT_WIDTH / max(len(line) for line in lines))
    text = axes.text(0.0, 1.0, "\n".join(lines), va="top", family="monospace", parse_math=False)
    text.set(fontsize=size, transform=axes.transAxes)


def _lines_of(table: Facts | Log) -> list[str]:
    if isinstance(table, Log):
        return [table.title, *_in_columns([table.columns, *table.rows[-_LOG_ROWS:]])]
    verdict = [f"outcome: {table.outcome}", *_wrapped(table.reason)]
    return [table.title, *(line for fact in table.rows for line in _lines_of_fact(fact)), *verdict]


def _in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def _lines_of_fact(fact: Fact) -> list[str]:
    line = f"{fact.name:<18} {number(fact.value, fact.sigma)} {unit_text(fact.unit)}".rstrip()
    return [line, f"{'':<18} {fact.note}"] if fact.note else [line]


def _wrapped(text: str) -> list[str]:
    return wrap(text, _TEXT_WIDTH - 4)
