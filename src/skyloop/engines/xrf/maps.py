"""The functions that users of MapsTorch know, on the model of this package.

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

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from skyloop.engines.xrf.background import snip
from skyloop.engines.xrf.detector import Detector, Material
from skyloop.engines.xrf.features import features
from skyloop.engines.xrf.forward import Span, energies, shapes
from skyloop.engines.xrf.lines import LineTable, line_table
from skyloop.engines.xrf.parameters import FITTED, PARAMETERS, checked, defaults
from skyloop.engines.xrf.profile import Peaks, profile
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows, pair_of, rows_of
from skyloop.errors import ConfigError, DataError

__all__ = [
    "Array",
    "Groups",
    "Loss",
    "Params",
    "SpecFit",
    "compton_peak",
    "create_tensors",
    "elastic_peak",
    "escape_peak",
    "fit_spec",
    "model_spec",
    "snip_bkg",
]

Array = Tensor | NDArray[Any]
"""Torch or numpy."""
Params = Mapping[str, Tensor | float]
"""Parameters and log10 amplitudes by their MAPS names; tensors may have a common batch shape [...]."""
Groups = list[dict[str, Any]]
"""Parameter groups of a torch optimizer."""
Loss = Literal["mse", "poisson_deviance", "chi2"]

_SETTINGS = (
    *("MIN_ENERGY_TO_FIT", "MAX_ENERGY_TO_FIT"),
    *("SNIP_USE_SINGLE_LOG", "SNIP_USE_FWHM_WIDTH", "SNIP_USE_FULL_SPECTRUM"),
)
_UNUSED = ("F_STEP_QUADRATIC", "F_TAIL_QUADRATIC", "KB_F_TAIL_QUADRATIC", "GAMMA_QUADRATIC", "ESCAPE_LINEAR")
_NO_ESCAPE = {"ESCAPE_SCALE": 0.0}
_RATES = {
    "ENERGY_OFFSET": 1e-3,
    "ENERGY_SLOPE": 1e-6,
    "ENERGY_QUADRATIC": 1e-7,
    "FWHM_OFFSET": 1e-4,
    "FWHM_FANOPRIME": 1e-8,
    "COMPTON_ANGLE": 1.0,
    "COMPTON_F_TAIL": 1e-4,
    "COMPTON_HI_F_TAIL": 1e-6,
    "F_TAIL_OFFSET": 1e-4,
    "KB_F_TAIL_OFFSET": 1e-4,
}
_RATE = 1e-2
_NEAR, _NEAR_SCATTER = 0.1, 0.4  # keV around a peak whose counts its amplitude starts from
_SNIP_EVERY = 50  # steps: the background moves little with the parameters
_FEWEST = 1e-6  # counts of a model, in a logarithm


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
    counts, span = _tensor(spec), _span(er)
    own = Span(0, counts.shape[-1]) if use_full_spectrum else span
    logs = 1 if use_single_log else 2
    background = snip(counts, _theta(given), own, logs=logs, fwhm_width=use_fwhm_width)
    return _cut(background, span) if use_full_spectrum else background


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
    y, energy = _tensor(spectra), _tensor(ev)
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
    _check_names(params, lines)
    names = [*elements_to_fit, *(s for s in (ELASTIC, COMPTON) if s in params and s not in elements_to_fit)]
    if missing := [name for name in names if name not in params]:
        raise ConfigError(f"no amplitude of '{missing[0]}' among the parameters; mend: log10 of its counts")
    given = {**params, **_escape(escape_factor, detector_type)}
    rows = rows_of(names, lines, incident_energy=_incident(_theta(given)), detector=detector_type)
    return _spectrum(rows, given, _span(energy_range))


def create_tensors(
    elems_to_fit: Sequence[str],
    fitting_params: Sequence[str] = FITTED,
    init_param_vals: Mapping[str, float] | None = None,
    fixed_param_vals: Mapping[str, float] | None = None,
    *,
    map_shape: tuple[int, ...] = (),
    tune_params: bool = True,
    init_amp: bool = False,
    spec: Array | None = None,
    table: LineTable | None = None,
) -> tuple[dict[str, Tensor], Groups]:
    """Every parameter and log10 amplitude as a tensor, and groups with learning rates for `torch.optim`.

    Amplitudes start at 0, or from spectra: log10 of the counts within 0.1 keV (scatter: 0.4 keV) of the peak,
    at least 1. Parameters start at their defaults in `PARAMETERS`. Values that are given, of amplitudes too,
    go before.

    Args:
        elems_to_fit: components, scatter included.
        fitting_params: parameters that have a gradient; fixed ones have none.
        init_param_vals: where parameters start.
        fixed_param_vals: goes before `init_param_vals`.
        map_shape: [...], of the amplitudes if they start at 0.
        tune_params: False fixes all parameters.
        init_amp: amplitudes start from `spec`.
        spec: counts [..., channel] from channel 0 on.
        table: lines; `line_table()` if None.

    Raises:
        ConfigError: an unknown name, a parameter out of its range, a component that is not excited.
        DataError: counts that are negative or no numbers.

    >>> tensors, groups = create_tensors(["Fe"], ["ENERGY_SLOPE"])
    >>> [name for name, tensor in tensors.items() if tensor.requires_grad], [group["lr"] for group in groups]
    (['ENERGY_SLOPE', 'Fe'], [1e-06, 0.01])
    """
    lines, given = table or line_table(), {**(init_param_vals or {}), **(fixed_param_vals or {})}
    _check_names({**given, **dict.fromkeys(fitting_params, 0.0)}, lines)
    values = defaults(_NO_ESCAPE | {name: float(v) for name, v in given.items() if name in PARAMETERS})
    fitted = set(fitting_params) - set(fixed_param_vals or {}) if tune_params else set[str]()
    tensors = {n: torch.tensor(v, dtype=torch.float64, requires_grad=n in fitted) for n, v in values.items()}
    rows = rows_of(elems_to_fit, lines, incident_energy=values["COHERENT_SCT_ENERGY"])
    if init_amp:
        tensors |= _first_amplitudes(rows, tensors, spec)
    else:
        tensors |= {name: torch.zeros(map_shape, dtype=torch.float64) for name in rows.names}
    for name in rows.names:
        tensors[name] = torch.full_like(tensors[name], given[name]) if name in given else tensors[name]
        tensors[name].requires_grad_(name not in (fixed_param_vals or {}))
    groups = [{"params": t, "lr": _RATES.get(n, _RATE)} for n, t in tensors.items() if t.requires_grad]
    return tensors, groups


class SpecFit(NamedTuple):
    """A fitted spectrum; unpacks as that of MapsTorch."""

    tensors: dict[str, Tensor]
    """Parameters and log10 amplitudes."""
    spec_fit: Tensor
    """[channel] counts of the peaks."""
    bkg: Tensor
    """[channel] counts of the background."""
    loss_trace: list[float]
    """[step], before each step."""


def fit_spec(
    int_spec: Array,
    energy_range: tuple[int, int],
    elements_to_fit: Sequence[str],
    fitting_params: Sequence[str] = FITTED,
    init_param_vals: Mapping[str, float] | None = None,
    fixed_param_vals: Mapping[str, float] | None = None,
    *,
    indices: Sequence[int] | None = None,
    tune_params: bool = True,
    init_amp: bool = True,
    use_snip: bool = True,
    loss: Loss = "mse",
    optimizer: Literal["adam"] = "adam",
    n_iter: int = 500,
    table: LineTable | None = None,
    detector_type: Detector = "Si",
    escape_factor: float = 0.0,
) -> SpecFit:
    """Fit parameters and amplitudes to one spectrum, step by step down the gradient.

    With model m (peaks and background) and counts y the loss is the sum over channels of
    (m - y)^2 ("mse"), 2 [m - y + y ln(y / m)] ("poisson_deviance", m at least 1e-6), or (m - y)^2 / max(m, 1)
    ("chi2"). Scatter peaks are part of every fit. The background is that of `snip_bkg`, renewed every 50
    steps; SNIP_USE_SINGLE_LOG, SNIP_USE_FWHM_WIDTH (0) and SNIP_USE_FULL_SPECTRUM (1) may be among the
    parameters. Learning rates are those of MapsTorch.

    Args:
        int_spec: counts [channel] from channel 0 on.
        energy_range: first and last channel of the fit.
        elements_to_fit: components; scatter is added.
        fitting_params: parameters to fit.
        init_param_vals: where they start, and the values of others.
        fixed_param_vals: values of parameters that are not fitted.
        indices: channels, counted from the first of the fit, that the loss is taken over; None for all.
        tune_params: False fits amplitudes only.
        init_amp: amplitudes start from the spectrum, else at one count.
        use_snip: False for no background.
        loss: what is minimised.
        optimizer: how.
        n_iter: steps.
        table: lines; `line_table()` if None.
        detector_type: its escape peaks.
        escape_factor: SI_ESCAPE or GE_ESCAPE, unless 0.

    Raises:
        ConfigError: an unknown loss, optimizer, component or parameter, one out of its range, a component
            that is not excited.
        DataError: counts that are negative or no numbers, or too few channels.

    References:
        D. P. Kingma, J. Ba, ICLR (2015), doi:10.48550/arXiv.1412.6980.

    >>> spectrum = model_spec({"Fe": 4.0}, (0, 999), ["Fe"])
    >>> fit = fit_spec(spectrum, (500, 800), ["Fe"], tune_params=False, use_snip=False, n_iter=100)
    >>> round(float(fit.tensors["Fe"]), 2)
    4.0
    """
    if loss not in _LOSSES or optimizer != "adam":
        raise ConfigError(f"fit_spec: loss '{loss}' by '{optimizer}'; mend: {', '.join(_LOSSES)} by adam")
    counts, span = _counts(int_spec), _span(energy_range)
    names = [*elements_to_fit, *(name for name in (ELASTIC, COMPTON) if name not in elements_to_fit)]
    init = {**(init_param_vals or {}), **_escape(escape_factor, detector_type)}
    tensors, groups = create_tensors(
        names, fitting_params, init, fixed_param_vals, tune_params=tune_params, init_amp=init_amp,
        spec=counts, table=table,
    )  # fmt: skip
    incident = _incident(_theta(tensors))
    rows = rows_of(names, table or line_table(), incident_energy=incident, detector=detector_type)
    y, at = _cut(counts, span), slice(None) if indices is None else list(indices)
    flags = {**init, **(fixed_param_vals or {})}
    background = _background(counts, span, tensors, flags) if use_snip else torch.zeros_like(y)
    adam, trace = torch.optim.Adam(groups), list[float]()
    for step in range(n_iter):
        if use_snip and step and step % _SNIP_EVERY == 0:
            background = _background(counts, span, tensors, flags)
        adam.zero_grad()
        value = _LOSSES[loss]((_spectrum(rows, tensors, span) + background)[at], y[at])
        value.backward()
        adam.step()
        _keep_in_range(tensors)
        trace.append(value.item())
    if use_snip:
        background = _background(counts, span, tensors, flags)
    found = {name: each.detach() for name, each in tensors.items()}
    return SpecFit(found, _spectrum(rows, found, span), background, trace)


def _mse(m: Tensor, y: Tensor) -> Tensor:
    return ((m - y) ** 2).sum()


def _deviance(m: Tensor, y: Tensor) -> Tensor:
    m = m.clamp(min=_FEWEST)
    return 2 * (m - y + torch.special.xlogy(y, y) - y * torch.log(m)).sum()


def _chi2(m: Tensor, y: Tensor) -> Tensor:
    return ((m - y) ** 2 / m.clamp(min=1)).sum()


_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": _mse,
    "poisson_deviance": _deviance,
    "chi2": _chi2,
}


def _spectrum(rows: Rows, params: Params, span: Span) -> Tensor:
    amplitudes = torch.stack(torch.broadcast_tensors(*(_tensor(params[name]) for name in rows.names)), -1)
    return (10 ** amplitudes[..., None] * shapes(rows, _theta(params), span)).sum(-2)


def _scatter(name: str, params: Params, ev: Array, gain: Tensor | float) -> Tensor:
    _check_names(params, line_table())
    theta = _theta(params)
    rows = rows_of([name], line_table(), incident_energy=_incident(theta))
    columns = [each[..., :-1, None] for each in features(rows, theta).tuple()]  # the last is the escape
    peaks = Peaks(*columns, mirror=rows.mirror[:-1, None], is_plain=False)
    return 10 ** _tensor(params[name])[..., None] * gain * profile(peaks, _tensor(ev)[..., None, :]).sum(-2)


def _theta(params: Params) -> Tensor:
    """[..., parameter]."""
    given = {name: value for name, value in params.items() if name in PARAMETERS}
    checked({name: value for name, value in given.items() if not isinstance(value, Tensor)})
    values = {**defaults(_NO_ESCAPE), **given}
    return torch.stack(torch.broadcast_tensors(*(_tensor(values[name]) for name in PARAMETERS)), -1)


def _incident(theta: Tensor) -> float:
    return float(theta[..., list(PARAMETERS).index("COHERENT_SCT_ENERGY")].detach().max())


def _escape(factor: float, detector: Detector) -> dict[str, float]:
    return {"SI_ESCAPE" if detector == "Si" else "GE_ESCAPE": factor} if factor else {}


def _check_names(params: Params, table: LineTable) -> None:
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


def _first_amplitudes(rows: Rows, tensors: Params, spec: Array | None) -> dict[str, Tensor]:
    if spec is None:
        raise ConfigError("init_amp without a spectrum; mend: give spec")
    counts = _counts(spec)
    theta = _theta(tensors).detach()
    energy = energies(theta, Span(0, counts.shape[-1]))
    centers = features(rows, theta).center
    found: dict[str, Tensor] = {}
    for k, name in enumerate(rows.names):
        main = centers[int((rows.of == k).nonzero()[0])]  # the main line is the first
        near = (energy - main).abs() <= (_NEAR_SCATTER if name in rows.scatter else _NEAR)
        found[name] = torch.log10((counts * near).sum(-1).clamp(min=1))
    return found


def _background(counts: Tensor, span: Span, tensors: Params, flags: Mapping[str, float]) -> Tensor:
    logs = 1 if flags.get("SNIP_USE_SINGLE_LOG", 0.0) else 2
    whole = bool(flags.get("SNIP_USE_FULL_SPECTRUM", 1.0))
    y, own = (counts, Span(0, len(counts))) if whole else (_cut(counts, span), span)
    fwhm_width = bool(flags.get("SNIP_USE_FWHM_WIDTH", 0.0))
    background = snip(y, _theta(tensors).detach(), own, logs=logs, fwhm_width=fwhm_width)
    return _cut(background, span) if whole else background


def _keep_in_range(tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, known in PARAMETERS.items():
            tensors[name].clamp_(known.low, known.high)


def _tensor(values: Array | float) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def _counts(spec: Array) -> Tensor:
    counts = _tensor(spec)
    if not bool((torch.isfinite(counts) & (counts >= 0)).all()):
        raise DataError("spectrum: counts that are negative or no numbers; mend: finite counts from zero up")
    return counts


def _span(energy_range: tuple[int, int]) -> Span:
    first, last = energy_range
    if not 0 <= first <= last:
        raise ConfigError(f"energy range {first} to {last}; mend: first and last channel, from 0 on")
    return Span(first, last - first + 1)


def _cut(spectra: Tensor, span: Span) -> Tensor:
    if spectra.shape[-1] < span.first + span.count:
        raise DataError(
            f"spectrum of {spectra.shape[-1]} channels, range to channel {span.first + span.count - 1}; mend:"
            " a range within the spectrum"
        )
    return spectra[..., span.first : span.first + span.count]
