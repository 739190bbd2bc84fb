from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from engines.xrf.spectra import KNOWN, SURE, Truth, truth
from numpy.typing import ArrayLike

from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.setup import SCATTER
from skyloop.engines.xrf.spectrum import SpectrumFit, fit_spectra, fit_spectrum
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.quantities import FloatArray

SAMPLE = {"Si": 0.1, "Ca": 0.3, "Ti": 0.2, "Fe": 1.0, "Cu": 0.4, "Pb_M": 0.15}


@cache
def sample() -> Truth:
    return truth(SAMPLE)


def told(**given: Any) -> Config:
    every: dict[str, Any] = {"elements": tuple(SAMPLE), "calibration": KNOWN, "doubts": SURE}
    every |= {"incident_energy": 10.0, **given}
    return Config(**every)


@cache
def fitted(seed: int = 0) -> SpectrumFit:
    return fit_spectrum(sample().counts(seed), told())


def assert_same(found: SpectrumFit, wanted: SpectrumFit, *, times: float = 1.0) -> None:
    """All within a small part of a standard deviation."""
    for name in wanted.names:
        (a, _), (b, sigma) = found.amplitude(name), wanted.amplitude(name)
        assert abs(a - times * b) < 0.05 * times * sigma
    for name, sigma in wanted.value_sigmas.items():
        assert abs(found.values[name] - wanted.values[name]) < 0.05 * sigma or np.isnan(sigma)


@pytest.mark.parametrize("seed", range(3))
def test_elements_and_parameters_are_recovered_within_four_sigma(seed: int) -> None:
    fit, of = fitted(seed), sample()
    assert fit.outcome == Outcome.OK
    assert fit.names == (*SAMPLE, *SCATTER)
    for name in SAMPLE:
        amplitude, sigma = fit.amplitude(name)
        assert abs(amplitude - of.amplitudes[name]) < 4 * sigma
        assert sigma < 0.01 * amplitude
    for name, sigma in fit.value_sigmas.items():
        if not name.startswith("COMPTON"):
            assert abs(fit.values[name] - of.values[name]) < 4 * sigma
    assert fit.deviance == pytest.approx(1, abs=4 * (2 / len(fit.counts)) ** 0.5)
    assert fit.r2 > 0.999


@pytest.mark.parametrize("seed", range(3))
def test_scatter_is_recovered_within_four_sigma_also_where_its_tail_is_at_an_end(seed: int) -> None:
    fit, of = fitted(seed), sample()
    for name in SCATTER:
        amplitude, sigma = fit.amplitude(name)
        assert abs(amplitude - of.amplitudes[name]) < 4 * sigma
    for name in ("COMPTON_ANGLE", "COMPTON_FWHM_CORR", "COMPTON_F_TAIL"):
        assert abs(fit.values[name] - of.values[name]) < 4 * fit.value_sigmas[name]


def test_the_model_is_the_expected_spectrum() -> None:
    fit, of = fitted(), sample()
    mean = of.mean[fit.first : fit.first + len(fit.counts)]
    z = (fit.model - mean) / np.sqrt(mean)
    assert float(np.sqrt(np.mean(z**2))) < 0.3  # 30 parameters share 1000 channels
    np.testing.assert_allclose(fit.model, fit.amplitudes @ fit.columns + fit.background)
    assert float(fit.background.min()) >= 0


def test_what_is_told_agrees_with_itself() -> None:
    fit = fitted()
    n = len(fit.names)
    assert fit.covariance.shape == (n + len(fit.value_sigmas),) * 2
    np.testing.assert_allclose(fit.sigmas, np.sqrt(np.diag(fit.covariance))[:n])
    np.testing.assert_allclose([*fit.value_sigmas.values()], np.sqrt(np.diag(fit.covariance))[n:])
    known = ~np.isnan(np.diag(fit.covariance))
    inner = fit.covariance[np.ix_(known, known)]
    unit = inner / np.sqrt(np.outer(np.diag(inner), np.diag(inner)))
    np.testing.assert_allclose(unit, unit.T, atol=1e-6)
    assert float(np.linalg.eigvalsh(unit).min()) > -1e-9
    left = ((fit.counts - fit.model) ** 2).sum() / ((fit.counts - fit.counts.mean()) ** 2).sum()
    assert fit.r2 == pytest.approx(1 - left)
    assert fit.splines.shape[1] == fit.columns.shape[1] == len(fit.energy) == len(fit.counts)
    assert all(np.isnan(fit.value_sigmas[name]) for name in fit.at_bound)


def test_the_order_of_the_elements_does_not_matter() -> None:
    other = fit_spectrum(sample().counts(0), told(elements=tuple(SAMPLE)[::-1]))
    assert other.names == (*tuple(SAMPLE)[::-1], *SCATTER)
    assert_same(other, fitted())


def test_twice_the_counts_are_twice_the_amplitudes() -> None:
    twice = fit_spectrum(2 * sample().counts(0), told())
    assert_same(twice, fitted(), times=2.0)
    assert twice.deviance == pytest.approx(2 * fitted().deviance, rel=1e-3)


