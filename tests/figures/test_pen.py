from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloop.engines.panel import Axis, Band, Curve, Fact, Facts, Log, Plot, Trace
from skyloop.errors import Outcome
from skyloop.figures.pen import draw, number, save, unit_text

NAN = float("nan")
X = np.linspace(0.01, 0.2, 20)
LOG = Axis("reflectivity", is_log=True)
Q = Axis("q", "1/angstrom")

magnitudes = st.floats(1e-30, 1e30)
values = st.one_of(magnitudes, magnitudes.map(lambda x: -x), st.just(0.0))


def read(text: str) -> tuple[float, float, float]:
    """Value, sigma and the place value of the last digit that is written."""
    match = re.fullmatch(r"\(?(-?[\d.]+) ± ([\d.]+)\)?(?:e([+-]\d+))?", text)
    assert match, text
    factor = 10.0 ** int(match[3] or 0)
    decimals = len(match[2].partition(".")[2])
    return float(match[1]) * factor, float(match[2]) * factor, 10.0**-decimals * factor


def curve(y: np.ndarray, sigma: np.ndarray | None = None) -> Curve:
    return Curve("data", X, y, np.empty(0) if sigma is None else sigma)


def plot(*items: Band | Curve | Trace, y: Axis = LOG) -> Plot:
    return Plot("what it shows", Q, y, items)


# ---------------------------------------------------------------- numbers


@given(values, magnitudes)
def test_value_and_sigma_are_written_to_the_same_place(value: float, sigma: float):
    text = number(value, sigma)
    assert len(re.findall(r"\.(\d+)", text)) in (0, 2)
    assert len({len(digits) for digits in re.findall(r"\.(\d+)", text)}) <= 1


@given(values, magnitudes)
def test_rounding_costs_less_than_a_twentieth_of_sigma(value: float, sigma: float):
    told, told_sigma, last = read(number(value, sigma))
    assert abs(told - value) <= 0.5001 * last + 1e-12 * abs(value)
    assert abs(told - value) <= 0.0501 * max(sigma, last * 10) + 1e-12 * abs(value)
    assert abs(told_sigma - sigma) <= 0.0501 * max(sigma, last * 10)


@pytest.mark.parametrize(
    ("value", "sigma", "text"),
    [
        (308.6371, 0.2149, "308.64 ± 0.21"),
        (308.6371, 0.996, "308.6 ± 1.0"),
        (308.6371, 25.4, "309 ± 25"),
        (-4.2, 0.031, "-4.200 ± 0.031"),
        (0.0, 0.5, "0.00 ± 0.50"),
        (1.2036e-6, 3.1e-8, "(1.204 ± 0.031)e-06"),
        (1.2e-9, 0.3, "0.00 ± 0.30"),
        (3.2e9, 1e7, "(3.200 ± 0.010)e+09"),
        (2.07, 0.0, "2.07 (known)"),
        (0.0, 0.0, "0 (known)"),
        (1234.5, NAN, "1234"),
        (0.7198, NAN, "0.7198"),
        (7.391e-46, NAN, "7e-46"),
        (0.0, NAN, "0"),
        (240.0, float("inf"), "240 ± not known"),
        (NAN, 1.0, "not known"),
        (float("inf"), 1.0, "not known"),
        (True, NAN, "yes"),
        (False, NAN, "no"),
    ],
)
def test_numbers_are_written_as_people_write_them(value: float, sigma: float, text: str):
    assert number(value, sigma) == text


def test_a_unit_that_is_not_known_is_written_as_it_is():
    assert unit_text("furlong") == "furlong"


# ---------------------------------------------------------------- pictures


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
