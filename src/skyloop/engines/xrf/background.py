"""The smooth background under the peaks of a spectrum, found by clipping."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skyloop.engines.xrf.boxcar import smoothed
from skyloop.engines.xrf.forward import Span, energies
from skyloop.engines.xrf.parameters import PARAMETERS
from skyloop.errors import ConfigError, DataError

__all__ = ["snip"]

_FWHM = 2.3548
_LEGACY_FANO = 3.58
_LEAST_WIDTH = 0.5  # channels; the window is then the channel itself
_INDEX = {name: i for i, name in enumerate(PARAMETERS)}


def snip(counts: Tensor, theta: Tensor, span: Span, *, logs: int = 2, fwhm_width: bool = True) -> Tensor:
    """Background of spectra [..., channel] in counts, by statistics-sensitive iterative clipping (SNIP).

    The counts are smoothed by a boxcar of 5 and compressed, v = log(1 + log(1 + counts)); then
    v_i = min(v_i, (v_(i-w) + v_(i+w)) / 2), three times with the full window w_i = SNIP_WIDTH FWHM(E_i) in
    channels and on with w / sqrt 2 until w < 0.5; then decompressed. So it lies nowhere above the smoothed
    counts. Boxcar and windows end with the span: the boxcar takes the mean of the channels there are, and a
    window that reaches beyond the span takes its last channel.

    As the background follows the counts under narrow dips and noise, it lies below the truth where counts are
    few; it has no gradient by theta.

    Args:
        counts: [..., channel], on the channels of the span.
        theta: [parameter], or [..., parameter] for parameters of each spectrum; of it SNIP_WIDTH, the
            energies and the widths are used.
        span: channels, each of them (`step` 1).
        logs: 2 compresses by two logarithms, 1 by one.
        fwhm_width: True takes the resolution of the detector for FWHM(E); False the width that MAPS takes,
            with ENERGY_OFFSET and 3.58 ENERGY_SLOPE in place of FWHM_OFFSET and FANO_COEFF FANOPRIME, several
            times as wide. The SNIP_WIDTH of 0.5 in files of MAPS belongs to the latter; with the resolution
            it takes a tenth of a peak for background, and 2 takes a few thousandths.

    Raises:
        DataError: counts that are negative or no numbers, or not on the span.
        ConfigError: `logs` is not 1 or 2, the span leaves channels out, or the parameters give no width.

    References:
        C. G. Ryan et al., Nucl. Instrum. Methods B 34, 396 (1988), doi:10.1016/0168-583X(88)90063-8.

    >>> from skyloop.engines.xrf.features import theta_of
    >>> from skyloop.engines.xrf.parameters import defaults
    >>> flat = torch.full((400,), 20.0)
    >>> peak = 1000 * torch.exp(-0.5 * ((torch.arange(400) - 200) / 6) ** 2)
    >>> background = snip(flat + peak, theta_of(defaults({"SNIP_WIDTH": 2.0})), Span(300, 400))
    >>> bool((abs(background - 20) < 0.1).all())
    True
    """
    y = _checked(counts, span, logs)
    width = _widths(theta, span, fwhm_width=fwhm_width)
    if y.numel() == 0:
        return y
    values = smoothed(y)
    for _ in range(logs):
        values = torch.log1p(values)
    for _ in range(2):
        values = _clipped(values, width)
    while float(width.max()) >= _LEAST_WIDTH:
        values = _clipped(values, width)
        width = width / math.sqrt(2)
    for _ in range(logs):
        values = torch.expm1(values)
    return values


def _checked(counts: Tensor, span: Span, logs: int) -> Tensor:
    if logs not in (1, 2):
        raise ConfigError(f"SNIP: found {logs} logarithms; mend: 1 or 2")
    if span.step != 1:
        raise ConfigError(f"SNIP: found a span of step {span.step}; mend: step 1")
    if counts.shape[-1:] != (span.count,):
        raise DataError(
            f"SNIP: counts of shape {tuple(counts.shape)} on {span.count} channels; mend: the channels last"
        )
    y = counts.to(torch.float64)
    wrong = ~(torch.isfinite(y) & (y >= 0))
    if bool(wrong.any()):
        place = tuple(wrong.nonzero()[0].tolist())
        raise DataError(f"SNIP: counts {float(y[place]):g} at {place}; mend: finite counts from zero up")
    return y


def _widths(theta: Tensor, span: Span, *, fwhm_width: bool) -> Tensor:
    """Half of the window in channels, [..., channel]; below zero energy as at zero."""
    with torch.no_grad():
        p = {name: theta[..., i : i + 1].to(torch.float64) for name, i in _INDEX.items()}
        energy = energies(theta.to(torch.float64), span).clamp(min=0)
        if fwhm_width:
            offset, fano = p["FWHM_OFFSET"], p["FWHM_FANO_COEFF"] * p["FWHM_FANOPRIME"]
        else:
            offset, fano = p["ENERGY_OFFSET"], _LEGACY_FANO * p["ENERGY_SLOPE"]
        sigma = torch.sqrt((offset / _FWHM) ** 2 + energy * fano)
        width = p["SNIP_WIDTH"] * _FWHM * sigma / p["ENERGY_SLOPE"]
    if not bool((torch.isfinite(width) & (width >= 0)).all()):
        raise ConfigError("SNIP: the parameters give no width; mend: SNIP_WIDTH and ENERGY_SLOPE above zero")
    return width


def _clipped(values: Tensor, width: Tensor) -> Tensor:
    last = values.shape[-1] - 1
    reach = torch.round(width).clamp(max=last + 1).to(torch.int64)
    at = torch.arange(last + 1)
    below, above = (at - reach).clamp(min=0), (at + reach).clamp(max=last)
    return torch.minimum(values, (_taken(values, below) + _taken(values, above)) / 2)


def _taken(values: Tensor, at: Tensor) -> Tensor:
    return values[..., at] if at.ndim == 1 else torch.take_along_dim(values, at, dim=-1)
