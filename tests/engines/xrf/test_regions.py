from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, energies, shapes
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.parameters import defaults
from skyloop.engines.xrf.regions import Region, region_sums
from skyloop.engines.xrf.rows import rows_of
from skyloop.errors import ConfigError, DataError

SPAN = Span(50, 1000)
THETA = theta_of(defaults({"ENERGY_OFFSET": 0.013, "ENERGY_QUADRATIC": 3e-8}))
ENERGY = energies(THETA, SPAN)
IRON = Region("Fe", 6.2, 6.6, below=(5.7, 6.0), above=(7.3, 7.6))


def counts(pixels: int, mean: float = 5.0, seed: int = 0) -> torch.Tensor:
    means = torch.full((pixels, SPAN.count), mean, dtype=torch.float64)
    return torch.poisson(means, generator=torch.Generator().manual_seed(seed))


@given(ends=st.lists(st.floats(0.6, 10.0), min_size=3, max_size=6, unique=True))
def test_windows_that_adjoin_conserve_counts(ends: list[float]) -> None:
    ends = sorted(ends)
    parts = [Region(str(i), low, high) for i, (low, high) in enumerate(pairwise(ends))]
    whole = Region("all", ends[0], ends[-1])
    values = region_sums(counts(3), ENERGY, [whole, *parts]).values
    torch.testing.assert_close(values[:, 0], values[:, 1:].sum(1), rtol=1e-9, atol=1e-9)


def test_a_window_over_all_channels_has_all_counts() -> None:
    half = ENERGY[:2].diff().item() / 2, ENERGY[-2:].diff().item() / 2
    every = Region("all", ENERGY[0].item() - half[0], ENERGY[-1].item() + half[1])
    y = counts(4)
    found = region_sums(y, ENERGY, [every])
    torch.testing.assert_close(found.values[:, 0], y.sum(1))
    torch.testing.assert_close(found.sigma[:, 0], y.sum(1).sqrt())


def test_part_of_a_channel_has_its_part_of_the_counts() -> None:
    y = torch.zeros(SPAN.count)
    y[500] = 100.0
    at, step = float(ENERGY[500]), float(ENERGY[501] - ENERGY[500])
    windows = [Region("r", at - share * step / 2, at + share * step / 2) for share in (0.25, 0.5, 1.0, 2.0)]
    found = region_sums(y, ENERGY, windows)
    torch.testing.assert_close(
        found.values, torch.tensor([25.0, 50.0, 100.0, 100.0], dtype=torch.float64), rtol=1e-3, atol=0
    )


def test_a_line_loses_its_straight_background_and_nothing_else() -> None:
    straight = 3.0 + 0.01 * torch.arange(SPAN.count, dtype=torch.float64)
    rows = rows_of(["Fe"], line_table(), incident_energy=10.0)
    peak = shapes(rows, THETA, SPAN)[0] * 1000
    alone, bare, both = (region_sums(y, ENERGY, [IRON]).values for y in (straight, peak, straight + peak))
    assert abs(float(alone)) < 1e-3  # straight in channels, nearly so in energy
    torch.testing.assert_close(both, bare + alone)
    plain = region_sums(straight + peak, ENERGY, [Region("Fe", 6.2, 6.6)]).values
    assert float(plain - both) > 100


@pytest.mark.parametrize("region", [Region("Fe", 6.203, 6.597), IRON], ids=["plain", "less background"])
def test_sigma_is_the_spread_of_the_sums(region: Region) -> None:
    found = region_sums(counts(4000), ENERGY, [region])
    assert float(found.sigma.mean() / found.values.std()) == pytest.approx(1.0, abs=0.04)


def test_no_counts_have_the_sigma_of_one() -> None:
    found = region_sums(torch.zeros(1, SPAN.count), ENERGY, [IRON])
    assert found.values.tolist() == [[0.0]]
    assert found.sigma.tolist() == [[1.0]]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_bad_pixel_has_no_sum_and_leaves_the_others_alone(value: float) -> None:
    y = counts(3)
    good = region_sums(y, ENERGY, [IRON])
    y[1, 900] = value
    found = region_sums(y, ENERGY, [IRON])
    assert bool(found.values[1].isnan().all() & found.sigma[1].isnan().all())
    torch.testing.assert_close(found.values[[0, 2]], good.values[[0, 2]])


def test_maps_keep_their_shape() -> None:
    y = counts(6).reshape(2, 3, -1)
    found = region_sums(y, ENERGY, [IRON, Region("Ca", 3.5, 3.9)])
    assert tuple(found.values.shape) == tuple(found.sigma.shape) == (2, 3, 2)
    assert tuple(region_sums(y, ENERGY, []).values.shape) == (2, 3, 0)


def test_windows_beyond_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'Au'.*the channels reach from 0\.5"):
        region_sums(counts(1), ENERGY, [Region("Au", 9.5, 11.5)])


@pytest.mark.parametrize(
    "changed",
    [
        {"high": 6.2},
        {"low": float("nan")},
        {"below": (6.0, 6.3)},
        {"above": (6.5, 7.0)},
        {"above": (7.0, 6.8)},
        {"above": None},
        {"below": None},
    ],
)
def test_windows_that_are_none_are_refused(changed: dict[str, object]) -> None:
    given_ = {"name": "Fe", "low": 6.2, "high": 6.6, "below": (5.7, 6.0), "above": (7.3, 7.6)}
    with pytest.raises(ConfigError, match="'Fe'"):
        Region(**{**given_, **changed})  # pyright: ignore[reportArgumentType]


def test_counts_and_energies_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(1, 1000\) with energies \(999,\)"):
        region_sums(counts(1), ENERGY[:-1], [IRON])
    with pytest.raises(DataError, match="ascend"):
        region_sums(counts(1), ENERGY.flip(0), [IRON])
