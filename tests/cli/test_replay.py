from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.conftest import MODEL, Command, columns, write
from rich.console import Console

from skyloop import cli
from skyloop.callbacks import techniques
from skyloop.callbacks.reflectometry import Keys
from skyloop.cli import _simulate
from skyloop.cli._beamline import MODEL as BEAMLINE
from skyloop.engines.reflectometry.config import Config, load
from skyloop.storage.jsonl import read_jsonl
from skyloop.storage.packed import pack

POINTS = 8


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fixed scan in shadow on the simulated instrument, measured once."""
    out = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["skyloop", "simulate", "--points", str(POINTS), "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code in (0, None)
    return out


def start_of(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text().partition("\n")[0])["doc"]


def raw_file(folder: Path) -> Path:
    (file,) = (f for f in folder.glob("*.jsonl") if start_of(f).get("purpose") != "analysis")
    return file


def analysis_file(folder: Path) -> Path:
    (file,) = (f for f in folder.glob("*.jsonl") if start_of(f).get("purpose") == "analysis")
    return file


def analyses(folder: Path) -> list[dict[str, Any]]:
    """Start documents of the analysis runs in a folder."""
    starts = map(start_of, sorted(folder.glob("*.jsonl")))
    return [start for start in starts if start.get("purpose") == "analysis"]


def config_of(file: Path) -> str:
    return start_of(file)["analysis"]["config_sha256"]


@pytest.fixture
def two(skyloop: Command, curve: Path, model: Path, tmp_path: Path) -> Path:
    """Two curves, each analysed with a model of its own."""
    folder = tmp_path / "two"
    assert skyloop("analyze", curve, "-m", model, "-o", folder).code == 0
    other = write(tmp_path / "other.dat", columns(np.linspace(0.02, 0.15, 15)))
    model.write_text(f"{model.read_text()}scale: [0.9, 1.1]\n")
    assert skyloop("analyze", other, "-m", model, "-o", folder).code in (0, 3)  # stored, good or bad
    return folder


@pytest.fixture
def copy(measured: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in measured.glob("*.jsonl"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def change(file: Path, edit: Callable[[str, dict[str, Any]], None]) -> None:
    """Rewrite a stored run."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        edit(line["name"], line["doc"])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


# ---------------------------------------------------------------- simulate


def test_simulate_stores_a_raw_run_and_its_analysis(measured: Path):
    raw = raw_file(measured)
    assert len(list(measured.glob("*.jsonl"))) == 2
    names = [name for name, _ in read_jsonl(raw)]
    assert names.count("event") >= 2 * POINTS  # each point has its decision
    assert names[-1] == "stop"


def test_simulate_tells_the_result_with_the_truth(skyloop: Command, tmp_path: Path):
    said = skyloop("simulate", "--points", POINTS, "--plan", "stop_when_known", "--out", tmp_path / "runs")
    assert said.code == 0, said.err
    found = re.search(r"film thickness ([\d.]+) ± ([\d.]+) Å; truth ([\d.]+) Å", said.out)
    assert found
    thickness, sigma, truth = map(float, found.groups())
    assert abs(thickness - truth) < 4 * sigma
    assert f"skyloop replay {tmp_path / 'runs'} --verify" in said.out
    again = skyloop("replay", tmp_path / "runs", "-o", tmp_path / "o")
    assert f"{found[1]} ± {found[2]}" in again.out


def test_a_fixed_scan_is_called_as_the_user_called_it(skyloop: Command, measured: Path, tmp_path: Path):
    start = start_of(raw_file(measured))
    assert (start["plan_name"], start["adaptive"]["mode"]) == ("fixed", "shadow")
    said = skyloop("replay", measured, "--verify", "--out", tmp_path)
    assert said.code == 0, said.err
    assert "│ fixed " in said.out
    assert "stop_when_known" not in said.out


