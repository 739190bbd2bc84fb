"""What steering costs per event, how soon an event becomes a move, how soon a pause is honoured."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from typing import Any

import numpy as np
from bluesky import RunEngine
from bluesky.plans import list_scan
from bluesky.utils import RunEngineInterrupted
from ophyd.sim import SynAxis, SynGauss

from benchmarks._figures import Figure
from benchmarks._noop import HANGING, NOOP, Config
from skyloop.callbacks import Analyzer, Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.engines.reflectometry.config import load
from skyloop.plans import adaptive_reflectivity, stop_when_known
from skyloop.sim.reflectometer import reflectometer
from skyloop.sim.sample import TrueSample, known

__all__ = ["measure"]

NAN = float("nan")
_MODEL = """
sample:
  layers: [{name: film, thickness: [100, 500], roughness: [2, 15], sld: [0, 6.5]}]
  backing: {name: Si, sld: 2.07, roughness: [2, 8]}
background: [1.0e-7, 1.0e-5]
target: film.thickness
target_sigma: 0.3
q_grid: {start: 0.008, stop: 0.25, num: 122}
"""
_TRUTH = {
    "film.thickness": 271.3,
    "film.roughness": 6.0,
    "film.sld": 4.2,
    "Si.roughness": 4.0,
    "background": 1e-6,
}


def measure(quick: bool) -> list[Figure]:
    """Overhead, latency and pause."""
    latencies = [x for seed in range(2 if quick else 12) for x in _event_to_move(seed)]
    return [
        Figure("loop.overhead", _overhead(quick), "ms/event", "", "", NAN, 1.0, False),
        Figure("loop.event_to_move.p50", _percentile(latencies, 50), "ms", "", "", NAN, 120.0, False),
        Figure("loop.event_to_move.p99", _percentile(latencies, 99), "ms", "", "", NAN, 250.0, False),
        Figure("loop.pause_while_waiting", _pause(), "s", "", "", NAN, 0.2, False),
    ]


def _percentile(values: list[float], percent: float) -> float:
    return 1e3 * float(np.percentile(values, percent))


def _devices() -> tuple[Any, Any]:
    motor = SynAxis(name="motor")
    return motor, SynGauss("det", motor, "motor", center=0, Imax=1, sigma=1)


def _overhead(quick: bool) -> float:
    """Milliseconds per event over bluesky's own scan with the same callback, pair by pair."""
    motor, det = _devices()
    places: Any = [float(x) for x in np.linspace(-3, 3, 100)]
    engine: Any = RunEngine({})
    analysis = Analyzer(NOOP, Config(), Options(executor="thread"))
    engine.subscribe(analysis)

    def seconds(plan: Any) -> float:
        began = time.perf_counter()
        engine(plan)
        return time.perf_counter() - began

    def pair() -> float:
        bare = seconds(list_scan([det], motor, places))
        steered = seconds(
            stop_when_known([det], motor, places, analysis=analysis, target_sigma=1e-9, limits=[-5.0, 5.0])
        )
        return 1e3 * (steered - bare) / len(places)

    pair()
    value = statistics.median(pair() for _ in range(3 if quick else 9))
    analysis.close()
    return value


def _event_to_move(seed: int) -> list[float]:
    """Seconds between the event of a point and the move that its analysis led to."""
    beamline = reflectometer(TrueSample(known(load(_MODEL), _TRUTH)), seed=seed)
    engine: Any = RunEngine({})
    seen: list[tuple[str, float]] = []
    engine.msg_hook = lambda msg: seen.append((msg.command, time.perf_counter()))
    with reflectometry(_MODEL) as analysis:
        engine.subscribe(analysis)
        engine(
            adaptive_reflectivity(
                [beamline.detector], beamline.q, analysis=analysis, target_sigma=0.3, start=0.008, stop=0.25,
                num=122, count_time=25.0, move_overhead=5.0, move_per_unit=100.0, timeout=30.0,
            )
        )  # fmt: skip
    return _gaps(seen)


def _gaps(seen: list[tuple[str, float]]) -> list[float]:
    """From the save of each point to the first set after it; the save of the decision lies between."""
    gaps: list[float] = []
    saved = NAN
    created = ""
    for command, at in seen:
        if command == "trigger":
            created = "point"
        if command == "save" and created == "point":
            saved, created = at, ""
        if command == "set" and not np.isnan(saved):
            gaps.append(at - saved)
            saved = NAN
    return gaps


def _pause() -> float:
    """Seconds from the request to the paused state, while a plan waits for an engine that never answers."""
    motor, det = _devices()
    engine: Any = RunEngine({})
    paused: list[float] = []
    engine.state_hook = lambda new, old: paused.append(time.perf_counter()) if new == "paused" else None
    analysis = Analyzer(HANGING, Config(), Options(executor="process", deadline=600.0))
    engine.subscribe(analysis)
    asked: list[float] = []

    def ask() -> None:
        asked.append(time.perf_counter())
        engine.request_pause()

    timer = threading.Timer(1.0, ask)
    timer.start()
    plan = stop_when_known(
        [det],
        motor,
        [0.0, 1.0],
        analysis=analysis,
        target_sigma=1e-9,
        count_time=1e3,  # so that the plan is patient
        limits=[-5.0, 5.0],
        timeout=10.0,
    )
    with contextlib.suppress(RunEngineInterrupted):
        engine(plan)
    analysis._runner.close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    engine.abort()
    analysis.close(0.5)
    return paused[0] - asked[0]
