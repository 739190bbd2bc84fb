"""A film on silicon before a simulated instrument, with a live analysis: for tests of the plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fake_analysis import EngineAnalysis, FakeAnalysis, engine

from skyloop.engines.reflectometry.config import Config, load
from skyloop.engines.reflectometry.engine import Engine
from skyloop.engines.reflectometry.frame import Frame
from skyloop.plans import adaptive_reflectivity, stop_when_known
from skyloop.sim.reflectometer import reflectometer as simulated
from skyloop.sim.sample import TrueSample, known

CONFIG = load("""
sample:
  layers: [{name: film, thickness: [100, 500], roughness: [2, 15], sld: [1, 6.5]}]
  backing: {name: Si, sld: 2.07, roughness: 4}
background: 1.0e-6
target: film.thickness
target_sigma: 1.0
q_grid: {start: 0.008, stop: 0.2, num: 41}
particles: 300
""")
TRUTH = {"film.thickness": 300.0, "film.roughness": 5.0, "film.sld": 5.0}
SCAN: dict[str, Any] = {"start": 0.008, "stop": 0.2, "num": 41, "count_time": 20.0}
MOVES: dict[str, Any] = {"move_overhead": 5.0, "move_per_unit": 100.0}


class Beamline:
    """A simulated instrument with a live analysis on it."""

    def __init__(self, truth: Config | None = None, *, silent: bool = False) -> None:
        self.devices = simulated(TrueSample(truth or known(CONFIG, TRUTH)), seed=3)
        self.analysis: Any = (
            FakeAnalysis(lambda _: None, config=CONFIG)
            if silent
            else EngineAnalysis(Engine(CONFIG), "reflectometry", self.frame, name="film")
        )
        self.engine = engine(self.analysis)

    @staticmethod
    def frame(data: dict[str, Any]) -> Frame:
        return Frame.counted(data["q"], data["counts"], data["exposure"], data["q_sigma"])

    def adaptive(self, **given: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {"analysis": self.analysis} | SCAN | MOVES | given
        plan = adaptive_reflectivity([self.devices.detector], self.devices.q, **arguments)
        return self.engine(plan).plan_result

    def stopping(self, positions: Sequence[float], **given: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {"analysis": self.analysis, "count_time": 20.0} | MOVES | given
        plan = stop_when_known([self.devices.detector], self.devices.q, list(positions), **arguments)
        return self.engine(plan).plan_result

    @property
    def positions(self) -> list[float]:
        return self.analysis.positions("q")


def grid() -> list[float]:
    return [float(q) for q in np.linspace(SCAN["start"], SCAN["stop"], SCAN["num"])]
