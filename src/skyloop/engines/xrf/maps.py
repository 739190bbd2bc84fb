"""The functions that users of MapsTorch know, on the model of this package; fits are in `maps_fit`.

Names, arguments and values mean the same: amplitudes are log10 of counts in the main line (Ka1, La1, Ma1) or
in the scatter peak, energies are keV, an `energy_range` includes both its channels. What differs, and why:

* Line energies and ratios are those of `line_table()` unless another table is given: the K beta of light
  elements are up to twice as strong as in the library of MAPS, and L and M ratios depend on the incident
  energy.
* The tail is a Gaussian folded with an exponential, of the area it is said to have; in MAPS it has a kink at
  the peak and is too weak above it.
* An escape peak is a Gaussian at its own energy, not the spectrum moved by whole channels, so that SI_ESCAPE
  and GE_ESCAPE can be fitted. ESCAPE_SCALE is 0 unless given: MAPS predicts no escape.
* A fit keeps every parameter within its range in `PARAMETERS`. Components that are not excited, unknown
  parameters and counts that are none are refused, and so are ESCAPE_LINEAR and the ..._QUADRATIC of step,
  tail and gamma unless 0: MAPS reads and does not use them. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skyloop.engines.xrf._maps_inputs import (
    Array,
    Params,
    check_names,
    cut,
    escape_of,
    incident_of,
    span_of,
    spectrum,
    stacked,
    tensor,
)
from skyloop.engines.xrf.background import snip
from skyloop.engines.xrf.detector import Detector, Material
from skyloop.engines.xrf.features import features
from skyloop.engines.xrf.forward import Span
from skyloop.engines.xrf.lines import LineTable, line_table
from skyloop.engines.xrf.profile import Peaks, profile
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, rows_of
from skyloop.errors import ConfigError, DataError

__all__ = ["compton_peak", "elastic_peak", "escape_peak", "model_spec", "snip_bkg"]


def snip_bkg(
    spec: Array,
    er: tuple[int, int],
    e_offset: Tensor | float,
    e_slope: Tensor | float,
    e_quad: Tensor | float,
    snip_width: Tensor | float,
    fwhm_offset: Tensor | float,
    fwhm_fanoprime: Tensor | float,
    *,
    use_single_log: bool = False,
    use_fwhm_width: bool = False,
    use_full_spectrum: bool = False,
    fwhm_fano_coeff: Tensor | float = 3.58,
) -> Tensor:
    """Background [..., channel] in the channels er of spectra, by `snip`.

    MAPS takes zeros beyond the ends, so that its background falls there; ours does not. Windows are rounded
    to whole channels on both sides alike.

    Args:
        spec: counts [..., channel], of all channels if `use_full_spectrum`, else of those in `er`.
        er: first and last channel.
        e_offset: ENERGY_OFFSET; the next arguments likewise.
        e_slope: keV/channel.
        e_quad: keV/channel^2.
        snip_width: SNIP_WIDTH.
        fwhm_offset: keV.
        fwhm_fanoprime: used, as `fwhm_offset`, if `use_fwhm_width`.
        use_single_log: one logarithm for two.
        use_fwhm_width: windows by the resolution, not the width of MAPS.
        use_full_spectrum: windows may reach beyond `er`.
        fwhm_fano_coeff: keV.

    Raises:
        DataError: counts that are negative or no numbers, or do not fit `er`.

    >>> snip_bkg(torch.full((5,), 7.0), (100, 104), 0.0, 0.01, 0.0, 0.5, 0.1, 1.2e-4).round().tolist()
    [7.0, 7.0, 7.0, 7.0, 7.0]
    """
    given = {
        "ENERGY_OFFSET": e_offset,
        "ENERGY_SLOPE": e_slope,
        "ENERGY_QUADRATIC": e_quad,
        "SNIP_WIDTH": snip_width,
        "FWHM_OFFSET": fwhm_offset,
        "FWHM_FANOPRIME": fwhm_fanoprime,
        "FWHM_FANO_COEFF": fwhm_fano_coeff,
    }
    counts, span = tensor(spec), span_of(er)
    own = Span(0, counts.shape[-1]) if use_full_spectrum else span
    logs = 1 if use_single_log else 2
    background = snip(counts, stacked(given), own, logs=logs, fwhm_width=use_fwhm_width)
    return cut(background, span) if use_full_spectrum else background


def elastic_peak(params: Params, ev: Array, gain: Tensor | float) -> Tensor:
    """10^COHERENT_SCT_AMPLITUDE gain phi(u) / sigma [..., channel], u = (ev - COHERENT_SCT_ENERGY) / sigma.

    phi is the density of a normal variate and sigma^2 = (FWHM_OFFSET / 2.3548)^2 + E FWHM_FANO_COEFF
    FWHM_FANOPRIME at the incident energy E. `ev` is in keV and `gain` in keV/channel.

    Raises:
        ConfigError: a parameter that is unknown or out of its range.

    >>> peak = elastic_peak({"COHERENT_SCT_AMPLITUDE": 3.0}, 0.01 * torch.arange(1200), 0.01)
    >>> int(peak.argmax()), round(float(peak.sum()))
    (1000, 1000)
    """
    return _scatter(ELASTIC, params, ev, gain)


def compton_peak(
    params: Params, ev: Array, gain: Tensor | float, use_step: bool = True, use_tail: bool = False
) -> Tensor:
    """10^COMPTON_AMPLITUDE gain / (1 + s + t + h) [g + s step + t tail + h tail mirrored], [..., channel].

    The peak is at E / (1 + E / 511 keV (1 - cos COMPTON_ANGLE)) and g is a Gaussian, wider than the
    resolution sigma by COMPTON_FWHM_CORR. s, t and h are COMPTON_F_STEP, COMPTON_F_TAIL and
    COMPTON_HI_F_TAIL, 0 if not used; step and tails are those of `profile`, with sigma, COMPTON_GAMMA and
    COMPTON_HI_GAMMA. `ev` is in keV and `gain` in keV/channel.

    Raises:
        ConfigError: a parameter that is unknown or out of its range.

    >>> peak = compton_peak({"COMPTON_AMPLITUDE": 3.0}, 0.01 * torch.arange(1200), 0.01)
    >>> int(peak.argmax()), round(float(peak.sum()))
    (981, 1000)
    """
    off = {} if use_step else {"COMPTON_F_STEP": 0.0}
    off |= {} if use_tail else {"COMPTON_F_TAIL": 0.0, "COMPTON_HI_F_TAIL": 0.0}
    return _scatter(COMPTON, {**params, **off}, ev, gain)


def escape_peak(
    spectra: Array, ev: Array, escape_factor: Tensor | float, detector_type: Detector = "Si"
) -> Tensor:
    """escape_factor times the spectra [..., channel] at ev + 1.73998 keV (Ge: 9.886 keV).

    The spectra are interpolated linearly, where MAPS moves them by whole channels, and nothing escapes from
    beyond their last channel. `ev` [channel] is in keV and ascends.

    Raises:
        DataError: energies that do not ascend or are not those of the channels.

    >>> escape_peak(torch.tensor([0.0, 0.0, 0.0, 100.0]), torch.arange(4), 0.02).round(decimals=2).tolist()
    [0.0, 1.48, 0.0, 0.0]
    """
    y, energy = tensor(spectra), tensor(ev)
    if energy.shape != y.shape[-1:] or len(energy) < 2 or not bool((energy.diff() > 0).all()):
        raise DataError(
            f"escape: energies {tuple(energy.shape)} of spectra {tuple(y.shape)}; mend: one, ascending, for"
            " each of two or more channels"
        )
    source = energy + Material(detector_type, line_table()).shift
    above = torch.searchsorted(energy, source).clamp(1, len(energy) - 1)
    share = (source - energy[above - 1]) / (energy[above] - energy[above - 1])
    moved = y[..., above - 1] * (1 - share) + y[..., above] * share
    return escape_factor * torch.where(source <= energy[-1], moved, 0.0)


def model_spec(
    params: Params,
    energy_range: tuple[int, int],
    elements_to_fit: Sequence[str],
    *,
    table: LineTable | None = None,
    detector_type: Detector = "Si",
    escape_factor: float = 0.0,
) -> Tensor:
    """Sum over components of 10^amplitude times its shape, [..., channel] in counts; see `shapes`.

    The scatter peaks whose amplitudes are among the parameters are part of it, and parameters not given have
    their defaults.

    Args:
        params: parameters and amplitudes by their MAPS names, numbers or tensors [...]; of a batch, the
            highest COHERENT_SCT_ENERGY tells which lines there are.
        energy_range: first and last channel.
        elements_to_fit: components, such as `"Fe"`, `"La_L"`, `"Si_Si"`.
        table: lines; `line_table()` if None, `maps_csv_table(file)` for those of MAPS.
        detector_type: its escape peaks.
        escape_factor: SI_ESCAPE or GE_ESCAPE, unless 0.

    Raises:
        ConfigError: a component that has no amplitude, is unknown, named twice or not excited; a parameter
            that is unknown or out of its range.

    >>> spectrum = model_spec({"Fe": 3.0, "ENERGY_SLOPE": 0.01}, (0, 1000), ["Fe"])
    >>> int(spectrum.argmax()), bool(1000 < spectrum.sum() < 2000)
    (640, True)
    """
    lines = table or line_table()
    check_names(params, lines)
    names = [*elements_to_fit, *(s for s in (ELASTIC, COMPTON) if s in params and s not in elements_to_fit)]
    if missing := [name for name in names if name not in params]:
        raise ConfigError(f"no amplitude of '{missing[0]}' among the parameters; mend: log10 of its counts")
    given = {**params, **escape_of(escape_factor, detector_type)}
    rows = rows_of(names, lines, incident_energy=incident_of(stacked(given)), detector=detector_type)
    return spectrum(rows, given, span_of(energy_range))


def _scatter(name: str, params: Params, ev: Array, gain: Tensor | float) -> Tensor:
    check_names(params, line_table())
    theta = stacked(params)
    rows = rows_of([name], line_table(), incident_energy=incident_of(theta))
    columns = [each[..., :-1, None] for each in features(rows, theta).tuple()]  # the last is the escape
    peaks = Peaks(*columns, mirror=rows.mirror[:-1, None], is_plain=False)
    return 10 ** tensor(params[name])[..., None] * gain * profile(peaks, tensor(ev)[..., None, :]).sum(-2)
