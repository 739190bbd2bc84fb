"""The matplotlib pen: panels to a figure, with units on every axis and bands behind every line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, product
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from skyloop.engines.panel import Axis, Band, Curve, Panel, Plot, Trace
from skyloop.figures._tables import draw_tables, lines_of
from skyloop.figures.words import unit_text
from skyloop.quantities import FloatArray

__all__ = ["draw", "save"]

# Okabe and Ito: told apart by eyes that confuse red and green, and in print
_BLUE, _ORANGE, _GREEN, _RED, _PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
_POINTS, _BARS, _LINES = "#333333", "#999999", (_ORANGE, _BLUE, _GREEN, _PINK, _RED, "#56B4E9")
_DASHES = ("-", "--", ":")
"""Lines are solid in all colours, then dashed, then dotted, so that many are told apart."""
# the first line is often the sum of the others and lies upon them: none of them has its colour
_LOOKS = tuple({"ls": d, "color": c} for d, c in product(_DASHES, _LINES) if d == "-" or c != _LINES[0])
_IN_A_ROW = 4
"""Entries of a legend that stand in a row; more stand in a column beside the picture."""
_MANY = 200
"""Beyond so many points each is drawn small, so that lines stay visible among them."""
_UNDATED: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
_PLOT_WIDTH = 6.6
"""Of a column of plots, in inches."""
_PLOT_HEIGHT = 2.7
"""In inches."""
_LINE_HEIGHT = 0.165
"""Of a line of text, in inches."""
_NOTE_SIZE = 7.5
"""Of the letters of a note, in points."""
_NOTE_LETTER, _NOTE_HEIGHT = 0.062, 0.14
"""Width of a letter of a note, on the safe side, and height of its line, in inches."""
_SIGMAS = 3.0
"""How far a trace is seen to each side, in its later standard deviations."""
_MARGIN = 0.15
"""Room beyond what is seen, as a share of it."""
_FOOT = 0.035
"""Height of the marks of a trace, as a share of the plot."""
_ABOVE = 0.96
"""Height of the arrows up, as a share of the plot."""
_BELOW = 0.11
"""Height of the arrows down, as a share of the plot: above the marks."""


def draw(panels: Sequence[Panel], *, title: str = "", notes: Sequence[str] = ()) -> Figure:
    """A figure with one column of plots per abscissa, and the tables below them.

    A plot whose only course is a single value is left out: the tables hold it. Plots over the same abscissa
    have the same limits. A trace with uncertainties is drawn to the scale of its later half, where it is
    known best. Arrows mark the values beyond it, and open circles those whose error bar is longer than it.
    The figure belongs to no window and no global state; `save` writes it.

    Args:
        panels: what is drawn, in this order from the top down and from the left to the right.
        title: what stands above all; empty for none.
        notes: what stands below all: what has to be known of the figure wherever it goes.
    """
    plots = [p for p in panels if isinstance(p, Plot) and _has_a_course(p)]
    tables = [lines_of(p) for p in panels if not isinstance(p, Plot)]
    columns = {x: [p for p in plots if p.x == x] for x in dict.fromkeys(p.x for p in plots)}
    rows = max(map(len, columns.values()), default=0)
    heights = (_PLOT_HEIGHT * rows, _LINE_HEIGHT * max(map(len, tables), default=0))
    width = _PLOT_WIDTH * max(len(columns), 1)
    below = [line for note in notes for line in wrap(note, int(width / _NOTE_LETTER))]
    height = 0.8 + sum(heights) + _NOTE_HEIGHT * len(below)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=[max(height, 1e-3) for height in heights])
    if columns:
        _draw_columns(figure, grid[0].subgridspec(1, len(columns)), list(columns.values()))
    if tables:
        draw_tables(figure, grid[1], tables)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, parse_math=False)
    if below:
        figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=_NOTE_SIZE, parse_math=False)
    return figure


def _draw_columns(figure: Figure, grid: Any, columns: Sequence[Sequence[Plot]]) -> None:
    for cell, plots in zip(grid, columns, strict=True):
        shared: Axes | None = None
        for row, plot in zip(cell.subgridspec(len(plots), 1), plots, strict=True):
            shared = figure.add_subplot(row, sharex=shared)
            _draw_plot(shared, plot)


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


def _draw_plot(axes: Axes, plot: Plot) -> None:
    looks = cycle(_LOOKS)
    scale = (-np.inf, np.inf) if plot.y.is_log else _later_scale(plot)
    for item in plot.items:
        match item:
            case Band():
                axes.fill_between(
                    item.x, item.low, item.high, color=_BLUE, alpha=0.25, lw=0, label=item.label
                )
            case Curve():
                _draw_curve(axes, item, looks)
            case Trace():
                _draw_trace(axes, item, scale)
    _label(axes, plot.x, axes.set_xlabel, axes.set_xscale)
    _label(axes, plot.y, axes.set_ylabel, axes.set_yscale)
    if plot.y.is_log:
        _keep_to_the_values(axes, plot)
    elif np.isfinite(scale).all():
        axes.set_ylim(*scale)
    # names and reasons come from documents and files: a dollar sign in them is no formula
    axes.set_title(plot.title, loc="left", fontsize=10, parse_math=False)
    if len(plot.items) > 1 or any(isinstance(item, Trace) and item.marks.size for item in plot.items):
        _draw_legend(axes)
    axes.grid(alpha=0.2)


def _draw_legend(axes: Axes) -> None:
    # above or beside the picture, where it hides nothing of it
    is_row = len(axes.get_legend_handles_labels()[1]) <= _IN_A_ROW
    place: dict[str, Any] = {"loc": "lower right" if is_row else "upper left", "bbox_to_anchor": (1.0, 1.0)}
    place |= {"borderaxespad": 0.1, "ncols": _IN_A_ROW if is_row else 1}
    legend = axes.legend(**place, fontsize=8, frameon=False, columnspacing=1.2, handlelength=1.5)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _has_a_course(plot: Plot) -> bool:
    traces = [item for item in plot.items if isinstance(item, Trace)]
    return not traces or any(trace.x.size > 1 for trace in traces)


def _keep_to_the_values(axes: Axes, plot: Plot) -> None:
    # an error bar that reaches zero has no end on a logarithmic axis; the values say how far to look
    values = np.concatenate([item.high if isinstance(item, Band) else item.y for item in plot.items])
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size:
        axes.set_ylim(positive.min() / 5, positive.max() * 3)


def _later_scale(plot: Plot) -> tuple[float, float]:
    """Ends of the vertical axis; infinite where there is no trace with uncertainties."""
    # the first points know next to nothing: to their scale, all that comes later is a flat line
    traces = [item for item in plot.items if isinstance(item, Trace) and item.y_sigma.size]
    ends = [side for trace in traces for side in _later_ends(trace)]
    lines = [item.y for item in plot.items if isinstance(item, Curve)]
    seen = np.concatenate([*ends, *lines, np.empty(0)]) if traces else np.empty(0)
    seen = seen[np.isfinite(seen)]
    if not seen.size or seen.min() == seen.max():
        return -np.inf, np.inf
    margin = _MARGIN * (seen.max() - seen.min())
    return seen.min() - margin, seen.max() + margin


def _later_ends(trace: Trace) -> tuple[FloatArray, FloatArray]:
    later = slice(trace.y.size // 2, None)
    width = _SIGMAS * trace.y_sigma[later]
    return trace.y[later] - width, trace.y[later] + width


def _draw_curve(axes: Axes, curve: Curve, looks: Any) -> None:
    if curve.y_sigma.size:
        size = 4.0 if curve.x.size <= _MANY else 2.0
        style: dict[str, Any] = {"color": _POINTS, "ecolor": _BARS, "elinewidth": size / 5, "zorder": 2}
        axes.errorbar(curve.x, curve.y, curve.y_sigma, fmt=".", ms=size, label=curve.label, **style)
    else:
        axes.plot(curve.x, curve.y, lw=1.4, zorder=3, label=curve.label, **next(looks))


def _draw_trace(axes: Axes, trace: Trace, scale: tuple[float, float]) -> None:
    low, high = scale
    sigma = trace.y_sigma if trace.y_sigma.size else np.zeros_like(trace.y)
    is_vague = (trace.y >= low) & (trace.y <= high) & (sigma > high - low)
    _mark_beyond(axes, trace, {"^": trace.y > high, "v": trace.y < low, "o": is_vague})
    # their bars and lines would cross the picture from edge to edge, one beside the other
    y = np.where((trace.y > high) | (trace.y < low) | is_vague, np.nan, trace.y)
    bars = sigma if trace.y_sigma.size else None
    axes.errorbar(trace.x, y, bars, fmt="o-", ms=3, lw=0.8, color=_BLUE, label=trace.label)
    if trace.marks.size:
        # short ticks within the lower edge: lines across the picture would hide the values
        foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "label": trace.marks_label}
        axes.plot(trace.marks, np.full(trace.marks.size, _FOOT), "|", ms=6, mew=1.5, color=_RED, **foot)


def _mark_beyond(axes: Axes, trace: Trace, beyond: Mapping[str, NDArray[np.bool_]]) -> None:
    """Arrows at the edge for values beyond the scale; where the error is beyond it, the value as a circle."""
    label = "beyond the scale"
    for marker, which in beyond.items():
        if not which.any():
            continue
        style: dict[str, Any] = {"color": _BLUE, "ls": "", "ms": 6, "fillstyle": "none", "label": label}
        label = "_"  # once in the legend
        if marker == "o":
            axes.plot(trace.x[which], trace.y[which], marker, **style)
            continue
        edge = np.full(int(which.sum()), _ABOVE if marker == "^" else _BELOW)
        axes.plot(trace.x[which], edge, marker, transform=axes.get_xaxis_transform(), **style)


def _label(axes: Axes, axis: Axis, set_label: Any, set_scale: Any) -> None:
    text = f"{axis.label} [{unit_text(axis.unit)}]" if axis.unit else axis.label
    set_label(text, parse_math=False)
    if axis.is_log:
        set_scale("log")
