from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from skyloop.engines.xrf.background import snip
from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, shapes
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.parameters import PARAMETERS, defaults
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, rows_of
from skyloop.errors import ConfigError, DataError
from skyloop.quantities import FloatArray

SPAN = Span(80, 1100)
VARIANTS = [(logs, fwhm_width) for logs in (1, 2) for fwhm_width in (True, False)]
NAMES = ("Ca", "Fe", "Cu", ELASTIC, COMPTON)


def theta(**given: float) -> Tensor:
    return theta_of(defaults({"SNIP_WIDTH": 2.0, **given}))


def continuum(span: Span = SPAN) -> Tensor:
    return 20 + 300 * torch.exp(-span.channels() / 400)


def peaks(counts: float, span: Span = SPAN) -> Tensor:
    rows = rows_of(NAMES, line_table(), incident_energy=10.0)
    return counts * shapes(rows, theta(COMPTON_F_TAIL=0.0, ESCAPE_SCALE=0.0), span).sum(0)


def drawn(mean: Tensor, *batch: int, seed: int = 0) -> Tensor:
    return torch.poisson(mean.expand(*batch, -1), generator=torch.Generator().manual_seed(seed))


def smoothed(counts: FloatArray) -> FloatArray:
    n = len(counts)
    return np.array([counts[max(0, i - 2) : i + 3].mean() for i in range(n)], dtype=np.float64)


def clipped_by_hand(counts: FloatArray, p: dict[str, float], *, logs: int, fwhm_width: bool) -> FloatArray:
    """Channel by channel."""
    n, v = len(counts), smoothed(counts)
    widths = list[float]()
    for i in range(SPAN.first, SPAN.first + n):
        energy = max(p["ENERGY_OFFSET"] + p["ENERGY_SLOPE"] * i + p["ENERGY_QUADRATIC"] * i * i, 0.0)
        true = (p["FWHM_OFFSET"] / 2.3548) ** 2 + energy * p["FWHM_FANO_COEFF"] * p["FWHM_FANOPRIME"]
        legacy = (p["ENERGY_OFFSET"] / 2.3548) ** 2 + energy * 3.58 * p["ENERGY_SLOPE"]
        sigma = math.sqrt(true if fwhm_width else legacy)
        widths.append(p["SNIP_WIDTH"] * 2.3548 * sigma / p["ENERGY_SLOPE"])
    for _ in range(logs):
        v = np.log(1 + v)
    passes = [1.0, 1.0]
    while max(widths) * (factor := 2 ** (-(len(passes) - 2) / 2)) >= 0.5:
        passes.append(factor)
    for factor in passes:
        reach = [round(width * factor) for width in widths]
        v = np.array([min(v[i], (v[max(i - w, 0)] + v[min(i + w, n - 1)]) / 2) for i, w in enumerate(reach)])
    for _ in range(logs):
        v = np.exp(v) - 1
    return v


@pytest.mark.parametrize(("logs", "fwhm_width"), VARIANTS)
@pytest.mark.parametrize("bend", [0.0, -1e-7])
def test_it_is_the_clipping_done_by_hand(logs: int, fwhm_width: bool, bend: float) -> None:
    given = {"SNIP_WIDTH": 0.7, "ENERGY_OFFSET": -0.19, "ENERGY_QUADRATIC": bend}
    counts = drawn(continuum() + peaks(1e4))[:300]
    found = snip(counts, theta(**given), Span(SPAN.first, 300), logs=logs, fwhm_width=fwhm_width)
    wanted = clipped_by_hand(counts.double().numpy(), defaults(given), logs=logs, fwhm_width=fwhm_width)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("logs", "fwhm_width"), VARIANTS)
def test_flat_counts_are_their_own_background_up_to_the_ends(logs: int, fwhm_width: bool) -> None:
    flat = torch.full((SPAN.count,), 37.0)
    found = snip(flat, theta(), SPAN, logs=logs, fwhm_width=fwhm_width)
    np.testing.assert_allclose(found, 37.0, rtol=1e-12)


@pytest.mark.parametrize(("logs", "fwhm_width"), VARIANTS)
def test_it_lies_nowhere_above_the_smoothed_counts_nor_below_their_least(logs: int, fwhm_width: bool) -> None:
    for seed in range(5):
        counts = drawn(continuum() * 0.1**seed + peaks(100.0), seed=seed)
        found = snip(counts, theta(), SPAN, logs=logs, fwhm_width=fwhm_width).numpy()
        above = smoothed(counts.double().numpy())
        assert (found <= above * (1 + 1e-12) + 1e-12).all()
        assert (found >= above.min() * (1 - 1e-12) - 1e-12).all()


