from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from skyloop.engines.panel import Axis, Band, Curve, Fact, Facts, Log, Plot, Trace
from skyloop.errors import Outcome
from skyloop.figures.pen import draw, save

X = np.linspace(0.01, 0.2, 20)
LOG = Axis("reflectivity", is_log=True)
Q = Axis("q", "1/angstrom")


def curve(y: np.ndarray, sigma: np.ndarray | None = None) -> Curve:
    return Curve("data", X, y, np.empty(0) if sigma is None else sigma)


def plot(*items: Band | Curve | Trace, y: Axis = LOG) -> Plot:
    return Plot("what it shows", Q, y, items)


def test_axes_carry_their_units():
    (axes,) = draw([plot(curve(X))]).axes
    assert axes.get_xlabel() == "q [Å⁻¹]"
    assert axes.get_ylabel() == "reflectivity"


@given(st.lists(st.floats(1e-12, 1e3), min_size=20, max_size=20), st.floats(0.01, 100.0))
def test_a_logarithmic_axis_drops_no_positive_value(y: list[float], relative: float):
    measured = np.array(y)
    (axes,) = draw([plot(curve(measured, relative * measured))]).axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert 0 < low <= measured.min() <= measured.max() <= high


def test_values_that_are_not_positive_do_not_spoil_a_logarithmic_axis():
    y = np.array([*np.full(18, 1e-3), -1e-5, 0.0])
    (axes,) = draw([plot(curve(y, np.full(20, 1e-4)))]).axes
    low, high = axes.get_ylim()
    assert 0 < low <= 1e-3 <= high


def test_a_band_lies_behind_its_curve():
    (axes,) = draw([plot(curve(X), Band("95 %", X, X / 2, X * 2))]).axes
    (line,), (area,) = axes.lines, axes.collections
    assert area.get_zorder() < line.get_zorder()


def test_a_plot_of_one_value_is_left_out_and_its_table_stays():
    single = plot(Trace("target", np.array([1.0]), np.array([240.0])), y=Axis("target", "angstrom"))
    facts = Facts("now", (Fact("target", 240.0, 1.0, "angstrom"),))
    figure = draw([plot(curve(X)), single, facts])
    assert [axes.get_ylabel() for axes in figure.axes] == ["reflectivity", ""]
    assert "240.0 ± 1.0 Å" in figure.axes[-1].texts[0].get_text()


def test_plots_over_the_same_abscissa_have_the_same_limits():
    short = Plot("residuals", Q, Axis("residual"), (Curve("r", X[5:9], X[5:9]),))
    other = Plot("course", Axis("points"), Axis("target"), (Curve("c", 100 * X, X),))
    first, second, third = draw([plot(curve(X)), short, other]).axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_xlim()[1] < third.get_xlim()[1] < 100


def test_a_note_stands_below_its_value_and_a_title_above_all():
    facts = Facts("now", (Fact("film.sld", 3.0, 1.0, note="not determined by the data"), Fact("chi2", 1.0)))
    figure = draw([plot(curve(X)), facts], title="curve $1.dat")
    lines = figure.axes[-1].texts[0].get_text().splitlines()
    assert lines[2].strip() == "not determined by the data"
    assert lines[3].startswith("chi2")
    assert figure.get_suptitle() == "curve $1.dat"


def test_a_course_of_two_values_is_drawn_with_its_marks():
    trace = Trace("target", np.array([1.0, 2.0]), np.array([240.0, 241.0]), marks=np.array([2.0]))
    (axes,) = draw([plot(trace, y=Axis("target", "angstrom"))]).axes
    assert axes.get_ylabel() == "target [Å]"
    assert [list(np.asarray(line.get_xdata())) for line in axes.lines][-1] == [2.0]


def test_tables_tell_outcome_and_the_whole_reason():
    reason = "model does not describe the data, and this is told in many words that need several lines"
    figure = draw([Facts("now", (Fact("confirmed", True),), Outcome.DEGRADED, reason)])
    text = " ".join(figure.axes[-1].texts[0].get_text().split())
    assert "outcome: degraded" in text
    assert reason in text
    assert "confirmed yes" in text


def test_an_ok_with_a_reservation_says_it_in_the_figure():
    text = draw([Facts("now", (), Outcome.OK, "a is at its end")]).axes[-1].texts[0].get_text()
    assert text.splitlines()[-1] == "outcome: ok, but a is at its end"


def test_columns_of_a_log_stand_below_each_other():
    rows = (("1", "plan", "measure"), ("12", "fallback", "measure"))
    text = draw([Log("decisions", ("point", "source", "action"), rows)]).axes[-1].texts[0].get_text()
    heads, *lines = text.split("\n")[1:4]
    assert heads.split() == ["point", "source", "action"]
    assert {line.index("measure") for line in lines} == {heads.index("action")}


