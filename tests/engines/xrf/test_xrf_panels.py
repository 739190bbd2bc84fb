from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import poisson
from tests.engines.xrf.spectra import KNOWN, truth

from skyloop.engines.panel import Curve, Facts, Plot
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.panels import residuals, spectrum_panels
from skyloop.engines.xrf.spectrum import SpectrumFit, fit_spectrum
from skyloop.errors import Outcome
from skyloop.figures._tables import lines_of
from skyloop.figures.pen import draw
from skyloop.quantities import FloatArray

ELASTIC, COMPTON = "COHERENT_SCT_AMPLITUDE", "COMPTON_AMPLITUDE"
ENERGY = np.linspace(1.0, 11.0, 400)
SYMBOLS = ("Si", "Cl", "Ar", "Ca", "Ti", "Mn", "Fe", "Ni", "Cu", "Zn")


def peak(center: float) -> FloatArray:
    shape = np.exp(-0.5 * ((ENERGY - center) / 0.08) ** 2)
    return shape / shape.sum()


def fit_of(*names: str, background: float = 20.0, seed: int = 3, **changed: object) -> SpectrumFit:
    """A result with components of falling strength, the first by far the strongest; counts are drawn."""
    amplitudes = 1e5 * np.exp2(-np.arange(len(names), dtype=np.float64))
    columns = np.array([peak(center) for center in np.linspace(1.5, 10.0, len(names))])
    smooth = np.full(len(ENERGY), background)
    counts = np.random.default_rng(seed).poisson(amplitudes @ columns + smooth).astype(np.float64)
    made = SpectrumFit(
        outcome=Outcome.OK,
        reason="",
        names=names,
        amplitudes=amplitudes,
        sigmas=np.sqrt(amplitudes),
        significance=dict.fromkeys(names, 50.0),
        alike={},
        values={"ENERGY_SLOPE": 0.025, "COMPTON_F_TAIL": 0.0, "GAMMA_OFFSET": 2.2},
        value_sigmas={"ENERGY_SLOPE": 1e-5, "COMPTON_F_TAIL": np.nan},
        at_bound=("COMPTON_F_TAIL",),
        covariance=np.eye(len(names) + 2),
        first=40,
        energy=ENERGY,
        counts=counts,
        columns=columns,
        background=smooth,
        splines=np.ones((1, len(ENERGY))),
        r2=0.99,
        deviance=1.02,
    )
    return replace(made, **changed)  # pyright: ignore[reportArgumentType]


def drawn(fit: SpectrumFit) -> tuple[Plot, dict[str, Curve]]:
    plot = spectrum_panels(fit)[0]
    assert isinstance(plot, Plot)
    curves = [item for item in plot.items if isinstance(item, Curve)]
    assert len(curves) == len(plot.items) == len({curve.label for curve in curves})
    return plot, {curve.label: curve for curve in curves}


def off_of(fit: SpectrumFit) -> FloatArray:
    return residuals(fit.counts, fit.model)


def tables(fit: SpectrumFit) -> tuple[Facts, Facts]:
    components, calibration = spectrum_panels(fit)[2:]
    assert isinstance(components, Facts)
    assert isinstance(calibration, Facts)
    return components, calibration


def note(fit: SpectrumFit, name: str) -> str:
    return next(fact.note for fact in tables(fit)[0].rows if fact.name == name)


# ---------------------------------------------------------------- the spectrum


@pytest.mark.parametrize("count", [1, 8, 9, 10])
def test_curves_add_up_to_the_model_however_many_components_there_are(count: int):
    fit = fit_of(*SYMBOLS[:count])
    _, curves = drawn(fit)
    least = 0.5 * fit.counts[fit.counts > 0].min()
    parts = [c.y for name, c in curves.items() if name not in ("counts", "model")]
    off = curves["model"].y - np.nansum(parts, axis=0)
    assert (off >= -1e-9 * fit.model).all()
    assert (off <= least * len(fit.names)).all()


