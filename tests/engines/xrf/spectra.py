"""Synthetic spectra whose truth is known: our own model, lines off by what is doubted, a continuum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from skyloop.engines.xrf.config import Calibration, Config
from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, energies, shapes
from skyloop.engines.xrf.joint import Doubts
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.parameters import defaults
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows, rows_of
from skyloop.engines.xrf.setup import SCATTER, fit_problem
from skyloop.quantities import FloatArray

__all__ = ["KNOWN", "SURE", "SURE_LINES", "Truth", "problem_of", "truth"]

SURE = Doubts(branching=0.0, position=0.0, width=0.0, tail=0.0)
"""Nothing is doubted."""
SURE_LINES = Doubts(branching=0.05, position=0.0, width=0.0, tail=0.0)
"""Only branching is."""
KNOWN = Calibration(slope=0.01, slope_range=0.01, offset_range=0.025)
"""The calibration is known well, which makes a fit fast."""
_MIDDLE = {
    "COMPTON_F_TAIL": 0.15,
    "COMPTON_HI_F_TAIL": 0.06,
    "F_TAIL_OFFSET": 0.015,
    "COMPTON_FWHM_CORR": 1.8,
}
"""Parameters well inside their ranges, so that all have standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What a spectrum comes from."""

    mean: FloatArray
    """[channel], expected counts."""
    amplitudes: Mapping[str, float]
    """Of each component, scatter among them."""
    values: Mapping[str, float] = field(repr=False)
    """Every parameter."""
    beam: float
    """keV."""

    @property
    def elements(self) -> tuple[str, ...]:
        """Components but for scatter."""
        return tuple(name for name in self.amplitudes if name not in SCATTER)

    def counts(self, seed: int) -> FloatArray:
        """[channel], counts as a detector draws them."""
        return np.random.default_rng(seed).poisson(self.mean).astype(np.float64)


def truth(
    elements: Mapping[str, float],
    *,
    total: float = 1e6,
    beam: float = 10.0,
    channels: int = 1200,
    values: Mapping[str, float] | None = None,
    continuum: float = 0.1,
    off: tuple[int, Doubts] | None = None,
) -> Truth:
    """A spectrum of elements with amplitudes relative to each other, and of scatter and a continuum.

    `off` is a seed and the standard deviations by which the lines are not where the table has them.
    """
    weights = {ELASTIC: 0.3, COMPTON: 0.5, **elements}
    weights = {**elements, ELASTIC: weights[ELASTIC], COMPTON: weights[COMPTON]}
    own = defaults({**_MIDDLE, "COHERENT_SCT_ENERGY": beam, **(values or {})})
    rows = rows_of(tuple(weights), line_table(), incident_energy=beam)
    rows = rows if off is None else _off(rows, np.random.default_rng(off[0]), off[1])
    span, theta = Span(0, channels), theta_of(own)
    peaks = torch.tensor(list(weights.values()), dtype=torch.float64) @ shapes(rows, theta, span)
    smooth = _continuum(energies(theta, span).numpy(), beam)
    mean = peaks.numpy() / float(peaks.sum()) * (1 - continuum) + smooth * continuum
    scale = total * (1 - continuum) / float(peaks.sum())
    return Truth(total * mean, {name: w * scale for name, w in weights.items()}, own, beam)


def problem_of(
    of: Truth, counts: FloatArray, config: Config, values: Mapping[str, float] | None = None
) -> Problem:
    """The problem of the true components, from the true parameters unless others are given."""
    names = tuple(of.amplitudes)
    return fit_problem(torch.from_numpy(counts), names, config, {**of.values, **(values or {})})


def _off(rows: Rows, rng: np.random.Generator, doubts: Doubts) -> Rows:
    factor = torch.ones_like(rows.ratio)
    minor = rows.minor_lines
    factor[minor] += doubts.branching * torch.from_numpy(rng.standard_normal(len(minor)))
    single = torch.tensor([name not in SCATTER for name in rows.names], dtype=torch.float64)
    shift, width = torch.from_numpy(rng.standard_normal((2, len(single)))) * single
    return rows.strained(factor, doubts.position * shift, torch.exp(doubts.width * width))


def _continuum(energy: FloatArray, beam: float) -> FloatArray:
    """Falls, with a hump below the scatter; smooth over what splines of 0.75 keV resolve; area 1."""
    shape = np.exp(-np.clip(energy, 0, None) / 4) + 0.5 * np.exp(-0.5 * ((energy - 0.6 * beam) / 2.0) ** 2)
    return shape / shape.sum()
