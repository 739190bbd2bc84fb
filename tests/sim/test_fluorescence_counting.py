"""Laws of the simulated fluorescence detectors: forward model, noise, dead time, drift."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from skyloop.engines.xrf import Config, fit_spectrum
from skyloop.engines.xrf.dead_time import live_time
from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, shapes
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.parameters import defaults
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, rows_of
from skyloop.errors import ConfigError, Outcome
from skyloop.quantities import FloatArray
from skyloop.sim.element_map import ElementMap, ElementSample
from skyloop.sim.element_map_cells import tissue
from skyloop.sim.fluorescence_counting import FluorescenceCounting, Spectra
from skyloop.sim.fluorescence_spectra import FluorescenceProbe, Sensor, expected_rates, parameters_of

PROBE = FluorescenceProbe(dead_time=0.0)
FOUR = tuple(Sensor(slope=0.01 * (1 + 0.02 * i), offset=0.01 * i, share=1 / (1 + i)) for i in range(4))
IRON = ElementSample({"Fe": ElementMap(uniform=1000.0)})


def taken(counting: FluorescenceCounting, count: int, seconds: float = 0.5) -> list[Spectra]:
    return [counting.expose(0.3, 0.7, seconds, number=n, time=0.0) for n in range(count)]


def test_expected_rates_are_the_components_of_the_engine_times_their_rates() -> None:
    rates = {"Fe": 700.0, "Zn": 50.0, "Pb_M": 20.0, ELASTIC: 400.0, COMPTON: 900.0}
    sample = ElementSample({name: ElementMap(uniform=rate) for name, rate in rates.items()})
    values = {"FWHM_OFFSET": 0.12, "F_TAIL_OFFSET": 0.02, "COHERENT_SCT_ENERGY": 12.0, "ENERGY_OFFSET": 0.03}
    probe = replace(
        PROBE, sensors=(Sensor(offset=0.03),), parameters={"FWHM_OFFSET": 0.12, "F_TAIL_OFFSET": 0.02}
    )
    rows = rows_of(tuple(rates), line_table(), incident_energy=12.0)
    columns = shapes(rows, theta_of(defaults(values)), Span(0, 2048))
    expected = torch.tensor(list(rates.values()), dtype=torch.float64) @ columns
    found = expected_rates(sample, probe, 0.0, 0.0)
    assert found.shape == (1, 2048)
    np.testing.assert_allclose(found[0], expected.numpy(), rtol=1e-12)
    assert parameters_of(sample, probe) == defaults(values)


def test_the_continuum_adds_the_rate_told_over_all_channels() -> None:
    with_it = expected_rates(replace(IRON, continuum=300.0), PROBE, 0.0, 0.0)
    smooth = (with_it - expected_rates(IRON, PROBE, 0.0, 0.0))[0]
    assert smooth.sum() == pytest.approx(300.0, rel=1e-12)
    assert smooth.min() >= 0
    assert np.abs(np.diff(smooth)).max() < 0.02 * smooth.max()


def test_counts_are_poisson_about_the_forward_model() -> None:
    sample, seconds, count = tissue(1), 2.0, 300
    counting = FluorescenceCounting(sample, PROBE, seed=3)
    mean = expected_rates(sample, PROBE, 0.3, 0.7)[0] * seconds
    counts = np.array([each.counts[0] for each in taken(counting, count, seconds)], dtype=np.float64)
    pull = (counts - mean) ** 2 / mean
    # the variance of a term is 2 + 1/mean; the terms are independent
    assert abs((pull - 1).sum()) < 4 * math.sqrt(count * (2 + 1 / mean).sum())
    offset = (counts.mean(0) - mean) / np.sqrt(mean / count)
    assert (offset**2).mean() == pytest.approx(1.0, abs=4 * math.sqrt(2 / len(mean)))
    neighbours = ((counts - mean) / np.sqrt(mean))[:, :-1] * ((counts - mean) / np.sqrt(mean))[:, 1:]
    assert abs(neighbours.mean()) < 4 / math.sqrt(neighbours.size)


@pytest.mark.parametrize("sensor", [Sensor(), Sensor(slope=0.0102, offset=0.02)], ids=["plain", "shifted"])
def test_a_fit_of_the_sum_spectrum_finds_what_the_sample_is_made_of(sensor: Sensor) -> None:
    sample = tissue(1)
    counting = FluorescenceCounting(sample, replace(PROBE, sensors=(sensor,), dead_time=1e-6), seed=1)
    total, truth, places = np.zeros(2048), np.zeros(len(sample.names)), np.linspace(0.02, 0.98, 8)
    for i, y in enumerate(places):
        for x, one in zip(places, counting.row(places, y, 1.0, number=8 * i, time=0.0), strict=True):
            total += one.counts[0]
            truth += sample.rates(x, y) * one.live_time[0]
    fitted = fit_spectrum(total, Config(incident_energy=sample.incident_energy))
    assert fitted.outcome is Outcome.OK
    assert set(fitted.names) == set(sample.names)
    for name, true in zip(sample.names, truth, strict=True):
        amplitude, sigma = fitted.amplitude(name)
        assert abs(amplitude - true) < 4 * sigma


@pytest.mark.parametrize("load", [0.01, 0.2, 1.0, 4.0])
def test_dead_time_is_told_consistently_and_corrected_without_bias(load: float) -> None:
    total = float(expected_rates(IRON, PROBE, 0.0, 0.0).sum())
    counting = FluorescenceCounting(IRON, replace(PROBE, dead_time=load / total), seed=5)
    spectra = taken(counting, 400)
    came, output, live, real = (
        np.array([getattr(each, name)[0] for each in spectra])
        for name in ("input_counts", "output_counts", "live_time", "real_time")
    )
    assert (output <= came).all()
    assert (output == [each.counts.sum() for each in spectra]).all()
    assert (real == 0.5).all()
    np.testing.assert_allclose(live / real, output / came, rtol=1e-14)
    np.testing.assert_allclose(live_time(real, came, output), live, rtol=1e-12)
    arrived, recorded = total * 0.5, total * 0.5 / (1 + load)
    assert abs(came.mean() - arrived) < 4 * math.sqrt(arrived / 400) + 2
    # of the law of a blind interval after each count: the variance is smaller by (1 + load)^2
    assert abs(output.mean() - recorded) < 4 * math.sqrt(recorded / 400) / (1 + load) + 1
    assert (output / live).mean() == pytest.approx(total, rel=5 / math.sqrt(arrived * 400))


def test_spectra_over_live_time_are_the_forward_model_at_any_dead_time() -> None:
    sample = tissue(1)
    rates = expected_rates(sample, PROBE, 0.3, 0.7)[0]
    probe = replace(PROBE, dead_time=1 / rates.sum())
    spectra = taken(FluorescenceCounting(sample, probe, seed=7), 200, 1.0)
    mean = sum(float(each.live_time[0]) for each in spectra) * rates
    total = np.sum([each.counts[0] for each in spectra], axis=0, dtype=np.float64)
    assert ((total - mean) ** 2 / mean).mean() == pytest.approx(1.0, abs=4 * math.sqrt(2 / len(mean)))


def test_a_full_channel_stays_at_the_ceiling_and_the_output_counts_tell() -> None:
    free = FluorescenceCounting(IRON, PROBE, seed=5).expose(0, 0, 10.0, number=0, time=0.0)
    full = FluorescenceCounting(IRON, replace(PROBE, ceiling=100), seed=5).expose(
        0, 0, 10.0, number=0, time=0.0
    )
    assert free.counts.max() > 100
    assert np.array_equal(full.counts, np.minimum(free.counts, 100))
    assert full.output_counts[0] == free.output_counts[0] > full.counts.sum()


def test_the_same_seed_gives_the_same_counts_and_all_else_gives_others() -> None:
    def one(seed: int = 1, stream: int = 0, number: int = 0) -> np.ndarray:
        counting = FluorescenceCounting(tissue(1), replace(PROBE, sensors=(Sensor(), Sensor())), seed, stream)
        return counting.expose(0.3, 0.7, 0.1, number=number, time=0.0).counts

    assert np.array_equal(one(), one())
    others = [one(seed=2), one(stream=1), one(number=1), one()[::-1]]
    assert all(not np.array_equal(one(), other) for other in others)


def test_totals_are_proportional_to_count_time_and_to_the_beam() -> None:
    sample = tissue(1)
    base = expected_rates(sample, PROBE, 0.3, 0.7)
    np.testing.assert_allclose(expected_rates(sample, replace(PROBE, i0=3e6), 0.3, 0.7), 3 * base, rtol=1e-12)
    for probe, factor in ((PROBE, 1.0), (replace(PROBE, i0=3e6), 3.0)):
        for seconds in (0.1, 1.0):
            (one,) = taken(FluorescenceCounting(sample, probe, seed=9), 1, seconds)
            mean = base.sum() * factor * seconds
            assert abs(one.counts.sum() - mean) < 5 * math.sqrt(mean)
            assert one.i0 == probe.i0 * seconds


def test_a_beam_that_decays_takes_counts_and_monitor_with_it() -> None:
    probe = replace(PROBE, lifetime=3600.0)
    early, late = (expected_rates(IRON, probe, 0, 0, time=t).sum() for t in (0.0, 1800.0))
    assert late / early == pytest.approx(math.exp(-0.5), rel=1e-12)
    told = FluorescenceCounting(IRON, probe, seed=1).expose(0, 0, 10.0, number=0, time=1795.0)
    assert told.i0 == pytest.approx(1e7 * math.exp(-0.5), rel=1e-12)


def center(rates: FloatArray) -> float:
    """Of the strongest peak, by a parabola through the logarithm of its summit."""
    top = int(rates.argmax())
    a, b, c = np.log(rates[top - 1 : top + 2])
    return top + (a - c) / (2 * (a - 2 * b + c))


def test_drift_and_jump_move_the_peaks_as_told() -> None:
    sample = ElementSample({ELASTIC: ElementMap(uniform=1000.0)})
    probe = replace(PROBE, sensors=(Sensor(offset=0.05),), drift=0.01, jump=-0.004, jump_time=3600.0)
    for time, gain in ((0.0, 1.0), (1800.0, 1.005), (3599.0, 1.01 - 0.01 / 3600), (7200.0, 1.02 * 0.996)):
        # with the width at a fixed energy, the summit of the model is at the energy of the line
        found = center(expected_rates(sample, probe, 0, 0, time=time)[0])
        assert found == pytest.approx((12.0 - 0.05) / (0.01 * gain), abs=0.01)


def test_a_jump_moves_what_is_counted() -> None:
    probe = replace(PROBE, jump=0.05, jump_time=6e3)
    counting = FluorescenceCounting(IRON, probe, seed=1)
    before, after = (
        center(counting.expose(0, 0, 1e4, number=0, time=t).counts[0].astype(float)) for t in (0.0, 6e3)
    )
    assert before / after == pytest.approx(1.05, abs=2e-3)


def test_each_detector_has_its_own_calibration_and_share() -> None:
    probe = replace(PROBE, sensors=FOUR)
    rates = expected_rates(IRON, probe, 0, 0)
    assert rates.shape == (4, 2048)
    alone = [expected_rates(IRON, replace(PROBE, sensors=(one,)), 0, 0)[0] for one in FOUR]
    np.testing.assert_allclose(rates, alone, rtol=1e-14)
    np.testing.assert_allclose(rates.sum(1) / rates[0].sum(), [one.share for one in FOUR], rtol=2e-3)


def test_a_sample_without_any_rate_gives_no_counts_and_full_live_time() -> None:
    dark = ElementSample({"Fe": ElementMap()})
    none = FluorescenceCounting(dark, FluorescenceProbe(), seed=1).expose(0, 0, 2.0, number=0, time=0.0)
    assert not none.counts.any()
    assert (none.live_time[0], none.input_counts[0], none.output_counts[0]) == (2.0, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sensors": ()},
        {"sensors": (Sensor(slope=0.0),)},
        {"channels": 0},
        {"i0": math.nan},
        {"dead_time": -1e-6},
        {"ceiling": 2**32},
        {"drift": math.nan},
        {"jump": -1.0},
        {"jump_time": math.nan},
        {"limits": (1.0, 1.0)},
        {"velocity": math.inf},
        {"settling": math.nan},
        {"lifetime": 0.0},
    ],
    ids=str,
)
def test_an_instrument_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FluorescenceProbe(**wrong)  # pyright: ignore[reportArgumentType]


def test_parameters_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="parameter 'FWHM' is unknown"):
        expected_rates(IRON, replace(PROBE, parameters={"FWHM": 0.1}), 0, 0)
