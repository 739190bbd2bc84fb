from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skyloop.engines.reflectometry.config import load
from skyloop.engines.reflectometry.fit import Fit, Search, fit_curve, fit_data, quick_search
from skyloop.engines.reflectometry.forward import stack
from skyloop.engines.reflectometry.frame import Frame, join
from skyloop.engines.reflectometry.likelihood import gather
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.smearing import model_curve
from skyloop.errors import ConfigError, DataError, Outcome

FWHM = 2.354820045
POLYMER = """
sample:
  fronting: {name: Si, sld: 2.07}
  layers:
    - {name: SiO2, thickness: [5, 80], roughness: [0, 15], sld: [2.5, 4.5]}
    - {name: polymer, thickness: [100, 500], roughness: [0, 20], sld: [0.5, 4]}
  backing: {name: D2O, sld: [5.5, 6.6], roughness: [0, 15]}
scale: [0.7, 1.3]
background: [1e-8, 1e-5]
systematic: 0
"""
SILICA = """
sample:
  layers:
    - {name: SiO2, thickness: [1000, 1500], roughness: [0, 20], sld: [2.5, 4.5]}
  backing: {name: Si, sld: [1.7, 2.4], roughness: [0, 15]}
scale: [0.7, 1.3]
background: [1e-8, 1e-5]
systematic: 0
"""
NICKEL = """
sample:
  layers:
    - {name: Ni, thickness: [300, 700], roughness: [0, 20], sld: [7, 12]}
  backing: {name: glass, sld: [1, 5], roughness: [0, 20]}
scale: [0.7, 1.3]
systematic: 0
"""
FILM = """
sample:
  layers:
    - {name: film, thickness: [100, 500], roughness: [2, 15], sld: [0, 6.5]}
  backing: {name: Si, sld: 2.07, roughness: [2, 8]}
systematic: 0
"""
TRUTH = {"film.thickness": 237.0, "film.roughness": 6.0, "film.sld": 4.1, "Si.roughness": 4.0}
Q = torch.linspace(0.01, 0.2, 70, dtype=torch.float64)


def curve() -> np.ndarray:
    slabs = stack([237.0], [0.0, 4.1, 2.07], roughness=[6.0, 4.0])
    return model_curve(Q, 0.02 * Q, slabs)[0].numpy()


def counted(exposure: float, seed: int) -> Frame:
    counts = np.random.default_rng(seed).poisson(exposure * curve())
    return Frame.counted(Q.numpy(), counts, exposure, q_sigma=0.02 * Q.numpy())


def of(fit: Fit, name: str) -> float:
    return float(fit.theta[fit.names.index(name)])


def polymer(folder: Path) -> Frame:
    table = np.loadtxt(folder / "reflectometry" / "nr" / "ORSO_example.ort")
    return Frame.measured(*table.T)


def test_polymer_film_in_heavy_water_is_found(shared_data: Path) -> None:
    fit = fit_curve(load(POLYMER), polymer(shared_data))
    assert fit.outcome is Outcome.OK, fit.reason
    assert of(fit, "polymer.thickness") == pytest.approx(260.4, rel=0.01)
    assert of(fit, "SiO2.thickness") == pytest.approx(36.7, rel=0.1)
    for name, sld in (("polymer.sld", 2.44), ("SiO2.sld", 3.60), ("D2O.sld", 6.37)):
        assert of(fit, name) == pytest.approx(sld, abs=0.05)
    assert fit.sigma[fit.names.index("polymer.thickness")] == pytest.approx(0.6, rel=0.15)
    assert fit.chi2 == pytest.approx(2.4, rel=0.05)


def silica(folder: Path) -> Frame:
    table = np.loadtxt(folder / "reflectometry" / "nr" / "D17_SiO.dat")
    q, r, sigma, width = table[(table[:, 0] < 0.1144) & (table[:, 1] > 0)][::4].T
    return Frame.measured(q, r, sigma, width / FWHM)


