"""A measured thin-film standard, told nothing but the incident energy: R2, elements, and their ratios.

The sums of four detectors are fitted together: calibrations of their own, elements in common. The ratios of
areal densities are amplitudes over production cross sections, with no absorber between film and detector.
None is known of this measurement; air and windows take most from calcium and would make its factor larger.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks._figures import Figure, data_folder
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.quantify import Instrument, calibrate, read_standard
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, pair_of
from skyloop.engines.xrf.spectrum import SpectrumFit, fit_spectra
from skyloop.storage.spectra import read_spectra

__all__ = ["measure"]

_ENERGY = 10.0
_SAMPLE = {"Ca", "Fe", "Cu", "La_L", "Pd_L", "Mo_L", "Pb_M"}
_INSTRUMENT = {"Si", "Al", "Ar", "Cl", "Zn"}
_KNOWN = ("Ca", "Fe", "Cu")
_REFERENCE = "Fe"


def measure(quick: bool) -> list[Figure]:
    """Fits of the four detectors; `quick` changes nothing."""
    torch.set_num_threads(1)
    folder = data_folder() / "xrf"
    spectra = read_spectra(folder / "axo_std.mda")
    fits = fit_spectra(spectra.counts.sum((0, 1), dtype=np.float64), Config(_ENERGY))
    return [*_described(fits), *_elements(set(fits[0].names)), *_ratios(folder, fits)]


def _described(fits: tuple[SpectrumFit, ...]) -> list[Figure]:
    r2 = [fit.r2 for fit in fits]
    unit = f"lowest R2; by detector {', '.join(f'{each:.4f}' for each in r2)}"
    return [_figure("r2", min(r2), unit, 0.98)]


def _elements(names: set[str]) -> list[Figure]:
    sample, instrument = names & _SAMPLE, _SAMPLE | _INSTRUMENT
    others = [name for name in names - instrument - {ELASTIC, COMPTON} if not _is_piled(name, instrument)]
    missed = _SAMPLE - names
    told = f"of {len(_SAMPLE)} elements of the standard{_listed('; missed', missed)}"
    extra = f"elements of neither standard nor instrument{_listed(':', others)}"
    return [
        _figure("found", float(len(sample)), told, float(len(_SAMPLE))),
        _figure("others", float(len(others)), extra, 0.0, up=False),
    ]


def _is_piled(name: str, known: set[str]) -> bool:
    pair = pair_of(name)
    return pair is not None and set(pair) <= known


def _listed(title: str, names: set[str] | list[str]) -> str:
    return f"{title} {', '.join(sorted(names))}" if names else ""


def _ratios(folder: Path, fits: tuple[SpectrumFit, ...]) -> list[Figure]:
    """By which factor each element is more, relative to iron, than the standard's."""
    missing = [name for name in _KNOWN if name not in fits[0].names]
    if missing:
        unit = f"not measured: {', '.join(missing)} not found"
        return [_figure("ratio", float("nan"), unit, float("nan"))]
    counts, variance = np.sum([[_amplitude(fit, name) for name in _KNOWN] for fit in fits], axis=0).T
    sigma = np.sqrt(variance)
    standard = read_standard(folder / "maps_standardinfo.txt")
    each = calibrate(Instrument(_ENERGY), standard, _KNOWN, counts, sigma, weight_sigma=0.0).each
    at = _KNOWN.index(_REFERENCE)
    relative = sigma / counts
    figures: list[Figure] = []
    for i, name in enumerate(_KNOWN):
        if i == at:
            continue
        factor = float(each[i] / each[at])
        error = factor * float(np.hypot(relative[i], relative[at]))
        unit = f"times the standard's {name}:{_REFERENCE}, +- {error:.2g} by the fit"
        figures.append(_figure(f"ratio.{name}", factor, unit, float("nan")))
    return figures


def _amplitude(fit: SpectrumFit, name: str) -> tuple[float, float]:
    """Counts and their variance."""
    amplitude, sigma = fit.amplitude(name)
    return amplitude, sigma**2


def _figure(name: str, value: float, unit: str, goal: float, *, up: bool = True) -> Figure:
    return Figure(f"xrf.standard.{name}", value, unit, "", "", float("nan"), goal, higher_is_better=up)
