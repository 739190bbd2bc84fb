"""The loop closes over classic ophyd, ophyd-async and EPICS alike: nothing depends on simulated classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import adaptive_loop
import pytest
from adaptive_loop import LIMITS, measure

from skyloop.engines.reflectometry.config import load
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


def need(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{package} is not installed")
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("make", [reflectometer, reflectometer_async])
def test_an_adaptive_plan_finds_the_thickness_and_verifies(RE: Any, make: Callable[..., Any]) -> None:
    need("ophyd", "ophyd_async")
    finds_the_thickness(measure(RE, make(TrueSample(known(load(MODEL), TRUTH)), seed=3), MODEL))


@pytest.fixture(scope="module")
def over_epics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a client of the soft IOC finds in a process of its own: undisturbed, and paused in a move."""
    need("caproto", "epics")
    sample = tmp_path_factory.mktemp("epics") / "sample.yaml"
    sample.write_text(TRUE_SAMPLE)
    with running_ioc(sample, seed=3, speed=1e4) as ioc:
        client = subprocess.run(
            [sys.executable, adaptive_loop.__file__, ioc.prefix, MODEL],
            env=os.environ | ioc.environment,
            capture_output=True,
            timeout=100,
            check=False,
        )
    assert client.returncode == 0, client.stderr.decode()
    return json.loads(client.stdout.splitlines()[-1])


def test_an_adaptive_plan_moves_epics_records_and_verifies(over_epics: dict[str, Any]) -> None:
    finds_the_thickness(over_epics["plain"])


def test_a_pause_in_the_middle_of_a_move_stops_an_epics_motor_and_costs_no_point(
    over_epics: dict[str, Any],
) -> None:
    found = over_epics["paused"]
    start, target = found["start"], found["sent"][3]
    assert min(start, target) < found["stood"] < max(start, target)
    assert found["wanted"] == found["stood"]  # the record is on its way to nowhere
    assert found["sent"][4] == target  # resumed, it goes on to where it was going
    numbers, positions = zip(*found["measured"], strict=True)
    assert numbers == tuple(range(1, found["points"] + 1))
    assert list(positions) == pytest.approx(found["sent"][:3] + found["sent"][4:])
    assert LIMITS[0] <= found["seen"][0] < found["seen"][1] <= LIMITS[1]
    finds_the_thickness(found)


def finds_the_thickness(found: dict[str, Any]) -> None:
    assert (found["exit_status"], found["reason"]) == ("success", "target_reached")
    assert abs(found["target"] - TRUTH["film.thickness"]) < 4 * found["target_sigma"]
    assert found["differences"] == 0
    assert found["decisions_checked"] == found["decisions"] > 1
