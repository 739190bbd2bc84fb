from __future__ import annotations

import numpy as np
import pytest
import torch
from engines.xrf.spectra import KNOWN, SURE, SURE_LINES, Truth, truth
from scipy.stats import binom

from skyloop.engines.xrf.config import Calibration, Config
from skyloop.engines.xrf.fit import search, settled
from skyloop.engines.xrf.joint import Doubts
from skyloop.engines.xrf.setup import SCATTER, fit_problem
from skyloop.engines.xrf.spectrum import SpectrumFit, fit_spectrum

SAMPLE = {"Si": 0.1, "Ca": 0.3, "Ti": 0.2, "Fe": 1.0, "Cu": 0.4, "Pb_M": 0.15}
CORNERS = [(0.0088, -0.07), (0.0088, 0.07), (0.0112, -0.07), (0.0112, 0.07)]


def at(slope: float = 0.01, offset: float = 0.0, *, total: float = 1e6) -> Truth:
    values = {"ENERGY_SLOPE": slope, "ENERGY_OFFSET": offset}
    return truth(SAMPLE, total=total, channels=1400, values=values)


def farthest(fit: SpectrumFit, of: Truth) -> float:
    """Largest error of the energy of a channel that was fitted [keV]."""
    channel = fit.first + np.arange(len(fit.energy))
    values = of.values
    return float(np.abs(fit.energy - values["ENERGY_OFFSET"] - values["ENERGY_SLOPE"] * channel).max())


@pytest.mark.parametrize(("slope", "offset"), CORNERS)
def test_a_calibration_far_off_is_found_from_nothing(slope: float, offset: float) -> None:
    of = at(slope, offset)
    fit = fit_spectrum(of.counts(0), Config(incident_energy=10.0, elements=of.elements, doubts=SURE))
    assert fit.outcome == "ok", fit.reason
    assert farthest(fit, of) < 0.005
    for name in ("ENERGY_SLOPE", "ENERGY_OFFSET"):
        assert abs(fit.values[name] - of.values[name]) < 4 * fit.value_sigmas[name]


@pytest.mark.parametrize(("slope", "offset"), CORNERS[:3:2])
def test_it_is_found_also_where_the_elements_are_unknown(slope: float, offset: float) -> None:
    of = at(slope, offset)
    fit = fit_spectrum(of.counts(0), Config(incident_energy=10.0))
    assert set(fit.names) == set(of.amplitudes)
    assert farthest(fit, of) < 0.015


@pytest.mark.parametrize("total", [2e3, 1e7])
def test_it_is_found_at_few_and_many_counts(total: float) -> None:
    of = at(0.0108, -0.04, total=total)
    fit = fit_spectrum(of.counts(0), Config(incident_energy=10.0, elements=of.elements))
    assert farthest(fit, of) < 0.03


def test_a_start_far_off_gives_the_same_fit_as_a_near_one() -> None:
    of = at(0.0101, 0.01)
    counts = of.counts(0)
    near, *far = (
        fit_spectrum(
            counts,
            Config(
                incident_energy=10.0, elements=of.elements, doubts=SURE, calibration=Calibration(slope=middle)
            ),
        )
        for middle in (0.0101, 0.0092, 0.0112)
    )
    for other in far:
        np.testing.assert_allclose((other.amplitudes - near.amplitudes) / near.sigmas, 0, atol=0.05)
        for name, sigma in near.value_sigmas.items():
            assert abs(other.values[name] - near.values[name]) < 0.05 * sigma or np.isnan(sigma)
        assert other.deviance == pytest.approx(near.deviance, abs=1e-4)


def test_a_parameter_that_is_not_free_stays_at_the_value_given() -> None:
    of = at(0.01031, 0.013)
    beam_and_scale = ("COHERENT_SCT_ENERGY", "ENERGY_SLOPE", "ENERGY_OFFSET")
    config = Config(
        incident_energy=10.0,
        elements=of.elements,
        calibration=Calibration(slope=0.01031, offset=0.013),
        parameters={name: value for name, value in of.values.items() if name not in beam_and_scale},
        free=("FWHM_OFFSET", "COMPTON_ANGLE"),
    )
    fit = fit_spectrum(of.counts(0), config)
    assert set(fit.value_sigmas) == set(config.free)
    assert {name for name, value in of.values.items() if fit.values[name] != value} <= set(config.free)
    assert fit.outcome == "ok", fit.reason


def test_the_offset_is_found_about_the_one_that_is_known() -> None:
    of = at(0.0103, 0.17)
    config = Config(incident_energy=10.0, elements=of.elements, calibration=Calibration(offset=0.15))
    fit = fit_spectrum(of.counts(0), config)
    assert farthest(fit, of) < 0.015


def test_a_fit_settles_where_it_starts_from_its_own_result() -> None:
    of = at()
    config = Config(incident_energy=10.0, doubts=SURE)
    problem = fit_problem(torch.from_numpy(of.counts(0)), tuple(of.amplitudes), config, of.values)
    once, first = settled(problem, config)
    again, second = settled(once, config)
    size = first.covariance.diagonal().sqrt().nan_to_num(1.0)[-len(first.x) :]
    torch.testing.assert_close(first.x / size, second.x / size, rtol=0, atol=0.1)
    assert again.values.keys() == once.values.keys()
    assert second.cost <= first.cost + 1e-3


def test_detectors_have_calibrations_of_their_own_and_elements_in_common() -> None:
    both = at(0.0098, -0.02), at(0.0104, 0.03)
    found = search(np.stack([of.counts(i) for i, of in enumerate(both)]), Config(incident_energy=10.0))
    for of, problem in zip(both, found.problems, strict=True):
        assert set(problem.rows.names) == {*SAMPLE, *SCATTER}
        assert problem.values["ENERGY_SLOPE"] == pytest.approx(of.values["ENERGY_SLOPE"], rel=5e-3)


@pytest.mark.parametrize(("doubts", "draws"), [(SURE_LINES, 60), (Doubts(), 15)], ids=["branching", "every"])
def test_intervals_hold_the_truth_as_often_as_they_say(doubts: Doubts, draws: int) -> None:
    config = Config(incident_energy=10.0, elements=tuple(SAMPLE), calibration=KNOWN, doubts=doubts)
    errors: list[float] = []
    for seed in range(draws):
        of = truth(SAMPLE, total=1e6, off=(seed, doubts))
        fit = fit_spectrum(of.counts(1000 + seed), config)
        true = np.array([of.amplitudes[name] for name in fit.names])
        errors += ((fit.amplitudes - true) / fit.sigmas).tolist()
    size = np.abs(errors)
    assert len(size) == draws * (len(SAMPLE) + len(SCATTER))
    for share, width in ((0.6827, 1.0), (0.95, 1.96)):
        low, high = binom.interval(1 - 1e-3, len(size), share)
        assert low <= int((size < width).sum()) <= high