def test_further_channels_change_nothing() -> None:
    assert_same(fit_spectrum(np.pad(sample().counts(0), (0, 848)), told()), fitted())


@pytest.mark.parametrize("kind", [np.int32, np.uint16, np.int64, np.float32, list])
def test_the_type_of_the_numbers_does_not_matter(kind: Callable[[FloatArray], ArrayLike]) -> None:
    other = fit_spectrum(kind(sample().counts(0)), told())
    np.testing.assert_array_equal(other.amplitudes, fitted().amplitudes)
    np.testing.assert_array_equal(other.sigmas, fitted().sigmas)


def test_the_same_counts_give_the_same_fit_and_are_left_as_they_are() -> None:
    counts = sample().counts(0)
    counts.setflags(write=False)
    np.testing.assert_array_equal(fit_spectrum(counts, told()).covariance, fitted().covariance)


def test_an_element_of_the_users_list_that_is_not_there_stays() -> None:
    fit = fit_spectrum(sample().counts(1), told(elements=(*SAMPLE, "Mn", "K", "Fe_Ca")))
    assert fit.names == (*SAMPLE, "Mn", "K", "Fe_Ca", *SCATTER)
    for name in ("Mn", "K", "Fe_Ca"):
        amplitude, sigma = fit.amplitude(name)
        assert amplitude < 4 * sigma or (amplitude == 0 and np.isnan(sigma))
    for name in SAMPLE:
        (a, _), (b, sigma) = fit.amplitude(name), fitted(1).amplitude(name)
        assert abs(a - b) < 3 * sigma


def test_the_users_list_wins_over_what_is_excluded() -> None:
    fit = fit_spectrum(sample().counts(0), told(excluded=("Fe", "Ca")))
    assert_same(fit, fitted())


@pytest.mark.parametrize("name", ["Fe_Fe", "O"])
def test_a_component_beyond_the_range_is_refused(name: str) -> None:
    config = Config(incident_energy=10.0, elements=(*SAMPLE, name))
    with pytest.raises(ConfigError, match=rf"no main line of {name} lies inside .* 1 to 11 keV; mend"):
        fit_spectrum(sample().counts(0), config)


@pytest.mark.parametrize("energy_range", [(1.0, 8.7), (1.0, 9.0), (2.0, 8.5)])
def test_a_range_without_the_scatter_still_gives_errors(energy_range: tuple[float, float]) -> None:
    names = ("Ca", "Ti", "Fe", "Cu", "Pb_M")
    elements = tuple(SAMPLE) if energy_range[0] < 1.5 else names
    fit = fit_spectrum(sample().counts(0), told(elements=elements, energy_range=energy_range))
    for name in names:
        amplitude, sigma = fit.amplitude(name)
        assert abs(amplitude - sample().amplitudes[name]) < 4 * sigma < 0.1 * amplitude


@pytest.mark.parametrize("elements", [("Pb_M",), ("Pb_M", "Fe_Fe"), ("Fe_Fe",)])
def test_lists_without_k_and_l_lines_can_be_fitted(elements: tuple[str, ...]) -> None:
    of = truth({"Pb_M": 1.0})
    fit = fit_spectrum(of.counts(0), told(elements=elements, energy_range=(1.0, 14.0)))
    assert fit.names == (*elements, *SCATTER)


@pytest.mark.parametrize(
    ("elements", "mend"),
    [
        (("Fe", "Sr"), r"Sr.*mend: use 'Sr_L'"),
        (("Fe", "Xx"), r"'Xx'.*mend"),
        (("Fe", "fe"), r"'fe'.*mend: did you mean Fe"),
        (("Fe", "Fe"), r"'Fe' is named twice.*mend"),
        (("Fe", "Fe_Xx"), r"'Xx'.*mend"),
    ],
)
def test_elements_that_cannot_be_meant_are_refused_with_a_mend(elements: tuple[str, ...], mend: str) -> None:
    with pytest.raises(ConfigError, match=mend):
        fit_spectrum(sample().counts(0), told(elements=elements))


def test_the_scatter_may_be_named_among_the_elements() -> None:
    fit = fit_spectrum(sample().counts(0), told(elements=(*SAMPLE, *SCATTER)))
    assert_same(fit, fitted())


def test_a_component_that_was_not_fitted_is_asked_for_in_vain() -> None:
    with pytest.raises(DataError, match=r"'Zn' was not fitted; mend: one of Si, Ca"):
        fitted().amplitude("Zn")


def test_a_model_that_lacks_an_element_says_so_and_is_less_sure() -> None:
    fit = fit_spectrum(sample().counts(0), told(elements=("Si", "Ca", "Fe", "Cu", "Pb_M")))
    assert fit.outcome == Outcome.DEGRADED
    assert "does not describe" in fit.reason
    assert fit.amplitude("Fe")[1] > 1.5 * fitted().amplitude("Fe")[1]


@pytest.mark.parametrize("objective", ["chi2", "mse"])
def test_other_objectives_recover_the_truth(objective: str) -> None:
    fit = fit_spectrum(sample().counts(0), told(objective=objective))
    for name in SAMPLE:
        amplitude, sigma = fit.amplitude(name)
        assert abs(amplitude - sample().amplitudes[name]) < 4 * sigma


