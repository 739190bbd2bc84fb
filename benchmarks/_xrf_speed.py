"""The fit of one spectrum beside MapsTorch: 500 steps of Adam, the same start, channels, elements and thread.

The elements are given. The start is an energy calibration that is half a percent and 10 eV off, and the
defaults of this package for the rest: MapsTorch begins there, ours looks 1 % and 20 meV around it. `.sought`
tells ours no calibration; its time is compared with the same fit of MapsTorch.

Each has its own background (SNIP there, splines here) and its own lines. The spectra are made with the lines
of this package, each minor one 5 % off, and with escape and pile-up, so R2 is a figure of model and search
together. Therefore the R2 of `.sought` is compared with a MapsTorch that has the lines of this package and
begins at the calibration that ours found. Speeds are medians over the spectra; of R2 the worst counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from mapstorch.constant import EnergyStruct
from mapstorch.default import default_energy_consts, default_param_vals
from mapstorch.opt import fit_spec

from benchmarks._figures import Figure, version_of
from benchmarks._spectra import Drawn, draw, r_squared
from skyloop.engines.xrf.config import Calibration, Config
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.objective import ObjectiveName
from skyloop.engines.xrf.parameters import FITTED, defaults
from skyloop.engines.xrf.spectrum import SpectrumFit, fit_spectrum
from skyloop.quantities import FloatArray

__all__ = ["measure"]

_TOTALS = ("1e4", "1e5", "1e6", "1e7")
_ELEMENTS = 12
_SLOPE_OFF, _OFFSET_OFF = 1.005, 0.01
_STEPS = 500
_Lines = dict[str, list[Any]]
_THEIR_LINES: Any = default_energy_consts
_GOAL, _STRETCH = 30.0, 80.0


@dataclass(frozen=True, slots=True)
class _Case:
    """A way to ask ours."""

    name: str
    """Ending of the figures."""
    objective: ObjectiveName
    """What is made small."""
    told: bool
    """Whether the calibration is told."""


_CASES = (
    _Case("", "mse", told=True),
    _Case(".poisson", "poisson", told=True),
    _Case(".sought", "mse", told=False),
    _Case(".poisson_sought", "poisson", told=False),
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One spectrum by one case."""

    speed: float
    """Times the peer's."""
    r2: float
    """Ours."""
    peer_r2: float
    """Theirs, in the same channels."""


def measure(quick: bool) -> list[Figure]:
    """Speeds and R2 by the number of counts; with `quick` one spectrum of 1e5 counts."""
    torch.set_num_threads(1)
    totals, spectra = (_TOTALS[1:2], 1) if quick else (_TOTALS, 3)
    return [figure for total in totals for figure in _figures(total, spectra)]


def _figures(total: str, spectra: int) -> list[Figure]:
    outcomes = [_compared(drawn) for drawn in _drawn(float(total), spectra)]
    found: list[Figure] = []
    for i, case in enumerate(_CASES):
        found += _of_case(f"{total}{case.name}", [each[i] for each in outcomes])
    return found


def _drawn(total: float, count: int) -> Iterator[Drawn]:
    """Spectra whose lines MapsTorch knows."""
    seed, left = 0, count
    while left:
        drawn = draw(seed, total=total, n_elements=_ELEMENTS)
        if all(name in _THEIR_LINES for name in drawn.elements):
            left -= 1
            yield drawn
        seed += 1


def _compared(drawn: Drawn) -> list[_Outcome]:
    """All cases on one spectrum, the peer between them."""
    start = _start(drawn)
    _ours(drawn, start, _CASES[0])
    _theirs(drawn, start, (0, 100), _THEIR_LINES, steps=5)
    told = [_ours(drawn, start, case) for case in _CASES if case.told]
    model, peer_seconds = _theirs(drawn, start, _channels(told[0][0]), _THEIR_LINES)
    sought = [_ours(drawn, start, case) for case in _CASES if not case.told]
    fit = sought[0][0]
    better = {**start, **{name: fit.values[name] for name in ("ENERGY_SLOPE", "ENERGY_OFFSET")}}
    best, _ = _theirs(drawn, better, _channels(fit), _our_lines(drawn))
    peer = r_squared(told[0][0].counts, model)
    peer_helped = r_squared(fit.counts, best)
    found = [_Outcome(peer_seconds / seconds, each.r2, peer) for each, seconds in told]
    return found + [_Outcome(peer_seconds / seconds, each.r2, peer_helped) for each, seconds in sought]


