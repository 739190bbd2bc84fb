"""From particles to a result: moments of every parameter, and what each candidate would tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from skyloop.engines.reflectometry.assess import Assessment
from skyloop.engines.reflectometry.belief import Curves
from skyloop.engines.reflectometry.config import Config
from skyloop.engines.reflectometry.likelihood import Data
from skyloop.engines.reflectometry.result import Result
from skyloop.engines.reflectometry.rival import Rival
from skyloop.engines.reflectometry.verdict import Verdict
from skyloop.numerics.smc import Ensemble, moments
from skyloop.quantities import FloatArray

__all__ = ["tell"]

_PER_LAYER = ("thickness", "roughness", "sld", "isld")
_INSTRUMENT = ("scale", "background", "q_offset", "resolution")


def tell(
    config: Config,
    curves: Curves,
    ensemble: Ensemble,
    data: Data,
    *,
    found: Assessment,
    verdict: Verdict,
    n_points: int,
) -> Result:
    """The result that stands for an ensemble, and for a rival of it while that is open."""
    rival = verdict.rival
    return Result(
        outcome=verdict.outcome,
        reason=verdict.reason,
        confirmed=verdict.confirmed,
        confirmation_z=verdict.z,
        n_points=n_points,
        target=found.target,
        target_sigma=found.target_sigma,
        chi2=found.chi2,
        p_value=found.p_value,
        other_mode_mass=found.other_mass,
        ess=ensemble.ess,
        further_layer_gain=rival.gain if rival else float("nan"),
        further_layer_target=rival.target if rival else float("nan"),
        **_parameters(config, curves, ensemble),
        **_predictions(config, _population(curves, ensemble, rival if verdict.is_open else None), data),
    )


def _parameters(config: Config, curves: Curves, ensemble: Ensemble) -> dict[str, Any]:
    names = [entry.name for entry in curves.parameters.entries]
    mean, sigma = moments(curves.values(ensemble.points), ensemble.weight)
    free = np.array([entry.is_free for entry in curves.parameters.entries])
    # The mean of equal numbers is off in its last bits: what is known is told as it was given.
    mean = np.where(free, mean, [entry.low for entry in curves.parameters.entries])
    pairs = {"": dict(zip(names, mean, strict=True)), "_sigma": dict(zip(names, sigma * free, strict=True))}
    told: dict[str, Any] = {}
    for suffix, value in pairs.items():
        told |= {f"{kind}{suffix}": _by_layer(config, value, kind) for kind in _PER_LAYER}
        told |= {f"{name}{suffix}": float(value[name]) for name in _INSTRUMENT}
        told |= _media(config, value, suffix)
    return told


def _by_layer(config: Config, value: Mapping[str, float], kind: str) -> FloatArray:
    return np.array([value[f"{a.name}.{kind}"] for a in config.sample.named_layers()], dtype=float)


def _media(config: Config, value: Mapping[str, float], suffix: str) -> dict[str, Any]:
    fronting, backing = config.sample.fronting_name, config.sample.backing_name
    told: dict[str, Any] = {f"fronting_sld{suffix}": float(value[f"{fronting}.sld"])}
    for kind in ("roughness", "sld", "isld"):
        told[f"backing_{kind}{suffix}"] = float(value[f"{backing}.{kind}"])
    return told


@dataclass(frozen=True, slots=True)
class _Population:
    """What may be the sample: curves [p, n] at q [n], target [p] and weight [p] of each possibility."""

    curves: Callable[[FloatArray, FloatArray], FloatArray]
    target: FloatArray
    weight: FloatArray


def _population(curves: Curves, ensemble: Ensemble, rival: Rival | None) -> _Population:
    """The particles; a rival weighs as much as all of them, so that the next points decide between them."""
    target = curves.target(ensemble.points)
    if rival is None:
        return _Population(partial(curves, ensemble.points), target, ensemble.weight)

    def both(q: FloatArray, q_sigma: FloatArray) -> FloatArray:
        return np.vstack([curves(ensemble.points, q, q_sigma), rival.curves(rival.u, q, q_sigma)])

    return _Population(both, np.r_[target, rival.target], 0.5 * np.r_[ensemble.weight, 1.0])


def _predictions(config: Config, population: _Population, data: Data) -> dict[str, Any]:
    q = np.linspace(config.q_grid.start, config.q_grid.stop, config.q_grid.num)
    reflectivity = population.curves(q, _resolution(q, data))
    mean, sigma = moments(reflectivity, population.weight)
    return {
        "q_grid": q,
        "prediction": mean,
        "prediction_sigma": sigma,
        "target_correlation": _correlation(population.target, reflectivity - mean, population.weight),
        "exposure_grid": _spent(q, mean, data),
    }


def _resolution(q: FloatArray, data: Data) -> FloatArray:
    """Resolution at the candidates: that of the measured points, interpolated."""
    order = np.argsort(data.q, kind="stable")
    return np.interp(q, data.q[order], data.q_sigma[order])


def _correlation(target: FloatArray, deviation: FloatArray, weight: FloatArray) -> FloatArray:
    """Correlation of the target with each column of deviations; 0 where a column does not vary."""
    mean, sigma = moments(target, weight)
    covariance = np.einsum("p,pi->i", weight * (target - mean), deviation)
    scale = sigma * np.sqrt(np.einsum("p,pi->i", weight, deviation**2))
    return np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0.0)


def _spent(q: FloatArray, prediction: FloatArray, data: Data) -> FloatArray:
    """Exposure spent nearest to each candidate; a measured point counts as what its variance is worth."""
    at = np.abs(data.group_q[:, None] - q).argmin(axis=1)
    inside = np.abs(data.group_q - q[at]) <= 0.5 * (q[1] - q[0]) * (1.0 + 1e-9)
    worth = np.where(np.isnan(data.exposure), prediction[at] / data.known_variance, data.exposure)
    spent = np.zeros_like(q)
    np.add.at(spent, at[inside], worth[inside])
    return spent
