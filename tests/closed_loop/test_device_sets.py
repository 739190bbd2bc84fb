"""The loop closes over classic ophyd, ophyd-async and EPICS alike: nothing depends on simulated classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.engines.reflectometry.config import load
from skyloop.plans import adaptive_reflectivity, verify
from skyloop.sim.ioc import running_ioc
from skyloop.sim.reflectometer import reflectometer
from skyloop.sim.reflectometer_async import reflectometer_async
from skyloop.sim.sample import TrueSample, known

MODEL = """
sample:
  layers: [{name: film, thickness: [100, 500], sld: [0, 6.5], roughness: 5.0}]
  backing: {sld: 2.07, roughness: 3.0}
background: 1.0e-6
target: film.thickness
target_sigma: 3.0
q_grid: {start: 0.01, stop: 0.2, num: 40}
"""
TRUTH = {"film.thickness": 240.0, "film.sld": 4.0}
TRUE_SAMPLE = """
sample:
  layers: [{name: film, thickness: 240.0, sld: 4.0, roughness: 5.0}]
  backing: {sld: 2.07, roughness: 3.0}
background: 1.0e-6
"""


@pytest.fixture(name="RE")
def run_engine() -> Iterator[Any]:
    engine: Any = RunEngine({}, call_returns_result=True)
    yield engine
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join(timeout=10)
    engine.loop.close()


def need(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{package} is not installed")
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("make", [reflectometer, reflectometer_async])
def test_an_adaptive_plan_finds_the_thickness_and_verifies(RE: Any, make: Callable[..., Any]) -> None:
    need("ophyd", "ophyd_async")
    devices = make(TrueSample(known(load(MODEL), TRUTH)), seed=3)
    raw: list[Any] = []
    analysed: list[Any] = []
    RE.subscribe(lambda name, doc: raw.append((name, doc)))
    with reflectometry(MODEL, options=Options(executor="thread")) as analysis:
        RE.subscribe(analysis)
        analysis.subscribe(lambda name, doc: analysed.append((name, doc)))
        plan = adaptive_reflectivity(
            [devices.detector],
            devices.q,
            analysis=analysis,
            start=0.01,
            stop=0.2,
            num=40,
            count_time=100.0,
            limits=[0.005, 0.25],
            timeout=30.0,
        )
        found = RE(plan).plan_result
    assert found["reason"] == "target_reached"
    assert abs(found["target"] - TRUTH["film.thickness"]) < 4 * found["target_sigma"]
    assert verify(raw, analysed).verified


def test_an_adaptive_plan_moves_epics_records_and_verifies(tmp_path: Path) -> None:
    need("caproto", "epics")
    sample, script = tmp_path / "sample.yaml", Path(__file__).with_name("_loop_over_epics.py")
    sample.write_text(TRUE_SAMPLE)
    with running_ioc(sample, seed=3, speed=1e4) as ioc:
        client = subprocess.run(
            [sys.executable, str(script), ioc.prefix, MODEL],
            env=os.environ | ioc.environment,
            capture_output=True,
            timeout=100,
            check=False,
        )
    assert client.returncode == 0, client.stderr.decode()
    found = json.loads(client.stdout)
    assert found["reason"] == "target_reached"
    assert abs(found["target"] - TRUTH["film.thickness"]) < 4 * found["target_sigma"]
    assert found["differences"] == 0
    assert found["decisions_checked"] > 1
