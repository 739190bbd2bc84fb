"""The fit of spectra: calibration, elements, amplitudes and uncertainties, without an expert's start."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.xrf.boxcar import smoothed
from skyloop.engines.xrf.calibration import calibrated
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.elements import Selection, select, threshold
from skyloop.engines.xrf.evidence import Evidence, Pool, evidence
from skyloop.engines.xrf.joint import Joint, joint_fit
from skyloop.engines.xrf.objective import OBJECTIVES
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.projection import amplitudes, projected_fit
from skyloop.engines.xrf.rows import pair_of
from skyloop.engines.xrf.setup import (
    SCATTER,
    beyond,
    candidates,
    fit_problem,
    grid_of,
    needs,
    other_components,
    rarer,
    wide_problem,
)
from skyloop.errors import ConfigError
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
_MISFIT = 1.2
"""Twice the cost per channel of a fit that other starts are tried for."""
_PER_COMPONENT = 2.0
_KNOWN = 2.0
"""The range of the calibration is the root of so many of its standard deviations."""
_CERTAIN, _ELSEWHERE = 6.0, 0.1
"""A calibration that scores so much less, so far away [keV], is not ruled out."""
_ROUNDS = 3
_STRONGEST = 3
"""Lines of so many components pile up with each other and themselves."""


_Fit = tuple[Problem, Joint]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search came to, by detector."""

    problems: tuple[Problem, ...]
    """With the components that were found, at the best parameters."""
    joints: tuple[Joint, ...]
    """The spectra taken apart."""
    selection: Selection | None
    """How sure each component is; None when the user named them."""
    rivals: tuple[str, ...]
    """Another calibration that describes the spectrum about as well, in words; empty when there is none."""


def search(counts: FloatArray, config: Config) -> Found:
    """Fit counts [detector, channel] of one sample from nothing but the configuration.

    Each detector has a calibration and amplitudes of its own; the elements are common.

    Raises:
        DataError: the counts cannot be fitted.
        ConfigError: a component that was named cannot be seen in the fitted range.
    """
    spectra = [torch.from_numpy(np.ascontiguousarray(row, dtype=np.float64)) for row in counts]
    names = tuple(name for name in config.elements if name not in SCATTER) or candidates(config)
    if lost := beyond(names, config):
        low, high = config.fitted_range
        raise ConfigError(
            f"no main line of {', '.join(lost)} lies inside the fitted range of {low:g} to {high:g} keV; "
            "mend: leave it out, or set energy_range"
        )
    starts = [_starts(spectrum, config, names) for spectrum in spectra]
    if config.elements:
        fits, selection = (
            [_best(spectrum, config, each) for spectrum, each in zip(spectra, starts, strict=True)],
            None,
        )
    else:
        fits, selection = _searched(spectra, config, names, [each[0].problem for each in starts])
    return Found(
        problems=tuple(problem for problem, _ in fits),
        joints=tuple(joint for _, joint in fits),
        selection=selection,
        rivals=tuple(_rival(each) for each in starts),
    )


def settled(problem: Problem, config: Config) -> tuple[Problem, Joint]:
    """The best fit of the problem near its values."""
    objective = OBJECTIVES[config.objective]
    weights = objective.first_weights(problem.counts)
    found = projected_fit(problem, weights, problem.start[None])
    x = found.x[0]
    joint = joint_fit(problem, objective, x, amplitudes(problem, weights, x), config.doubts)
    return problem.at(joint.x), joint


def _best(spectrum: Tensor, config: Config, starts: Sequence[_Begun]) -> _Fit:
    """The fit from the best start; where it does not describe the spectrum, the best of those from others."""
    fits: list[_Fit] = []
    for start in starts:
        near = fit_problem(spectrum, start.problem.rows.names, config, start.problem.values)
        fits.append(settled(near, config))
        if 2 * fits[-1][1].cost < _MISFIT * len(near.counts):
            return fits[-1]
    return min(fits, key=lambda fit: fit[1].cost / len(fit[0].counts))


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    problem: Problem
    chi2: float
    """Per channel, in units of the counting error and of a part of the counts."""
    score: float
    """The smaller, the better."""


def _starts(spectrum: Tensor, config: Config, names: Sequence[str]) -> list[_Begun]:
    """First fits from some calibrations, the best one first; a wider grid joins where none is good."""
    found: list[_Begun] = []
    for wider in _WIDER:
        grid = grid_of(config, wider)
        wide = wide_problem(spectrum, names, config, grid)
        cells = calibrated(wide, grid, best=_STARTS)
        found += [_begun(replace(wide, values={**wide.values, **cell}), config) for cell in cells]
        if min(each.chi2 for each in found) < _DESCRIBES:
            break
    return sorted(found, key=lambda each: each.score)


