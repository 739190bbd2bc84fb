from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skyloop.engines.xrf.dead_time import dead_time_share, input_rate, live_time
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.quantify import (
    Absorber,
    Instrument,
    Standard,
    air,
    areal_density,
    calibrate,
    read_standard,
)
from skyloop.errors import ConfigError, DataError
from skyloop.quantities import FloatArray

STANDARD = Standard({"Ca": 1.931, "Fe": 0.504, "Cu": 0.284, "Pb": 0.761})
COMPONENTS = ("Ca", "Fe", "Cu", "Pb_M")
LAYERS = (
    air(2.0),
    Absorber({"Be": 1.0}, 1.848, 0.0008),
    Absorber({"Si": 1.0}, 2.33, 1e-5),
)
INSTRUMENT = Instrument(10.0, LAYERS, crystal=Absorber({"Si": 1.0}, 2.33, 0.035))
SENSITIVITY = 3e7


def rates(*, of: Instrument = INSTRUMENT, components: tuple[str, ...] = COMPONENTS) -> FloatArray:
    """What the standard gives, by the formula of a thin film."""
    table, found = line_table(), []
    for name in components:
        lines = table.lines([name], of.incident_energy)
        energy = float(lines.energy[0])
        passed = 1.0
        for layer in of.absorbers:
            mu = sum(f * float(table.attenuation(e, energy)) for e, f in layer.composition.items())
            passed *= np.exp(-mu * layer.density * layer.thickness)
        if of.crystal:
            mu = float(table.attenuation("Si", energy))
            passed *= 1 - np.exp(-mu * of.crystal.density * of.crystal.thickness)
        weight = STANDARD.areal_density[name.split("_")[0]] * 1e-6
        found.append(SENSITIVITY * weight * float(lines.cross_section[0]) * passed)
    return np.array(found)


def test_a_standard_through_absorbers_gives_back_its_sensitivity_and_itself() -> None:
    given = rates()
    found = calibrate(INSTRUMENT, STANDARD, COMPONENTS, given, 0.01 * given, weight_sigma=0.05)
    assert found.value == pytest.approx(SENSITIVITY, rel=1e-9)
    assert found.chi2 == pytest.approx(0.0, abs=1e-12)
    assert found.degrees == 3
    density = areal_density(INSTRUMENT, found, COMPONENTS, given, 0.01 * given)
    np.testing.assert_allclose(density.values, list(STANDARD.areal_density.values()), rtol=1e-9)
    np.testing.assert_allclose(density.counting_sigma, 0.01 * density.values, rtol=1e-9)
    total = np.sqrt(0.01**2 + found.relative_sigma**2 + 0.05**2)
    np.testing.assert_allclose(density.sigma, total * density.values, rtol=1e-9)


def test_a_sample_behind_another_window_needs_no_other_standard() -> None:
    found = calibrate(INSTRUMENT, STANDARD, COMPONENTS, rates(), 0.01 * rates(), weight_sigma=0.05)
    other = replace(INSTRUMENT, absorbers=(air(20.0),))
    density = areal_density(other, found, COMPONENTS, rates(of=other), rates(of=other))
    np.testing.assert_allclose(density.values, list(STANDARD.areal_density.values()), rtol=1e-9)


def test_density_is_proportional_to_the_rate_and_maps_keep_their_shape() -> None:
    found = calibrate(INSTRUMENT, STANDARD, COMPONENTS, rates(), 0.01 * rates(), weight_sigma=0.05)
    maps = rates() * np.linspace(0, 4, 6).reshape(2, 3, 1)
    maps[1, 1] = np.nan
    density = areal_density(INSTRUMENT, found, COMPONENTS, maps, np.sqrt(maps))
    wanted = np.linspace(0, 4, 6).reshape(2, 3, 1) * list(STANDARD.areal_density.values())
    wanted[1, 1] = np.nan
    np.testing.assert_allclose(density.values, wanted, rtol=1e-9)
    assert bool(np.isnan(density.sigma[1, 1]).all())


