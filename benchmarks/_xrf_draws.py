"""Synthetic spectra fitted from nothing but the incident energy: R2, elements, and how right the errors are.

Twelve hundred draws, or the first of them that 25 minutes on two processes allow; the units say how many.
An element is `strong` where a fit with the true components, from the true parameters, to the expected counts
gives it more than 5 standard deviations, with the doubts about lines that every fit has. Weak elements need
not be found; every element that the sample does not hold is false.

Coverage is that of a second fit, which is told the true components, of spectra of at least 1e4 counts:
elements, scatter, and the pile-up where it lies in the fitted range. Components at zero have no standard
deviation and are left out, which leaves the upper errors of weak ones; the units say how many, and how many
others have none.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks._figures import Figure
from benchmarks._spectra import Drawn, draw, r_squared
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.evidence import evidence
from skyloop.engines.xrf.joint import Doubts
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.projection import amplitudes
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, pair_of
from skyloop.engines.xrf.setup import fit_problem
from skyloop.engines.xrf.spectrum import SpectrumFit, fit_spectrum
from skyloop.quantities import FloatArray

__all__ = ["Coverage", "Search", "covered", "measure", "searched", "strong_elements"]

_T = TypeVar("_T")

_DRAWS, _FEW = 1200, 24
_SEARCH_TIME, _COVERAGE_TIME = 1000.0, 500.0  # seconds after which no further draw begins
_PROCESSES = 2
_BELOW = 2e-3
_STRONG = 5.0
_MANY = 1e4
_DARK = 1e-3


@dataclass(frozen=True, slots=True)
class Search:
    """A spectrum fitted without its elements."""

    shortfall: float
    """R2 of the true mean less that of the fit."""
    right: int
    """Strong elements that were found."""
    missed: int
    """Strong elements that were not."""
    false: int
    """Elements found that the sample does not hold."""
    confused: int
    """Of these, those that are reported as what may be meant by one of the sample's instead."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """A spectrum fitted with its elements."""

    z: tuple[float, ...]
    """Errors of the amplitudes in standard deviations, where these are finite."""
    at_zero: int
    """Components without, at zero."""
    untold: int
    """Components without, above zero."""


def measure(quick: bool) -> list[Figure]:
    """Shares of draws, of elements, and of errors within their intervals."""
    count = _FEW if quick else _DRAWS
    searches = _prefix("fits from nothing", searched, range(count), _SEARCH_TIME)
    bright = [seed for seed in range(count) if draw(seed).counts.sum() >= _MANY]
    coverages = _prefix("fits of known elements", covered, bright, _COVERAGE_TIME)
    return [*_found(searches), *_calibrated(coverages)]


def searched(seed: int) -> Search:
    """One draw, whose incident energy alone is told."""
    drawn = draw(seed)
    fit = fit_spectrum(drawn.counts, Config(drawn.incident_energy))
    names = {name for name in fit.names if name not in (ELASTIC, COMPTON) and not pair_of(name)}
    strong = strong_elements(drawn)
    false = names - set(drawn.elements)
    return Search(
        shortfall=r_squared(fit.counts, _true_mean(drawn, fit)) - fit.r2,
        right=len(strong & names),
        missed=len(strong - names),
        false=len(false),
        confused=sum(not set(drawn.elements).isdisjoint(fit.alike.get(name, ())) for name in false),
    )


def _true_mean(drawn: Drawn, fit: SpectrumFit) -> FloatArray:
    return drawn.mean[fit.first : fit.first + len(fit.counts)]


def strong_elements(drawn: Drawn) -> set[str]:
    """Elements that a fit of the true components is expected to see with 5 standard deviations."""
    config = Config(drawn.incident_energy)
    problem = fit_problem(torch.from_numpy(drawn.counts), tuple(drawn.amplitudes), config, drawn.values)
    span = problem.span
    mean = torch.from_numpy(drawn.mean[span.first : span.first + span.count].copy())
    problem = replace(problem, counts=mean)
    x = problem.start
    told = evidence(problem, x, amplitudes(problem, 1 / (mean + _DARK), x), Doubts())
    names = problem.rows.names
    used, _, z = told.solved(range(len(names)))
    strength = {names[k]: float(value) for k, value in zip(used, z, strict=True) if k < len(names)}
    return {name for name in drawn.elements if strength.get(name, 0.0) > _STRONG}