def _start(drawn: Drawn) -> dict[str, float]:
    values = defaults({"COHERENT_SCT_ENERGY": drawn.incident_energy})
    slope, offset = drawn.values["ENERGY_SLOPE"], drawn.values["ENERGY_OFFSET"]
    off = {"ENERGY_SLOPE": slope * _SLOPE_OFF, "ENERGY_OFFSET": offset + _OFFSET_OFF}
    return {name: {**values, **off}[name] for name in FITTED}


def _channels(fit: SpectrumFit) -> tuple[int, int]:
    return fit.first, fit.first + len(fit.counts) - 1


def _ours(drawn: Drawn, start: dict[str, float], case: _Case) -> tuple[SpectrumFit, float]:
    config = Config(
        drawn.incident_energy, elements=drawn.elements, parameters=_unsought(start), objective=case.objective
    )
    if case.told:
        known = Calibration(start["ENERGY_SLOPE"], 0.01, offset=start["ENERGY_OFFSET"], offset_range=0.02)
        config = replace(config, calibration=known)
    begun = time.perf_counter()
    fit = fit_spectrum(drawn.counts, config)
    return fit, time.perf_counter() - begun


def _unsought(start: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in start.items() if not name.startswith(("ENERGY_", "COHERENT"))}


def _theirs(
    drawn: Drawn,
    start: dict[str, float],
    channels: tuple[int, int],
    lines: _Lines,
    *,
    steps: int = _STEPS,
) -> tuple[FloatArray, float]:
    """Expected counts and seconds of MapsTorch."""
    values = {**default_param_vals, **{k: v for k, v in start.items() if k in default_param_vals}}
    begun = time.perf_counter()
    _, peaks, background, _ = fit_spec(
        drawn.counts,
        channels,
        elements_to_fit=list(drawn.elements),
        init_param_vals=values,
        n_iter=steps,
        e_consts=lines,
        progress_bar=False,
    )
    return peaks + background, time.perf_counter() - begun


def _our_lines(drawn: Drawn) -> _Lines:
    """The lines of this package as MapsTorch has its own; all of a family with the tail of its main line."""
    lines = line_table().lines(drawn.elements, drawn.incident_energy)
    found: _Lines = {name: [] for name in drawn.elements}
    for i, k in enumerate(lines.of):
        line = EnergyStruct()
        line.name, line.type = lines.names[k], 1
        line.energy, line.ratio = float(lines.energy[i]), float(lines.ratio[i])
        line.ptype = f"{lines.labels[i][:2]}1" if lines.labels[i][0] == "K" else f"{lines.labels[i][0]}a1"
        found[line.name].append(line)
    return found


def _of_case(name: str, outcomes: list[_Outcome]) -> list[Figure]:
    speed = statistics.median(each.speed for each in outcomes)
    lowest = min(each.r2 - each.peer_r2 for each in outcomes)
    peer_r2 = statistics.median(each.peer_r2 for each in outcomes)
    stretch = f"times the peer's speed (stretch goal {_STRETCH:g})"
    return [
        _figure(f"speedup.{name}", speed, stretch, 1.0, _GOAL),
        _figure(f"r2_excess.{name}", lowest, "R2 less the peer's R2, which is shown", peer_r2, 0.0),
    ]


def _figure(name: str, value: float, unit: str, peer_value: float, goal: float) -> Figure:
    return Figure(
        figure=f"xrf.fit.{name}",
        value=value,
        unit=unit,
        peer="mapstorch",
        peer_version=version_of("mapstorch"),
        peer_value=peer_value,
        goal=goal,
        higher_is_better=True,
    )
