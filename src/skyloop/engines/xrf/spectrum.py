"""What a fit says of a spectrum, and the one call that makes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.elements import Selection
from skyloop.engines.xrf.fit import Found, search
from skyloop.engines.xrf.forward import energies
from skyloop.engines.xrf.joint import Joint
from skyloop.engines.xrf.objective import OBJECTIVES
from skyloop.errors import DataError, Outcome
from skyloop.quantities import FloatArray

__all__ = ["SpectrumFit", "fit_spectra", "fit_spectrum"]

_FEWEST_COUNTS, _MOST_COUNTS = 100.0, 1e12
_MATTERING = ("ENERGY_", "FWHM_", "COHERENT_SCT_ENERGY")
"""Parameters that a spectrum has inside their ranges; a tail may well be at zero."""
_MISFIT = 1.5
"""A deviance per degree of freedom above it says that the model does not describe the spectrum."""


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumFit:
    """A spectrum taken apart, with the uncertainty of each part.

    Where the model does not describe the spectrum, all uncertainties are larger by the root of the deviance
    per degree of freedom.
    """

    outcome: Outcome
    """How the fit ended."""
    reason: str
    """Why, unless it is `ok`."""
    names: tuple[str, ...]
    """Components: elements, pile-up pairs, and the two of scatter."""
    amplitudes: FloatArray
    """[component], counts in the main line (Ka1, La1 or Ma1), >= 0."""
    sigmas: FloatArray
    """[component], standard deviation of each; NaN for one at zero, or that cannot be told from others."""
    significance: Mapping[str, float]
    """Of each component that was found: standard deviations above zero, by all detectors together.

    Empty when the user named them."""
    alike: Mapping[str, tuple[str, ...]]
    """Components that would describe the spectrum about as well as the one that was found."""
    values: Mapping[str, float]
    """Every parameter."""
    value_sigmas: Mapping[str, float]
    """Standard deviation of each that was fitted; NaN for one at an end of its range."""
    at_bound: tuple[str, ...]
    """Fitted parameters at an end of their range."""
    covariance: FloatArray
    """[component + fitted parameter, the same]; NaN where a standard deviation is."""
    first: int
    """First channel that was fitted."""
    energy: FloatArray
    """[channel], keV."""
    counts: FloatArray
    """[channel], what was measured."""
    columns: FloatArray
    """[component, channel], counts of each component at amplitude 1."""
    background: FloatArray
    """[channel], counts of the background."""
    splines: FloatArray
    """[spline, channel], what the background is made of."""
    r2: float
    """1 - sum (y - m)^2 / sum (y - mean y)^2; NaN for counts that are the same everywhere."""
    deviance: float
    """Poisson deviance per degree of freedom; near 1 when the model describes the spectrum."""

    @property
    def model(self) -> FloatArray:
        """[channel], expected counts."""
        return self.amplitudes @ self.columns + self.background

    def amplitude(self, name: str) -> tuple[float, float]:
        """Amplitude of a component and its standard deviation.

        Raises:
            DataError: the spectrum was not fitted with it.
        """
        if name not in self.names:
            raise DataError(f"'{name}' was not fitted; mend: one of {', '.join(self.names)}")
        i = self.names.index(name)
        return float(self.amplitudes[i]), float(self.sigmas[i])


def fit_spectrum(counts: ArrayLike, config: Config) -> SpectrumFit:
    """Fit one spectrum [channel]: calibration, elements unless they are given, amplitudes, uncertainties.

    Raises:
        DataError: the counts are not those of a spectrum.

    >>> import numpy as np
    >>> fit_spectrum(np.zeros(2048), Config(incident_energy=10.0))
    Traceback (most recent call last):
    skyloop.errors.DataError: 0 counts in the spectrum; mend: measure longer: a fit needs 100
    """
    return fit_spectra(np.asarray(counts)[None], config)[0]


def fit_spectra(counts: ArrayLike, config: Config) -> tuple[SpectrumFit, ...]:
    """Fit the spectra [detector, channel] of one sample: calibrations by detector, elements for all.

    Raises:
        DataError: the counts are not those of spectra.
    """
    spectra = _checked(np.asarray(counts))
    found = search(spectra, config)
    return tuple(_told(found, detector) for detector in range(len(spectra)))


def _checked(counts: np.ndarray) -> FloatArray:
    if counts.ndim != 2 or not len(counts) or counts.dtype.kind not in "iuf":
        raise DataError(
            f"spectra are {counts.dtype} of shape {counts.shape}; mend: numbers, one row per detector and "
            "one column per channel"
        )
    spectra = counts.astype(np.float64)
    bad = ~((spectra >= 0) & (spectra <= _MOST_COUNTS))
    if bad.any():
        detector, channel = np.argwhere(bad)[0].tolist()
        raise DataError(
            f"detector {detector}, channel {channel}: found {spectra[detector, channel]:g} ({int(bad.sum())} "
            "such channels); mend: counts are from 0 to 1e12: leave this spectrum out"
        )
    for total in spectra.sum(1).tolist():
        if total < _FEWEST_COUNTS:
            raise DataError(f"{total:g} counts in the spectrum; mend: measure longer: a fit needs 100")
    return spectra


def _told(found: Found, detector: int) -> SpectrumFit:
    problem, joint = found.problems[detector], found.joints[detector]
    names = problem.rows.names
    n, counts, model = len(names), problem.counts.numpy(), joint.model.numpy()
    used = _used(joint)
    cost = float(OBJECTIVES["poisson"].cost(problem.counts, joint.model).sum())
    deviance = 2 * cost / max(1.0, len(counts) - used)
    of = [*range(n), *range(len(joint.amplitudes), len(joint.covariance))]
    covariance = joint.covariance.numpy()[np.ix_(of, of)] * max(1.0, deviance)
    variances = np.diag(covariance)
    sigmas = np.sqrt(np.where(variances > 0, variances, np.nan))  # rounding, where nothing is told
    amplitudes, columns = joint.amplitudes.numpy(), joint.basis.numpy()
    outcome, reason = _verdict(joint, deviance, found.rivals[detector])
    selection = found.selection or Selection(names, {}, {})
    return SpectrumFit(
        outcome=outcome,
        reason=reason,
        names=names,
        amplitudes=amplitudes[:n],
        sigmas=sigmas[:n],
        significance={name: z / max(1.0, deviance) ** 0.5 for name, z in selection.significance.items()},
        alike=selection.alike,
        values=dict(problem.values),
        value_sigmas=dict(zip(problem.free, sigmas[n:].tolist(), strict=True)),
        at_bound=joint.at_bound,
        covariance=covariance,
        first=problem.span.first,
        energy=energies(problem.theta(joint.x), problem.span).numpy(),
        counts=counts,
        columns=columns[:n],
        background=amplitudes[n:] @ columns[n:] + problem.known.numpy(),
        splines=columns[n:],
        r2=_r2(counts, model),
        deviance=deviance,
    )


def _r2(counts: FloatArray, model: FloatArray) -> float:
    spread = float(((counts - counts.mean()) ** 2).sum())
    return 1 - float(((counts - model) ** 2).sum()) / spread if spread else math.nan


def _used(joint: Joint) -> int:
    """Degrees of freedom that the fit takes: what is not held at an end."""
    return int((~joint.covariance.diagonal().isnan()).sum())


def _verdict(joint: Joint, deviance: float, rival: str) -> tuple[Outcome, str]:
    if not joint.converged:
        return Outcome.DEGRADED, "the fit did not converge; mend: give calibration, or fewer free parameters"
    if deviance > _MISFIT:
        return Outcome.DEGRADED, (
            f"the model does not describe the spectrum (deviance {deviance:.3g} per degree of freedom): "
            "uncertainties are widened by its root"
        )
    if stuck := [name for name in joint.at_bound if name.startswith(_MATTERING)]:
        return Outcome.DEGRADED, (
            f"{', '.join(stuck)} at an end of the range; mend: correct incident_energy or calibration, or "
            "leave out what is not in the sample"
        )
    if rival:
        return Outcome.DEGRADED, (
            f"another calibration describes the spectrum about as well: {rival}; mend: measure longer, or "
            "narrow the ranges of the calibration"
        )
    return Outcome.OK, ""
