"""Pictures of a fluorescence analysis as data: spectrum and components, residuals, what was found."""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from skyloop.engines.panel import Axis, Curve, Fact, Facts, Panel, Plot
from skyloop.engines.xrf.parameters import PARAMETERS
from skyloop.engines.xrf.rows import COMPTON, ELASTIC
from skyloop.engines.xrf.spectrum import SpectrumFit
from skyloop.quantities import FloatArray

__all__ = ["residuals", "spectrum_panels"]

_MOST = 8
"""Components that have a curve of their own."""
_FLOOR = 0.5
"""Lowest value of a curve that is drawn, in the fewest counts that are drawn."""
_SURE = 10.0
"""Standard deviations above zero from which on a note does not tell them."""
_NAMES = 4
"""Names that a note has room for."""
_DARK = 1e-6
"""Least expectation of a channel, as in the deviance of the fit."""
_ENERGY = Axis("energy", "keV")
_WORDS = {ELASTIC: "elastic", COMPTON: "Compton"}


def spectrum_panels(fit: SpectrumFit) -> tuple[Panel, ...]:
    """The panels of one fitted spectrum: its components, its residuals, amplitudes, and calibration.

    The eight components of most counts have a curve each, the others are added up. On the logarithmic axis
    curves end below half of the fewest counts, and channels of no counts have no place: the title tells them.
    """
    return _spectrum(fit), _residuals(fit), _components(fit), _calibration(fit)


def residuals(counts: FloatArray, model: FloatArray) -> FloatArray:
    """[channel], sign(y - m) sqrt(2 (y ln(y / m) - y + m)): standard deviations, also of few counts.

    Their squares add up to the deviance.

    References:
        D. A. Pierce, D. W. Schafer, J. Am. Stat. Assoc. 81, 977 (1986), doi:10.1080/01621459.1986.10478361.

    >>> residuals(np.array([4.0, 0.0]), np.array([4.0, 2.0])).tolist()
    [0.0, -2.0]
    """
    y, m = counts, np.maximum(model, _DARK)
    half = xlogy(y, y) - xlogy(y, m) - (y - m)
    return np.sign(y - m) * np.sqrt(2 * np.maximum(half, 0.0))  # rounding: half is never negative


def _spectrum(fit: SpectrumFit) -> Plot:
    some = fit.counts > 0
    floor = _FLOOR * float(fit.counts[some].min(initial=np.inf))
    curves = {"model": fit.model, "background": fit.background, **_named(fit)}
    lines = [Curve(name, fit.energy, np.where(y > floor, y, np.nan)) for name, y in curves.items()]
    shown = [line for line in lines if np.isfinite(line.y).any()]
    points = Curve("counts", fit.energy[some], fit.counts[some], np.sqrt(fit.counts[some]))
    title = "spectrum"
    if empty := int((~some).sum()):
        title += f"; {empty} of {len(some)} channels have no counts and are not shown"
    return Plot(title, _ENERGY, Axis("counts", is_log=True), (points, *shown))


def _named(fit: SpectrumFit) -> dict[str, FloatArray]:
    """Spectra [channel] of the strongest components, the strongest first, and the sum of the others."""
    each = fit.amplitudes[:, None] * fit.columns
    order = np.argsort(-each.sum(1), kind="stable").tolist()
    most = len(order) if len(order) == _MOST + 1 else _MOST  # a sum of one has a name
    named = {_word(fit.names[k]): each[k] for k in order[:most]}
    others = order[most:]
    return named | ({f"{len(others)} others": each[others].sum(0)} if others else {})


def _residuals(fit: SpectrumFit) -> Plot:
    off = residuals(fit.counts, fit.model)
    curve = Curve("residuals", fit.energy, off, np.ones_like(off))
    return Plot("counts - model", _ENERGY, Axis("residual", "standard deviations"), (curve,))


def _components(fit: SpectrumFit) -> Facts:
    how = "found" if fit.significance else "as named"
    title = f"components, {how}: counts in the main line"
    triples = zip(fit.names, fit.amplitudes.tolist(), fit.sigmas.tolist(), strict=True)
    rows = [Fact(_word(name), a, s, "count", _note(fit, name, a, s)) for name, a, s in triples]
    return Facts(title, tuple(rows), fit.outcome, fit.reason)


def _note(fit: SpectrumFit, name: str, amplitude: float, sigma: float) -> str:
    """What else to know of a component: how far it is above zero, and what may be meant as well."""
    notes = [] if np.isfinite(sigma) else ["not seen" if amplitude == 0 else "no uncertainty"]
    others = fit.alike.get(name, ())
    if others or fit.significance.get(name, np.inf) < _SURE:
        notes.append(f"{fit.significance[name]:.1f} sigma")
    if others:
        more = f" and {len(others) - _NAMES} more" if len(others) > _NAMES else ""
        notes.append(f"may be {', '.join(others[:_NAMES])}{more}")
    return ", ".join(notes)


def _calibration(fit: SpectrumFit) -> Facts:
    fitted = [_parameter(fit, name) for name in fit.value_sigmas]
    checks = [Fact("reduced deviance", fit.deviance), Fact("R2", fit.r2)]
    return Facts("calibration and checks", (*fitted, *checks), fit.outcome)


def _parameter(fit: SpectrumFit, name: str) -> Fact:
    sigma = fit.value_sigmas[name]
    note = "" if np.isfinite(sigma) else "no uncertainty"
    if name in fit.at_bound:
        note = "at an end of its range"
    return Fact(name, fit.values[name], sigma, PARAMETERS[name].unit, note)


def _word(name: str) -> str:
    return _WORDS.get(name, name)