@pytest.mark.parametrize("text", ["$x_1$", "a_b^c", "$", "\\frac{1}{2}", "100 %", "<b>"])
def test_text_of_documents_is_drawn_and_not_interpreted(text: str, tmp_path: Path):
    panels = [
        plot(curve(X)),
        Facts(text, (Fact(text, 1.0),), Outcome.FAILED, text),
        Log(text, (text,), ((text,),)),
    ]
    figure = draw([Plot(text, Axis(text), Axis(text), (Curve(text, X, X),)), *panels])
    assert save(figure, tmp_path / "figure.svg").stat().st_size > 0
    texts = [t for axes in figure.axes for t in [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]]
    assert not [t for t in texts if t.get_parse_math() and t.get_text()]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_panels_give_the_same_bytes(suffix: str, tmp_path: Path):
    panels = [plot(curve(X, 0.1 * X), Band("95 %", X, X / 2, X * 2)), Facts("now", (Fact("x", 1.0, 0.1),))]
    files = [save(draw(panels), tmp_path / f"{name}.{suffix}") for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_figure_is_written_into_a_folder_that_is_new(tmp_path: Path):
    assert save(draw([plot(curve(X))]), tmp_path / "new" / "figure.png").is_file()


# ---------------------------------------------------------------- traces

POINTS = Axis("points")
THICKNESS = Axis("film.thickness", "angstrom")


def course(y: Sequence[float], sigma: Sequence[float], *more: Curve, marks: Sequence[float] = ()) -> Plot:
    x = np.arange(1.0, len(y) + 1)
    trace = Trace("mean", x, np.array(y), np.array(sigma), np.array(marks))
    return Plot("target", POINTS, THICKNESS, (*more, trace))


def arrows(axes: Axes) -> dict[str, list[float]]:
    """Abscissae of the marks that say what lies beyond the scale, by their direction."""
    marks = {line.get_marker(): line for line in axes.lines if line.get_marker() in ("^", "v")}
    return {str(marker): list(np.asarray(line.get_xdata())) for marker, line in marks.items()}


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)), min_size=2, max_size=20))
def test_the_later_half_is_seen_whole_and_arrows_tell_what_is_not(told: list[tuple[float, float]]):
    y, sigma = np.array(told).T
    (axes,) = draw([course(y, sigma)]).axes
    low, high = axes.get_ylim()
    later = slice(len(y) // 2, None)
    assert low < (y - sigma)[later].min()
    assert (y + sigma)[later].max() < high
    x = np.arange(1.0, len(y) + 1)
    beyond = {"^": list(x[y > high]), "v": list(x[y < low])}
    assert arrows(axes) == {marker: places for marker, places in beyond.items() if places}


def test_what_is_known_late_is_not_drawn_to_the_scale_of_the_first_points():
    (axes,) = draw([course([*[300.0] * 5, 231.0, *[271.0] * 6], [*[110.0] * 6, *[0.5] * 6])]).axes
    low, high = axes.get_ylim()
    assert high - low < 10 * 0.5
    assert arrows(axes) == {"^": [1.0, 2.0, 3.0, 4.0, 5.0], "v": [6.0]}


def test_what_is_not_known_yet_has_no_bar_across_the_picture():
    y = [300.0, 271.2, *[271.0] * 6]
    (axes,) = draw([course(y, [110.0, 110.0, 2.0, *[0.5] * 5])]).axes
    assert arrows(axes) == {"^": [1.0]}
    hollow, known = (line for line in axes.lines if line.get_marker() == "o")
    assert (hollow.get_fillstyle(), list(np.asarray(hollow.get_xdata()))) == ("none", [2.0])
    (bars,) = (item for item in axes.collections if isinstance(item, LineCollection))
    lengths = [np.ptp(np.asarray(ends)[:, 1]) for ends in bars.get_segments() if len(ends)]
    assert np.nanmax(lengths) == pytest.approx(2 * 2.0)
    assert [x for x, value in enumerate(np.asarray(known.get_ydata()), start=1) if np.isfinite(value)] == [
        *range(3, 9)
    ]


def test_a_truth_far_from_the_result_is_seen():
    truth = Curve("truth", np.array([1.0, 4.0]), np.array([271.3, 271.3]))
    (axes,) = draw([course([240.0] * 4, [0.5] * 4, truth)]).axes
    low, high = axes.get_ylim()
    assert low < 240.0 < 271.3 < high


@pytest.mark.parametrize("sigma", [0.0, np.nan, np.inf])
def test_a_trace_whose_sigma_says_nothing_is_drawn(sigma: float, tmp_path: Path):
    figure = draw([course([240.0, 241.0, 242.0], [sigma] * 3)])
    low, high = figure.axes[0].get_ylim()
    assert low < 241.0 < high
    assert save(figure, tmp_path / "figure.png").is_file()


def full() -> Figure:
    """A figure with everything on it: two abscissae, legends, marks, a long log and a long reason."""
    truth = Curve("truth", np.array([1.0, 8.0]), np.array([271.3, 271.3]))
    wide = course([*[300.0] * 4, *[271.0] * 4], [*[99.0] * 4, *[0.5] * 4], truth, marks=range(9))
    log = Log("decisions", ("point", "why"), tuple((str(i), "a word " * 8) for i in range(30)))
    facts = Facts("now", (Fact("a long name of a quantity", 1.0, 0.1),), Outcome.DEGRADED, "a word " * 40)
    curves = plot(Band("95 %", X, X / 2, X * 2), curve(X), curve(X, X / 9))
    figure = draw([curves, curves, wide, wide, facts, log], title="film")
    figure.draw_without_rendering()
    return figure


def test_no_legend_hides_data_or_a_title():
    figure = full()
    legends = [(axes, legend) for axes in figure.axes if (legend := axes.get_legend())]
    assert len(legends) == 4
    for axes, legend in legends:
        box = legend.get_window_extent()
        assert box.y0 >= axes.get_window_extent().y1
        assert not box.overlaps(axes._left_title.get_window_extent())  # pyright: ignore[reportAttributeAccessIssue]


def test_nothing_is_cut_at_the_edge_of_the_figure():
    figure = full()
    texts = [text for axes in figure.axes for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label)]
    for box in [text.get_window_extent() for text in texts if text.get_text()]:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_the_legend_says_what_the_marks_of_a_trace_are():
    places = np.array([1.0, 2.0])
    trace = Trace("target", places, places, marks=places, marks_label="new sample")
    legend = draw([plot(trace, y=THICKNESS)]).axes[0].get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {"target", "new sample"}


