"""The README is typed in as it stands: its model, its session and its plan work on the simulated beamline."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from skyloop.engines.reflectometry.config import load

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
MODEL = re.search(r"```yaml\n(.*?)```", README, re.S)
SESSION, STEERED = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_model_of_the_readme_can_be_used() -> None:
    assert MODEL
    config = load(MODEL[1])
    assert (config.target, config.target_sigma) == ("film.thickness", 0.5)


@pytest.mark.timeout(300)
def test_the_session_of_the_readme_gives_a_table_and_its_plan_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from skyloop.cli._beamline import beamline

    assert MODEL
    monkeypatch.chdir(tmp_path)
    Path("sample.yaml").write_text(MODEL[1] + "particles: 200\n", encoding="utf-8")
    devices = beamline(3)
    devices.detector.count_time.put(100.0)
    typed: dict[str, Any] = {"detector": devices.detector, "q": devices.q}
    assert len([line for line in SESSION.splitlines() if line]) <= 12
    exec(SESSION, typed)
    analysis, RE = typed["analysis"], typed["RE"]
    try:
        assert analysis.flush(100)
        table = capsys.readouterr().out
        assert "reflectometry_target_sigma" in table
        assert len(re.findall(r"│|\|\s+\d+ \|", table)) >= 40
        assert "analysis:reflectometry" in table
        assert analysis.health.results == 41
        assert analysis.health.sinks == ()
        done = threading.Event()
        helper = threading.Thread(target=_accept_all, args=(typed, done), daemon=True)
        helper.start()
        RE.subscribe(lambda name, doc: stopped.append(doc) if name == "stop" else None)
        stopped: list[dict[str, Any]] = []
        # fewer and longer points, so that the test does not measure for minutes
        exec(STEERED.replace("num=122, count_time=25.0", "num=20, count_time=200.0"), typed)
        done.set()
        helper.join(30)
        assert stopped[0]["exit_status"] == "success"
        assert stopped[0]["num_events"]["decision"] > stopped[0]["num_events"]["primary"] > 8
    finally:
        analysis.close()
        RE.loop.call_soon_threadsafe(RE.loop.stop)
        RE._th.join(10)
        RE.loop.close()


def _accept_all(typed: dict[str, Any], done: threading.Event) -> None:
    while not done.is_set():
        if "gate" not in typed:
            done.wait(0.01)
            continue
        for ticket in typed["gate"].wait_pending(0.1):
            typed["gate"].answer(ticket.uid, ticket.nonce, "accept", operator="ada")
