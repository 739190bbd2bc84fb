"""The fit of spectra: calibration, elements, amplitudes and uncertainties, without an expert's start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.xrf.calibration import Grid, calibrated
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.elements import Selection, select, threshold
from skyloop.engines.xrf.evidence import Evidence, Pool, evidence
from skyloop.engines.xrf.joint import Joint, joint_fit
from skyloop.engines.xrf.objective import OBJECTIVES
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.projection import amplitudes, projected_fit, smoothed
from skyloop.engines.xrf.rows import pair_of
from skyloop.engines.xrf.setup import SCATTER, candidates, fit_problem, needs, rarer, wide_problem
from skyloop.quantities import FloatArray

__all__ = ["Found", "search", "settled"]

_STARTS = 4
_WIDER = (1.0, 2.0)
"""Grids that are tried, in ranges of the configuration."""
_DESCRIBES = 2.0
"""A start of a larger chi2 per channel is not believed before a wider grid was tried."""
_COARSE = ("ENERGY_OFFSET", "ENERGY_SLOPE", "FWHM_OFFSET", "COHERENT_SCT_ENERGY", "COMPTON_FWHM_CORR")
"""What is sought first, while the elements are uncertain."""
_GLIMPSE = 2.5
"""Standard deviations that a component needs for that."""
_GLIMPSED = 0.1
"""Relative error of the spectrum at a calibration from the grid."""
_MISSED = 0.05
"""Relative error of a spectrum before what is known of the lines only about is free."""
_SYSTEMATIC = 0.01
"""Relative error of a spectrum that no element is found by."""
_PER_COMPONENT = 2.0
_ROUNDS = 3
_STRONGEST = 2
"""Lines of so many components pile up with each other and themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search came to, by detector."""

    problems: tuple[Problem, ...]
    """With the components that were found, at the best parameters."""
    joints: tuple[Joint, ...]
    """The spectra taken apart."""
    selection: Selection | None
    """How sure each component is; None when the user named them."""


def search(counts: FloatArray, config: Config) -> Found:
    """Fit counts [detector, channel] of one sample from nothing but the configuration.

    Each detector has a calibration and amplitudes of its own; the elements are common.

    Raises:
        DataError: the counts cannot be fitted.
    """
    spectra = [torch.from_numpy(np.ascontiguousarray(row, dtype=np.float64)) for row in counts]
    names = config.elements or candidates(config)
    begun = [_best_start(spectrum, config, names) for spectrum in spectra]
    if config.elements:
        problems = [each.problem for each in begun]
        return _found([settled(problem, config) for problem in problems], None)
    return _searched(spectra, config, names, [each.problem for each in begun])


def settled(problem: Problem, config: Config) -> tuple[Problem, Joint]:
    """The best fit of the problem near its values."""
    objective = OBJECTIVES[config.objective]
    weights = objective.first_weights(problem.counts)
    found = projected_fit(problem, weights, problem.start[None])
    x = found.x[0]
    joint = joint_fit(problem, objective, x, amplitudes(problem, weights, x), config.doubts)
    return problem.at(joint.x), joint


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    problem: Problem
    chi2: float
    """Per channel, in units of the counting error and of a part of the counts."""
    score: float
    """The smaller, the better."""


def _best_start(spectrum: Tensor, config: Config, names: Sequence[str]) -> _Begun:
    """The best of some calibrations; those of a wider grid join where none describes the spectrum."""
    known, found = config.calibration, list[_Begun]()
    for wider in _WIDER:
        grid = Grid(known.slope, wider * known.slope_range, offset_range=wider * known.offset_range)
        wide = wide_problem(spectrum, names, config, grid)
        starts = calibrated(wide, grid, best=_STARTS)
        found += [_begun(spectrum, config, names, {**wide.values, **start}) for start in starts]
        if min(each.chi2 for each in found) < _DESCRIBES:
            break
    return min(found, key=lambda each: each.score)


def _begun(spectrum: Tensor, config: Config, names: Sequence[str], values: dict[str, float]) -> _Begun:
    """A first fit from one calibration, with the components that a glimpse shows."""
    problem = fit_problem(spectrum, (*names, *SCATTER), config, values)
    if not config.elements:
        narrow = fit_problem(spectrum, _glimpsed(problem), config, values)
        few = {name: ends for name, ends in narrow.free.items() if name in _COARSE}
        problem = replace(narrow, free=few or narrow.free)
    found = projected_fit(
        problem, _tolerant(problem.counts), problem.start[None], max_steps=20, tolerance=0.05
    )
    cost = float(found.cost[0])
    chi2 = 2 * cost / len(problem.counts)
    return _Begun(problem.at(found.x[0]), chi2, cost + _PER_COMPONENT * len(problem.rows.names))


def _tolerant(counts: Tensor) -> Tensor:
    mean = smoothed(counts)
    return 1 / (mean + 1 + (_MISSED * mean) ** 2)


def _glimpsed(problem: Problem) -> tuple[str, ...]:
    first = amplitudes(problem, _tolerant(problem.counts), problem.start)
    pool = Pool((evidence(problem, problem.start, first, None, tolerance=_GLIMPSED),))
    names = problem.rows.names
    return select(pool, least=_GLIMPSE, kept=SCATTER, needs=needs(names), exchange=False).names


def _searched(
    spectra: Sequence[Tensor], config: Config, names: Sequence[str], begun: Sequence[Problem]
) -> Found:
    """Select and fit in turns until the components stay the same."""
    least = threshold(config.false_positives, len(names), len(spectra))
    chosen = tuple(dict.fromkeys(name for problem in begun for name in problem.rows.names))
    fits = _fits(spectra, chosen, config, begun)
    selection = None
    for _ in range(_ROUNDS):
        every = (*names, *_pairs(fits), *SCATTER)
        parts = [_evidence(spectrum, every, config, fit) for spectrum, fit in zip(spectra, fits, strict=True)]
        pool = Pool(tuple(parts))
        selection = select(
            pool, least=least, kept=SCATTER, needs=needs(names), rarer=rarer(every), start=chosen
        )
        if set(selection.names) == set(chosen):
            break
        chosen = selection.names
        fits = _fits(spectra, chosen, config, [problem for problem, _ in fits])
    return _found(fits, selection)


_Fit = tuple[Problem, Joint]


def _found(fits: Sequence[_Fit], selection: Selection | None) -> Found:
    return Found(tuple(problem for problem, _ in fits), tuple(joint for _, joint in fits), selection)


def _fits(
    spectra: Sequence[Tensor], names: Sequence[str], config: Config, near: Sequence[Problem]
) -> list[_Fit]:
    pairs = zip(spectra, near, strict=True)
    return [settled(fit_problem(spectrum, names, config, at.values), config) for spectrum, at in pairs]


def _evidence(spectrum: Tensor, names: Sequence[str], config: Config, fit: _Fit) -> Evidence:
    problem, joint = fit
    every = fit_problem(spectrum, names, config, problem.values)
    carried = _carried(problem, joint, every)
    return evidence(every, every.start, carried, config.doubts, tolerance=_SYSTEMATIC)


def _carried(problem: Problem, joint: Joint, every: Problem) -> Tensor:
    """The amplitudes of a fit among those of more components."""
    carried = torch.zeros(len(every.rows.names) + len(every.background), dtype=torch.float64)
    for name, amplitude in zip(problem.rows.names, joint.amplitudes, strict=False):
        carried[every.rows.names.index(name)] = amplitude
    carried[len(every.rows.names) :] = joint.amplitudes[len(problem.rows.names) :]
    return carried


def _pairs(fits: Sequence[_Fit]) -> list[str]:
    """Pairs of the strongest components, which may pile up."""
    strength: dict[str, float] = {}
    for problem, joint in fits:
        for name, amplitude in zip(problem.rows.names, joint.amplitudes.tolist(), strict=False):
            strength[name] = strength.get(name, 0.0) + amplitude
    single = [name for name in strength if name not in SCATTER and not pair_of(name)]
    strongest = sorted(single, key=lambda name: -strength[name])[:_STRONGEST]
    return [f"{a}_{b}" for i, a in enumerate(strongest) for b in strongest[i:]]
