"""Laws of the sample whose elements are known at every place."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skyloop.errors import ConfigError
from skyloop.sim.element_map import ElementMap, ElementSample, Grains, Texture, centers
from skyloop.sim.element_map_cells import TARGET, tissue

X, Y = np.meshgrid(centers(0.0, 1.0, 150), centers(0.0, 1.0, 150))


def rates_of(sample: ElementSample, name: str) -> np.ndarray:
    return sample.rates(X, Y)[..., sample.names.index(name)]


@pytest.mark.parametrize("patches", [1, 2, 4, 8])
def test_iron_and_zinc_without_calcium_cover_nine_percent_of_the_field(patches: int) -> None:
    for seed in range(6):
        assert 0.085 < tissue(seed, patches=patches).covered(*TARGET) < 0.095


def test_the_region_is_where_the_rates_say_so() -> None:
    sample = tissue(3, patches=2)
    iron, zinc, calcium = (rates_of(sample, name) > 0 for name in ("Fe", "Zn", "Ca"))
    assert np.array_equal(sample.holds(X, Y, *TARGET), iron & zinc & ~calcium)
    assert np.array_equal(sample.holds(X, Y, ("K",)), np.ones_like(X, dtype=bool))


def test_there_are_grains_that_only_look_like_the_region() -> None:
    sample = tissue(3)
    for having in (("Fe",), ("Zn",), ("Ca",)):
        others = tuple({"Fe", "Zn", "Ca"} - set(having))
        assert sample.covered(having, others) > 0.005
    assert sample.covered(("Fe", "Zn", "Ca")) > 0.005
    assert sample.covered(("Fe", "Ca"), ("Zn",)) == 0  # no two grains overlap


def test_iron_counts_in_its_grains_at_the_rate_told_but_for_its_texture() -> None:
    iron = rates_of(tissue(3), "Fe")
    inside = iron[iron > 0]
    assert math.exp(np.log(inside).mean()) == pytest.approx(3000.0, rel=0.2)
    assert 0.01 < np.log(inside).std() < 0.4


def test_the_same_seed_gives_the_same_sample_and_another_seed_another() -> None:
    assert np.array_equal(tissue(5).rates(X, Y), tissue(5).rates(X, Y))
    assert not np.array_equal(tissue(5).rates(X, Y), tissue(6).rates(X, Y))


def test_a_larger_field_shows_the_same_picture() -> None:
    large = tissue(5, size=8.0)
    assert large.field == ((0.0, 8.0), (0.0, 8.0))
    np.testing.assert_allclose(large.rates(8 * X, 8 * Y), tissue(5).rates(X, Y), rtol=1e-9)


def test_rates_are_proportional_to_the_incident_rate() -> None:
    sample = tissue(1)
    double = sample.rates(X, Y, i0=2 * sample.nominal_i0)
    np.testing.assert_allclose(double, 2 * sample.rates(X, Y), rtol=1e-15)
    assert not sample.rates(X, Y, i0=0.0).any()


def test_places_are_broadcast() -> None:
    sample = tissue(1)
    row = sample.rates(X[0][None, :], Y[:, 0][:, None])
    assert np.array_equal(row, sample.rates(X, Y))
    assert sample.rates(0.5, 0.5).shape == (len(sample.names),)


def test_the_logarithm_of_a_texture_has_the_standard_deviation_told() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 1000, (2, 50_000))
    texture = Texture(0.3, rng.normal(0, 10, (8, 2)), rng.uniform(0, 7, 8))
    logarithm = np.log(texture(x, y))
    assert logarithm.std() == pytest.approx(0.3, rel=0.02)
    assert logarithm.mean() == pytest.approx(0.0, abs=0.01)
    assert np.array_equal(Texture()(x, y), np.ones_like(x))


def test_grains_have_the_area_of_discs_and_add_up_where_they_overlap() -> None:
    grains = Grains(np.array([0.4, 0.6]), np.array([0.5, 0.5]), np.array([0.2, 0.2]))
    x, y = np.meshgrid(centers(0.0, 1.0, 600), centers(0.0, 1.0, 600))
    over = grains.count(x, y)
    assert over.mean() == pytest.approx(2 * math.pi * 0.2**2, rel=2e-3)
    sample = ElementSample({"Fe": ElementMap(uniform=5.0, in_grain=10.0, grains=grains)})
    assert sample.rates([0.5, 0.3, 0.1], 0.5)[:, 0].tolist() == [25.0, 15.0, 5.0]


@pytest.mark.parametrize(
    ("maps", "told"),
    [
        ({"Xx": ElementMap(1.0)}, "no component 'Xx'"),
        ({"Mo": ElementMap(1.0)}, "take Mo out"),
        ({"Fe": ElementMap(-1.0)}, r"Fe\.uniform: found -1"),
        ({"Fe": ElementMap(in_grain=math.nan)}, r"Fe\.in_grain: found nan"),
    ],
)
def test_what_no_sample_holds_is_refused(maps: dict[str, ElementMap], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ElementSample(maps)


def test_unknown_components_and_impossible_patches_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Hg: no such component; mend: one of .*Fe"):
        tissue(1).holds(X, Y, ("Fe",), ("Hg",))
    for patches, size in ((0, 1.0), (9, 1.0), (1, 0.0), (1, math.nan)):
        with pytest.raises(ConfigError, match="mend: 1 to 8 patches"):
            tissue(1, patches=patches, size=size)
