"""What docs/how-to/add-a-technique.md says: three modules put in their places, and everything finds them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skyloop.storage.digest import digest
from skyloop.storage.jsonl import read_jsonl

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "add-a-technique.md").read_text(encoding="utf-8")
ENGINE, CALLBACK, PLAN = (
    place.replace("<name>", "centroid") for place in re.findall(r"^\| `([^`]+<name>[^`]*)` \|", PAGE, re.M)
)
EXAMPLE = '''"""A peak at 0.7 mm."""
from types import SimpleNamespace
import numpy as np
from skyloop.engines.centroid.engine import Config, Frame

def example():
    x = np.tile(np.linspace(-1.3, 2.7, 6), 10)
    counts = np.random.default_rng(0).poisson(1000 * np.exp(-((x - 0.7) ** 2) / 0.5))
    frames = tuple(Frame(float(a), float(b)) for a, b in zip(x, counts))
    return SimpleNamespace(config=Config(), frames=frames, truth={"centre": 0.7})
'''
PANELS = '''"""The peak and its centre."""
import numpy as np
from skyloop.engines.panel import Axis, Curve, Fact, Facts, Plot

def panels(frames, result, *, config, history=()):
    x, counts = (np.array([getattr(frame, name) for frame in frames]) for name in ("x", "counts"))
    fact = Fact("centre", result.target, result.target_sigma, "mm")
    return (
        Plot("the peak", Axis("x", "mm"), Axis("counts"), (Curve("counts", x, counts),)),
        Facts("centre", (fact,), result.outcome, result.reason),
    )
'''
POLICIES = """
from skyloop.plans._verify import Policies

POLICIES = Policies(Result, (KnownAfterAPass,))
"""
SCAN = """
import sys
from pathlib import Path
from bluesky import RunEngine
from ophyd.sim import SynAxis, SynGauss
from skyloop.callbacks.centroid import centroid
from skyloop.plans import find_peak
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import JsonlWriter

motor = SynAxis(name="motor", labels={"motors"})
det = SynGauss("det", motor, "motor", center=0.7, Imax=1000, sigma=0.5)
RE, store = RunEngine(call_returns_result=True), Sink(JsonlWriter(Path(sys.argv[1])))
with centroid() as analysis:
    analysis.subscribe(store)
    RE.subscribe(analysis)
    RE.subscribe(store)
    plan = find_peak([det], motor, -3.0, 3.0, 21, analysis=analysis, target_sigma=0.02)
    assert RE(plan).plan_result["reason"] == "target_reached"
assert store.close()
"""


def example_file(name: str) -> str:
    """A file of the example that imports from where the page puts the engine."""
    text = (ROOT / "examples" / "centroid" / name).read_text(encoding="utf-8")
    return text.replace("from centroid.engine", "from skyloop.engines.centroid.engine")


def build(house: Path) -> None:
    """A copy of the checkout, as far as it matters, with a second technique."""
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("src", "callbacks", "plans", "tests/contracts"):
        shutil.copytree(ROOT / folder, house / folder, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, house / name)
    files = {"__init__.py": "", "engine.py": example_file("engine.py")}
    files |= {"example.py": EXAMPLE, "panels.py": PANELS}
    (house / ENGINE).mkdir()
    for name, text in files.items():
        (house / ENGINE / name).write_text(text, encoding="utf-8")
    callback = example_file("callback.py").replace('"target_sigma")\n', '"target_sigma"), panels=panels\n')
    imported = "from skyloop.engines.centroid.panels import panels\n"
    (house / CALLBACK).write_text(imported + callback, encoding="utf-8")
    (house / PLAN).write_text(example_file("plan.py") + POLICIES, encoding="utf-8")
    listed = house / "plans" / "__init__.py"
    text = listed.read_text(encoding="utf-8")
    head, names = text.split("__all__ = [\n")
    imported = "from skyloop.plans.centroid import find_peak\n"
    listed.write_text(f'{head}{imported}\n__all__ = [\n    "find_peak",\n{names}', encoding="utf-8")


def run(house: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(house / "src"), str(house / "tests")])}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, timeout=250)


def skyloop(house: Path, *words: object) -> str:
    done = run(house, "-c", "from skyloop.cli import main; main()", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def measured(house: Path) -> Path:
    """A run of its plan with its analysis, as JSON lines."""
    done = run(house, "-c", SCAN, house / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    return house / "runs"


def test_the_command_line_lists_a_technique_that_was_put_in_its_places(house: Path) -> None:
    listed = skyloop(house, "techniques")
    assert "reflectometry" in listed
    assert re.search(r"centroid.*target, target_sigma", listed)


def test_a_stored_run_of_it_is_replayed_to_the_same_results_and_decisions(
    house: Path, measured: Path, tmp_path: Path
) -> None:
    skyloop(house, "replay", measured, "--technique", "centroid", "--verify", "--out", tmp_path)
    (again,) = tmp_path.glob("*.jsonl")
    assert len(list(read_jsonl(again))) == 3 + 21 + 2  # start and descriptors, points, summary and stop
    assert digest(read_jsonl(again)).hexdigest() == digest(read_jsonl(measured / again.name)).hexdigest()


def test_a_stored_run_of_it_is_analysed_with_another_model(
    house: Path, measured: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.yaml").write_text("least: 1.0e+9\n")
    model, out = tmp_path / "model.yaml", tmp_path / "out"
    skyloop(house, "replay", measured, "-t", "centroid", "--model", model, "--out", out)
    (again,) = out.glob("*.jsonl")
    outcomes = [doc["data"]["centroid_outcome"] for name, doc in read_jsonl(again) if name == "event"]
    assert outcomes == ["degraded"] * 22


def test_the_contracts_hold_for_it(house: Path) -> None:
    done = run(house, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contracts", "-k", "centroid")
    assert done.returncode == 0, done.stdout + done.stderr
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 20