def test_marks_of_decisions_lie_within_the_axes():
    axes = full().axes[2]
    (marks,) = (line for line in axes.lines if line.get_label() == "decision")
    low = axes.transAxes.inverted().transform((0.0, marks.get_window_extent().y0))[1]
    assert low > 0.0


def test_notes_stand_below_all_in_lines_that_fit():
    notes = ("taken as exactly known, $sample: " + "a word " * 40, "dq/q taken as 10 %")
    figure = draw([plot(curve(X)), Facts("now", (Fact("chi2", 1.0),))], notes=notes)
    figure.draw_without_rendering()
    label = figure._supxlabel  # pyright: ignore[reportAttributeAccessIssue]
    box = label.get_window_extent()
    assert label.get_text().split() == " ".join(notes).split()
    assert label.get_text().splitlines()[-1] == notes[1]
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert 0 <= box.y0 < box.y1 <= figure.axes[-1].texts[0].get_window_extent().y0


def test_a_log_that_is_shortened_says_so():
    text = (
        draw([Log("decisions", ("point",), tuple((str(i),) for i in range(30)))]).axes[-1].texts[0].get_text()
    )
    assert text.startswith("decisions, the last 12 of 30\n")
    assert text.endswith("\n29")


def test_plots_over_one_abscissa_stand_below_each_other_and_tables_below_all():
    figure = full()
    first, second, third, fourth, facts, log = (axes.get_position() for axes in figure.axes)
    assert second.y1 < first.y0
    assert fourth.y1 < third.y0
    assert first.x1 < third.x0
    assert max(facts.y1, log.y1) < min(second.y0, fourth.y0)
    assert facts.x1 <= log.x0


def test_values_of_a_result_that_is_not_to_be_trusted_are_marked_as_in_a_table():
    rows = (Fact("film.sld", 3.0, 1.0), Fact("scale", 1.0, note="at the upper end"), Fact("chi2", 7.0))
    facts = Facts("now\ntarget: film.sld", rows, Outcome.DEGRADED, "does not fit")
    lines = draw([plot(curve(X)), facts]).axes[-1].texts[0].get_text().splitlines()
    assert lines[:3] == ["now", "target: film.sld", "film.sld  3.0 ± 1.0 ?"]
    assert lines[3].split() == ["scale", "1", "?"]
    assert lines[5].split() == ["chi2", "7"]


def test_many_lines_look_different_and_few_are_solid():
    lines = [Curve(f"line {k}", X, X + k) for k in range(14)]
    looks = [(line.get_color(), line.get_linestyle()) for line in draw([plot(*lines)]).axes[0].lines]
    assert len(set(looks)) == len(lines)
    assert {dashes for _, dashes in looks[:6]} == {"-"}
    assert looks[0][0] not in {colour for colour, _ in looks[1:]}


@pytest.mark.parametrize("count", [2, 4, 5, 14])
def test_a_legend_hides_neither_picture_nor_title(count: int):
    figure = draw([plot(*(Curve(f"component {k}", X, X + k) for k in range(count)))])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (title,) = (text for text in axes.findobj(Text) if text.get_text() == "what it shows")
    legend = axes.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == count
    place = legend.get_window_extent()
    assert not place.overlaps(axes.patch.get_window_extent().shrunk(0.99, 0.99))
    assert 0 <= place.x0 <= place.x1 <= figure.bbox.x1
    assert not place.overlaps(title.get_window_extent())