def test_the_strongest_components_have_names_and_the_others_are_one_curve():
    _, curves = drawn(fit_of(*SYMBOLS, ELASTIC, COMPTON))
    assert list(curves) == ["counts", "model", "background", *SYMBOLS[:8], "4 others"]


def test_nine_components_are_all_named():
    _, curves = drawn(fit_of(*SYMBOLS[:9]))
    assert list(curves) == ["counts", "model", "background", *SYMBOLS[:9]]


def test_strength_is_that_of_all_lines_of_a_component():
    fit = fit_of(*SYMBOLS)
    columns = fit.columns.copy()
    columns[-1] *= 1e4
    _, curves = drawn(replace(fit, columns=columns))
    assert list(curves)[3] == SYMBOLS[-1]


def test_scatter_has_plain_names():
    _, curves = drawn(fit_of("Fe", ELASTIC, COMPTON))
    assert {"Fe", "elastic", "Compton"} <= set(curves)


def test_every_channel_with_counts_is_a_point_with_its_error():
    fit = fit_of("Fe", background=0.5)
    plot, curves = drawn(fit)
    points, empty = curves["counts"], int((fit.counts == 0).sum())
    assert empty > 100
    assert points.y.sum() == fit.counts.sum()
    np.testing.assert_allclose(points.y_sigma**2, points.y, rtol=1e-12)
    assert len(points.x) == len(fit.counts) - empty
    assert f"{empty} of 400 channels have no counts" in plot.title


def test_a_title_says_nothing_of_channels_when_all_have_counts():
    assert drawn(fit_of("Fe", background=100.0))[0].title == "spectrum"


@pytest.mark.parametrize("background", [0.0, 0.5, 1e3])
def test_tails_and_empty_channels_do_not_spoil_the_logarithmic_axis(background: float):
    fit = fit_of("Ca", "Fe", background=background)
    plot, _ = drawn(fit)
    (axes,) = draw([plot]).axes
    low, high = axes.get_ylim()
    least = fit.counts[fit.counts > 0].min()
    assert axes.get_yscale() == "log"
    assert least / 20 < low < least
    assert fit.counts.max() < high < 10 * fit.counts.max()


def test_a_component_that_was_not_seen_has_no_curve():
    fit = fit_of("Ca", "Fe")
    without = replace(fit, amplitudes=fit.amplitudes * [1.0, 0.0], sigmas=np.array([300.0, np.nan]))
    assert "Fe" not in drawn(without)[1]
    assert note(without, "Fe") == "not seen"


def test_a_component_without_an_uncertainty_says_so():
    fit = fit_of("Ca", "Fe")
    unknown = replace(fit, sigmas=np.full(2, np.nan), value_sigmas={"ENERGY_SLOPE": np.nan}, at_bound=())
    assert note(unknown, "Fe") == "no uncertainty"
    assert tables(unknown)[1].rows[0].note == "no uncertainty"


# ---------------------------------------------------------------- residuals


def test_squares_of_residuals_add_up_to_the_deviance():
    fit = fit_of("Ca", "Fe", background=0.3)
    y, m = fit.counts, fit.model
    log_best, log_found = (np.asarray(poisson.logpmf(y, of)) for of in (np.maximum(y, 1e-300), m))
    assert float((off_of(fit) ** 2).sum()) == pytest.approx(2 * (log_best - log_found).sum(), rel=1e-9)


@pytest.mark.parametrize("background", [3.0, 30.0, 3e4])
def test_residuals_of_poisson_counts_spread_by_one(background: float):
    off = np.concatenate([off_of(fit_of("Fe", background=background, seed=seed)) for seed in range(25)])
    assert off.std() == pytest.approx(1.0, abs=0.06)
    assert abs(off.mean()) < 0.2
    assert np.abs(off).max() < 6


def test_a_residual_has_the_sign_of_what_is_too_many():
    fit = fit_of("Fe")
    off = off_of(replace(fit, counts=fit.model + np.where(ENERGY > 5, 3.0, -3.0)))
    assert (np.sign(off) == np.where(ENERGY > 5, 1, -1)).all()


