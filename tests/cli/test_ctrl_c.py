"""Ctrl-C: one line, exit code 130, and nothing unfinished under the name of a finished run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest
from cli.conftest import MODEL, Command, columns, write

from skyloop.cli import _app, _demo, _simulate
from skyloop.runtime import endings
from skyloop.runtime.sinks import Sink

HANGING = """
from skyloop.engines.reflectometry import Engine
def hang(*_):
    print("at work", flush=True)
    while True:
        pass
Engine.{method} = hang
"""


def ended_by_ctrl_c(words: Sequence[object], prelude: str, is_due: Callable[[str], bool]) -> tuple[int, str]:
    """Run a command, send it Ctrl-C after the line that is due, and give its exit code and its errors."""
    code = f"{prelude}\nfrom skyloop.cli import main\nmain()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    too_long = Timer(100, process.kill)
    too_long.start()
    try:
        assert process.stdout is not None
        assert any(is_due(line) for line in process.stdout), process.communicate()[1]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    finally:
        too_long.cancel()
        process.kill()
    return process.returncode, errors


def one_line(errors: str) -> bool:
    return errors.startswith("skyloop: stopped by Ctrl-C") and len(errors.splitlines()) == 1


@pytest.mark.parametrize("method", ["step", "finish"])
def test_analyze_leaves_no_unfinished_analysis_under_a_final_name(method: str, tmp_path: Path):
    curve = write(tmp_path / "curve.dat", columns(np.linspace(0.01, 0.2, 20)))
    model, out = tmp_path / "model.yaml", tmp_path / "out"
    model.write_text(MODEL)
    words = ["analyze", curve, "-m", model, "-o", out]
    code, errors = ended_by_ctrl_c(words, HANGING.format(method=method), lambda line: line == "at work\n")
    assert code == 130
    assert one_line(errors)
    for file in out.glob("*.jsonl"):
        assert '"name": "stop"' in file.read_text().splitlines()[-1]


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_a_simulated_measurement_ends_at_once(command: str, tmp_path: Path):
    prelude = """
from skyloop.sim.counting import Counting
expose = Counting.expose
def told(self, *args, **kwargs):
    print("at work", flush=True)
    return expose(self, *args, **kwargs)
Counting.expose = told
"""
    words = [command, "--out", tmp_path / "out"]
    code, errors = ended_by_ctrl_c(words, prelude, lambda line: line == "at work\n")
    assert code == 130
    assert one_line(errors)
    assert not list((tmp_path / "out").glob("*.jsonl"))


@pytest.mark.parametrize("stuck", [False, True])
def test_a_command_that_is_told_to_end_stores_what_is_finished(
    skyloop: Command, stuck: bool, monkeypatch: pytest.MonkeyPatch
):
    taken: list[int] = []
    told, over = Event(), Event()

    def store(_: str, doc: dict[str, int]) -> None:
        told.wait(60)
        if stuck:
            over.wait(60)
        taken.append(doc["n"])

    sink = Sink(store)

    def terminated(*_: object) -> None:
        for n in range(3):
            sink("event", {"n": n})
        monkeypatch.setattr(_app, "flush_all", flush)
        signal.raise_signal(signal.SIGTERM)

    def flush(seconds: float) -> str:
        told.set()
        return endings.flush_all(0.05 if stuck else seconds)

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(endings, "_open", {sink._delivery: endings._open[sink._delivery]})
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(_simulate, "simulate", terminated)
    said = skyloop("simulate")
    left = "; not stored: 3 documents for test_a_command" if stuck else "\n"
    assert said.code == 143
    assert said.err.startswith(
        f"skyloop: stopped by SIGTERM; what is unfinished is in files that end in .part{left}"
    )
    assert taken == ([] if stuck else [0, 1, 2])
    over.set()
    assert sink.close()


@pytest.mark.parametrize("words", [("demo",), ("--debug", "demo"), ("demo", "--debug")])
def test_files_that_end_in_part_are_spoken_of_where_there_are_some(
    skyloop: Command, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    def ctrl_c(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(_demo, "demo", ctrl_c)
    monkeypatch.setattr(_simulate, "simulate", ctrl_c)
    said = skyloop(*words)
    assert (said.code, said.err) == (130, "skyloop: stopped by Ctrl-C\n")
    said = skyloop(*(word.replace("demo", "simulate") for word in words))
    assert said.err == "skyloop: stopped by Ctrl-C; what is unfinished is in files that end in .part\n"