def test_uncertainty_shrinks_with_more_elements() -> None:
    sigma = [
        calibrate(
            INSTRUMENT, STANDARD, COMPONENTS[:n], rates()[:n], 0.01 * rates()[:n], weight_sigma=0.05
        ).relative_sigma
        for n in (1, 2, 3, 4)
    ]
    np.testing.assert_allclose(sigma, sigma[0] / np.sqrt([1, 2, 3, 4]), rtol=1e-9)
    assert sigma[0] == pytest.approx(np.sqrt(0.01**2 + 0.05**2 + 0.05**2))


def test_two_families_of_one_element_share_its_weight() -> None:
    instrument, components = replace(INSTRUMENT, incident_energy=16.0), ("Pb_L", "Pb_M")
    given = rates(of=instrument, components=components)
    found = calibrate(instrument, STANDARD, components, given, 0 * given, weight_sigma=0.2)
    assert found.relative_sigma == pytest.approx(np.sqrt(0.2**2 + 0.05**2 / 2))


def test_sensitivity_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    z, chi2 = [], []
    for _ in range(2000):
        cross, weight, noise = rng.normal(size=(3, 4)) * np.array([[0.05], [0.04], [0.02]])
        given = rates() * np.exp(cross + weight + noise)
        found = calibrate(INSTRUMENT, STANDARD, COMPONENTS, given, 0.02 * given, weight_sigma=0.04)
        expected = np.sqrt((0.05**2 + 0.04**2 + 0.02**2) / 4)
        assert found.relative_sigma >= 0.999 * expected
        z.append(np.log(found.value / SENSITIVITY) / expected)
        chi2.append(found.chi2)
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.036)
    assert np.mean(chi2) == pytest.approx(3.0, abs=0.2)


def test_elements_that_disagree_are_told_and_widen_the_sigma() -> None:
    given = rates() * np.array([1.0, 1.0, 1.0, 2.0])
    agreed = calibrate(INSTRUMENT, STANDARD, COMPONENTS, rates(), 0.01 * rates(), weight_sigma=0.05)
    found = calibrate(INSTRUMENT, STANDARD, COMPONENTS, given, 0.01 * given, weight_sigma=0.05)
    assert found.chi2 > 20
    assert found.relative_sigma == pytest.approx(agreed.relative_sigma * np.sqrt(found.chi2 / 3))
    np.testing.assert_allclose(found.each / SENSITIVITY, [1, 1, 1, 2], rtol=1e-9)


def test_layers_one_after_the_other_multiply() -> None:
    energy, table = np.array([1.0, 3.0, 9.0]), line_table()
    one, two = air(3.0).transmission(energy, table), air(6.0).transmission(energy, table)
    np.testing.assert_allclose(one**2, two, rtol=1e-12)
    assert bool(((two > 0) & (two < 1) & (np.diff(two, prepend=0.0) > 0)).all())
    np.testing.assert_array_equal(air(0.0).transmission(energy, table), 1.0)


def test_silicon_stops_what_its_half_value_layer_says() -> None:
    # NIST XCOM: 33.9 cm^2/g at 10 keV
    half = np.log(2) / (33.9 * 2.33)
    passed = Absorber({"Si": 1.0}, 2.33, half).transmission(10.0, line_table())
    assert float(passed) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    "given",
    [
        ({"N": 0.5}, 1.0, 1.0),
        ({}, 1.0, 1.0),
        ({"N": 1.5, "O": -0.5}, 1.0, 1.0),
        ({"Be": 1.0}, -1.0, 1.0),
        ({"Be": 1.0}, 1.0, float("nan")),
    ],
)
def test_absorbers_that_cannot_be_are_refused(given: tuple[dict[str, float], float, float]) -> None:
    with pytest.raises(ConfigError, match="mend"):
        Absorber(*given)


def test_unknown_elements_of_absorbers_are_named() -> None:
    with pytest.raises(ConfigError, match="'Kapton'"):
        replace(INSTRUMENT, absorbers=(Absorber({"Kapton": 1.0}, 1.4, 0.001),)).response(["Fe"])


