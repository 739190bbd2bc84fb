"""What users of MapsTorch hand in, checked: parameters, amplitudes, counts and channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skyloop.engines.xrf.detector import Detector
from skyloop.engines.xrf.forward import Span, shapes
from skyloop.engines.xrf.lines import LineTable
from skyloop.engines.xrf.parameters import PARAMETERS, checked, defaults
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows, pair_of
from skyloop.errors import ConfigError, DataError

Array = Tensor | NDArray[Any]
"""Torch or numpy."""
Params = Mapping[str, Tensor | float]
"""Parameters and log10 amplitudes by their MAPS names; tensors may have a common batch shape [...]."""

_SETTINGS = (
    *("MIN_ENERGY_TO_FIT", "MAX_ENERGY_TO_FIT"),
    *("SNIP_USE_SINGLE_LOG", "SNIP_USE_FWHM_WIDTH", "SNIP_USE_FULL_SPECTRUM"),
)
_UNUSED = ("F_STEP_QUADRATIC", "F_TAIL_QUADRATIC", "KB_F_TAIL_QUADRATIC", "GAMMA_QUADRATIC", "ESCAPE_LINEAR")
NO_ESCAPE = {"ESCAPE_SCALE": 0.0}
"""MAPS predicts no escape."""


def stacked(params: Params) -> Tensor:
    """Parameters [..., parameter]; those not given have their defaults, but nothing escapes.

    Raises:
        ConfigError: a parameter out of its range.
    """
    given = {name: value for name, value in params.items() if name in PARAMETERS}
    checked({name: value for name, value in given.items() if not isinstance(value, Tensor)})
    values = {**defaults(NO_ESCAPE), **given}
    return torch.stack(torch.broadcast_tensors(*(tensor(values[name]) for name in PARAMETERS)), -1)


def incident_of(theta: Tensor) -> float:
    """Highest energy of the beam in a batch [keV]."""
    return float(theta[..., list(PARAMETERS).index("COHERENT_SCT_ENERGY")].detach().max())


def escape_of(factor: float, detector: Detector) -> dict[str, float]:
    """The parameter that holds an escape factor; none for 0."""
    return {"SI_ESCAPE" if detector == "Si" else "GE_ESCAPE": factor} if factor else {}


def check_names(params: Params, table: LineTable) -> None:
    """That each is a parameter or a component.

    Raises:
        ConfigError: it is not, or MAPS does not use it.
    """
    for name, value in params.items():
        if name in _UNUSED and float(value) != 0:
            raise ConfigError(f"parameter {name}: found {value}; mend: 0, MAPS reads it and does not use it")
        known = (PARAMETERS, _SETTINGS, _UNUSED, table.families, (ELASTIC, COMPTON))
        if not (any(name in names for names in known) or _is_pile_up(name, table)):
            raise ConfigError(
                f"'{name}' is no parameter and no component; mend: one of {', '.join(PARAMETERS)}"
            )


def _is_pile_up(name: str, table: LineTable) -> bool:
    pair = pair_of(name)
    return pair is not None and all(each in table.families for each in pair)


def tensor(values: Array | float) -> Tensor:
    """The same in float64."""
    return torch.as_tensor(values, dtype=torch.float64)


def counts_of(spec: Array) -> Tensor:
    """Counts [..., channel].

    Raises:
        DataError: some are negative or no numbers.
    """
    counts = tensor(spec)
    if not bool((torch.isfinite(counts) & (counts >= 0)).all()):
        raise DataError("spectrum: counts that are negative or no numbers; mend: finite counts from zero up")
    return counts


def span_of(energy_range: tuple[int, int]) -> Span:
    """Channels from the first to the last.

    Raises:
        ConfigError: there are none.
    """
    first, last = energy_range
    if not 0 <= first <= last:
        raise ConfigError(f"energy range {first} to {last}; mend: first and last channel, from 0 on")
    return Span(first, last - first + 1)


def cut(spectra: Tensor, span: Span) -> Tensor:
    """These channels of spectra.

    Raises:
        DataError: the spectra are too short.
    """
    if spectra.shape[-1] < span.first + span.count:
        raise DataError(
            f"spectrum of {spectra.shape[-1]} channels, range to channel {span.first + span.count - 1}; mend:"
            " a range within the spectrum"
        )
    return spectra[..., span.first : span.first + span.count]


def spectrum(rows: Rows, params: Params, span: Span) -> Tensor:
    """Counts [..., channel] of all peaks; amplitudes are logarithms."""
    amplitudes = torch.stack(torch.broadcast_tensors(*(tensor(params[name]) for name in rows.names)), -1)
    return (10 ** amplitudes[..., None] * shapes(rows, stacked(params), span)).sum(-2)