def _begun(problem: Problem, config: Config) -> _Begun:
    """A first fit from one calibration, with the components that a glimpse shows."""
    if not config.elements:
        few = {name: ends for name, ends in problem.free.items() if name in _COARSE}
        problem = other_components(replace(problem, free=few or problem.free), _glimpsed(problem), config)
    weights = _tolerant(problem.counts)
    found = projected_fit(problem, weights, problem.start[None], max_steps=20, tolerance=0.05)
    problem, cost = problem.at(found.x[0]), float(found.cost[0])
    score = cost + _PER_COMPONENT * len(problem.rows.names) + _surprise(problem, config)
    return _Begun(problem, 2 * cost / len(problem.counts), score)


def _surprise(problem: Problem, config: Config) -> float:
    """Half the square of how far the calibration is from what was known, in its ranges."""
    known, values = config.calibration, problem.values
    slope = math.log(values["ENERGY_SLOPE"] / known.slope) / max(known.slope_range, 1e-3)
    offset = (values["ENERGY_OFFSET"] - known.offset) / max(known.offset_range, 1e-3)
    return _KNOWN / 2 * (slope**2 + offset**2)


def _tolerant(counts: Tensor) -> Tensor:
    mean = smoothed(counts)
    return 1 / (mean + 1 + (_MISSED * mean) ** 2)


def _glimpsed(problem: Problem) -> tuple[str, ...]:
    first = amplitudes(problem, _tolerant(problem.counts), problem.start)
    pool = Pool((evidence(problem, problem.start, first, None, tolerance=_GLIMPSED),))
    names = problem.rows.names
    return select(pool, least=_GLIMPSE, kept=SCATTER, needs=needs(names), exchange=False).names


def _rival(begun: Sequence[_Begun]) -> str:
    """Another calibration that describes the spectrum about as well, in words; empty when there is none."""
    best = begun[0].problem.values
    for other in begun[1:]:
        values = other.problem.values
        if other.score < begun[0].score + _CERTAIN and _apart(best, values, begun[0].problem) > _ELSEWHERE:
            return (
                f"{1e3 * values['ENERGY_SLOPE']:.4g} eV/channel from {1e3 * values['ENERGY_OFFSET']:.3g} eV"
            )
    return ""


def _apart(a: Mapping[str, float], b: Mapping[str, float], problem: Problem) -> float:
    """How far two calibrations are apart anywhere in the spectrum [keV]."""
    x = np.linspace(problem.span.first, problem.span.first + problem.span.count, 9)
    at = [np.polyval([v["ENERGY_QUADRATIC"], v["ENERGY_SLOPE"], v["ENERGY_OFFSET"]], x) for v in (a, b)]
    return float(np.abs(at[0] - at[1]).max())


def _searched(
    spectra: Sequence[Tensor], config: Config, names: Sequence[str], begun: Sequence[Problem]
) -> tuple[list[_Fit], Selection | None]:
    """Select and fit in turns until the components stay the same."""
    least = threshold(config.false_positives, len(names), len(spectra))
    chosen = tuple(dict.fromkeys(name for problem in begun for name in problem.rows.names))
    fits = _fits(spectra, chosen, config, begun)
    selection = None
    for _ in range(_ROUNDS):
        piled = [name for name in chosen if pair_of(name)]
        pairs = _pairs(fits)
        gone = beyond(pairs, config)
        every = (*names, *dict.fromkeys([*piled, *(pair for pair in pairs if pair not in gone)]), *SCATTER)
        parts = [_evidence(every, config, fit) for fit in fits]
        pool = Pool(tuple(parts))
        selection = select(
            pool, least=least, kept=SCATTER, needs=needs(names), rarer=rarer(every), start=chosen
        )
        if set(selection.names) == set(chosen):
            break
        chosen = selection.names
        fits = _fits(spectra, chosen, config, [problem for problem, _ in fits])
    return fits, selection


def _fits(
    spectra: Sequence[Tensor], names: Sequence[str], config: Config, near: Sequence[Problem]
) -> list[_Fit]:
    pairs = zip(spectra, near, strict=True)
    return [settled(fit_problem(spectrum, names, config, at.values), config) for spectrum, at in pairs]


def _evidence(names: Sequence[str], config: Config, fit: _Fit) -> Evidence:
    problem, joint = fit
    every = other_components(problem, names, config)
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
    strongest.sort(key=lambda name: (name != "K", name))  # one name for each pair; Fe_K would be K lines
    return [f"{a}_{b}" for i, a in enumerate(strongest) for b in strongest[i:]]
