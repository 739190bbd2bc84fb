"""Parameter files of MAPS for a fit: all that can be used is, the rest is told, and fitted values go back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skyloop.engines.xrf.config import Calibration, Config
from skyloop.engines.xrf.override import Override, read_override, write_override
from skyloop.engines.xrf.override_config import configured, overridden
from skyloop.engines.xrf.parameters import FITTED, PARAMETERS, defaults
from skyloop.engines.xrf.spectrum import fit_spectrum
from skyloop.errors import ConfigError, DataError
from skyloop.storage.spectra import read_spectra

BEAM = Override(parameters={"COHERENT_SCT_ENERGY": 10.0})


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Override:
    return read_override(shared_data / "xrf" / "maps_fit_parameters_override.txt")


def of(text: str) -> tuple[Config, tuple[str, ...]]:
    return configured(read_override(f"COHERENT_SCT_ENERGY: 10\n{text}\n"))


def test_real_file_is_a_fit(real: Override) -> None:
    config, _ = configured(real)
    assert config.incident_energy == 10.0
    assert config.elements == real.elements
    assert config.detector == "Si"
    assert config.energy_range == (1.0, 11.0)
    assert config.calibration == Calibration(slope=0.0095216077, offset=-0.0041840752)
    assert config.free == FITTED
    wanted = {name: real.parameters[name] for name in PARAMETERS if name in real.parameters}
    for name in ("COHERENT_SCT_ENERGY", "ENERGY_OFFSET", "ENERGY_SLOPE"):
        del wanted[name]
    assert config.parameters == wanted
    assert config.parameters["FWHM_FANOPRIME"] == 2.2440446e-4


def test_what_the_real_file_says_in_vain_is_told_line_by_line(real: Override) -> None:
    _, notes = configured(real)
    told = [note.split(":")[0] for note in notes]
    changing = [a for a in real.adjustments if set(a.factors) != {1.0}]
    assert sorted(told) == sorted([*real.bounds, *(f"{a.tag} {a.element}" for a in changing)])
    assert len(changing) > 15
    assert not any("\n" in note for note in notes)


def test_real_file_fits_its_standard(real: Override, shared_data: Path) -> None:
    counts = read_spectra(shared_data / "xrf" / "axo_std.mda").counts.sum(axis=(0, 1))[0]
    config, _ = configured(real)
    fit = fit_spectrum(counts, config)
    assert fit.r2 > 0.93
    fitted = overridden(real, fit.values)
    again, _ = configured(read_override(write_override(fitted)))
    held = {name: value for name, value in fit.values.items() if name in again.parameters}
    assert again.parameters == held
    assert again.incident_energy == fit.values["COHERENT_SCT_ENERGY"]
    assert again.calibration.slope == fit.values["ENERGY_SLOPE"]
    assert again.calibration.offset == fit.values["ENERGY_OFFSET"]
    elsewhere = {"COHERENT_SCT_ENERGY", "ENERGY_OFFSET", "ENERGY_SLOPE", "ESCAPE_SCALE"}
    assert set(fit.values) - set(held) == elsewhere
    assert [note.split(":")[0] for note in fitted.notes] == ["ESCAPE_SCALE"]


def test_fitted_values_come_back_from_the_written_file(real: Override) -> None:
    random = np.random.default_rng(11)
    for _ in range(20):
        values = {name: p.low + random.uniform() * (p.high - p.low) for name, p in PARAMETERS.items()}
        values |= {"COHERENT_SCT_ENERGY": random.uniform(9.8, 10.5), "COMPTON_ANGLE": random.uniform(75, 165)}
        values |= {"ENERGY_SLOPE": random.uniform(0.0085, 0.0145)}
        fitted = overridden(replace(real, settings={}), values)
        config, _ = configured(read_override(write_override(fitted)))
        found = {**config.parameters, "COHERENT_SCT_ENERGY": config.incident_energy}
        found |= {"ENERGY_SLOPE": config.calibration.slope, "ENERGY_OFFSET": config.calibration.offset}
        assert found == {name: value for name, value in values.items() if name != "ESCAPE_SCALE"}


def test_fitted_values_change_nothing_else(real: Override) -> None:
    fitted = overridden(real, {"FWHM_OFFSET": 0.11})
    assert replace(fitted, parameters=real.parameters) == real
    assert fitted.parameters == {**real.parameters, "FWHM_OFFSET": 0.11}
    assert overridden(real, {}) == real
    assert overridden(fitted, real.parameters) == real


def test_values_put_in_twice_are_in_once() -> None:
    once = overridden(BEAM, defaults())
    assert overridden(once, defaults()) == once


def test_an_incident_energy_that_is_given_goes_before_the_one_of_the_file() -> None:
    config, notes = configured(BEAM, 12.0)
    assert config.incident_energy == 12.0
    assert "COHERENT_SCT_ENERGY" not in config.parameters
    assert notes[0] == "COHERENT_SCT_ENERGY: 10 keV gives way to the incident energy of 12 keV"
    assert configured(BEAM, 10.0) == configured(BEAM)


def test_without_an_incident_energy_there_is_no_fit() -> None:
    with pytest.raises(ConfigError, match="mend: give incident_energy"):
        configured(Override(elements=("Fe",)))
    assert configured(Override(elements=("Fe",)), 8.0)[0].incident_energy == 8.0


def test_pile_up_is_fitted_with_the_elements() -> None:
    config, notes = of("ELEMENTS_TO_FIT: Fe_K, La_L\nELEMENTS_WITH_PILEUP: Si_Cl, Fe_Fe")
    assert config.elements == ("Fe", "La_L", "Si_Cl", "Fe_Fe")
    assert notes == ()


@pytest.mark.parametrize(
    ("text", "left", "told"),
    [
        ("ELEMENTS_TO_FIT: Fe, Mo", ("Fe",), "Mo: photons of 10 keV excite no lines of Mo"),
        ("ELEMENTS_TO_FIT: Fe, Es", ("Fe",), "Es: the line table has no lines of Es"),
        ("ELEMENTS_TO_FIT: Fe\nELEMENTS_WITH_PILEUP: Fe_Mo", ("Fe",), "Fe_Mo: photons of 10 keV"),
        (
            "ELEMENTS_TO_FIT: Fe\nELEMENTS_WITH_PILEUP: Fe_Fe_Fe",
            ("Fe",),
            "Fe_Fe_Fe: pile-up of more than two",
        ),
        ("ELEMENTS_WITH_PILEUP: Fe_Fe", (), "Fe_Fe: pile-up without elements"),
        ("", (), "no elements to fit: those that the spectrum shows"),
    ],
)
def test_components_that_cannot_be_fitted_are_left_out_and_told(
    text: str, left: tuple[str, ...], told: str
) -> None:
    config, notes = of(text)
    assert config.elements == left
    assert notes[0].startswith(told)


def test_a_file_of_whose_elements_none_is_excited_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"none of the elements Mo, Ag .* 10 keV; mend"):
        of("ELEMENTS_TO_FIT: Mo, Ag")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ("MIN_ENERGY_TO_FIT: 2", (2.0, 11.0)),
        ("MAX_ENERGY_TO_FIT: 9", (1.0, 9.0)),
        ("MIN_ENERGY_TO_FIT: 2\nMAX_ENERGY_TO_FIT: 9", (2.0, 9.0)),
    ],
)
def test_an_end_of_the_range_that_the_file_does_not_give_is_as_without_a_file(
    text: str, wanted: tuple[float, float] | None
) -> None:
    assert of(text)[0].energy_range == wanted


def test_detector_is_that_of_the_file() -> None:
    assert of("DETECTOR_MATERIAL: 0")[0].detector == "Ge"
    assert of("DETECTOR_MATERIAL: 1")[0].detector == "Si"


def test_what_the_file_fixes_is_not_fitted_and_what_it_frees_is() -> None:
    config, notes = of("ELEMENTS_TO_FIT: Fe\nFWHM_OFFSET_FITTING: FIXED\nGAMMA_OFFSET_FITTING: FIT")
    assert set(config.free) == set(FITTED) - {"FWHM_OFFSET"} | {"GAMMA_OFFSET"}
    assert notes == ()


def test_a_calibration_that_the_file_fixes_is_held() -> None:
    config, notes = of("ELEMENTS_TO_FIT: Fe\nENERGY_SLOPE_FITTING: FIXED")
    assert set(config.free) == set(FITTED) - {"ENERGY_SLOPE"}
    assert notes == ()


@pytest.mark.parametrize(
    "line",
    [
        "F_TAIL_QUADRATIC: 0.5",
        "LINEAR_ESCAPE_FACTOR: 0.1",
        "COMPTON_AMPLITUDE: 4",
        "COMPTON_ANGLE_MIN: 70",
        "COMPTON_ANGLE_STEPSIZE: 0.5",
        "F_TAIL_QUADRATIC_FITTING: FIT",
        "BRANCHING_RATIO_ADJUSTMENT_K: Fe, 1, 1, 1.2, 1",
        "BRANCHING_FAMILY_ADJUSTMENT_L: Pt_L, 0, 1, 1",
        "WIDTH_MULTIPLIER: Fe, 1.5",
        "TAIL_FRACTION_ADJUST_SI: Fe, 1",
        "SNIP_USE_SINGLE_LOG: 1",
        "BE_WINDOW_THICKNESS: 24",
        "SI_ESCAPE_FACTOR: 0.02\nSI_ESCAPE_ENABLE: 0",
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(line: str) -> None:
    plain, none = of("ELEMENTS_TO_FIT: Fe")
    config, notes = of(f"ELEMENTS_TO_FIT: Fe\n{line}")
    assert (config, none) == (plain, ())
    assert len(notes) == 1
    assert "not used" in notes[0]


@pytest.mark.parametrize(
    "line",
    [
        "F_TAIL_QUADRATIC: 0",
        "BRANCHING_RATIO_ADJUSTMENT_K: Fe, 1, 1, 1, 1",
        "SNIP_USE_SINGLE_LOG: 0",
        "BE_WINDOW_THICKNESS: 0.0",
        "US_AMP_SENS_NUM: 5 %",
        "US_IC: 2xfm:scaler3_cts1.B",
    ],
)
def test_what_changes_nothing_is_not_told(line: str) -> None:
    assert of(f"ELEMENTS_TO_FIT: Fe\n{line}") == of("ELEMENTS_TO_FIT: Fe")


def test_an_escape_that_is_enabled_or_not_spoken_of_is_used() -> None:
    for line in ("", "SI_ESCAPE_ENABLE: 1"):
        config, notes = of(f"ELEMENTS_TO_FIT: Fe\nSI_ESCAPE_FACTOR: 0.02\n{line}")
        assert config.parameters == {"SI_ESCAPE": 0.02}
        assert notes == ()


def test_a_fitted_escape_that_the_file_switches_off_is_told() -> None:
    file = replace(BEAM, settings={"SI_ESCAPE_ENABLE": "0"})
    fitted = overridden(file, {"SI_ESCAPE": 0.02, "GE_ESCAPE": 0.0})
    assert fitted.notes == ("SI_ESCAPE: MAPS does not use it, as SI_ESCAPE_ENABLE is 0 in the file",)
    assert fitted.parameters["SI_ESCAPE"] == 0.02
    with pytest.raises(DataError, match="SI_ESCAPE_ENABLE: found 'no'; mend: give a number"):
        configured(replace(fitted, settings={"SI_ESCAPE_ENABLE": "no"}))


def test_bounds_that_exclude_the_value_are_refused() -> None:
    wrong = "COMPTON_ANGLE: 60\nCOMPTON_ANGLE_MIN: 70"
    with pytest.raises(DataError, match=r"COMPTON_ANGLE: its value 60 .* 70 to inf; mend: widen the bounds"):
        of(wrong)
    with pytest.raises(DataError, match="mend: widen the bounds"):
        overridden(read_override("COMPTON_ANGLE_MIN: 70\n"), {"COMPTON_ANGLE": 60.0})
    assert of(wrong.replace("60", "70"))[0].parameters == {"COMPTON_ANGLE": 70.0}


def test_a_value_that_no_fit_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"COMPTON_ANGLE: found 5 degree; mend: from 20 to 180"):
        of("COMPTON_ANGLE: 5")


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"ENERGY_SLOP": 0.01}, "'ENERGY_SLOP' is no parameter; mend: one of ENERGY_OFFSET"),
        ({"FWHM_OFFSET": float("nan")}, "FWHM_OFFSET: found nan; mend: leave out"),
    ],
)
def test_values_that_are_none_are_not_put_in(values: dict[str, float], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        overridden(BEAM, values)
