from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import MODEL, TRUTH, Command, Said, columns, write
from matplotlib.figure import Figure
from rich.console import Console

from skyloop.callbacks import Prior
from skyloop.callbacks._reflectometry_file import assumed, covering, priors
from skyloop.cli import _analyze
from skyloop.cli._show import marked, show_facts
from skyloop.engines.panel import Fact, Facts
from skyloop.engines.reflectometry import Engine, Frame
from skyloop.engines.reflectometry.config import load
from skyloop.errors import DataError, Outcome
from skyloop.figures import pen
from skyloop.storage.curve_run import CurveOptions, curve_run

OPTIONS = ["--layer", "film thickness=150:350 roughness=5 sld=4.2", "--backing", "sld=2.07 roughness=4"]
FEW = ["--set", "particles=100"]


def value_of(text: str, name: str) -> tuple[float, float]:
    found = re.search(rf"{re.escape(name)}\s*│\s*([\d.]+) ± ([\d.]+)", text)
    assert found, text
    return float(found[1]), float(found[2])


def test_a_curve_becomes_a_table_a_figure_and_two_runs(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    out = tmp_path / "results"
    said = skyloop("analyze", curve, "--model", model, "--out", out)
    assert said.code == 0, said.err
    thickness, sigma = value_of(said.out, "film.thickness")
    assert abs(thickness - TRUTH) < 4 * sigma
    assert "\nok: " in said.out.partition("film.thickness")[0]
    assert "?" not in said.out
    raw, analysis = re.findall(r"(?:raw run|analysis) +([0-9a-f-]{36})", said.out)
    assert {file.stem for file in out.glob("*.jsonl")} == {raw, analysis}
    (figure,) = out.glob("*.png")
    assert figure.name == f"curve-{analysis[:8]}.png"
    assert f"figure   {figure}\n" in said.out
    assert figure.stat().st_size > 1000


def test_another_model_of_the_same_file_leaves_the_first_figure(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    out = tmp_path / "o"
    skyloop("analyze", curve, "-m", model, "-o", out)
    ((first, before),) = [(file, file.read_bytes()) for file in out.glob("*.png")]
    model.write_text(MODEL.replace("sld: 4.2", "sld: [4, 4.4]"))
    skyloop("analyze", curve, "-m", model, "-o", out)
    assert first.read_bytes() == before
    assert len(list(out.glob("*.png"))) == 2


def test_a_model_on_the_command_line_is_as_good_as_a_file(skyloop: Command, curve: Path, tmp_path: Path):
    said = skyloop("analyze", curve, *OPTIONS, *FEW, "--set", "target=film.thickness", "-o", tmp_path / "o")
    thickness, sigma = value_of(said.out, "film.thickness")
    assert abs(thickness - TRUTH) < 4 * sigma


def test_the_same_file_gives_the_same_runs(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    first = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    second = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    took = re.compile(r"^took \d+ s$", re.M)
    assert took.search(first.out)
    assert (second.code, took.sub("", second.out)) == (0, took.sub("", first.out))
    assert len(list((tmp_path / "o").glob("*.jsonl*"))) == 2


def test_what_was_left_out_is_told(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    said = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o", "--q-max", "0.15")
    assert re.search(r"left out: [1-9]\d* points outside the range of q", said.out)


def figure_of(
    skyloop: Command, file: Path, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, code: int = 0
) -> Figure:
    """The figure that the command draws."""
    drawn: list[Figure] = []
    draw = pen.draw
    monkeypatch.setattr(_analyze, "draw", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1])
    assert skyloop("analyze", file, "-m", model, "-o", folder / "o").code == code
    (figure,) = drawn
    return figure


def test_a_curve_alone_shows_no_trace_over_points(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    figure = figure_of(skyloop, curve, model, tmp_path, monkeypatch)
    assert [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()] == ["q [Å⁻¹]", "q [Å⁻¹]"]


def test_a_model_that_misses_says_so(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    model.write_text(MODEL.replace("sld: 4.2", "sld: 0.5"))
    said = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    assert said.code == 3
    above, _, below = said.out.partition("what is believed now")
    told = "NOT TO BE TRUSTED (degraded): model does not describe the data (chi2 = "
    assert [line.startswith(told) for line in above.splitlines()].count(True) == 1
    assert "The errors of the values marked ? do not hold" in above
    assert below.startswith(": not to be trusted")
    assert " ?" in table_row(below, "film.thickness")
    assert " ?" not in table_row(below, "points")
    assert below.rstrip().endswith("\nexit status 3: analysed, and not to be trusted")


def test_the_figure_of_a_model_that_misses_says_so(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model.write_text(MODEL.replace("sld: 4.2", "sld: 0.5"))
    figure = figure_of(skyloop, curve, model, tmp_path, monkeypatch, code=3)
    assert figure.get_suptitle() == "curve.dat: not to be trusted, see the outcome"
    rows = figure.axes[-1].texts[0].get_text().splitlines()
    (thickness,), (points,) = ([r for r in rows if r.startswith(name)] for name in ("film.thickn", "points"))
    assert " ?" in thickness
    assert " ?" not in points


def test_progress_says_which_step_it_is(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []

    @contextmanager
    def working(_: Console) -> Generator[Callable[[str], None]]:
        yield told.append

    monkeypatch.setattr(_analyze, "_working", working)
    assert skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o").code == 0
    first, second, third = told
    assert first == "step 1 of 3, analysing curve.dat"
    assert re.fullmatch(r"step 2 of 3, once more to check; result 1: target [\d.]+ ± [\d.]+", second)
    assert third == "step 3 of 3, drawing"


# ---------------------------------------------------------------- what was assumed


def notes_of(said: Said) -> list[str]:
    """The lines above the outcome, good or bad."""
    assert said.code in (0, 3), said.err
    above = said.out.partition("what is believed now")[0]
    return re.split(r"^(?:ok: |NOT TO BE TRUSTED)", above, flags=re.M)[0].splitlines()


def table_row(text: str, name: str) -> str:
    (row,) = (line for line in text.splitlines() if line.startswith(f"│ {name} "))
    return row


def test_a_file_without_resolution_and_a_model_without_instrument_say_so(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    assert notes_of(skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")) == [
        "no resolution in this file: taken as 0",
        "taken as exactly known, sample: air sld 0; film roughness 5, sld 4.2; Si roughness 4, sld 2.07; "
        "no absorption",
        "taken as exactly known, instrument: "
        "scale 1, background 0, q_offset 0, resolution 1, systematic 0.01",
    ]


def test_only_what_is_known_is_listed():
    free = MODEL.replace("roughness: 5", "roughness: [2, 9]").replace("2.07, roughness: 4", "[2, 2.2]")
    config = load(free + "scale: [0.9, 1.1]\nbackground: 1e-7\nsystematic: 0.02\n")
    assert assumed(config) == [
        "taken as exactly known, sample: air sld 0; film sld 4.2; Si roughness 0; no absorption",
        "taken as exactly known, instrument: background 1e-07, q_offset 0, resolution 1, systematic 0.02",
    ]


def test_an_absorption_is_listed_for_each_part_where_one_absorbs():
    sample, _ = assumed(load(MODEL.replace("sld: 4.2", "sld: 4.2, isld: [0, 1]")))
    assert sample.endswith(": air sld 0; film roughness 5, sld 4.2; Si roughness 4, sld 2.07, isld 0")
    sample, _ = assumed(load(MODEL.replace("sld: 4.2", "sld: 4.2, isld: 0.3")))
    assert "film roughness 5, sld 4.2, isld 0.3; " in sample


def test_every_entry_is_free_or_listed():
    config = load(MODEL + "scale: [0.9, 1.1]\n")
    told = " ".join(assumed(config)).replace("no absorption", "film isld; Si isld")
    for entry in config.entries():
        owner, _, kind = entry.name.rpartition(".")
        listed = re.search(rf"{owner} [^;]*\b{kind}\b", told) is not None
        assert listed == (not entry.is_free), entry.name


def test_the_figure_carries_what_was_assumed(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told = notes_of(skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o"))
    below = figure_of(skyloop, curve, model, tmp_path, monkeypatch).get_supxlabel()
    assert len(told) == 3
    assert below.split() == " ".join(told).split()


def test_what_stands_in_for_a_missing_column_is_told(skyloop: Command, model: Path, tmp_path: Path):
    two = write(tmp_path / "two.dat", columns(np.linspace(0.01, 0.2, 20))[:, :2])
    words = ["--relative-sigma", "0.05", "--relative-resolution", "0.03"]
    said = skyloop("analyze", two, "-m", model, "-o", tmp_path / "o", *words)
    assert notes_of(said)[:2] == [
        "no uncertainty in this file: taken as 5 % of R",
        "no resolution in this file: dq/q taken as 3 % (full width)",
    ]


def test_a_column_that_an_option_replaces_is_told(tmp_path: Path):
    rows = columns(np.linspace(0.01, 0.2, 20))
    file = write(tmp_path / "four.dat", np.column_stack([rows, 0.02 * rows[:, 0]]))
    documents, notes = curve_run(file, CurveOptions(relative_resolution=0.1, relative_sigma=0.5))
    assert notes == (
        "uncertainty of the file not used: taken as 50 % of R",
        "resolution of the file not used: dq/q taken as 10 % (full width)",
    )
    data = documents[2][1]["data"]
    np.testing.assert_allclose(data["reflectivity_sigma"], 0.5 * rows[:, 1], rtol=1e-6)
    np.testing.assert_allclose(data["q_sigma"], 0.1 * rows[:, 0] / 2.354820045, rtol=1e-6)


def test_a_file_written_twice_counts_once(skyloop: Command, model: Path, tmp_path: Path):
    rows = columns(np.linspace(0.01, 0.2, 20))
    once = write(tmp_path / "once.dat", rows)
    twice = write(tmp_path / "twice.dat", np.vstack([rows, rows]))
    said = skyloop("analyze", twice, "-m", model, "-o", tmp_path / "o")
    assert notes_of(said)[0] == "left out: 20 rows identical to an earlier one"
    _, sigma = value_of(said.out, "film.thickness")
    _, alone = value_of(skyloop("analyze", once, "-m", model, "-o", tmp_path / "o").out, "film.thickness")
    assert sigma == pytest.approx(alone, rel=0.2)  # and not 0.71 of it


def test_a_point_that_was_measured_again_stays(tmp_path: Path):
    rows = columns(np.linspace(0.01, 0.2, 20))
    again = rows[5:8] * [1.0, 1.01, 1.0]
    documents, notes = curve_run(write(tmp_path / "a.dat", np.vstack([rows, again])), CurveOptions())
    assert len(documents[2][1]["data"]["q"]) == 23
    assert not any("identical" in note for note in notes)


def test_rows_that_cannot_be_used_are_counted_by_their_fault(tmp_path: Path):
    rows = np.column_stack([columns(np.linspace(0.01, 0.2, 20)), np.full(20, 1e-3)])
    for row, column, value in (
        (0, 1, np.nan), (1, 2, np.inf), (2, 3, np.nan), (3, 0, 0.0), (4, 0, -0.1), (5, 2, 0.0), (6, 3, -1e-3),
    ):  # fmt: skip
        rows[row, column] = value
    rows[7, 1] = -1e-6  # as it is after subtraction of a background: a measurement like others
    documents, notes = curve_run(write(tmp_path / "a.dat", rows), CurveOptions())
    assert notes == (
        "left out: 3 points with NaN or infinity",
        "left out: 2 points without a positive q",
        "left out: 1 point without a positive error",
        "left out: 1 point with a negative resolution",
    )
    assert documents[2][1]["data"]["q"] == pytest.approx(rows[7:, 0])


# ---------------------------------------------------------------- what the data leave open


def test_a_parameter_that_the_data_do_not_tell_is_marked(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    # a background far below every point, and a roughness that they tell
    open_ = MODEL.replace("roughness: 4", "roughness: [0, 12]") + "background: [1e-16, 1e-15]\n"
    model.write_text(open_)
    said = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    assert "not determined by the" in table_row(said.out, "background")
    assert "not determined" not in table_row(said.out, "film.thickness")
    assert " remark " in said.out


def test_no_column_of_remarks_where_there_is_none(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    assert " remark " not in skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o").out


@pytest.mark.parametrize(
    ("value", "sigma", "note"),
    [
        (50.0, 28.8, "not determined by the data"),
        (50.0, 0.81 * 100 / 12**0.5, "not determined by the data"),
        (50.0, 0.79 * 100 / 12**0.5, ""),
        (50.0, 1.0, ""),
        (2.0, 1.9, "at the lower end of its range [0, 100]"),
        (97.0, 2.5, "at the upper end of its range [0, 100]"),
        (97.0, 1.9, ""),
        (20.0, 16.0, ""),
        (float("nan"), float("nan"), ""),
    ],
)
def test_marks_follow_from_mean_sigma_and_range(value: float, sigma: float, note: str):
    facts = Facts("believed", (Fact("a", value, sigma), Fact("chi2", 50.0, 28.8)))
    (shown,) = marked([facts], {"a": Prior(0.0, 100.0, 100 / 12**0.5)})
    assert isinstance(shown, Facts)
    assert [row.note for row in shown.rows] == [note, ""]


def test_the_target_is_named_above_the_table_and_in_the_figure(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    assert "target: film.thickness" in [line.strip() for line in said.out.splitlines()]
    figure = figure_of(skyloop, curve, model, tmp_path, monkeypatch)
    assert "target: film.thickness" in figure.axes[-1].texts[0].get_text().splitlines()


def facts_of(outcome: Outcome = Outcome.OK, **rows: tuple[float, float]) -> Facts:
    return Facts("believed", tuple(Fact(name, *told) for name, told in rows.items()), outcome)


def shown_with(facts: Facts, capsys: pytest.CaptureFixture[str], **roles: str) -> str:
    """The first line above a table whose parameters have the range [0, 100]."""
    kinds = {name: {f"is_{role}": True} for name, role in roles.items() if role}
    free = {row.name: Prior(0.0, 100.0, 100 / 12**0.5, **kinds.get(row.name, {})) for row in facts.rows}
    show_facts(marked([facts], free), Console(width=120))
    return capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("role", ["target", "instrument"])
def test_an_ok_names_what_the_other_values_rest_on(role: str, capsys: pytest.CaptureFixture[str]):
    facts = facts_of(a=(99.9, 1.0), b=(50.0, 1.0))
    line = shown_with(facts, capsys, a=role)
    assert line == "ok, but a is at the upper end of its range: the other values depend on where it ends"
    both = shown_with(facts_of(a=(99.9, 1.0), b=(0.1, 1.0)), capsys, a=role, b="instrument")
    assert both == (
        "ok, but a is at the upper end of its range and b is at the lower end of its range: "
        "the other values depend on where they end"
    )


def test_an_ok_says_that_the_target_is_open(capsys: pytest.CaptureFixture[str]):
    facts = facts_of(a=(50.0, 27.0), b=(99.9, 1.0))
    assert shown_with(facts, capsys, a="target", b="instrument") == "ok, but the data do not determine a"
    told = "ok, but b is at the upper end of its range: the other values depend on where it ends"
    assert shown_with(facts, capsys, b="instrument") == told


def test_an_ok_stays_one_where_only_a_value_of_the_sample_is_at_an_end(capsys: pytest.CaptureFixture[str]):
    facts = facts_of(a=(99.9, 1.0), b=(50.0, 1.0))
    assert shown_with(facts, capsys, b="instrument") == "ok: no check speaks against these values"


def test_a_scale_at_its_end_is_named_by_the_command_and_in_the_figure(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model.write_text(f"{MODEL}scale: [0.5, 0.999]\n")
    told = "scale is at the upper end of its range: the other values depend on where it ends"
    assert f"\nok, but {told}\n" in skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o").out
    text = figure_of(skyloop, curve, model, tmp_path, monkeypatch).axes[-1].texts[0].get_text()
    assert told in " ".join(text.split())
    (row,) = (line for line in text.splitlines() if line.startswith("scale  "))
    assert "±" not in row


def test_a_value_that_is_small_on_a_logarithmic_range_is_an_upper_limit(capsys: pytest.CaptureFixture[str]):
    prior = Prior(1e-9, 1e-5, 2e-6, is_log=True, is_instrument=True)
    facts = facts_of(background=(1.4e-7, 1.9e-7))
    show_facts(marked([facts], {"background": prior}), Console(width=120))
    shown = capsys.readouterr().out
    assert shown.startswith("ok: ")
    assert re.search(r"│ background +│ 1e-07 +│ +│ upper limit: below about 5e-07 +│", shown)


def test_a_value_at_the_upper_end_of_a_logarithmic_range_is_at_that_end():
    (shown,) = marked([facts_of(a=(9.5e-6, 4e-7))], {"a": Prior(1e-9, 1e-5, 2e-6, is_log=True)})
    assert isinstance(shown, Facts)
    assert shown.rows[0].note == "at the upper end of its range [1e-09, 1e-05]"


@pytest.mark.parametrize(
    ("value", "sigma", "low", "high", "told"),
    [
        (4.999978, 2e-5, 1.0, 5.0, "5"),  # and not (4.999978 ± 0.000020)e+00
        (7.8188, 0.1431, 2.0, 8.0, "7.82"),
        (0.1897, 0.1439, 0.0, 20.0, "0.19"),
        (3.26e-8, 2.87e-8, 1e-8, 1e-5, "3e-08"),
    ],
)
def test_a_value_at_an_end_of_its_range_shows_no_sigma(
    value: float, sigma: float, low: float, high: float, told: str, capsys: pytest.CaptureFixture[str]
):
    facts = Facts("believed", (Fact("a", value, sigma), Fact("b", 0.5, 0.01)))
    free = {"a": Prior(low, high, (high - low) / 12**0.5), "b": Prior(0, 1, 0.29)}
    show_facts(marked([facts], free), Console(width=100))
    shown = capsys.readouterr().out
    assert re.search(rf"│ a +│ {told} +│ +│ at the (low|upp)er end of its range \[{low:g}, {high:g}\]", shown)
    assert "0.500 ± 0.010" in shown


def test_the_prior_of_a_background_is_uniform_in_its_logarithm():
    config = load(MODEL + "background: [1e-8, 1e-4]\n")
    known = priors(config)
    assert set(known) == {"film.thickness", "background"}
    assert known["film.thickness"].sigma == pytest.approx(200 / 12**0.5)
    drawn = np.exp(np.random.default_rng(0).uniform(np.log(1e-8), np.log(1e-4), 1_000_000))
    assert known["background"].sigma == pytest.approx(drawn.std(), rel=0.01)
    assert [name for name, prior in known.items() if prior.is_log] == ["background"]


def test_a_prior_knows_the_target_and_the_instrument():
    known = priors(load(f"{MODEL.replace('sld: 4.2', 'sld: [4, 5]')}scale: [0.9, 1.1]\n"))
    assert {name: (p.is_target, p.is_instrument) for name, p in known.items()} == {
        "film.thickness": (True, False),
        "film.sld": (False, False),
        "scale": (False, True),
    }


# ---------------------------------------------------------------- the figure


def test_the_model_is_drawn_over_all_data_and_every_fringe(
    skyloop: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = write(tmp_path / "wide.dat", columns(np.linspace(0.006, 0.47, 60)))
    model.write_text(MODEL.replace("q_grid: {start: 0.01, stop: 0.2, num: 20}\n", ""))
    figure = figure_of(skyloop, file, model, tmp_path, monkeypatch)
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "model")
    q = np.asarray(line.get_xdata())
    assert (q.min(), q.max()) == pytest.approx((0.006, 0.47))
    assert np.diff(q).max() < 2 * np.pi / 350 / 10
    assert figure.get_suptitle() == "wide.dat"


def test_a_grid_that_the_user_gave_is_kept(
    skyloop: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = write(tmp_path / "wide.dat", columns(np.linspace(0.006, 0.47, 60)))
    figure = figure_of(skyloop, file, model, tmp_path, monkeypatch)
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "model")
    np.testing.assert_allclose(np.asarray(line.get_xdata()), np.linspace(0.01, 0.2, 20))


def test_a_curve_of_one_point_keeps_the_grid():
    config = load(MODEL.replace("q_grid: {start: 0.01, stop: 0.2, num: 20}\n", ""))
    assert covering(config, [Frame.measured(0.05, 0.1, 0.01)]) == config
    assert covering(config, []) == config


# ---------------------------------------------------------------- an analysis that fails


@pytest.mark.parametrize("call", ["step", "finish"])
def test_a_technique_that_raises_is_one_line(
    call: str, skyloop: Command, curve: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of this engine")

    monkeypatch.setattr(Engine, call, broken)
    said = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    assert said.code == 2
    *warnings, error = said.err.splitlines()
    assert all(line.startswith("warning: ") for line in warnings)
    assert error.startswith("skyloop: the analysis failed: ZeroDivisionError: a fault of this engine; mend: ")


# ---------------------------------------------------------------- what a user gets wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sld: 4.2", "slld: 4.2"), "sample.layers[0].slld: found 4.2, unknown key; mend: "),
        (("[150, 350]", "[350, 150]"), "film.thickness: low 350 is not below high 150; mend: "),
        (("target: film.thickness", "target: film.sld"), "target: film.sld is known, not free; mend: "),
        (("[150, 350]", "[-1, 350]"), "film.thickness: found -1"),
        (("particles: 100", "particles: many"), "particles: found 'many'"),
        (("sample:", "sample: ["), "not YAML: "),
        (("thickness: [150, 350]", "thickness: 200"), "nothing is free; mend: give one parameter a range"),
    ],
)
def test_a_model_that_cannot_be_used_names_the_key_and_the_mend(
    skyloop: Command, curve: Path, model: Path, change: tuple[str, str], message: str, tmp_path: Path
):
    text = MODEL.replace(*change)
    model.write_text(text.replace("target: film.thickness\n", "") if change[1].endswith(" 200") else text)
    assert message in skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o").error


def test_a_missing_file_is_named(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    said = skyloop("analyze", tmp_path / "no.dat", "-m", model)
    assert said.error == f"there is no file {tmp_path / 'no.dat'}; mend: check the path"
    said = skyloop("analyze", curve, "-m", tmp_path / "no.yaml")
    assert said.error == f"--model: there is no file {tmp_path / 'no.yaml'}; mend: check the path"


def test_a_folder_in_place_of_a_file_is_called_a_folder(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    error = f"{tmp_path} is a folder; mend: give one file in it"
    assert skyloop("analyze", tmp_path, "-m", model).error == error
    assert skyloop("analyze", curve, "-m", tmp_path).error == f"--model: {error}"


@pytest.mark.parametrize("option", ["--relative-resolution", "--relative-sigma"])
@pytest.mark.parametrize("value", ["10", "-0.1", "nan"])
def test_a_relative_number_that_is_no_fraction_is_refused(
    skyloop: Command, curve: Path, model: Path, option: str, value: str
):
    error = skyloop("analyze", curve, "-m", model, option, value).error
    assert f"({option}): found {value}; mend: give a fraction from 0 to 1" in error


def test_a_bad_line_is_named_by_its_number(skyloop: Command, model: Path, tmp_path: Path):
    bad = write(tmp_path / "bad.dat", columns(np.linspace(0.01, 0.2, 8)), ["0.1 broken 3"])
    said = skyloop("analyze", bad, "-m", model)
    assert said.error.startswith(f"{bad}, line 4: '0.1 broken 3'; mend: give 3 numbers as above")


def test_no_model_says_how_to_give_one(skyloop: Command, curve: Path):
    error = skyloop("analyze", curve).error
    assert "--model sample.yaml" in error
    assert "--layer" in error


@pytest.mark.parametrize("more", [FEW, OPTIONS[:2], OPTIONS[2:], ["--fronting", "2.07"]])
def test_a_model_file_and_options_are_not_mixed_unseen(
    skyloop: Command, curve: Path, model: Path, more: list[str]
):
    assert f"--model and {more[0]} are both given" in skyloop("analyze", curve, "-m", model, *more).error


@pytest.mark.parametrize("written", ["300-700", "300..700", "300,700", "[300,700]"])
def test_a_range_in_another_form_is_told_the_right_one(skyloop: Command, curve: Path, written: str):
    words = ["--layer", f"film thickness={written} sld=4.2", "--backing", "2.07"]
    error = skyloop("analyze", curve, *words).error
    assert error == f"--layer: found 'thickness={written}'; mend: write the range as thickness=300:700"


def test_small_and_negative_numbers_are_no_ranges(skyloop: Command, curve: Path, tmp_path: Path):
    more = ["--set", "background=1e-9:1e-6", "--set", "q_offset=-1e-4:1e-4"]
    assert skyloop("analyze", curve, *OPTIONS, *FEW, *more, "-o", tmp_path / "o").code == 0


def test_layers_without_a_backing_ask_for_it(skyloop: Command, curve: Path):
    error = skyloop("analyze", curve, *OPTIONS[:2]).error
    assert error.startswith("--layer without --backing, the medium below the last layer; mend: add --backing")


def test_an_option_that_is_no_pair_is_named(skyloop: Command, curve: Path):
    error = skyloop("analyze", curve, "--layer", "film thickness", "--backing", "2.07").error
    assert error == "--layer: found 'thickness'; mend: key=number or key=low:high"


def test_a_technique_that_is_none_is_named(skyloop: Command, curve: Path, model: Path):
    assert skyloop("analyze", curve, "-m", model, "-t", "alchemy").error.startswith("no technique 'alchemy'")


def test_a_curve_without_errors_asks_for_them(skyloop: Command, model: Path, tmp_path: Path):
    rows = columns(np.linspace(0.01, 0.2, 20))[:, :2]
    two = write(tmp_path / "two.dat", rows)
    assert "mend: give relative_sigma, such as 0.05" in skyloop("analyze", two, "-m", model).error
    said = skyloop("analyze", two, "-m", model, "--relative-sigma", "0.05", "-o", tmp_path / "o")
    assert "no uncertainty in this file: taken as 5 % of R" in said.out
    assert value_of(said.out, "film.thickness")[0] == pytest.approx(TRUTH, rel=0.01)


def test_a_file_without_a_usable_point_says_why(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    rows = columns(np.linspace(0.01, 0.2, 8))
    rows[:, 0] *= -1.0
    left = write(tmp_path / "left.dat", rows)
    error = skyloop("analyze", left, "-m", model, "--q-min", "-1").error
    assert "no point can be used: 8 points without a positive q" in error
    error = skyloop("analyze", curve, "-m", model, "--q-min", "1").error
    assert "20 points outside the range of q" in error


def test_a_folder_that_cannot_be_made_is_named(skyloop: Command, curve: Path, model: Path):
    assert "cannot make the folder" in skyloop("analyze", curve, "-m", model, "-o", curve / "below").error


@pytest.mark.parametrize("place", [0, 3])
def test_debug_shows_the_traceback_wherever_it_stands(model: Path, place: int):
    words = ["analyze", "nothing.dat", "--model", str(model)]
    words.insert(place, "--debug")
    code = "from skyloop.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "DataError: there is no file nothing.dat" in ended.stderr


def test_errors_are_not_broken_into_lines_of_a_terminal(skyloop: Command, model: Path, tmp_path: Path):
    path = tmp_path / "/".join(["a long name of a folder"] * 8) / "curve.dat"
    assert str(path) in skyloop("analyze", path, "-m", model).error


def test_the_analysis_run_names_its_raw_run(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    starts = [
        json.loads(file.read_text().partition("\n")[0])["doc"] for file in (tmp_path / "o").glob("*.jsonl")
    ]
    raw, analysis = sorted(starts, key=lambda start: start.get("purpose", ""))
    assert raw["file"] == "curve.dat"
    assert analysis["parent_uids"] == [raw["uid"]]


def test_a_column_of_logarithms_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "log.dat"
    file.write_text("\n".join(f"{0.01 * n} {-0.1 * n} 0.01" for n in range(1, 20)))
    with pytest.raises(DataError, match="logarithms"):
        curve_run(file, CurveOptions())