def test_a_background_of_snip_recovers_strong_lines() -> None:
    fit = fit_spectrum(sample().counts(0), told(background="snip"))
    assert len(fit.splines) == 0
    for name in ("Ca", "Ti", "Fe", "Cu"):
        assert fit.amplitude(name)[0] == pytest.approx(sample().amplitudes[name], rel=0.02)


def spoilt(value: float) -> FloatArray:
    counts = sample().counts(0)
    counts[[500, 700]] = value
    return counts


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_counts_that_are_none_are_refused_by_detector_and_channel(value: float) -> None:
    with pytest.raises(DataError, match=r"detector 0, channel 500: .*2 such channels.*mend"):
        fit_spectrum(spoilt(value), told())
    with pytest.raises(DataError, match=r"detector 1, channel 500: .*mend"):
        fit_spectra(np.stack([sample().counts(0), spoilt(value)]), told())


@pytest.mark.parametrize(
    "counts",
    [np.ones((2, 1200)), 3.0, np.zeros((1200, 0)), ["a"] * 1200, np.ones(1200) + 0j, [None] * 1200],
)
def test_what_is_no_spectrum_is_refused(counts: ArrayLike) -> None:
    with pytest.raises(DataError, match="mend"):
        fit_spectrum(counts, told())


@pytest.mark.parametrize("total", [0, 99])
def test_too_few_counts_are_refused(total: int) -> None:
    counts = np.zeros(1200)
    counts[500] = total
    with pytest.raises(DataError, match=rf"^{total} counts.*mend"):
        fit_spectrum(counts, told())


@pytest.mark.parametrize("channels", [60, 150])
def test_too_few_channels_are_refused(channels: int) -> None:
    with pytest.raises(DataError, match=r"channels lie inside the fitted range; mend"):
        fit_spectrum(np.full(channels, 100), told())


def test_a_spectrum_that_ends_early_says_what_it_shows() -> None:
    fit = fit_spectrum(sample().counts(0)[:500], told())
    for name, true in sample().amplitudes.items():
        amplitude, sigma = fit.amplitude(name)
        assert abs(amplitude - true) < 4 * sigma or np.isnan(sigma)
    for name in ("Si", "Ca", "Ti", "Pb_M"):
        amplitude, sigma = fit.amplitude(name)
        assert sigma < 0.1 * amplitude


def test_a_saturated_spectrum_is_degraded() -> None:
    fit = fit_spectrum(np.minimum(sample().counts(0), 2000), told())
    assert fit.outcome == Outcome.DEGRADED
    assert fit.reason


@pytest.mark.parametrize("elements", [("Fe",), ()], ids=["given", "sought"])
def test_the_same_counts_in_all_channels_are_degraded_or_background(elements: tuple[str, ...]) -> None:
    fit = fit_spectrum(np.full(1200, 1000), told(elements=elements))
    assert fit.outcome == Outcome.DEGRADED or fit.names[:-2] == elements
    assert float(fit.model.sum()) == pytest.approx(float(fit.counts.sum()), rel=0.1)


def test_all_counts_in_one_channel_are_degraded() -> None:
    counts = np.zeros(1200)
    counts[500] = 1e6
    assert fit_spectrum(counts, told()).outcome == Outcome.DEGRADED


def test_noise_without_a_spectrum_ends_in_an_outcome() -> None:
    counts = np.random.default_rng(0).poisson(1.0, 1200)
    for elements in (("Fe",), ()):
        fit = fit_spectrum(counts, told(elements=elements))
        assert fit.outcome in (Outcome.OK, Outcome.DEGRADED)
        for name in ("Fe", *SCATTER) if elements else SCATTER:
            amplitude, sigma = fit.amplitude(name)
            assert not amplitude > 5 * sigma


def test_a_beam_of_another_energy_is_degraded() -> None:
    assert fit_spectrum(sample().counts(0), told(incident_energy=14.0)).outcome == Outcome.DEGRADED


def test_what_is_no_number_of_counts_is_refused() -> None:
    with pytest.raises(DataError, match="mend"):
        fit_spectrum(1e300 * sample().counts(0), told())


def test_an_energy_at_the_end_of_its_range_is_degraded() -> None:
    of = sample()
    fit = fit_spectrum(of.counts(0), Config(incident_energy=of.beam * 0.98, elements=tuple(SAMPLE)))
    assert fit.outcome == Outcome.DEGRADED
    assert fit.reason


def test_a_dead_detector_is_named() -> None:
    counts = np.zeros(2048)
    counts[5] = 1e5
    with pytest.raises(DataError, match=r"0 counts inside the fitted range.*mend"):
        fit_spectrum(counts, Config(incident_energy=10.0, elements=("Fe",)))


def test_no_detector_is_no_spectrum() -> None:
    with pytest.raises(DataError, match="mend"):
        fit_spectra(np.zeros((0, 2048)), Config(incident_energy=10.0))
