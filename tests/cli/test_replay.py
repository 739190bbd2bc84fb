from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Command

from skyloop import cli
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


def test_simulate_refuses_a_plan_that_is_none(skyloop: Command, tmp_path: Path):
    error = skyloop("simulate", "--plan", "guess", "-o", tmp_path).error
    assert error.startswith("--plan: found 'guess'; mend: one of fixed")


# ---------------------------------------------------------------- replay


def test_replay_of_a_folder_takes_the_stored_model(skyloop: Command, measured: Path, tmp_path: Path):
    said = skyloop("replay", measured, "--out", tmp_path)
    assert said.code == 0, said.err
    assert raw_file(measured).stem[:8] in said.out
    assert "reflectometry" in said.out
    assert re.search(r"1 run, \d+ events in", said.out)
    assert start_of(next(iter(tmp_path.glob("*.jsonl"))))["original_run_uid"] == raw_file(measured).stem


def test_replaying_into_the_same_folder_changes_nothing(skyloop: Command, copy: Path):
    before = {file: file.read_bytes() for file in copy.iterdir()}
    assert skyloop("replay", copy, "-o", copy).code == 0
    assert {file: file.read_bytes() for file in copy.iterdir()} == before


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
    from skyloop.cli._beamline import MODEL

    for scale in ("0.9", "1.1"):
        other = tmp_path / "other.yaml"
        other.write_text(f"{MODEL}scale: {scale}\nparticles: 100\n")
        assert skyloop("replay", copy, "-m", other, "-o", copy).code == 0
    assert len(list(copy.glob("*.jsonl"))) == 4
    assert "decisions verified" in skyloop("replay", copy, "--verify", "-o", tmp_path / "o").out


def test_verify_without_a_stored_analysis_stands_on_the_new_one(skyloop: Command, copy: Path, tmp_path: Path):
    from skyloop.cli._beamline import MODEL

    model = tmp_path / "model.yaml"
    model.write_text(MODEL)
    said = skyloop("replay", raw_file(copy), "--verify", "-m", model, "-o", tmp_path / "o")
    assert "decisions verified" in said.out


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


def test_verify_of_a_run_without_decisions_says_so(
    skyloop: Command, curve: Path, model: Path, tmp_path: Path
):
    skyloop("analyze", curve, "-m", model, "-o", tmp_path / "o")
    error = skyloop("replay", tmp_path / "o", "--verify", "-o", tmp_path / "again").error
    assert "no run was measured by an adaptive plan" in error