def test_thick_silica_is_found(shared_data: Path) -> None:
    fit = fit_curve(load(SILICA), silica(shared_data))
    assert of(fit, "SiO2.thickness") == pytest.approx(1244.7, rel=0.005)
    assert of(fit, "SiO2.sld") == pytest.approx(3.47, abs=0.02)
    assert of(fit, "Si.sld") == pytest.approx(2.09, abs=0.05)
    assert of(fit, "scale") == pytest.approx(0.90, abs=0.02)
    assert fit.chi2 == pytest.approx(1.9, rel=0.05)


@pytest.mark.parametrize("key", range(4))
def test_silica_whose_interface_seems_smooth_is_found_by_a_quick_search(shared_data: Path, key: int) -> None:
    """On the way a roughness goes to zero, where a curve does not change with it."""
    frame = silica(shared_data)
    quick, thorough = (
        fit_curve(load(SILICA), frame, search=quick_search(7), key=key),
        fit_curve(load(SILICA), frame),
    )
    assert quick.cost < thorough.cost + 1e-2
    assert np.isfinite(quick.sigma).all()
    assert not quick.modes[1:]


def test_nickel_film_is_found(shared_data: Path) -> None:
    q, r, sigma = np.loadtxt(shared_data / "reflectometry" / "nr" / "Ni500.dat").T
    frame = Frame.measured(q, r, np.maximum(sigma, 0.02 * r), 0.1 * q / FWHM)
    fit = fit_curve(load(NICKEL), frame)
    assert fit.outcome is Outcome.OK, fit.reason
    assert of(fit, "Ni.thickness") == pytest.approx(496.1, rel=0.002)
    assert of(fit, "Ni.sld") == pytest.approx(10.1, abs=0.1)
    assert of(fit, "glass.sld") == pytest.approx(2.9, abs=0.3)
    assert fit.chi2 == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("exposure", [3e4, 1e6])
def test_truth_is_recovered_within_its_uncertainty(exposure: float) -> None:
    pulls: list[float] = []
    for seed in range(12):
        fit = fit_curve(load(FILM), counted(exposure, seed), search=Search(starts=32))
        truth = np.array([TRUTH[name] for name in fit.names])
        pulls.extend(((fit.theta - truth) / fit.sigma).tolist())
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.0, abs=0.35)
    assert max(map(abs, pulls)) < 4.5


def test_few_counts_do_not_bias_the_scale() -> None:
    """At half a count per point, least squares with sigma = sqrt(counts) would be off by a half."""
    text = "sample:\n  backing: {sld: 2.07}\nscale: [0.1, 3]\nsystematic: 0\n"
    slabs = stack([], [0.0, 2.07])
    q = np.linspace(0.06, 0.12, 300)
    expected = 0.5 / model_curve(torch.tensor(q), torch.zeros(300).double(), slabs)[0].numpy()
    rng = np.random.default_rng(4)
    fits = [
        fit_curve(load(text), Frame.counted(q, rng.poisson(0.5, 300), expected), search=Search(starts=2))
        for _ in range(20)
    ]
    scale = np.mean([fit.theta[0] for fit in fits])
    sigma = np.mean([fit.sigma[0] for fit in fits])
    assert sigma == pytest.approx(1 / np.sqrt(150), rel=0.05)
    assert abs(scale - 1) < 3 * sigma / np.sqrt(20)


@pytest.mark.parametrize("systematic", [0.0, 0.05])
def test_gradient_vanishes_at_the_fit_of_mixed_points(systematic: float) -> None:
    """Counted, measured and repeated points at once: no step along any parameter lowers the cost."""
    frame = _mixed()
    text = FILM.replace("systematic: 0", f"systematic: {systematic}")
    fit = fit_curve(load(text), frame, search=Search(starts=16))
    for i in range(len(fit.theta)):
        for sign in (-1, 1):
            shifted = fit.theta.copy()
            shifted[i] += sign * 0.05 * fit.sigma[i]
            assert _cost(text, frame, shifted) > fit.cost


def test_order_of_the_points_does_not_matter() -> None:
    frame = counted(1e5, 0)
    turned = Frame.counted(frame.q[::-1], frame.counts[::-1], frame.exposure[::-1], frame.q_sigma[::-1])
    first, second = (fit_curve(load(FILM), f, search=Search(starts=16)) for f in (frame, turned))
    np.testing.assert_array_equal(first.theta, second.theta)


