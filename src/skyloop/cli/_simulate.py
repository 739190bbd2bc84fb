"""`skyloop simulate`: a scan on the simulated reflectometer, stored as JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from rich.console import Console
from rich.markup import escape

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import TECHNIQUE, reflectometry
from skyloop.cli._beamline import (
    COUNT_TIME,
    MOVE_OVERHEAD,
    MOVE_PER_UNIT,
    POINTS,
    START,
    STOP,
    TARGET,
    TRUTH,
    beamline,
    model,
)
from skyloop.cli._show import newest
from skyloop.cli._store import finish_store
from skyloop.errors import ConfigError
from skyloop.figures.words import number
from skyloop.plans import adaptive_reflectivity, stop_when_known
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import JsonlWriter

__all__ = ["PLANS", "Scan", "simulate"]

PLANS = {
    # every point of the scan, and what the plan would have decided: in its own name it would seem to stop
    "fixed": ("stop_when_known", {"mode": "shadow", "md": {"plan_name": "fixed"}}),
    "stop_when_known": ("stop_when_known", {"mode": "auto"}),
    "adaptive_reflectivity": ("adaptive_reflectivity", {"mode": "auto"}),
}


@dataclass(frozen=True)
class Scan:
    """What to measure."""

    plan: str = "fixed"
    """One of `PLANS`."""
    points: int = POINTS
    """Points of the fixed scan."""
    seed: int = 7
    """Seed of the simulated instrument."""


def simulate(scan: Scan, out: Path, console: Console) -> None:
    """Measure once and store raw and analysis run in a folder.

    Raises:
        ConfigError: no such plan.
        StorageError: the runs cannot be written.
    """
    if scan.plan not in PLANS:
        raise ConfigError(f"--plan: found '{scan.plan}'; mend: one of {', '.join(PLANS)}")
    devices = beamline(scan.seed)
    engine: Any = RunEngine({}, call_returns_result=True, context_managers=[])  # Ctrl-C ends, not pauses
    store = Sink(JsonlWriter(out))
    summary: dict[str, Any] = {}  # the last event of an analysis, which `replay` shows too
    with (
        console.status(f"measuring with {scan.plan} ...") as status,
        reflectometry(model(), options=Options(executor="thread")) as analysis,
    ):
        engine.subscribe(store)
        engine.subscribe(analysis)
        analysis.subscribe(store)
        analysis.subscribe(newest(TECHNIQUE, status.update))
        analysis.subscribe(lambda name, doc: summary.update(doc["data"]) if name == "event" else None)
        found = engine(_plan(scan, devices, analysis)).plan_result
    finish_store(store)
    _print(found, summary, out, console)


def _print(found: Mapping[str, Any], summary: Mapping[str, Any], out: Path, console: Console) -> None:
    *known, outcome, reason = (
        summary[f"{TECHNIQUE.name}_{name}"] for name in ("target", "target_sigma", "outcome", "reason")
    )
    if reason:
        console.print(f"[yellow]{outcome}: {escape(reason)}[/]", soft_wrap=True, highlight=False)
    console.print(f"film thickness {number(*known)} Å; truth {TRUTH[TARGET]:g} Å")
    console.print(
        f"{found['points']} points, {found['decisions']} decisions, {found['beam_time']:.0f} s of beam time; "
        f"ended with {found['reason']}"
    )
    for line in (
        f"raw run {found['run_uid']}",
        f"raw and analysis run as JSON lines in {out}",
        f"next: skyloop replay {out} --verify",
    ):
        console.print(escape(line), soft_wrap=True, highlight=False)


def _plan(scan: Scan, devices: Any, analysis: Any) -> Any:
    name, options = PLANS[scan.plan]
    moves = {"move_overhead": MOVE_OVERHEAD, "move_per_unit": MOVE_PER_UNIT}
    common: dict[str, Any] = {"analysis": analysis, **moves, **options}
    if name == "stop_when_known":
        positions = [float(q) for q in np.linspace(START, STOP, scan.points)]
        return stop_when_known([devices.detector], devices.q, positions, count_time=COUNT_TIME, **common)
    fixed = {"start": START, "stop": STOP, "num": scan.points, "count_time": COUNT_TIME}
    return adaptive_reflectivity([devices.detector], devices.q, **fixed, **common)