def test_ends_do_not_fall() -> None:
    for counts in (continuum(), continuum().flip(0)):
        found = snip(counts, theta(), SPAN)
        assert float((found / counts).min()) > 0.85
        assert float((found / counts)[50:-50].min()) > 0.95


def test_peaks_are_left_out_of_it() -> None:
    counts = continuum() + peaks(1e5)
    excess = snip(counts, theta(), SPAN) - continuum()
    assert float(excess.clamp(min=0).sum() / peaks(1e5).sum()) < 0.01


def test_narrow_windows_take_peaks_for_background() -> None:
    shares = [
        float((snip(20 + peaks(1e5), theta(SNIP_WIDTH=width), SPAN) - 20).sum() / peaks(1e5).sum())
        for width in (0.5, 1.0, 2.0)
    ]
    assert shares[0] > 0.05
    assert shares[0] > 3 * shares[1] > 6 * shares[2]


def test_more_counts_are_never_less_background() -> None:
    less = drawn(continuum())
    more = less + drawn(peaks(1e3), seed=1)
    for logs, fwhm_width in VARIANTS:
        low, high = (snip(y, theta(), SPAN, logs=logs, fwhm_width=fwhm_width) for y in (less, more))
        assert bool((low <= high * (1 + 1e-12)).all())


def test_background_moves_with_the_channels() -> None:
    counts = drawn(continuum() + peaks(1e4))
    here = snip(counts, theta(), SPAN)
    there = snip(counts, theta(ENERGY_OFFSET=-0.1), Span(SPAN.first + 10, SPAN.count))
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize("batched_theta", [True, False])
def test_a_batch_is_one_by_one(batched_theta: bool) -> None:
    counts = drawn(continuum() + peaks(1e3), 2, 3)
    each = [theta(SNIP_WIDTH=0.5 + 0.4 * i, FWHM_OFFSET=0.06 + 0.02 * i) for i in range(6)]
    p = torch.stack(each).reshape(2, 3, -1) if batched_theta else theta()
    together = snip(counts, p, SPAN)
    for i in range(2):
        for j in range(3):
            alone = snip(counts[i, j], p[i, j] if batched_theta else p, SPAN)
            torch.testing.assert_close(together[i, j], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("logs", "fwhm_width"), VARIANTS)
def test_no_counts_are_no_background(logs: int, fwhm_width: bool) -> None:
    nothing = snip(torch.zeros(4, SPAN.count), theta(), SPAN, logs=logs, fwhm_width=fwhm_width)
    assert not nothing.any()
    assert snip(torch.zeros(0, SPAN.count), theta(), SPAN, logs=logs).shape == (0, SPAN.count)
    assert snip(torch.zeros(0), theta(), Span(0, 0), logs=logs).shape == (0,)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_few_channels_have_a_background_too(count: int) -> None:
    found = snip(torch.full((count,), 5.0), theta(), Span(0, count))
    np.testing.assert_allclose(found, 5.0)


def test_counts_are_left_as_they_were() -> None:
    counts = drawn(continuum()).to(torch.int32)
    before = counts.clone()
    assert snip(counts, theta(), SPAN).dtype == torch.float64
    assert torch.equal(counts, before)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_counts_that_are_none_are_refused(wrong: float) -> None:
    counts = torch.ones(3, SPAN.count)
    counts[1, 17] = wrong
    with pytest.raises(DataError, match=r"\(1, 17\); mend"):
        snip(counts, theta(), SPAN)


def test_counts_that_are_not_on_the_span_are_refused() -> None:
    with pytest.raises(DataError, match=r"1101.*1100 channels; mend"):
        snip(torch.ones(1101), theta(), SPAN)
    with pytest.raises(DataError, match="mend"):
        snip(torch.tensor(1.0), theta(), SPAN)


def test_wrong_settings_are_refused() -> None:
    counts = torch.ones(SPAN.count)
    with pytest.raises(ConfigError, match="3 logarithms; mend"):
        snip(counts, theta(), SPAN, logs=3)
    with pytest.raises(ConfigError, match="step 2; mend"):
        snip(counts, theta(), Span(80, 1100, step=2))
    for value in (0.0, math.nan):
        p = theta()
        p[list(PARAMETERS).index("ENERGY_SLOPE")] = value
        with pytest.raises(ConfigError, match="no width; mend"):
            snip(counts, p, SPAN)
