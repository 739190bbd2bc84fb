"""Synthetic fluorescence spectra whose truth is known, with what a model of them does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, energies, shapes
from skyloop.engines.xrf.lines import LineTable, line_table
from skyloop.engines.xrf.parameters import defaults
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows, rows_of
from skyloop.quantities import FloatArray

__all__ = ["Drawn", "draw", "r_squared"]

CHANNELS = 2048
_BRANCHING = 0.05
"""Relative standard deviation of each minor line's intensity about the tabulated one."""
_POSITION, _WIDTH = 0.005, 0.05
"""Standard deviations of the position [keV] and the width (relative) of the lines of a component."""
_RARE = {"He", "Ne", "Kr", "Xe", "Rn", "Tc", "Pm", "Po", "At", "Fr", "Ra", "Ac", "Pa"}
"""What samples do not hold."""
_HEAVY = 0.15
"""How often an element is there that shows its M lines only, others being 1."""
_LANTHANIDES = {"La", "Ce", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu"}
_LANTHANIDE = 0.3
_DRIFT = 5e-4
"""Largest relative change of the gain while a spectrum is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A spectrum and what made it."""

    counts: FloatArray
    """[channel], Poisson counts."""
    mean: FloatArray
    """[channel], what was expected."""
    incident_energy: float
    """What the beamline says it is [keV]."""
    values: Mapping[str, float]
    """True parameters."""
    amplitudes: Mapping[str, float]
    """True counts in the main line of each component."""
    elements: tuple[str, ...]
    """The sample's and the instrument's own elements."""


def draw(seed: int, *, total: float | None = None, n_elements: int | None = None) -> Drawn:
    """A spectrum with 3 to 25 elements and 1e3 to 1e7 counts, unless given."""
    rng = np.random.default_rng(seed)
    incident = float(rng.uniform(9.0, 20.0))
    values = _parameters(rng, incident)
    table = line_table()
    low = float(rng.uniform(1.0, 1.6))
    count = n_elements or int(rng.integers(3, 26))
    weights = _sample(rng, table, incident, low=low, count=count)
    elements = tuple(weights)
    total = total or float(10 ** rng.uniform(3, 7))
    strongest = max(weights, key=lambda name: weights[name])
    pair = f"{strongest}_{strongest}"
    rows = rows_of((*elements, pair, ELASTIC, COMPTON), table, incident_energy=incident)
    scatter = 10 ** rng.uniform(-1.5, 0.3, 2) * max(weights.values())
    weights |= {pair: 10 ** rng.uniform(-4, -2.5) * weights[strongest]}
    weights |= {ELASTIC: scatter[0], COMPTON: scatter[1]}
    mean = _mean(_strained(_perturbed(rows, rng), seed), values, weights, rng)
    scale = total / mean.sum()
    mean = mean * scale
    amplitudes = {name: weight * scale for name, weight in weights.items()}
    counts = rng.poisson(mean).astype(np.float64)
    told = incident * (1 + float(rng.uniform(-0.003, 0.003)))
    return Drawn(counts, mean, told, values, amplitudes, elements)


def r_squared(counts: FloatArray, model: FloatArray) -> float:
    """1 - sum (y - m)^2 / sum (y - mean y)^2."""
    return float(1 - ((counts - model) ** 2).sum() / ((counts - counts.mean()) ** 2).sum())


def _sample(
    rng: np.random.Generator, table: LineTable, incident: float, *, low: float, count: int
) -> dict[str, float]:
    """Amplitudes of a sample: of each element the family of highest energy, and what else shows."""
    families: dict[str, list[str]] = {}
    for component in table.components(incident, low, incident - 0.6):
        families.setdefault(component.partition("_")[0], []).append(component)
    names = [name for name in families if name not in _RARE]
    chance = np.array([_chance(name, families[name]) for name in names])
    chosen = rng.choice(names, size=min(count, len(names)), replace=False, p=chance / chance.sum())
    weights: dict[str, float] = {}
    for element in chosen.tolist():
        first, *others = sorted(families[element], key=lambda c: "_L_M".find(c[-2:]) if "_" in c else -1)
        weights[first] = float(10 ** rng.uniform(-2.5, 0))
        weights |= {other: weights[first] * float(rng.uniform(0.05, 0.5)) for other in others}
    return weights


def _chance(element: str, families: list[str]) -> float:
    if all(family.endswith("_M") for family in families):
        return _HEAVY
    return _LANTHANIDE if element in _LANTHANIDES else 1.0


def _parameters(rng: np.random.Generator, incident: float) -> dict[str, float]:
    """Detectors wider than the calibration grid: gain of 10 eV within 15 %, offset within 80 eV."""
    slope = 0.01 * float(rng.uniform(0.85, 1.15))
    if slope * CHANNELS < incident + 1:  # the scatter peaks must be on the detector
        slope = (incident + float(rng.uniform(1.0, 3.0))) / CHANNELS
    return defaults() | {
        "ENERGY_OFFSET": float(rng.uniform(-0.08, 0.08)),
        "ENERGY_SLOPE": slope,
        "ENERGY_QUADRATIC": float(rng.uniform(-2e-8, 2e-8)),
        "FWHM_OFFSET": float(rng.uniform(0.05, 0.2)),
        "FWHM_FANOPRIME": float(rng.uniform(0.9e-4, 1.8e-4)),
        "COHERENT_SCT_ENERGY": incident,
        "COMPTON_ANGLE": float(rng.uniform(75, 115)),
        "COMPTON_FWHM_CORR": float(rng.uniform(1.2, 2.5)),
        "COMPTON_F_TAIL": float(rng.uniform(0.02, 0.3)),
        "COMPTON_HI_F_TAIL": float(rng.uniform(0.0, 0.05)),
        "F_TAIL_OFFSET": float(rng.uniform(0.0, 0.03)),
        "KB_F_TAIL_OFFSET": float(rng.uniform(0.0, 0.08)),
        "ESCAPE_SCALE": float(rng.uniform(0.7, 1.3)),
    }


def _perturbed(rows: Rows, rng: np.random.Generator) -> Rows:
    """Other branching than the table's, but for the main lines, which are the unit of the amplitudes."""
    factor = 1 + _BRANCHING * torch.from_numpy(rng.standard_normal(len(rows.ratio)))
    is_main = rows.ratio == 1.0
    return replace(rows, ratio=torch.where(is_main, rows.ratio, rows.ratio * factor.clamp(min=0.5)))


def _strained(rows: Rows, seed: int) -> Rows:
    """Lines a little elsewhere and wider than they should be, as in every detector; not those of scatter."""
    rng = np.random.default_rng((seed, 1))
    n = len(rows.names)
    shift = _POSITION * torch.from_numpy(rng.standard_normal(n))
    width = torch.exp(_WIDTH * torch.from_numpy(rng.standard_normal(n)))
    return rows.strained(torch.ones_like(rows.ratio), shift, width)


def _mean(
    rows: Rows, values: Mapping[str, float], weights: Mapping[str, float], rng: np.random.Generator
) -> FloatArray:
    """Expected counts up to a factor: components under a drifting gain, and a continuum."""
    span = Span(0, CHANNELS)
    amplitudes = torch.tensor([weights[name] for name in rows.names], dtype=torch.float64)
    drift = float(rng.uniform(-_DRIFT, _DRIFT))
    gains = values["ENERGY_SLOPE"] * (1 + np.linspace(-0.5, 0.5, 5) * drift)
    peaks = sum(
        torch.einsum("k,kc->c", amplitudes, shapes(rows, theta_of({**values, "ENERGY_SLOPE": g}), span))
        for g in gains
    ).numpy() / len(gains)
    energy = energies(theta_of(values), span).numpy()
    return peaks + float(rng.uniform(0.01, 0.1)) * peaks.sum() * _continuum(energy, values, rng)


def _continuum(energy: FloatArray, values: Mapping[str, float], rng: np.random.Generator) -> FloatArray:
    """Falls exponentially, with a hump below the scatter; nothing above the incident energy; area 1."""
    incident = values["COHERENT_SCT_ENERGY"]
    falling = np.exp(-np.clip(energy, 0, None) / rng.uniform(2.0, 8.0))
    hump = np.exp(-0.5 * ((energy - incident * rng.uniform(0.5, 0.8)) / rng.uniform(1.5, 3.0)) ** 2)
    shape = falling + rng.uniform(0.0, 1.0) * hump
    shape = shape / (1 + np.exp((energy - incident + 0.5) / 0.3)) / (1 + np.exp(-(energy - 0.6) / 0.15))
    return shape / shape.sum()
