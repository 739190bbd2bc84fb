"""The fit of a spectrum: calibration, elements, amplitudes and uncertainties, without an expert's start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.xrf.calibration import Grid, calibrated
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.elements import Selection, evidence, select, threshold
from skyloop.engines.xrf.forward import Span
from skyloop.engines.xrf.joint import Joint, joint_fit
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.objective import OBJECTIVES
from skyloop.engines.xrf.parameters import PARAMETERS, defaults
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.projection import amplitudes, projected_fit, smoothed
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, pair_of, rows_of
from skyloop.engines.xrf.splines import splines
from skyloop.errors import DataError
from skyloop.quantities import FloatArray

__all__ = ["Found", "candidates", "fit_problem", "search"]

_SCATTER = (ELASTIC, COMPTON)
_RARE = {"He", "Ne", "Kr", "Xe", "Rn", "Tc", "Pm", "Po", "At", "Fr", "Ra", "Ac", "Pa"}
"""What no sample holds, or only one that the user names."""
_STARTS = 4
_COARSE = ("ENERGY_OFFSET", "ENERGY_SLOPE", "FWHM_OFFSET", "COHERENT_SCT_ENERGY", "COMPTON_FWHM_CORR")
"""What is sought first, while the elements are uncertain."""
_WIDER = (1.0, 2.0)
"""Grids that are tried, in ranges of the configuration."""
_DESCRIBES = 2.0
"""A start of a larger chi2 per channel is not believed before a wider grid was tried."""
_MISSED = 0.05
_PER_COMPONENT = 2.0
_GLIMPSE = 2.5
_TOLERANCE = 0.1
_ROUNDS = 3
_STRONGEST = 2
"""Lines of so many components pile up with each other and themselves."""
_SPACING = 0.75
"""Distance between the knots of the background [keV]: five times the width of a peak."""
_MARGIN = 0.02
"""The energy of the beam is known this well, relatively."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search came to."""

    problem: Problem
    """With the components that were found, at the best parameters."""
    joint: Joint
    """The spectrum taken apart."""
    selection: Selection | None
    """How sure each component is; None when the user named them."""


def candidates(config: Config) -> tuple[str, ...]:
    """Components that a spectrum may show: all whose main line is excited and inside the fitted range."""
    low, high = config.fitted_range
    high = min(high, config.incident_energy - 0.3)
    names = line_table().components(config.incident_energy, low, high)
    gone = _RARE | set(config.excluded)
    return tuple(name for name in names if name not in gone and name.partition("_")[0] not in gone)


def search(counts: FloatArray, config: Config) -> Found:
    """Fit counts [channel] from nothing but the configuration.

    Raises:
        DataError: the counts cannot be fitted.
    """
    spectrum = torch.from_numpy(np.ascontiguousarray(counts, dtype=np.float64))
    names = config.elements or candidates(config)
    best = _best_start(spectrum, config, names)
    if config.elements:
        return Found(*_settled(best.problem, config), None)
    return _searched(spectrum, config, names, best.problem)


def _best_start(spectrum: Tensor, config: Config, names: Sequence[str]) -> _Begun:
    """The best of some calibrations; those of a wider grid join where none describes the spectrum."""
    found: list[_Begun] = []
    for wider in _WIDER:
        known = config.calibration
        grid = Grid(known.slope, wider * known.slope_range, offset_range=wider * known.offset_range)
        wide = _wide(spectrum, names, config, grid)
        starts = calibrated(wide, grid, best=_STARTS)
        found += [_begun(spectrum, config, names, {**wide.values, **start}) for start in starts]
        best = min(found, key=lambda each: each.score)
        if best.chi2 < _DESCRIBES:
            break
    return best


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    problem: Problem
    chi2: float
    """Per channel, in units of the counting error and of a part of the counts."""
    score: float
    """The smaller, the better."""


def _begun(spectrum: Tensor, config: Config, names: Sequence[str], values: dict[str, float]) -> _Begun:
    """A first fit from one calibration, with the components that a glimpse shows."""
    problem = fit_problem(spectrum, (*names, *_SCATTER), config, values)
    weights = _tolerant(problem.counts)
    if not config.elements:
        problem = _narrowed(spectrum, config, problem, weights)
        few = {name: ends for name, ends in problem.free.items() if name in _COARSE}
        problem = replace(problem, free=few)
    weights = _tolerant(problem.counts)
    found = projected_fit(problem, weights, problem.start[None], max_steps=20, tolerance=0.05)
    cost = float(found.cost[0])
    chi2 = 2 * cost / len(problem.counts)
    return _Begun(problem.at(found.x[0]), chi2, cost + _PER_COMPONENT * len(problem.rows.names))


def _tolerant(counts: Tensor) -> Tensor:
    """Weights that do not ask more of the model than it can know before the branching is free."""
    mean = smoothed(counts)
    return 1 / (mean + 1 + (_MISSED * mean) ** 2)


def _narrowed(spectrum: Tensor, config: Config, problem: Problem, weights: Tensor) -> Problem:
    first = amplitudes(problem, weights, problem.start)
    seen = evidence(problem, problem.start, first, branching_sigma=0.0, tolerance=_TOLERANCE)
    glimpse = select(seen, least=_GLIMPSE, kept=_SCATTER, needs=_needs(problem.rows.names))
    return fit_problem(spectrum, glimpse.names, config, problem.values)