@pytest.mark.parametrize(("outcome", "reason"), [("ok", ""), ("degraded", "411.29 is possible too")])
def test_simulate_rounds_its_numbers_and_says_what_speaks_against_them(
    outcome: str, reason: str, capsys: pytest.CaptureFixture[str]
):
    told = {"target": 271.3123456, "target_sigma": 0.4321, "outcome": outcome, "reason": reason}
    found = {"points": 8, "decisions": 9, "beam_time": 123.45678901234, "reason": "done", "run_uid": "1-2"}
    summary = {f"reflectometry_{name}": value for name, value in told.items()}
    _simulate._print(found, summary, Path("runs"), Console(width=100))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-5] == ([f"{outcome}: {reason}"] if reason else [])
    assert lines[-5].startswith("film thickness 271.31 ± 0.43 Å; ")
    assert "123 s of beam time" in lines[-4]


def test_simulate_refuses_a_plan_that_is_none(skyloop: Command, tmp_path: Path):
    error = skyloop("simulate", "--plan", "guess", "-o", tmp_path).error
    assert error.startswith("--plan: found 'guess'; mend: one of fixed")


# ---------------------------------------------------------------- replay


def test_replay_of_a_folder_takes_the_stored_model(skyloop: Command, measured: Path, tmp_path: Path):
    said = skyloop("replay", measured, "--out", tmp_path)
    assert said.code == 0, said.err
    assert raw_file(measured).stem[:8] in said.out
    assert "reflectometry" in said.out
    assert re.search(r"^1 run analysed in [\d.]+ s$", said.out, re.M)
    assert start_of(next(iter(tmp_path.glob("*.jsonl"))))["original_run_uid"] == raw_file(measured).stem


def test_replaying_into_the_same_folder_changes_nothing(skyloop: Command, copy: Path):
    before = {file: file.read_bytes() for file in copy.iterdir()}
    assert skyloop("replay", copy, "-o", copy).code == 0
    assert {file: file.read_bytes() for file in copy.iterdir()} == before


def rows_of(screen: str) -> list[list[str]]:
    """Cells of each row of the table; what was folded is one line again."""
    rows: list[list[str]] = []
    for line in screen.splitlines():
        if line.startswith("│"):
            cells = [cell.strip() for cell in line.split("│")[1:-1]]
            if re.fullmatch(r"[0-9a-f]{8}", cells[0]):
                rows.append([""] * len(cells))
            rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
    return rows


def row_of(screen: str) -> list[str]:
    (row,) = rows_of(screen)
    return row


