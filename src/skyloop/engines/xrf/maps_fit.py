"""Fits of one spectrum by gradient descent, as users of MapsTorch know them; `maps` tells what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from skyloop.engines.xrf._maps_inputs import (
    NO_ESCAPE,
    Array,
    Params,
    check_names,
    counts_of,
    cut,
    escape_of,
    incident_of,
    span_of,
    spectrum,
    stacked,
)
from skyloop.engines.xrf.background import snip
from skyloop.engines.xrf.detector import Detector
from skyloop.engines.xrf.features import features
from skyloop.engines.xrf.forward import Span, energies
from skyloop.engines.xrf.lines import LineTable, line_table
from skyloop.engines.xrf.parameters import FITTED, PARAMETERS, defaults
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows, rows_of
from skyloop.errors import ConfigError

__all__ = ["Groups", "Loss", "SpecFit", "create_tensors", "fit_spec"]

Groups = list[dict[str, Any]]
"""Parameter groups of a torch optimizer."""
Loss = Literal["mse", "poisson_deviance", "chi2"]

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
    check_names({**given, **dict.fromkeys(fitting_params, 0.0)}, lines)
    values = defaults(NO_ESCAPE | {name: float(v) for name, v in given.items() if name in PARAMETERS})
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

    >>> from skyloop.engines.xrf.maps import model_spec
    >>> spectrum = model_spec({"Fe": 4.0}, (0, 999), ["Fe"])
    >>> fit = fit_spec(spectrum, (500, 800), ["Fe"], tune_params=False, use_snip=False, n_iter=100)
    >>> round(float(fit.tensors["Fe"]), 2)
    4.0
    """
    if loss not in _LOSSES or optimizer != "adam":
        raise ConfigError(f"fit_spec: loss '{loss}' by '{optimizer}'; mend: {', '.join(_LOSSES)} by adam")
    counts, span = counts_of(int_spec), span_of(energy_range)
    names = [*elements_to_fit, *(name for name in (ELASTIC, COMPTON) if name not in elements_to_fit)]
    init = {**(init_param_vals or {}), **escape_of(escape_factor, detector_type)}
    tensors, groups = create_tensors(
        names, fitting_params, init, fixed_param_vals, tune_params=tune_params, init_amp=init_amp,
        spec=counts, table=table,
    )  # fmt: skip
    incident = incident_of(stacked(tensors))
    rows = rows_of(names, table or line_table(), incident_energy=incident, detector=detector_type)
    y, at = cut(counts, span), slice(None) if indices is None else list(indices)
    flags = {**init, **(fixed_param_vals or {})}
    background = _background(counts, span, tensors, flags) if use_snip else torch.zeros_like(y)
    adam, trace = torch.optim.Adam(groups), list[float]()
    for step in range(n_iter):
        if use_snip and step and step % _SNIP_EVERY == 0:
            background = _background(counts, span, tensors, flags)
        adam.zero_grad()
        value = _LOSSES[loss]((spectrum(rows, tensors, span) + background)[at], y[at])
        value.backward()
        adam.step()
        _keep_in_range(tensors)
        trace.append(value.item())
    if use_snip:
        background = _background(counts, span, tensors, flags)
    found = {name: each.detach() for name, each in tensors.items()}
    return SpecFit(found, spectrum(rows, found, span), background, trace)


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


def _first_amplitudes(rows: Rows, tensors: Params, spec: Array | None) -> dict[str, Tensor]:
    if spec is None:
        raise ConfigError("init_amp without a spectrum; mend: give spec")
    counts = counts_of(spec)
    theta = stacked(tensors).detach()
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
    y, own = (counts, Span(0, len(counts))) if whole else (cut(counts, span), span)
    fwhm_width = bool(flags.get("SNIP_USE_FWHM_WIDTH", 0.0))
    background = snip(y, stacked(tensors).detach(), own, logs=logs, fwhm_width=fwhm_width)
    return cut(background, span) if whole else background


def _keep_in_range(tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, known in PARAMETERS.items():
            tensors[name].clamp_(known.low, known.high)
