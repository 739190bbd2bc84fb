from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import MODEL, TRUTH, Command, columns, write

from skyloop.errors import DataError
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
    assert "\nok\n" in said.out
    assert (out / "curve.png").stat().st_size > 1000
    runs = {file.stem for file in out.glob("*.jsonl")}
    assert runs == set(re.findall(r"(?:raw run|analysis) +([0-9a-f-]{36})", said.out))
    assert len(runs) == 2


def test_a_model_on_the_command_line_is_as_good_as_a_file(skyloop: Command, curve: Path, tmp_path: Path):
    said = skyloop("analyze", curve, *OPTIONS, *FEW, "--set", "target=film.thickness", "-o", tmp_path / "o")
    thickness, sigma = value_of(said.out, "film.thickness")
    assert abs(thickness - TRUTH) < 4 * sigma


def test_the_same_file_gives_the_same_runs(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    first = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    second = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    assert (second.code, second.out) == (0, first.out)
    assert len(list((tmp_path / "o").glob("*.jsonl*"))) == 2


def test_what_was_left_out_is_told(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    said = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o", "--q-max", "0.15")
    assert re.search(r"left out: [1-9]\d* points outside the range of q", said.out)


def test_a_curve_alone_shows_no_trace_over_points(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from skyloop.cli import _analyze
    from skyloop.figures import pen

    drawn = []
    draw = pen.draw
    monkeypatch.setattr(_analyze, "draw", lambda panels: drawn.append(draw(panels)) or drawn[-1])
    skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    (figure,) = drawn
    assert [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()] == ["q [Å⁻¹]", "q [Å⁻¹]"]


def test_a_model_that_misses_says_so(skyloop: Command, curve: Path, model: Path, tmp_path: Path):
    model.write_text(MODEL.replace("sld: 4.2", "sld: 0.5"))
    said = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    assert said.code == 0
    assert "degraded model does not describe the data" in " ".join(said.out.split())


# ---------------------------------------------------------------- what a user gets wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sld: 4.2", "slld: 4.2"), "sample.layers[0].slld: found 4.2, unknown key; mend: "),
        (("[150, 350]", "[350, 150]"), "film.thickness: low 350 is not below high 150; mend: "),
        (("target: film.thickness", "target: film.sld"), "target: film.sld is known, not free; mend: "),
        (("[150, 350]", "[-1, 350]"), "film.thickness: found -1; mend: "),
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
    assert "there is no file" in skyloop("analyze", tmp_path, "-m", model).error


def test_a_bad_line_is_named_by_its_number(skyloop: Command, model: Path, tmp_path: Path):
    bad = write(tmp_path / "bad.dat", columns(np.linspace(0.01, 0.2, 8)), ["0.1 broken 3"])
    said = skyloop("analyze", bad, "-m", model)
    assert said.error == f"{bad}, line 4: '0.1 broken 3'; mend: give 3 numbers as above"


def test_no_model_says_how_to_give_one(skyloop: Command, curve: Path):
    error = skyloop("analyze", curve).error
    assert "--model sample.yaml" in error
    assert "--layer" in error


@pytest.mark.parametrize("more", [FEW, OPTIONS[:2], OPTIONS[2:], ["--fronting", "2.07"]])
def test_a_model_file_and_options_are_not_mixed_unseen(
    skyloop: Command, curve: Path, model: Path, more: list[str]
):
    assert f"--model and {more[0]} are both given" in skyloop("analyze", curve, "-m", model, *more).error


def test_an_option_that_is_no_pair_is_named(skyloop: Command, curve: Path):
    error = skyloop("analyze", curve, "--layer", "film thickness", "--backing", "2.07").error
    assert error == "--layer: found 'thickness'; mend: key=number or key=low:high"


def test_a_technique_that_is_none_is_named(skyloop: Command, curve: Path, model: Path):
    assert skyloop("analyze", curve, "-m", model, "-t", "alchemy").error.startswith("no technique 'alchemy'")


def test_a_curve_without_errors_asks_for_them(skyloop: Command, model: Path, tmp_path: Path):
    rows = columns(np.linspace(0.01, 0.2, 20))[:, :2]
    two = write(tmp_path / "two.dat", rows)
    assert "mend: --relative-sigma 0.05" in skyloop("analyze", two, "-m", model).error
    said = skyloop("analyze", two, "-m", model, "--relative-sigma", "0.05", "-o", tmp_path / "o")
    assert said.code == 0


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
