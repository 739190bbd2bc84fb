"""The README is typed in as it stands: its model, its session and its plan work on the simulated beamline."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from skyloop.engines.reflectometry.config import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    assert MODEL
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.chdir(tmp_path)
    Path("sample.yaml").write_text(MODEL[1] + "particles: 200\n", encoding="utf-8")
    devices = import_module("beamline").simulated()
    devices.detector.count_time.put(100.0)
    typed: dict[str, Any] = {"detector": devices.detector, "q": devices.q}
    assert len([line for line in SESSION.splitlines() if line]) <= 12
    exec(SESSION, typed)
    analysis, RE = typed["analysis"], typed["RE"]
    try:
        assert analysis.flush(100)
        table = capsys.readouterr().out
        assert "reflectometry_target_sigma" in table
        assert re.findall(r"\| +(\d+) \|", table)[-1] == "40"
        assert "nan" not in table
        assert "analysis:reflectometry" in table
        assert analysis.health.results == 41
        assert analysis.health.sinks == ()
        exec(STEERED, typed)
        told = typed["result"].plan_result
        assert told["reason"] == "target_reached"
        assert abs(told["target"] - 271.3) < 5 * told["target_sigma"]
        shown = capsys.readouterr().out
        assert "target_reached" in shown
        rows = [line for line in shown.splitlines() if line.rstrip().endswith((" True |", " False |"))]
        assert " ok | " in rows[-1]
        assert rows[-1].endswith(" True |")
        assert " True |" not in rows[0]
    finally:
        analysis.close()
        RE.loop.call_soon_threadsafe(RE.loop.stop)
        RE._th.join(10)
        RE.loop.close()
