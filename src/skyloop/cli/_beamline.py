"""The simulated reflectometer of `demo` and `simulate`: a film on silicon whose every number is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skyloop.engines.reflectometry.config import Config, load
from skyloop.errors import MissingExtraError

if TYPE_CHECKING:
    from skyloop.sim.reflectometer import Reflectometer

__all__ = [
    "COUNT_TIME",
    "MODEL",
    "MOVE_OVERHEAD",
    "MOVE_PER_UNIT",
    "POINTS",
    "START",
    "STOP",
    "TARGET",
    "TARGET_SIGMA",
    "TRUTH",
    "beamline",
    "model",
]

START, STOP, POINTS = 0.008, 0.25, 122
"""The scan: first and last q [1/angstrom], and how many points."""
COUNT_TIME = 25.0
"""Counting of one point [s]."""
MOVE_OVERHEAD, MOVE_PER_UNIT = 5.0, 100.0
"""What a move costs: [s], and [s angstrom]."""
TARGET, TARGET_SIGMA = "film.thickness", 0.5
"""What is to be known, and how well [angstrom]."""

MODEL = f"""
sample:
  fronting: {{name: air, sld: 0.0}}
  layers:
    - {{name: film, thickness: [100, 500], roughness: [2, 15], sld: [0, 6.5]}}
  backing: {{name: Si, sld: 2.07, roughness: [2, 8]}}
background: [1.0e-7, 1.0e-5]
target: {TARGET}
target_sigma: {TARGET_SIGMA}
systematic: 0.01
q_grid: {{start: {START}, stop: {STOP}, num: {POINTS}}}
"""

TRUTH = {
    "film.thickness": 271.3,
    "film.roughness": 6.0,
    "film.sld": 4.2,
    "Si.roughness": 4.0,
    "background": 1e-6,
}


def model() -> Config:
    """What the analysis is told of the sample."""
    return load(MODEL)


def beamline(seed: int) -> Reflectometer:
    """The devices, with the sample on them.

    Raises:
        MissingExtraError: ophyd is not installed.
    """
    try:
        from skyloop.sim.probe import NEUTRON
        from skyloop.sim.reflectometer import reflectometer
    except ImportError as error:
        raise MissingExtraError("ophyd, which the simulated beamline is made of,", "sim") from error
    from skyloop.sim.sample import TrueSample, known

    # the model allows for a relative error of each point that counting does not lower; the instrument has it
    probe = replace(NEUTRON, systematic=model().systematic)
    return reflectometer(TrueSample(known(model(), TRUTH)), seed=seed, probe=probe)