def _searched(spectrum: Tensor, config: Config, names: Sequence[str], problem: Problem) -> Found:
    """Select and fit in turns until the components stay the same."""
    least = threshold(config.false_positives, len(names))
    problem = fit_problem(spectrum, problem.rows.names, config, problem.values)
    problem, joint = _settled(problem, config)
    for _ in range(_ROUNDS):
        pairs = _pairs(problem, joint)
        every = fit_problem(spectrum, (*names, *pairs, *_SCATTER), config, problem.values)
        seen = evidence(
            every, every.start, _carried(problem, joint, every), branching_sigma=config.branching_sigma
        )
        needs = _needs(names)
        selection = select(seen, least=least, kept=_SCATTER, needs=needs, start=problem.rows.names)
        if set(selection.names) == set(problem.rows.names):
            break
        problem = fit_problem(spectrum, selection.names, config, problem.values)
        problem, joint = _settled(problem, config)
    return Found(problem, joint, selection)


def _settled(problem: Problem, config: Config) -> tuple[Problem, Joint]:
    """The best fit of the problem near its values."""
    objective = OBJECTIVES[config.objective]
    weights = objective.first_weights(problem.counts)
    found = projected_fit(problem, weights, problem.start[None])
    x = found.x[0]
    first = amplitudes(problem, weights, x)
    joint = joint_fit(problem, objective, x, first, branching_sigma=config.branching_sigma)
    return problem.at(joint.x), joint


def _carried(problem: Problem, joint: Joint, every: Problem) -> Tensor:
    """The amplitudes of a fit among those of more components."""
    carried = torch.zeros(len(every.rows.names) + len(every.background), dtype=torch.float64)
    for name, amplitude in zip(problem.rows.names, joint.amplitudes, strict=False):
        carried[every.rows.names.index(name)] = amplitude
    carried[len(every.rows.names) :] = joint.amplitudes[len(problem.rows.names) :]
    return carried


def _pairs(problem: Problem, joint: Joint) -> list[str]:
    """Pairs of the strongest components, which may pile up."""
    single = [i for i, name in enumerate(problem.rows.names) if name not in _SCATTER and not pair_of(name)]
    strongest = sorted(single, key=lambda i: -float(joint.amplitudes[i]))[:_STRONGEST]
    names = [problem.rows.names[i] for i in strongest]
    return [f"{a}_{b}" for i, a in enumerate(names) for b in names[i:]]


def _needs(names: Sequence[str]) -> dict[str, str]:
    """The lower families of an element are seen only with the highest one."""
    families: dict[str, list[str]] = {}
    for name in names:
        if name not in _SCATTER and not pair_of(name):
            families.setdefault(name.partition("_")[0], []).append(name)
    shell = {
        name: "_L_M".find(name[len(element) :]) if name != element else -1
        for element, group in families.items()
        for name in group
    }
    ordered = (sorted(group, key=lambda name: shell[name]) for group in families.values())
    return {lower: first for first, *others in ordered for lower in others}


def _wide(spectrum: Tensor, names: Sequence[str], config: Config, grid: Grid) -> Problem:
    """The problem over all channels that may lie inside the fitted range."""
    low, high = config.fitted_range
    most = 1 + 1.5 * grid.slope_range
    first = max(0, int((low - grid.offset_range) / grid.slope / most))
    last = int((high + grid.offset_range) / grid.slope * most) + 1
    return _problem(spectrum, (*names, *_SCATTER), config, _values(config), (first, last))


def _values(config: Config) -> dict[str, float]:
    beam = {"COHERENT_SCT_ENERGY": config.incident_energy, "ENERGY_SLOPE": config.calibration.slope}
    return defaults({**beam, **config.parameters})


def fit_problem(
    spectrum: Tensor, names: Sequence[str], config: Config, values: dict[str, float] | None = None
) -> Problem:
    """The problem of fitting components to the channels that lie inside the fitted range."""
    values = values or _values(config)
    slope, offset = values["ENERGY_SLOPE"], values["ENERGY_OFFSET"]
    low, high = config.fitted_range
    return _problem(
        spectrum, names, config, values, (round((low - offset) / slope), round((high - offset) / slope))
    )


def _problem(
    spectrum: Tensor, names: Sequence[str], config: Config, values: dict[str, float], ends: tuple[int, int]
) -> Problem:
    first, last = max(0, ends[0]), min(len(spectrum), ends[1])
    if last - first < 100:
        raise DataError(
            f"only {last - first} channels lie inside the fitted range; mend: the spectrum has {len(spectrum)} "
            "channels: compare calibration.slope and energy_range with the detector"
        )
    counts = spectrum[first:last]
    rows = rows_of(names, line_table(), incident_energy=config.incident_energy, detector=config.detector)
    smooth = splines(len(counts), np.full(len(counts), _SPACING / values["ENERGY_SLOPE"]))
    return Problem(
        counts=counts,
        span=Span(first, len(counts)),
        rows=rows,
        background=torch.from_numpy(smooth),
        known=torch.zeros_like(counts),
        values=values,
        free={name: _range(name, config, values) for name in config.free},
    )


def _range(name: str, config: Config, values: dict[str, float]) -> tuple[float, float]:
    if name == "COHERENT_SCT_ENERGY":
        return config.incident_energy * (1 - _MARGIN), config.incident_energy * (1 + _MARGIN)
    if name == "ENERGY_SLOPE":
        return values[name] * 0.8, values[name] * 1.25
    if name == "FWHM_FANOPRIME":
        return 1e-6, 1e-3
    return PARAMETERS[name].low, PARAMETERS[name].high