def test_a_model_that_is_met_exactly_leaves_no_residual():
    fit = fit_of("Fe", background=0.0)
    off = off_of(replace(fit, counts=fit.model))
    assert np.abs(off).max() < 2e-3  # below 1e-6 counts a channel the deviance takes 1e-6


def test_both_plots_have_one_abscissa():
    spectrum, below, *_ = spectrum_panels(fit_of("Fe"))
    assert isinstance(spectrum, Plot)
    assert isinstance(below, Plot)
    assert spectrum.x == below.x
    assert (spectrum.x.unit, below.y.unit) == ("keV", "standard deviations")


# ---------------------------------------------------------------- tables


def test_every_component_stands_in_the_table_with_its_uncertainty():
    fit = fit_of(*SYMBOLS, COMPTON)
    rows = tables(fit)[0].rows
    assert [row.name for row in rows] == [*SYMBOLS, "Compton"]
    assert [(row.value, row.sigma) for row in rows] == list(zip(fit.amplitudes, fit.sigmas, strict=True))
    assert {row.unit for row in rows} == {"count"}


def test_a_note_tells_what_may_be_meant_and_how_sure_it_is():
    fit = fit_of("Ca", "Fe", "Cu")
    told = replace(fit, significance={"Ca": 50.0, "Fe": 4.69, "Cu": 50.0}, alike={"Cu": ("Ta_L", "Hf_L")})
    assert note(told, "Ca") == ""
    assert note(told, "Fe") == "4.7 sigma"
    assert note(told, "Cu") == "50.0 sigma, may be Ta_L, Hf_L"


def test_many_that_may_be_meant_are_counted():
    fit = fit_of("Ca", "Fe")
    told = replace(fit, alike={"Fe": ("A", "B", "C", "D", "E", "F")})
    assert note(told, "Fe") == "50.0 sigma, may be A, B, C, D and 2 more"


def test_components_that_the_user_named_are_told_from_those_that_were_found():
    fit = fit_of("Fe")
    assert "found" in tables(fit)[0].title
    assert "as named" in tables(replace(fit, significance={}))[0].title


def test_a_parameter_at_an_end_of_its_range_shows_no_uncertainty():
    lines = lines_of(tables(fit_of("Fe"))[1])
    at = next(i for i, line in enumerate(lines) if line.startswith("COMPTON_F_TAIL"))
    assert "±" not in lines[at]
    assert lines[at + 1].strip() == "at an end of its range"
    assert any(line.startswith("ENERGY_SLOPE") and "±" in line and "keV/channel" in line for line in lines)
    assert not any(line.startswith("GAMMA_OFFSET") for line in lines)


def test_a_fit_that_is_not_to_be_trusted_marks_every_value_and_says_why():
    fit = replace(fit_of("Fe"), outcome=Outcome.DEGRADED, reason="does not describe the spectrum")
    components, calibration = tables(fit)
    lines = lines_of(components)
    assert "±" in lines[1]
    assert lines[1].split(" counts")[0].endswith("?")
    assert "outcome: degraded: does not describe the spectrum" in lines
    assert "outcome: degraded" in lines_of(calibration)


def test_the_picture_of_a_fitted_spectrum_shows_its_deviance():
    true = truth({"Ca": 1.0, "Fe": 2.0, "Cu": 0.5}, total=2e5)
    fit = fit_spectrum(
        true.counts(7), Config(incident_energy=10.0, elements=true.elements, calibration=KNOWN)
    )
    squares = float((off_of(fit) ** 2).sum())
    assert squares <= fit.deviance * len(fit.counts) <= 1.1 * squares
    figure = draw(spectrum_panels(fit))
    text = "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert f"reduced deviance {fit.deviance:.4g}" in " ".join(text.split())
    for name in true.elements:
        value, sigma = fit.amplitude(name)
        assert abs(value - true.amplitudes[name]) < 4 * sigma
