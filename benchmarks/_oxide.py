"""What an oxide does to an adaptive run: one that the model does not know, and one that it does.

A thick oxide counts when an hour of counting in a uniform scan, simulated on its own, shows that the model is
wrong. The adaptive run must not stop there with a wrong target. A thin one seldom shows at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks._adaptive import (
    NEUTRONS,
    Run,
    Truth,
    adaptive,
    adaptive_figure,
    on_all_cores,
    outside,
    truth,
    with_layer,
)
from benchmarks._figures import Figure
from skyloop.engines.reflectometry import Engine, Frame
from skyloop.engines.reflectometry.config import Layer
from skyloop.engines.reflectometry.result import MISFIT

__all__ = ["OXIDE", "measure"]

OXIDE = Layer(thickness=(20.0, 80.0), sld=3.47, roughness=3.0, name="oxide")
_THIN = replace(OXIDE, thickness=(10.0, 20.0))
_SOUGHT = replace(OXIDE, thickness=(0.0, 40.0))
_BIASED = 3.0
_HOUR = 3600.0


def measure(quick: bool) -> list[Figure]:
    """How often a hidden oxide is not taken for a known target, and how right a run is that knows of it.

    The last takes long, and is left out by `quick`.
    """
    thick = on_all_cores(_thick, range(8 if quick else 200))
    thin = on_all_cores(_thin, range(4 if quick else 200))
    sought = [] if quick else on_all_cores(_sought, range(100))
    return [
        _detected("wrong_model_detected", [run for run in thick if run is not None]),
        _detected("wrong_model_detected.thin", thin),
        *_covered(sought),
    ]


def _thick(seed: int) -> Run | None:
    """A run on a sample with a hidden oxide; None where an hour of a uniform scan would not show it."""
    torch.set_num_threads(1)
    sample = truth(NEUTRONS, seed, hidden=OXIDE)
    return adaptive(NEUTRONS, sample) if _shows_misfit(sample) else None


def _thin(seed: int) -> Run:
    torch.set_num_threads(1)
    return adaptive(NEUTRONS, truth(NEUTRONS, seed, hidden=_THIN))


def _sought(seed: int) -> Run:
    torch.set_num_threads(1)
    return adaptive(with_layer(NEUTRONS, _SOUGHT), truth(NEUTRONS, seed, hidden=_THIN))


def _shows_misfit(sample: Truth) -> bool:
    rng, q = np.random.default_rng(7000 + sample.seed), NEUTRONS.q
    exposure = NEUTRONS.rate(q) * _HOUR / len(q)
    frame = Frame.counted(q, rng.poisson(exposure * sample.reflectivity(q)), exposure)
    engine = Engine(replace(NEUTRONS.config, target_sigma=1e-9))  # the question is the fit, not the target
    result = engine.step(engine.start(sample.seed), [frame])[1]
    return result.p_value < MISFIT


def _detected(name: str, runs: Sequence[Run]) -> Figure:
    found = sum(not run.known or abs(run.z) <= _BIASED for run in runs)
    return adaptive_figure(name, found / len(runs), "share", 0.9)


def _covered(runs: Sequence[Run]) -> list[Figure]:
    """Calibration of a model with an oxide; nothing without runs."""
    name, unit = "coverage_oxide_in_model", "share beyond 2 sigma"
    return [adaptive_figure(name, outside(runs), unit, 0.08, up=False)] if runs else []
