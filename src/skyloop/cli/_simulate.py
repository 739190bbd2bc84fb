"""`skyloop simulate`: a scan on the simulated reflectometer, stored as JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from rich.console import Console

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.cli._beamline import beamline, model
from skyloop.errors import ConfigError
from skyloop.plans import adaptive_reflectivity, stop_when_known
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import JsonlWriter

__all__ = ["PLANS", "simulate"]

_MOVES = {"move_overhead": 5.0, "move_per_unit": 100.0}

PLANS = {
    "fixed": ("stop_when_known", {"mode": "shadow"}),
    "stop_when_known": ("stop_when_known", {"mode": "auto"}),
    "adaptive_reflectivity": ("adaptive_reflectivity", {"mode": "auto"}),
}


def simulate(out: Path, plan: str, seed: int, console: Console) -> None:
    """Measure once and store raw and analysis run in a folder.

    Raises:
        ConfigError: no such plan.
    """
    if plan not in PLANS:
        raise ConfigError(f"--plan: found '{plan}'; mend: one of {', '.join(PLANS)}")
    devices = beamline(seed)
    engine: Any = RunEngine({}, call_returns_result=True)
    store = Sink(JsonlWriter(out))
    with reflectometry(model(), options=Options(executor="thread")) as analysis:
        engine.subscribe(store)
        engine.subscribe(analysis)
        analysis.subscribe(store)
        with console.status(f"measuring with {plan} ..."):
            found = engine(_plan(plan, devices, analysis)).plan_result
    store.close()
    console.print(found)
    console.print(f"raw and analysis run as JSON lines in {out}")


def _plan(plan: str, devices: Any, analysis: Any) -> Any:
    name, options = PLANS[plan]
    common: dict[str, Any] = {"analysis": analysis, "target_sigma": 0.5, **_MOVES, **options}
    if name == "stop_when_known":
        positions = [float(q) for q in np.linspace(0.008, 0.25, 122)]
        return stop_when_known([devices.detector], devices.q, positions, count_time=25.0, **common)
    scan = {"start": 0.008, "stop": 0.25, "num": 122, "count_time": 25.0}
    return adaptive_reflectivity([devices.detector], devices.q, **scan, **common)
