"""Three measured neutron curves, fitted here and by refnx: same model, same data, same bounds.

Ours starts from the prior. Refnx polishes by least squares from values near the published ones: it is asked
for the minimum and its uncertainties, not for a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from refnx.analysis import CurveFitter, Objective
from refnx.dataset import Data1D
from refnx.reflect import SLD, ReflectModel

from benchmarks._figures import Figure, data_folder, version_of
from skyloop.engines.reflectometry.config import Config, Layer, Medium, Sample
from skyloop.engines.reflectometry.fit import Fit, fit_curve
from skyloop.engines.reflectometry.frame import Frame
from skyloop.quantities import FloatArray
from skyloop.storage.curves import read_curve

__all__ = ["measure"]

_FWHM = 2.354820045
_NODES = 1001  # of refnx: with 51 it misses the critical edge of D2O by half a sigma
_BACKGROUND = (1e-10, 1e-5)


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    config: Config
    frame: Frame
    start: dict[str, float]


def measure(quick: bool) -> list[Figure]:
    """Chi-squared and uncertainties beside those of refnx; `quick` leaves out the longest curve."""
    cases = [_nickel(), _silica()] if quick else [_nickel(), _silica(), _polymer()]
    return [figure for case in cases for figure in _compared(case)]


def _compared(case: _Case) -> list[Figure]:
    fit = fit_curve(case.config, case.frame)
    chi2, values, sigmas = _refnx(case, fit)
    apart = np.abs(fit.theta - values) / np.hypot(fit.sigma, sigmas)
    return [
        _figure(f"chi2.{case.name}", fit.chi2 / chi2, "of the peer's chi2", 1.01),
        _figure(
            f"sigma.{case.name}",
            float(np.exp(np.abs(np.log(fit.sigma / sigmas)).max())),
            "largest factor between uncertainties",
            1.25,
        ),
        _figure(f"apart.{case.name}", float(apart.max()), "largest distance in sigma", 0.2, peer=0.0),
    ]


def _figure(what: str, value: float, unit: str, goal: float, *, peer: float = 1.0) -> Figure:
    return Figure(
        figure=f"reflectometry.{what}",
        value=value,
        unit=unit,
        peer="refnx",
        peer_version=version_of("refnx"),
        peer_value=peer,
        goal=goal,
        higher_is_better=False,
    )


def _refnx(case: _Case, fit: Fit) -> tuple[float, FloatArray, FloatArray]:
    """Reduced chi-squared, values and uncertainties in the order of our parameters."""
    model = _model(case)
    named = dict(zip(fit.names, _free(model), strict=True))
    for entry in case.config.entries():
        if entry.is_free:
            named[entry.name].setp(case.start[entry.name], vary=True, bounds=(entry.low, entry.high))
    frame = case.frame
    columns = (frame.q, frame.reflectivity, frame.reflectivity_sigma, _FWHM * frame.q_sigma)
    objective = Objective(model, Data1D(columns))
    CurveFitter(objective).fit("least_squares", verbose=False)
    chi2 = objective.chisqr() / (len(frame) - len(named))
    parameters = list(named.values())
    sigmas = np.array([p.stderr for p in parameters])
    return float(chi2), np.array([p.value for p in parameters]), sigmas


def _model(case: _Case) -> Any:
    sample = case.config.sample
    layers = sample.named_layers()
    structure: Any = SLD(_known(sample.fronting.sld))(0, 0)
    for layer in layers:
        structure = structure | _slab(layer)
    structure = structure | SLD(_known(sample.backing.sld))(0, 0)
    return ReflectModel(structure, dq_type="pointwise", quad_order=_NODES, threads=1)


def _slab(layer: Layer) -> Any:
    material: Any = SLD(_known(layer.sld))
    return material(_known(layer.thickness), 0)


def _known(value: float | tuple[float, float]) -> float:
    return value if isinstance(value, float | int) else float(np.mean(value))


def _free(model: Any) -> list[Any]:
    """Their parameters in the order of ours: per layer thickness, roughness, density, and so on."""
    slabs = model.structure
    order: list[Any] = []
    for slab in slabs[1:-1]:
        order += [slab.thick, slab.rough, slab.sld.real]
    backing = slabs[-1]
    order += [backing.rough, backing.sld.real, model.scale, model.bkg]
    return order


def _nickel() -> _Case:
    curve = read_curve(data_folder() / "reflectometry" / "nr" / "Ni500.dat")
    sigma = np.maximum(curve.reflectivity_sigma, 0.02 * curve.reflectivity)
    layers = [Layer((300.0, 700.0), (7.0, 12.0), (0.0, 20.0), name="Ni")]
    start = {"Ni.thickness": 497.4, "Ni.roughness": 5.65, "Ni.sld": 10.24}
    backing = Medium((1.0, 5.0), (0.0, 20.0), name="glass")
    return _Case(
        name="nickel",
        config=_config(layers, backing),
        frame=Frame.measured(curve.q, curve.reflectivity, sigma, 0.1 * curve.q / _FWHM),
        start={**start, "glass.roughness": 9.39, "glass.sld": 3.87, **_INSTRUMENT},
    )


def _silica() -> _Case:
    curve = read_curve(data_folder() / "reflectometry" / "nr" / "D17_SiO.dat", fwhm=True)
    keep = np.flatnonzero((curve.q < 0.1144) & (curve.reflectivity > 0))[::4]
    layers = [Layer((1000.0, 1500.0), (2.5, 4.5), (0.0, 20.0), name="SiO2")]
    start = {"SiO2.thickness": 1245.8, "SiO2.roughness": 3.0, "SiO2.sld": 3.45}
    backing = Medium((1.7, 2.4), (0.0, 15.0), name="Si")
    columns = (curve.q, curve.reflectivity, curve.reflectivity_sigma, curve.q_sigma)
    return _Case(
        name="silica",
        config=_config(layers, backing),
        frame=Frame.measured(*(column[keep] for column in columns)),
        start={**start, "Si.roughness": 3.0, "Si.sld": 2.09, **_INSTRUMENT},
    )


def _polymer() -> _Case:
    curve = read_curve(data_folder() / "reflectometry" / "nr" / "ORSO_example.ort")
    layers = [
        Layer((5.0, 80.0), (2.5, 4.5), (0.0, 15.0), name="SiO2"),
        Layer((100.0, 500.0), (0.5, 4.0), (0.0, 20.0), name="polymer"),
    ]
    start = {
        "SiO2.thickness": 37.3, "SiO2.roughness": 7.0, "SiO2.sld": 3.56,
        "polymer.thickness": 259.6, "polymer.roughness": 10.0, "polymer.sld": 2.61,
        "D2O.roughness": 4.0, "D2O.sld": 6.30,
    }  # fmt: skip
    backing = Medium((5.5, 6.6), (0.0, 15.0), name="D2O")
    columns = (curve.q, curve.reflectivity, curve.reflectivity_sigma, curve.q_sigma)
    return _Case(
        name="polymer",
        config=_config(layers, backing, fronting=2.07),
        frame=Frame.measured(*columns),
        start={**start, **_INSTRUMENT},
    )


_INSTRUMENT = {"scale": 0.95, "background": 3e-7}


def _config(layers: Sequence[Layer], backing: Medium, fronting: float = 0.0) -> Config:
    sample = Sample(fronting=Medium(fronting), layers=tuple(layers), backing=backing)
    return Config(sample, scale=(0.7, 1.3), background=_BACKGROUND, systematic=0.0)