def test_other_starts_end_in_the_same_fit() -> None:
    frame = counted(1e5, 1)
    fits = [fit_curve(load(FILM), frame, key=key) for key in (0, 1, 2)]
    for fit in fits[1:]:
        assert (np.abs(fit.theta - fits[0].theta) < 0.01 * fit.sigma).all()


@pytest.mark.parametrize("thickness", [712.0, 2345.0, 4321.0])
def test_one_fringe_of_a_thick_film_is_told_from_the_next(thickness: float) -> None:
    """About 180 fringes fit into the range: blind starts are too few for that."""
    text = FILM.replace("[100, 500]", "[500, 5000]")
    q = torch.linspace(0.008, 0.25, 400, dtype=torch.float64)
    slabs = stack([thickness], [0.0, 4.1, 2.07], roughness=[6.0, 4.0])
    expected = 1e5 * (1 + 400 * (q / 0.25) ** 2)
    counts = np.random.default_rng(0).poisson((expected * model_curve(q, 0 * q, slabs)[0]).numpy())
    fit = fit_curve(load(text), Frame.counted(q.numpy(), counts, expected.numpy()))
    assert abs(of(fit, "film.thickness") - thickness) < 4 * fit.sigma[fit.names.index("film.thickness")]


@pytest.mark.parametrize(("thickness", "repeat"), [(30.0, 40), (1700.0, 1)])
def test_a_dense_curve_is_found_although_the_first_look_is_thinner(thickness: float, repeat: int) -> None:
    """Fringes of the whole stack must be seen, also where it repeats a thin pair."""
    text = f"""
    sample:
      layers:
        - repeat: {repeat}
          layers: [{{name: a, thickness: [{0.5 * thickness}, {2 * thickness}], sld: [3, 5]}}]
        - {{name: b, thickness: 20.0, sld: 2.0}}
      backing: {{sld: 2.07}}
    """
    q = torch.linspace(0.008, 0.25, 6000, dtype=torch.float64)
    slabs = stack([repeat * thickness, 20.0], [0.0, 4.1, 2.0, 2.07])
    value = model_curve(q, 0 * q, slabs)[0].numpy()
    fit = fit_curve(load(text), Frame.measured(q.numpy(), value, 0.05 * value), search=quick_search(2))
    assert abs(of(fit, "a.thickness") - thickness) < 1e-3 * thickness


@pytest.mark.parametrize(("thickness", "seed"), [(812.0, 9), (947.0, 8)])
def test_a_film_is_found_among_many_points_below_the_edge(thickness: float, seed: int) -> None:
    q = np.r_[np.linspace(0.004, 0.010, 8000), np.linspace(0.0105, 0.2, 90)]
    slabs = stack([thickness], [0.0, 5.0, 2.07], roughness=[5.0, 4.0])
    at = torch.from_numpy(q)
    expected = 1e6 * model_curve(at, 0.01 * at, slabs)[0].numpy()
    frame = Frame.counted(q, np.random.default_rng(seed).poisson(expected), 1e6, q_sigma=0.01 * q)
    text = """
sample:
  layers: [{name: film, thickness: [100, 1500], roughness: [2, 15], sld: [1, 6.5]}]
  backing: {name: Si, sld: 2.07, roughness: 4}
systematic: 0.01
"""
    fit = fit_curve(load(text), frame, search=quick_search(3), key=1)
    assert of(fit, "film.thickness") == pytest.approx(thickness, abs=2.0)


def test_data_without_a_finite_likelihood_are_refused() -> None:
    data = gather(counted(1e4, 0), systematic=0.0, tolerance=0.0)
    absurd = replace(data, value=np.where(np.arange(len(data)) == 3, np.nan, data.value))
    with pytest.raises(DataError, match="no finite likelihood"):
        fit_data(load(FILM), absurd, search=Search(starts=4))