def test_a_replay_marks_what_is_not_to_be_trusted_and_counts_it(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    folder = tmp_path / "misses"
    model.write_text(MODEL.replace("sld: 4.2", "sld: 0.5"))
    assert skyloop("analyze", curve, "-m", model, "-o", folder).code == 3
    said = skyloop("replay", folder, "-o", tmp_path / "o")
    _, _, _, target, chi2, outcome = row_of(said.out)
    assert re.fullmatch(r"film.thickness [\d.]+ ± [\d.]+ \? Å", target)
    assert outcome.startswith("degraded: model does not describe the data")
    assert "?" not in chi2
    assert said.out.splitlines()[-1].startswith("1 of 1 analysis is not to be trusted: ")


def test_a_replay_of_trusted_results_marks_nothing(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    assert skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o").code == 0
    said = skyloop("replay", tmp_path / "o", "-o", tmp_path / "again")
    assert "?" not in said.out
    assert "not to be trusted" not in said.out


@pytest.mark.parametrize("scale", ["[0.5, 0.999]", "[0.5, 1.5]"])
def test_a_replay_says_of_a_result_what_its_analysis_said(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path, scale: str
):
    model.write_text(f"{MODEL}scale: {scale}\n")
    first = skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    (told,) = (line for line in first.out.splitlines() if line.startswith("ok"))
    caveat = "ok, but scale is at the upper end of its range: the other values depend on where it ends"
    assert told == caveat if scale == "[0.5, 0.999]" else told.startswith("ok: ")
    row = row_of(skyloop("replay", tmp_path / "o", "-o", tmp_path / "again").out)
    assert row[-1] == told.partition(": no check")[0]


def test_a_target_at_an_end_of_its_range_has_no_sigma_in_a_replay_either(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    model.write_text(MODEL.replace("[150, 350]", "[150, 239.9]"))
    assert skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o").code in (0, 3)
    target = row_of(skyloop("replay", tmp_path / "o", "-o", tmp_path / "again").out)[3]
    assert re.search(r"^film.thickness [\d.]+( \?)? Å, at the upper end of its range \[150, 239.9\]", target)


def test_a_row_names_file_points_target_and_unit(skyloop: Command, two: Path, tmp_path: Path):
    rows = rows_of(skyloop("replay", two, "-o", tmp_path / "o").out)
    assert {(file, points) for _, file, points, *_ in rows} == {("curve.dat", "20"), ("other.dat", "15")}
    assert all(re.fullmatch(r"film.thickness .* Å", row[3]) for row in rows)


def test_a_row_of_a_scan_names_plan_and_number_and_counts_no_decision(
    skyloop: Command, measured: Path, tmp_path: Path
):
    run, plan, points, *_ = row_of(skyloop("replay", measured, "-o", tmp_path).out)
    raw = raw_file(measured)
    assert (run, plan, points) == (f"{raw.stem[:8]} scan {start_of(raw)['scan_id']}", "fixed", str(POINTS))


@pytest.mark.parametrize("late", ["curve.dat", "other.dat"])
def test_runs_stand_in_the_order_in_which_they_were_measured(
    skyloop: Command, two: Path, tmp_path: Path, late: str
):
    def edit(name: str, doc: dict[str, Any]) -> None:
        if name == "start" and "file" in doc:
            doc["time"] = 2e9 if doc["file"] == late else 1e9

    for file in two.glob("*.jsonl"):
        change(file, edit)
    said = skyloop("replay", two, "-o", tmp_path / "o")
    assert [row[1] for row in rows_of(said.out)].index(late) == 1
    assert re.search(r"^2 runs analysed in [\d.]+ s, [\d.]+ s per run$", said.out, re.M)


def test_replay_of_a_msgpack_file_gives_the_same_result(skyloop: Command, measured: Path, tmp_path: Path):
    packed = tmp_path / "runs.msgpack"
    with packed.open("wb") as file:
        for stored in measured.glob("*.jsonl"):
            file.writelines(pack(document) for document in read_jsonl(stored))
    rows = [
        [line for line in skyloop("replay", source, "-o", tmp_path / "o").out.splitlines() if "│" in line]
        for source in (packed, measured)
    ]
    assert rows[0] == rows[1]
    assert rows[0]


def test_verify_recomputes_every_decision(skyloop: Command, measured: Path, tmp_path: Path):
    said = skyloop("replay", measured, "--verify", "-o", tmp_path)
    assert said.code == 0, said.err
    assert f"{POINTS + 1} decisions verified" in said.out


def test_a_tampered_decision_is_named_by_run_number_and_field(skyloop: Command, copy: Path, tmp_path: Path):
    def edit(name: str, doc: dict[str, Any]) -> None:
        if name == "event" and doc["data"].get("decision_seq") == 3:
            doc["data"]["decision_target_sigma"] = 0.001

    raw = raw_file(copy)
    change(raw, edit)
    said = skyloop("replay", copy, "--verify", "-o", tmp_path)
    assert "recorded values do not follow from the stored documents" in said.error
    assert f"run {raw.stem[:8]} decision 3, chain_sha256" in said.out
    assert f"run {raw.stem[:8]} decision 3, target_sigma: recorded 0.001, recomputed" in said.out
    assert "not verified" in said.out


def test_a_point_that_was_moved_is_found(skyloop: Command, copy: Path, tmp_path: Path):
    def edit(name: str, doc: dict[str, Any]) -> None:
        if name == "event" and doc["seq_num"] == 4 and "counts" in doc["data"]:
            doc["data"] = {k: v + 0.1 if k == "q" else v for k, v in doc["data"].items()}

    change(raw_file(copy), edit)
    said = skyloop("replay", copy, "--verify", "-o", tmp_path)
    assert said.error
    assert "point 4" in said.out


def test_another_analysis_of_the_run_does_not_spoil_the_verification(
    skyloop: Command, copy: Path, tmp_path: Path
):
    for scale in ("0.9", "1.1"):
        other = tmp_path / "other.yaml"
        other.write_text(f"{BEAMLINE}scale: {scale}\nparticles: 100\n")
        assert skyloop("replay", copy, "-m", other, "-o", copy).code == 0
    assert len(list(copy.glob("*.jsonl"))) == 4
    assert "decisions verified" in skyloop("replay", copy, "--verify", "-o", tmp_path / "o").out


def test_verify_without_a_stored_analysis_stands_on_the_new_one(skyloop: Command, copy: Path, tmp_path: Path):
    model = tmp_path / "model.yaml"
    model.write_text(BEAMLINE)
    said = skyloop("replay", raw_file(copy), "--verify", "-m", model, "-o", tmp_path / "o")
    assert "decisions verified" in said.out


def test_verify_says_that_the_replay_gives_the_stored_results(
    skyloop: Command, measured: Path, tmp_path: Path
):
    said = skyloop("replay", measured, "--verify", "-o", tmp_path)
    assert f"run {raw_file(measured).stem[:8]}: same final result as the stored analysis" in said.out


def test_verify_with_another_model_says_that_results_differ(skyloop: Command, measured: Path, tmp_path: Path):
    other = tmp_path / "other.yaml"
    other.write_text(f"{BEAMLINE}scale: 0.9\nparticles: 100\n")
    said = skyloop("replay", measured, "--verify", "-m", other, "-o", tmp_path / "o")
    assert said.code == 0, said.err
    assert "decisions verified" in said.out
    new, old = (config_of(analysis_file(folder))[:8] for folder in (tmp_path / "o", measured))
    assert new != old
    told = f"replayed with another model than the stored analysis (config {new}, not {old}; "
    assert told in said.out
    assert "it differs in scale, particles) and gives other results: film.thickness " in said.out
    assert re.search(r"; stored film.thickness [\d.]+ ± [\d.]+( \?)? Å, chi2 ", said.out)


def test_verify_of_runs_without_decisions_compares_their_results(skyloop: Command, two: Path, tmp_path: Path):
    said = skyloop("replay", two, "--verify", "-o", tmp_path / "o")
    assert said.code == 0, said.err
    for raw in {start["original_run_uid"] for start in analyses(two)}:
        assert f"run {raw[:8]}: same final result as the stored analysis" in said.out
    assert "2 runs have no decisions to verify: not measured by an adaptive plan" in said.out


def test_verify_of_a_run_without_decisions_fails_on_another_result(
    skyloop: Command, two: Path, tmp_path: Path
):
    raw, path = (analyses(two)[0][key] for key in ("original_run_uid", "uid"))

    def edit(name: str, doc: dict[str, Any]) -> None:
        if name == "event" and "frames" in doc["data"]:
            doc["data"]["reflectometry_target"] += 1e-9

    change(two / f"{path}.jsonl", edit)
    error = skyloop("replay", two, "--verify", "-o", tmp_path / "o").error
    assert error.startswith(f"run {raw[:8]}: same model, yet other results than the stored analysis: ")


def test_verify_fails_where_the_frame_of_a_stored_analysis_is_gone(
    skyloop: Command, two: Path, tmp_path: Path
):
    raw = analyses(two)[0]["original_run_uid"]
    file = two / f"{raw}.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith('{"name": "event"')))
    error = skyloop("replay", two, "--verify", "-o", tmp_path / "o").error
    assert error.startswith(f"run {raw[:8]}: the replay finds no frame, the stored analysis did; mend: ")


def test_verify_compares_with_the_stored_analysis_that_had_the_same_model(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    for more in ("", "scale: [0.9, 1.1]\n"):
        model.write_text(MODEL + more)
        assert skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o").code in (0, 3)
    said = skyloop("replay", tmp_path / "o", "--verify", "-m", model, "-o", tmp_path / "again")
    assert "same final result as the stored analysis" in said.out


def test_verify_where_there_is_nothing_to_verify_says_so_before_it_analyses(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    assert skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o").code == 0
    analysis_file(tmp_path / "o").unlink()
    error = skyloop("replay", tmp_path / "o", "--verify", "-m", model, "-o", tmp_path / "again").error
    assert "nothing to verify: no run has decisions or a stored reflectometry analysis; mend: " in error
    assert not (tmp_path / "again").exists()


def tampered(folder: Path) -> tuple[float, float]:
    """Change the target of a stored summary where no table shows it; its value, and that now stored."""
    values: list[float] = []

    def edit(name: str, doc: dict[str, Any]) -> None:
        if name == "event" and "frames" in doc["data"]:
            values.append(doc["data"]["reflectometry_target"])
            doc["data"]["reflectometry_target"] += 1e-9

    change(analysis_file(folder), edit)
    return values[0], values[0] + 1e-9


def test_verify_names_what_differs_with_the_same_model_and_fails(
    skyloop: Command, copy: Path, tmp_path: Path
):
    value, stored = tampered(copy)
    said = skyloop("replay", copy, "--verify", "-o", tmp_path / "o")
    told = "same model, yet other results than the stored analysis: reflectometry_target is "
    assert f"{told}{value}, stored {stored}" in said.out
    assert told in said.error
    assert "; mend: " in said.error


def test_a_raw_run_without_a_stop_document_is_told_and_does_not_verify(
    skyloop: Command, copy: Path, tmp_path: Path
):
    raw = raw_file(copy)
    raw.write_text("".join(raw.read_text().splitlines(keepends=True)[:-3]))
    told = f"run {raw.stem[:8]}: the raw run has no stop document: it was cut short"
    said = skyloop("replay", copy, "-o", tmp_path / "o")
    assert (said.code, said.out.count(told)) == (0, 1)
    said = skyloop("replay", copy, "--verify", "-o", tmp_path / "v")
    assert said.error.startswith(f"{told}; mend: ")


def test_another_content_of_the_same_run_is_told_once(skyloop: Command, copy: Path):
    tampered(copy)
    said = skyloop("replay", copy, "-o", copy)
    assert said.error.count("the file holds this run with other content") == 1
    assert said.error.endswith("; mend: compare them, then move one away or write to another folder")


def test_verify_with_a_model_that_changes_no_number_does_not_say_other_results(
    skyloop: Command, measured: Path, tmp_path: Path
):
    other = tmp_path / "other.yaml"
    other.write_text(BEAMLINE.replace("target_sigma: 0.5", "target_sigma: 0.49"))
    said = skyloop("replay", measured, "--verify", "-m", other, "-o", tmp_path / "o")
    assert re.search(r"it differs in target_sigma\) and still gives film.thickness [\d.]+ ±", said.out)


def test_each_run_is_replayed_with_the_model_of_its_own_analysis(skyloop: Command, two: Path, tmp_path: Path):
    said = skyloop("replay", two, "-o", tmp_path / "o")
    assert said.code == 0, said.err
    configs = [
        {start["original_run_uid"]: start["analysis"]["config_sha256"] for start in analyses(folder)}
        for folder in (two, tmp_path / "o")
    ]
    assert configs[0] == configs[1]
    assert len(set(configs[0].values())) == 2


def test_of_several_stored_analyses_the_first_one_made_counts(skyloop: Command, copy: Path, tmp_path: Path):
    for number, scale in enumerate(("0.9", "1.1", "1.2")):
        other = tmp_path / f"{number}.yaml"
        other.write_text(f"{BEAMLINE}scale: {scale}\nparticles: 100\n")
        assert skyloop("replay", copy, "-m", other, "-o", copy).code == 0
    first = min(analyses(copy), key=lambda start: start["time"])
    assert skyloop("replay", copy, "-o", tmp_path / "o").code == 0
    assert [start["uid"] for start in analyses(tmp_path / "o")] == [first["uid"]]


def test_a_run_without_a_stored_analysis_is_told_and_the_others_go_on(
    skyloop: Command, two: Path, tmp_path: Path
):
    gone = analyses(two)[0]
    (two / f"{gone['uid']}.jsonl").unlink()
    said = skyloop("replay", two, "-o", tmp_path / "o")
    assert said.code == 0, said.err
    raw = gone["original_run_uid"][:8]
    told = f"left out: run {raw}: no stored analysis; mend: --run {raw} --model sample.yaml"
    assert told in said.out
    assert re.search(r"^1 run analysed in [\d.]+ s$", said.out, re.M)


def test_a_stored_model_that_cannot_be_used_is_told(skyloop: Command, two: Path, tmp_path: Path):
    def edit(name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            doc["analysis"]["config"]["spin"] = "up"

    change(two / f"{analyses(two)[0]['uid']}.jsonl", edit)
    said = skyloop("replay", two, "-o", tmp_path / "o")
    assert re.search(r"left out: run \w{8}: its stored model cannot be used: spin: found 'up', ", said.out)


def test_a_fault_in_every_event_does_not_flood_the_screen(
    skyloop: Command, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def wanted(_: object) -> set[str]:
        raise ZeroDivisionError("a fault of this technique")

    technique = dataclasses.replace(
        techniques()["reflectometry"], wanted=wanted, with_keys=lambda _: technique
    )
    monkeypatch.setattr("skyloop.cli._replay.technique_named", lambda _: technique)
    said = skyloop("replay", measured, "-o", tmp_path)
    assert "a fault of this technique" in said.err
    assert len(said.err.splitlines()) <= 3
    assert "Traceback" not in said.err


# ---------------------------------------------------------------- what the data are called

NAMES = {"q": "qz", "counts": "pilatus", "exposure": "beam"}
YAML = "{q: qz, counts: pilatus, exposure: beam, per_monitor: 3}"


@pytest.fixture
def renamed(skyloop: Command, copy: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A raw run whose data have other names with its analysis, and the file that says them."""

    def edit(name: str, doc: dict[str, Any]) -> None:
        for held in ("data", "timestamps", "data_keys"):
            if held in doc:
                doc[held] = {NAMES.get(key, key): value for key, value in doc[held].items()}

    keys, model = tmp_path / "keys.yaml", tmp_path / "model.yaml"
    keys.write_text(YAML)
    model.write_text(BEAMLINE + "particles: 100\n")
    analysis_file(copy).unlink()
    change(raw_file(copy), edit)
    said = skyloop("replay", copy, "-m", model, "--keys", keys, "-o", copy)
    assert said.code == 0, said.err
    return copy, keys


def test_the_keys_given_are_stored_and_a_replay_takes_them_back(
    skyloop: Command, renamed: tuple[Path, Path], tmp_path: Path
):
    folder, _ = renamed
    (first,) = analyses(folder)
    assert first["analysis"]["keys"] == dataclasses.asdict(
        Keys(q="qz", counts="pilatus", exposure="beam", per_monitor=3)
    )
    said = skyloop("replay", folder, "-o", tmp_path / "o")
    assert "no frame" not in said.out
    (again,) = analyses(tmp_path / "o")
    assert (again["uid"], again["analysis"]["keys"]) == (first["uid"], first["analysis"]["keys"])


def test_another_model_is_used_with_the_stored_keys(
    skyloop: Command, renamed: tuple[Path, Path], tmp_path: Path
):
    folder, _ = renamed
    other = tmp_path / "other.yaml"
    other.write_text(f"{BEAMLINE}scale: 0.9\nparticles: 100\n")
    assert skyloop("replay", folder, "-m", other, "-o", tmp_path / "o").code == 0
    assert analyses(tmp_path / "o")[0]["analysis"]["keys"]["counts"] == "pilatus"


def test_verify_takes_the_stored_keys_and_tells_others(
    skyloop: Command, renamed: tuple[Path, Path], tmp_path: Path
):
    folder, keys = renamed
    said = skyloop("replay", folder, "--verify", "-o", tmp_path / "o")
    assert "same final result as the stored analysis" in said.out
    keys.write_text(YAML.replace("exposure: beam, per_monitor: 3", "monitor: beam, per_monitor: 0.9"))
    said = skyloop("replay", folder, "--verify", "--keys", keys, "-o", tmp_path / "o")
    told = "replayed with other keys than the stored analysis (they differ in exposure, monitor, per_monitor)"
    assert f"{told} and gives other results: film.thickness" in said.out


def test_a_run_without_a_frame_is_told_with_the_mend(
    skyloop: Command, renamed: tuple[Path, Path], tmp_path: Path
):
    folder, keys = renamed
    keys.write_text("counts: eiger\n")
    said = skyloop("replay", folder, "--keys", keys, "-o", tmp_path / "o")
    assert said.code == 0
    assert "no frame" in said.out
    raw = raw_file(folder).stem[:8]
    assert f"run {raw}: no event holds what this technique looks for; mend: say what it is called" in said.out


@pytest.mark.parametrize("damage", [{"analysis": None}, {"time": None}, {"analysis": []}])
def test_an_analysis_whose_start_is_damaged_is_told_and_left_out(
    skyloop: Command, copy: Path, tmp_path: Path, damage: dict[str, Any]
):
    change(analysis_file(copy), lambda name, doc: doc.update(damage) if name == "start" else None)
    said = skyloop("replay", copy, "-o", tmp_path / "o")
    assert said.code == 2
    assert "Traceback" not in said.err
    assert "mend: --model sample.yaml" in said.err


def test_a_damaged_run_is_not_one_without_a_frame(skyloop: Command, copy: Path, tmp_path: Path):
    change(raw_file(copy), lambda name, doc: doc.update({"data": None}) if name == "event" else None)
    said = skyloop("replay", copy, "-o", tmp_path / "o")
    raw = raw_file(copy).stem[:8]
    assert f"run {raw}: damaged, documents were put aside: " in said.out
    assert "no event holds" not in said.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("count: eiger\n", "keys: found 'count', which is none; mend: one of stream, q,"),
        ("per_monitor: many\n", "keys: per_monitor: found 'many'; mend: give a finite number"),
        ("eiger\n", "holds no `key: value`; mend: one per line"),
        ("a: [", "cannot be read"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(
    skyloop: Command, measured: Path, tmp_path: Path, text: str, words: str
):
    (tmp_path / "keys.yaml").write_text(text)
    error = skyloop("replay", measured, "--keys", tmp_path / "keys.yaml", "-o", tmp_path / "o").error
    assert words in error


def test_stored_keys_that_cannot_be_used_are_told(skyloop: Command, two: Path, tmp_path: Path):
    def edit(name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            doc["analysis"]["keys"]["spin"] = "up"

    change(two / f"{analyses(two)[0]['uid']}.jsonl", edit)
    said = skyloop("replay", two, "-o", tmp_path / "o")
    assert re.search(r"left out: run \w{8}: its stored keys cannot be used: keys: found 'spin'", said.out)
    assert re.search(r"mend: --run \w{8} --keys keys.yaml", said.out)


@pytest.mark.parametrize("given", [True, False])
def test_a_configuration_that_counts_as_false_is_one(
    skyloop: Command, copy: Path, tmp_path: Path, given: bool, monkeypatch: pytest.MonkeyPatch
):
    class Bare(Config):
        def __len__(self) -> int:
            return 0

    def load_bare(text: str | Path) -> Bare:
        config = load(text)
        return Bare(**{f.name: getattr(config, f.name) for f in dataclasses.fields(Config)})

    (tmp_path / "model.yaml").write_text(BEAMLINE + "particles: 100\n")
    technique = dataclasses.replace(techniques()["reflectometry"], load=load_bare)
    monkeypatch.setattr("skyloop.cli._replay.technique_named", lambda _: technique)
    said = skyloop("replay", copy, *(["-m", tmp_path / "model.yaml"] if given else []), "-o", tmp_path / "o")
    assert said.code == 0, said.err
    assert "left out" not in said.out
    assert len(analyses(tmp_path / "o")) == 1


# ---------------------------------------------------------------- what a user gets wrong


def test_a_run_without_a_stored_analysis_asks_for_the_model(skyloop: Command, measured: Path, tmp_path: Path):
    assert "mend: --model sample.yaml" in skyloop("replay", raw_file(measured), "-o", tmp_path).error


def test_a_source_that_is_none_is_named(skyloop: Command, tmp_path: Path):
    assert "there is no file or folder" in skyloop("replay", tmp_path / "nothing.jsonl").error
    assert "holds no run" in skyloop("replay", tmp_path).error


def test_a_uid_that_fits_no_run_is_named(skyloop: Command, measured: Path):
    assert "begins with 'zzz'" in skyloop("replay", measured, "--run", "zzz").error


def test_a_search_without_a_hit_says_so(skyloop: Command, measured: Path):
    assert "no raw run fits" in skyloop("replay", measured, "--search", "plan_name=count").error
    assert "mend: write key=value" in skyloop("replay", measured, "--search", "plan_name").error


def test_a_damaged_file_is_named_with_its_line(skyloop: Command, copy: Path):
    raw = raw_file(copy)
    lines = raw.read_text().splitlines()
    raw.write_text("\n".join([*lines[:5], lines[5][:40], *lines[6:]]) + "\n")
    assert re.search(rf"{re.escape(raw.name)}.*line 6", skyloop("replay", copy).error)


def test_a_replay_that_fails_leaves_no_thread_that_writes(skyloop: Command, copy: Path):
    raw, before = raw_file(copy), set(threading.enumerate())
    lines = raw.read_text().splitlines()
    raw.write_text("\n".join([*lines[:-1], lines[-1][:40]]) + "\n")
    assert skyloop("replay", copy).error
    assert set(threading.enumerate()) <= before


def test_a_file_whose_first_line_is_garbage_is_named(skyloop: Command, copy: Path):
    raw = raw_file(copy)
    raw.write_text("\n".join(["garbage", *raw.read_text().splitlines()[1:]]) + "\n")
    for source in (raw, copy):
        assert skyloop("replay", source).error.startswith(f"{raw}: line 1 is not JSON, ")


def test_a_file_of_other_json_lines_beside_the_runs_is_passed_over(
    skyloop: Command, copy: Path, tmp_path: Path
):
    (copy / "log.jsonl").write_text('{"level": "info"}\n')
    (copy / "empty.jsonl").write_text("")
    assert skyloop("replay", copy, "-o", tmp_path / "o").code == 0


def test_a_file_of_analysis_runs_alone_names_what_is_missing(
    skyloop: Command, measured: Path, tmp_path: Path
):
    error = skyloop("replay", analysis_file(measured), "-o", tmp_path).error
    assert "holds analysis runs only" in error
    assert raw_file(measured).stem in error


def test_the_uid_of_an_analysis_is_answered_with_that_of_its_raw_run(
    skyloop: Command, measured: Path, tmp_path: Path
):
    uid = start_of(analysis_file(measured))["uid"]
    error = skyloop("replay", measured, "--run", uid[:8], "-o", tmp_path).error
    raw = raw_file(measured).stem
    assert error == f"run {uid[:8]} is an analysis of run {raw}; mend: --run {raw[:8]}"