def test_calibrations_that_cannot_be_are_refused() -> None:
    def with_(
        components: tuple[str, ...], given: FloatArray, sigma: FloatArray, weight: float = 0.05
    ) -> None:
        calibrate(INSTRUMENT, STANDARD, components, given, sigma, weight_sigma=weight)

    one = np.ones(1)
    with pytest.raises(ConfigError, match="no Zn"):
        with_(("Zn",), one, one)
    with pytest.raises(ConfigError, match="edge"):
        with_(("Pb_L",), one, one)
    with pytest.raises(ConfigError, match="0 components"):
        with_((), np.ones(0), np.ones(0))
    with pytest.raises(ConfigError, match="relative deviations -0"):
        with_(("Fe",), one, one, -0.1)
    with pytest.raises(DataError, match="Fe: no counts"):
        with_(("Ca", "Fe"), np.array([1.0, 0.0]), np.ones(2))
    with pytest.raises(DataError, match="negative"):
        with_(("Fe",), one, -one)
    with pytest.raises(DataError, match="for 2 components"):
        with_(("Ca", "Fe"), one, one)


def test_deviations_that_are_all_zero_are_refused() -> None:
    exact = replace(INSTRUMENT, cross_section_sigma=0.0)
    with pytest.raises(ConfigError, match="all deviations"):
        calibrate(exact, STANDARD, ("Fe",), np.ones(1), np.zeros(1), weight_sigma=0.0)


def test_the_standard_of_the_example_is_read(shared_data: Path) -> None:
    found = read_standard(shared_data / "xrf" / "maps_standardinfo.txt")
    assert found == Standard({"Ca": 1.931, "Fe": 0.504, "Cu": 0.284}, "axo_std.mda")


GOOD = "words\nFILENAME: a.mda\nELEMENTS_IN_STANDARD: Ca, Fe\nWEIGHT: 1.0, 2.0\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("WEIGHT: 1.0, 2.0\n", "", "no line 'WEIGHT"),
        ("2.0", "", "weight ''"),
        ("2.0", "-2.0", "weight '-2.0'"),
        ("2.0", "nan", "weight 'nan'"),
        ("1.0, 2.0", "1.0", "2 elements and 1 weights"),
        ("Ca, Fe", "Ca, Ca", "'Ca' is unknown or there twice"),
        ("Ca, Fe", "Ca, Xx", "'Xx' is unknown"),
        ("words", "WEIGHT: 3, 4", "WEIGHT is there twice"),
    ],
)
def test_a_standard_that_is_none_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "standard.txt"
    path.write_text(GOOD)
    assert read_standard(path).areal_density == {"Ca": 1.0, "Fe": 2.0}
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_standard(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "x", tmp_path / "missing", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_standard(path)


def test_the_input_rate_gives_back_what_a_blind_counter_takes() -> None:
    arriving, blind = np.geomspace(1, 1e6, 13), 2e-6
    taken = arriving / (1 + arriving * blind)
    np.testing.assert_allclose(input_rate(taken, blind), arriving, rtol=1e-9)


def test_live_time_and_input_rate_agree() -> None:
    taken, blind = np.array([0.0, 10.0, 1e5]), 2e-6
    lived = live_time(1.0, input_rate(taken, blind), taken)
    np.testing.assert_allclose(lived, 1 - taken * blind, rtol=1e-12)


def test_rates_that_are_none_give_nan() -> None:
    icr = np.array([100.0, 100.0, 0.0, -1.0, np.nan, np.inf, 0.0])
    ocr = np.array([50.0, 101.0, 0.0, -2.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(dead_time_share(icr, ocr), [0.5, np.nan, 0.0, *[np.nan] * 4])
    np.testing.assert_array_equal(np.isnan(input_rate([1.0, 5e5, -1.0, np.nan], 2e-6)), [False, *[True] * 3])
