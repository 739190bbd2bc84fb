"""What a beamline's startup module holds: RE, devices and plans in public, all else with an underscore."""

import json as _json
import os as _os
from typing import Any as _Any

from bluesky import RunEngine as _RunEngine

from skyloop.callbacks import Options as _Options
from skyloop.callbacks.reflectometry import reflectometry as _reflectometry
from skyloop.engines.reflectometry.config import load as _load
from skyloop.plans import adaptive_reflectivity, stop_when_known
from skyloop.sim.reflectometer import reflectometer as _reflectometer
from skyloop.sim.sample import TrueSample as _TrueSample
from skyloop.sim.sample import known as _known

__all__ = ["RE", "adaptive_reflectivity", "detector", "q", "stop_when_known"]

_config = _load("""
sample:
  layers: [{name: film, thickness: [100, 500], roughness: 5, sld: 5}]
  backing: {name: Si, sld: 2.07, roughness: 4}
background: 1.0e-6
target: film.thickness
target_sigma: 1.0
q_grid: {start: 0.008, stop: 0.2, num: 41}
particles: 200
""")
_truth = _TrueSample(_known(_config, {"film.thickness": 300.0}))
_devices = _reflectometer(_truth, seed=3, speed=float(_os.environ["SKYLOOP_TEST_SPEED"]))
detector, q = _devices.detector, _devices.q

_analysis = _reflectometry(_config, options=_Options(executor="thread"), name="film")


def _writer(kind: str) -> _Any:
    path = f"{_os.environ['SKYLOOP_TEST_DOCUMENTS']}/{kind}.jsonl"

    def write(name: str, doc: _Any) -> None:
        with open(path, "a") as file:
            file.write(_json.dumps([name, doc]) + "\n")

    return write


_raw, _analysed = _writer("raw"), _writer("analysis")
_analysis.subscribe(_analysed)

RE = _RunEngine({})
RE.subscribe(_raw)
RE.subscribe(_analysis)