def covered(seed: int) -> Coverage:
    """One draw, whose incident energy and true components are told."""
    drawn = draw(seed)
    config = Config(drawn.incident_energy)
    fit = fit_spectrum(drawn.counts, replace(config, elements=_components(drawn, config.fitted_range[1])))
    truth = np.array([drawn.amplitudes[name] for name in fit.names])
    is_told = np.isfinite(fit.sigmas)
    z = (fit.amplitudes - truth)[is_told] / fit.sigmas[is_told]
    is_zero = fit.amplitudes[~is_told] == 0
    return Coverage(tuple(z.tolist()), int(is_zero.sum()), int((~is_zero).sum()))


def _components(drawn: Drawn, highest: float) -> tuple[str, ...]:
    """Elements, and the pile-up that lies below the highest energy."""
    families = line_table().families
    pairs = [(name, pair) for name in drawn.amplitudes if (pair := pair_of(name))]
    seen = [name for name, pair in pairs if sum(families[each].energy[0] for each in pair) < highest]
    return (*drawn.elements, *seen)


def _prefix(title: str, work: Callable[[int], _T], seeds: Sequence[int], seconds: float) -> list[_T]:
    """What a function makes of the first seeds, as many as begin in time: slow ones are not left out."""
    context = multiprocessing.get_context("spawn")
    end = time.monotonic() + seconds
    begun: list[Future[_T]] = []
    with (
        ProcessPoolExecutor(_PROCESSES, context, torch.set_num_threads, (1,)) as pool,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        task = bar.add_task(title, total=len(seeds))
        for _ in _room(begun):
            bar.update(task, completed=sum(each.done() for each in begun))
            if len(begun) == len(seeds) or time.monotonic() > end:
                break
            begun.append(pool.submit(work, seeds[len(begun)]))
        return [each.result() for each in begun]


def _room(begun: Sequence[Future[_T]]) -> Iterator[None]:
    """Again and again, each time that a process is free."""
    while True:
        busy = [each for each in begun if not each.done()]
        if len(busy) >= _PROCESSES:
            wait(busy, return_when=FIRST_COMPLETED)
        yield


def _found(searches: Sequence[Search]) -> list[Figure]:
    draws = f"{len(searches)} draws"
    good = float(np.mean([each.shortfall <= _BELOW for each in searches]))
    counted = ("right", "missed", "false", "confused")
    right, missed, false, confused = (sum(getattr(each, name) for each in searches) for name in counted)
    f1 = 2 * right / (2 * right + missed + false)
    told = f"of {right + missed} strong elements, {missed} missed, {false} false"
    told += f" ({confused} of them told to be one of the sample's perhaps); {draws}"
    return [
        _figure("r2", good, f"share with R2 at most 0.002 below the true mean's; {draws}", 0.99, up=True),
        _figure("elements_f1", f1, told, 0.97, up=True),
        _figure("false_elements", false / len(searches), f"per spectrum; {draws}", 0.01, up=False),
    ]


def _calibrated(coverages: Sequence[Coverage]) -> list[Figure]:
    z = np.abs([z for each in coverages for z in each.z])
    at_zero, untold = sum(each.at_zero for each in coverages), sum(each.untold for each in coverages)
    left_out = f"{at_zero} more at zero, {untold} others without sigma"
    told = f"{len(z)} amplitudes ({left_out}) of {len(coverages)} draws"
    figures: list[Figure] = []
    for name, width, share, goal in (("coverage_68", 1.0, 0.68, 0.02), ("coverage_95", 1.96, 0.95, 0.01)):
        found = float(np.mean(z < width))
        unit = f"distance from {share:g} of {found:.3f} within {width:g} sigma; {told}"
        figures.append(_figure(name, abs(found - share), unit, goal, up=False))
    return figures


def _figure(name: str, value: float, unit: str, goal: float, *, up: bool) -> Figure:
    return Figure(f"xrf.draws.{name}", value, unit, "", "", float("nan"), goal, higher_is_better=up)
