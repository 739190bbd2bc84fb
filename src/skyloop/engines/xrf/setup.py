"""The problem that a configuration poses for a spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.xrf.background import snip
from skyloop.engines.xrf.calibration import Grid
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.parameters import PARAMETERS, defaults
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows, pair_of, rows_of
from skyloop.engines.xrf.splines import splines
from skyloop.errors import ConfigError, DataError

__all__ = [
    "SCATTER",
    "beyond",
    "candidates",
    "fit_problem",
    "grid_of",
    "needs",
    "other_components",
    "rarer",
    "wide_problem",
]

SCATTER = (ELASTIC, COMPTON)
"""Components of every spectrum."""
_RARE = {"He", "Ne", "Kr", "Xe", "Rn", "Tc", "Pm", "Po", "At", "Fr", "Ra", "Ac", "Pa"}
"""What no sample holds, or only one whose user names it."""
_BELOW_BEAM = 0.3
"""Lines nearer to the beam [keV] cannot be told from what is scattered."""
_SPACING = 0.75
"""Distance between the knots of the background [keV]: five times the width of a peak."""
_MARGIN = 0.01
"""The energy of the beam is known this well, relatively."""
_RARER = 6.0
"""-2 log of the odds that an unknown element is one of those that show no K lines: one in twenty."""
_EXPECTED = -3.0
"""The same for pile-up of the strongest lines, which any detector has."""
_FEWEST = 100


def candidates(config: Config) -> tuple[str, ...]:
    """Components that a spectrum may show: all whose main line is excited and inside the fitted range.

    Raises:
        ConfigError: an excluded name is no element and no family of lines.
    """
    low, high = config.fitted_range
    high = min(high, config.incident_energy - _BELOW_BEAM)
    names = line_table().components(config.incident_energy, low, high)
    gone = _RARE | _named(config.excluded)
    return tuple(name for name in names if name not in gone and name.partition("_")[0] not in gone)


def needs(names: Sequence[str]) -> dict[str, str]:
    """The lower families of an element are seen only with the highest one."""
    families: dict[str, list[str]] = {}
    for name in names:
        if name not in SCATTER and not pair_of(name):
            families.setdefault(name.partition("_")[0], []).append(name)
    shell = {
        name: "_L_M".find(name[len(element) :]) if name != element else -1
        for element, group in families.items()
        for name in group
    }
    ordered = (sorted(group, key=lambda name: shell[name]) for group in families.values())
    return {lower: first for first, *others in ordered for lower in others}


def rarer(names: Sequence[str]) -> dict[str, float]:
    """What more each component must lower the deviance by than one of K lines, which most samples show."""
    return {
        name: _EXPECTED if pair_of(name) else _RARER for name in names if "_" in name and name not in SCATTER
    }


def grid_of(config: Config, wider: float = 1.0) -> Grid:
    """Calibrations to try, in wider ranges than those of the configuration; none where it is not free."""
    known = config.calibration
    return Grid(
        slope=known.slope,
        slope_range=wider * known.slope_range * ("ENERGY_SLOPE" in config.free),
        offset=known.offset,
        offset_range=wider * known.offset_range * ("ENERGY_OFFSET" in config.free),
    )


def wide_problem(spectrum: Tensor, names: Sequence[str], config: Config, grid: Grid) -> Problem:
    """The problem over all channels that may lie inside the fitted range."""
    low, high = config.fitted_range
    most = 1 + 1.5 * grid.slope_range
    first = max(0, int((low - grid.offset - grid.offset_range) / grid.slope / most))
    last = int((high - grid.offset + grid.offset_range) / grid.slope * most) + 1
    return _problem(spectrum, (*names, *SCATTER), config, _values(config), (first, last))


def _values(config: Config) -> dict[str, float]:
    known = config.calibration
    beam = {"COHERENT_SCT_ENERGY": config.incident_energy}
    beam |= {"ENERGY_SLOPE": known.slope, "ENERGY_OFFSET": known.offset}
    return defaults({**beam, **config.parameters})


def fit_problem(
    spectrum: Tensor, names: Sequence[str], config: Config, values: Mapping[str, float] | None = None
) -> Problem:
    """The problem of fitting components to the channels that lie inside the fitted range."""
    values = values or _values(config)
    slope, offset = values["ENERGY_SLOPE"], values["ENERGY_OFFSET"]
    low, high = config.fitted_range
    return _problem(
        spectrum, names, config, values, (round((low - offset) / slope), round((high - offset) / slope))
    )


def _named(excluded: Sequence[str]) -> set[str]:
    families = line_table().families
    elements = {name.partition("_")[0] for name in families}
    if unknown := [name for name in excluded if name not in elements and name not in families]:
        raise ConfigError(f"excluded: found '{unknown[0]}'; mend: a symbol such as Pb, or lines such as Pb_M")
    return set(excluded)


def beyond(names: Sequence[str], config: Config) -> list[str]:
    """Components without a main line inside the fitted range."""
    rows = _rows(names, config)
    low, high = config.fitted_range
    is_main = (rows.ratio == 1.0) & torch.cat([torch.ones(rows.n_tailed, dtype=torch.bool), ~rows.is_escape])
    is_inside = is_main & (rows.energy >= low) & (rows.energy <= high)
    seen = {rows.names[i] for i in rows.of[: len(rows.ratio)][is_inside].tolist()}
    return [name for name in names if name not in seen]


def other_components(problem: Problem, names: Sequence[str], config: Config) -> Problem:
    """The problem with other components, of the same channels and the same background."""
    return replace(problem, rows=_rows(names, config))


def _rows(names: Sequence[str], config: Config) -> Rows:
    return rows_of(names, line_table(), incident_energy=config.incident_energy, detector=config.detector)


def _problem(
    spectrum: Tensor, names: Sequence[str], config: Config, values: Mapping[str, float], ends: tuple[int, int]
) -> Problem:
    first, last = max(0, ends[0]), min(len(spectrum), ends[1])
    if last - first < _FEWEST:
        raise DataError(
            f"only {last - first} channels lie inside the fitted range; mend: the spectrum has "
            f"{len(spectrum)} channels: compare calibration.slope and energy_range with the detector"
        )
    counts = spectrum[first:last]
    if float(counts.sum()) < _FEWEST:
        raise DataError(
            f"{float(counts.sum()):g} counts inside the fitted range; mend: leave this detector out, or "
            "compare calibration.slope and energy_range with it"
        )
    span = Span(first, len(counts))
    return Problem(
        counts=counts,
        span=span,
        rows=_rows(names, config),
        background=_splines(span, config, values),
        known=_known(counts, span, config, values),
        values=values,
        free={name: _range(name, config, values) for name in config.free},
    )


def _range(name: str, config: Config, values: Mapping[str, float]) -> tuple[float, float]:
    if name == "COHERENT_SCT_ENERGY":
        return config.incident_energy * (1 - _MARGIN), config.incident_energy * (1 + _MARGIN)
    if name == "ENERGY_SLOPE":
        return values[name] * 0.8, values[name] * 1.25
    if name == "FWHM_FANOPRIME":
        return 1e-6, max(1e-3, 2 * values[name])
    return PARAMETERS[name].low, PARAMETERS[name].high


def _splines(span: Span, config: Config, values: Mapping[str, float]) -> Tensor:
    if config.background == "snip":
        return torch.zeros(0, span.count, dtype=torch.float64)
    spacing = np.full(span.count, _SPACING / values["ENERGY_SLOPE"])
    return torch.from_numpy(splines(span.count, spacing))


def _known(counts: Tensor, span: Span, config: Config, values: Mapping[str, float]) -> Tensor:
    if config.background == "snip":
        return snip(counts, theta_of(values), span, fwhm_width=False)
    return torch.zeros_like(counts)