def test_a_parameter_at_its_bound_is_named() -> None:
    text = FILM.replace("sld: [0, 6.5]", "sld: [4.5, 6.5]")
    fit = fit_curve(load(text), counted(3e4, 0), search=Search(starts=32))
    assert fit.outcome is Outcome.DEGRADED
    assert fit.reason.startswith("at a bound of the prior: ")
    assert "film.sld" in fit.reason


@pytest.mark.parametrize("seed", range(6))
def test_a_smooth_interface_is_found_and_all_else_keeps_its_uncertainty(seed: int) -> None:
    """Counts scatter to either side of smooth: at the bound, or a little within."""
    text = FILM.replace("[2, 15]", "[0, 15]").replace("[2, 8]", "[0, 8]")
    slabs = stack([237.0], [0.0, 4.1, 2.07], roughness=[6.0, 0.0])
    expected = 1e6 * model_curve(Q, 0.02 * Q, slabs)[0].numpy()
    counts = np.random.default_rng(seed).poisson(expected)
    fit = fit_curve(load(text), Frame.counted(Q.numpy(), counts, 1e6, q_sigma=0.02 * Q.numpy()))
    at_zero = of(fit, "Si.roughness") == 0
    assert fit.reason == ("at a bound of the prior: Si.roughness" if at_zero else "")
    assert np.isnan(fit.sigma).tolist() == [name == "Si.roughness" and at_zero for name in fit.names]
    for name in ("film.thickness", "film.roughness", "film.sld"):
        i = fit.names.index(name)
        assert abs(fit.theta[i] - TRUTH[name]) < 3.5 * fit.sigma[i]


def test_what_the_data_do_not_determine_is_told() -> None:
    text = "sample:\n  backing: {sld: [1, 3]}\nscale: [0.5, 2]\n"
    fit = fit_curve(load(text), Frame.measured(0.1, 1e-5, 1e-7), search=Search(starts=8))
    assert fit.outcome is Outcome.DEGRADED
    assert "do not determine" in fit.reason
    assert np.isnan(fit.sigma).all()


def test_minima_that_explain_the_data_as_well_are_kept() -> None:
    """Without its phase a fringe pattern of three points fits several thicknesses."""
    q = np.array([0.05, 0.0875, 0.125])
    slabs = stack([200.0], [0.0, 4.1, 2.07])
    values = model_curve(torch.tensor(q), torch.zeros(3).double(), slabs)[0].numpy()
    text = "sample:\n  layers: [{thickness: [100, 900], sld: 4.1}]\n  backing: {sld: 2.07}\n"
    fit = fit_curve(load(text), Frame.measured(q, values, 0.3 * values))
    assert len(fit.modes) > 1
    assert fit.outcome is Outcome.DEGRADED
    assert "explain the data as well" in fit.reason
    assert min(abs(mode.theta[0] - 200) for mode in fit.modes) < 3
    assert sorted(mode.cost for mode in fit.modes) == [mode.cost for mode in fit.modes]


def test_nothing_free_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is free"):
        fit_curve(load("sample:\n  backing: {sld: 2.07}\n"), counted(1e4, 0))


def _mixed() -> Frame:
    truth = curve()
    rng = np.random.default_rng(5)
    counts = rng.poisson(1e5 * truth).astype(float)
    reflectivity = truth * (1 + 0.03 * rng.standard_normal(len(truth)))
    even = np.arange(len(truth)) % 2 == 0
    once = Frame(
        Q.numpy(),
        0.02 * Q.numpy(),
        np.where(even, counts, np.nan),
        np.where(even, 1e5, np.nan),
        np.where(even, np.nan, reflectivity),
        np.where(even, np.nan, 0.03 * truth),
    )
    return join([once, once])


def _cost(text: str, frame: Frame, theta: np.ndarray) -> float:
    config = load(text)
    data = gather(frame, systematic=config.systematic, tolerance=0.0)
    slabs = Parameters.of(config).slabs(torch.tensor(theta[None]))
    values = model_curve(torch.tensor(data.q), torch.tensor(data.q_sigma), slabs)
    return -float(data.log_likelihood(values.numpy())[0])
