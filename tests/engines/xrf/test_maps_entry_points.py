from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from skyloop.engines.xrf.background import snip
from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, energies, shapes
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.maps import compton_peak, elastic_peak, escape_peak, model_spec, snip_bkg
from skyloop.engines.xrf.maps_fit import Loss, create_tensors, fit_spec
from skyloop.engines.xrf.override import read_override
from skyloop.engines.xrf.parameters import FITTED, PARAMETERS, defaults
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, rows_of
from skyloop.errors import ConfigError, DataError
from skyloop.quantities import FloatArray
from skyloop.storage.mda import read_mda

GAIN = 0.01
EV = GAIN * np.arange(1500)
SCATTER = {COMPTON: 4.0, ELASTIC: 3.0}
PARAMS = {
    "FWHM_OFFSET": 0.11,
    "COMPTON_ANGLE": 100.0,
    "COMPTON_FWHM_CORR": 1.8,
    "COMPTON_F_STEP": 0.02,
    "COMPTON_F_TAIL": 0.3,
    "COMPTON_HI_F_TAIL": 0.05,
    **SCATTER,
}
ELEMENTS = ("Ca", "Fe", "Cu")
AMPLITUDES = {"Ca": 4.0, "Fe": 4.5, "Cu": 3.6, COMPTON: 4.8, ELASTIC: 4.0}
RANGE = (200, 1100)


def width(energy: float, p: dict[str, float] = PARAMS) -> float:
    return float(np.sqrt((p["FWHM_OFFSET"] / 2.3548) ** 2 + energy * 3.58 * 1.2e-4))


def tail(delta: FloatArray, sigma: float, gamma: float) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        grown = np.exp(np.minimum(delta / (gamma * sigma) + 1 / (2 * gamma**2), 700))
    return grown * special.erfc(delta / (sigma * np.sqrt(2)) + 1 / (gamma * np.sqrt(2))) / (2 * gamma * sigma)


def mixture(**given: float) -> Tensor:
    """Expected counts from channel 0 on."""
    return model_spec({**AMPLITUDES, **given}, (0, 1199), ELEMENTS)


def test_the_elastic_peak_is_its_formula() -> None:
    wanted = 1e3 * GAIN * stats.norm.pdf(EV, 10.0, width(10.0))
    np.testing.assert_allclose(elastic_peak(PARAMS, EV, GAIN), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("use_step", [True, False])
@pytest.mark.parametrize("use_tail", [True, False])
def test_the_compton_peak_is_its_formula(use_step: bool, use_tail: bool) -> None:
    center = 10 / (1 + 10 / 510.99895 * (1 - np.cos(np.deg2rad(100.0))))
    delta, sigma = EV - center, width(center)
    step = PARAMS["COMPTON_F_STEP"] if use_step else 0
    low, high = (PARAMS["COMPTON_F_TAIL"], PARAMS["COMPTON_HI_F_TAIL"]) if use_tail else (0, 0)
    wanted = stats.norm.pdf(delta, 0, 1.8 * sigma)
    wanted += step / (2 * center) * special.erfc(delta / (sigma * np.sqrt(2)))
    wanted += low * tail(delta, sigma, 3.0) + high * tail(-delta, sigma, 3.0)
    wanted *= 1e4 * GAIN / (1 + step + low + high)
    np.testing.assert_allclose(
        compton_peak(PARAMS, EV, GAIN, use_step, use_tail), wanted, rtol=1e-7, atol=1e-9
    )


def test_counts_of_scatter_are_ten_to_its_amplitude() -> None:
    assert float(elastic_peak(PARAMS, EV, GAIN).sum()) == pytest.approx(1e3, rel=1e-9)
    assert float(compton_peak(PARAMS, EV, GAIN, False, True).sum()) == pytest.approx(1e4, rel=1e-6)


def test_scatter_takes_a_batch_of_parameters() -> None:
    energy, amplitude = torch.tensor([9.0, 10.0, 11.0]).double(), torch.tensor([1.0, 2.0, 3.0]).double()
    for peak, name in ((elastic_peak, ELASTIC), (compton_peak, COMPTON)):
        together = peak({**PARAMS, name: amplitude, "COHERENT_SCT_ENERGY": energy}, EV, GAIN)
        for i in range(3):
            one = {**PARAMS, name: float(amplitude[i]), "COHERENT_SCT_ENERGY": float(energy[i])}
            torch.testing.assert_close(together[i], peak(one, EV, GAIN))


@pytest.mark.parametrize(("detector", "shift"), [("Si", 1.73998), ("Ge", 9.886)])
def test_an_escape_is_the_spectrum_moved_down(detector: Literal["Si", "Ge"], shift: float) -> None:
    at = 12.0
    found = escape_peak(stats.norm.pdf(EV, at, 0.1), EV, 0.02, detector)
    np.testing.assert_allclose(found, 0.02 * stats.norm.pdf(EV, at - shift, 0.1), atol=2e-4)
    assert float(found.sum() * GAIN) == pytest.approx(0.02, rel=1e-3)


def test_an_escape_of_a_straight_line_is_exact_and_ends_with_the_spectrum() -> None:
    spectra = torch.from_numpy(np.stack([EV, 2 * EV]))
    factor = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    found = escape_peak(spectra, EV, factor)
    inside = EV[-1] >= EV + 1.73998
    np.testing.assert_allclose(found[1, inside].detach(), 0.2 * (EV + 1.73998)[inside], rtol=1e-12)
    assert not found[:, ~inside].any()
    found.sum().backward()
    assert factor.grad is not None
    assert float(factor.grad) == pytest.approx(float(found.detach().sum()) / 0.1)


def test_escapes_of_energies_that_do_not_ascend_are_refused() -> None:
    for ev in (EV[::-1].copy(), EV[:-1]):
        with pytest.raises(DataError, match=r"escape: energies .* mend"):
            escape_peak(EV, ev, 0.1)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("fwhm", [True, False])
def test_snip_bkg_is_snip(single: bool, fwhm: bool) -> None:
    counts = torch.poisson(mixture() + 30, generator=torch.Generator().manual_seed(0))
    p = defaults({"SNIP_WIDTH": 0.7, "ENERGY_OFFSET": -0.01, "ENERGY_QUADRATIC": 1e-8})
    calibration = p["ENERGY_OFFSET"], p["ENERGY_SLOPE"], p["ENERGY_QUADRATIC"]
    given = *calibration, p["SNIP_WIDTH"], p["FWHM_OFFSET"], p["FWHM_FANOPRIME"]
    logs, first, last = 1 if single else 2, *RANGE
    options = {"use_single_log": single, "use_fwhm_width": fwhm}
    cut = counts[first : last + 1].numpy()
    wanted = snip(torch.from_numpy(cut), theta_of(p), Span(first, len(cut)), logs=logs, fwhm_width=fwhm)
    assert torch.equal(snip_bkg(cut, RANGE, *given, **options), wanted)
    whole = snip(counts, theta_of(p), Span(0, len(counts)), logs=logs, fwhm_width=fwhm)
    found = snip_bkg(counts, RANGE, *given, use_full_spectrum=True, **options)
    assert torch.equal(found, whole[first : last + 1])


def test_a_spectrum_is_the_sum_of_its_components() -> None:
    names = [*ELEMENTS, ELASTIC, COMPTON]
    p = theta_of(defaults({"ESCAPE_SCALE": 0.0}))
    rows = rows_of(names, line_table(), incident_energy=10.0)
    each = shapes(rows, p, Span(RANGE[0], RANGE[1] - RANGE[0] + 1))
    wanted = sum(10 ** AMPLITUDES[name] * one for name, one in zip(names, each, strict=True))
    found = model_spec(AMPLITUDES, RANGE, ELEMENTS)
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(found, wanted)
    assert found.shape == (RANGE[1] - RANGE[0] + 1,)


def test_ten_to_the_amplitude_are_the_counts_of_the_main_line() -> None:
    ratio = line_table().lines(["Fe"], 10.0).ratio.sum()
    assert float(model_spec({"Fe": 3.0}, (0, 1199), ["Fe"]).sum()) == pytest.approx(1e3 * ratio, rel=1e-6)


def test_scatter_is_part_of_a_spectrum_if_it_has_an_amplitude() -> None:
    p = {"COMPTON_F_STEP": 0.02}
    without, scatter = (
        model_spec({**a, **p}, RANGE, ELEMENTS) for a in ({n: AMPLITUDES[n] for n in ELEMENTS}, AMPLITUDES)
    )
    ev = energies(theta_of(defaults()), Span(RANGE[0], RANGE[1] - RANGE[0] + 1))
    own = elastic_peak({**AMPLITUDES, **p}, ev, GAIN) + compton_peak(
        {**AMPLITUDES, **p}, ev, GAIN, use_tail=True
    )
    torch.testing.assert_close(scatter - without, own, atol=1e-6, rtol=1e-9)
    torch.testing.assert_close(
        model_spec(AMPLITUDES, RANGE, [*ELEMENTS, COMPTON]), model_spec(AMPLITUDES, RANGE, ELEMENTS)
    )


def test_escapes_are_there_only_if_asked_for() -> None:
    plain = model_spec(AMPLITUDES, RANGE, ELEMENTS)
    by_factor = model_spec(AMPLITUDES, RANGE, ELEMENTS, escape_factor=0.02)
    by_parameter = model_spec({**AMPLITUDES, "SI_ESCAPE": 0.02}, RANGE, ELEMENTS)
    torch.testing.assert_close(by_factor, by_parameter)
    iron_escape = round((6.404 - 1.74) / GAIN) - RANGE[0]
    assert float(plain[iron_escape]) < 0.1 * float(by_factor[iron_escape])
    assert float(by_factor.sum()) > 1.01 * float(plain.sum())


def test_a_batch_of_spectra_is_one_by_one() -> None:
    amplitude, slope = torch.tensor([[3.0], [4.0]]).double(), torch.tensor([0.0098, 0.01, 0.0102]).double()
    together = model_spec({**AMPLITUDES, "Fe": amplitude, "ENERGY_SLOPE": slope}, RANGE, ELEMENTS)
    assert together.shape == (2, 3, RANGE[1] - RANGE[0] + 1)
    for i in range(2):
        for j in range(3):
            one = {**AMPLITUDES, "Fe": float(amplitude[i, 0]), "ENERGY_SLOPE": float(slope[j])}
            torch.testing.assert_close(together[i, j], model_spec(one, RANGE, ELEMENTS), rtol=1e-9, atol=1e-3)


def test_a_spectrum_has_a_gradient_by_all_that_can_be_fitted() -> None:
    tensors, _ = create_tensors([*ELEMENTS, ELASTIC, COMPTON])
    model_spec(tensors, RANGE, ELEMENTS).square().sum().backward()
    for name in (*FITTED, *ELEMENTS, ELASTIC, COMPTON):
        grad = tensors[name].grad
        assert grad is not None, name
        assert bool(torch.isfinite(grad)), name
        assert float(grad) != 0, name


@pytest.mark.parametrize(
    ("params", "elements", "message"),
    [
        ({"Fe": 1.0}, ["Ca"], "no amplitude of 'Ca'"),
        ({"Fe": 1.0, "ENERGY_SLOP": 0.01}, ["Fe"], "'ENERGY_SLOP' is no parameter"),
        ({"Fe": 1.0, "ENERGY_SLOPE": 5.0}, ["Fe"], "ENERGY_SLOPE: found 5"),
        ({"Fe": 1.0, "GAMMA_QUADRATIC": 0.1}, ["Fe"], "GAMMA_QUADRATIC"),
        ({"Fe": 1.0}, ["Fe", "Fe"], "twice"),
        ({"Sr": 1.0}, ["Sr"], "Sr: its main line"),
        ({"Fe_Q": 1.0}, ["Fe_Q"], "'Fe_Q' is no parameter"),
    ],
)
def test_spectra_of_wrong_parameters_are_refused(
    params: dict[str, float], elements: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"{message}.*mend"):
        model_spec(params, RANGE, elements)


@pytest.mark.parametrize("energy_range", [(5, 4), (-1, 100)])
def test_wrong_ranges_are_refused(energy_range: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"energy range .* mend"):
        model_spec(AMPLITUDES, energy_range, ELEMENTS)


def test_what_maps_files_hold_beside_is_accepted() -> None:
    beside = {"GAMMA_QUADRATIC": 0.0, "MAX_ENERGY_TO_FIT": 11.0, "SNIP_USE_SINGLE_LOG": 1.0, "Si_Si": 2.0}
    torch.testing.assert_close(
        model_spec({**AMPLITUDES, **beside}, RANGE, ELEMENTS), model_spec(AMPLITUDES, RANGE, ELEMENTS)
    )


def test_tensors_of_what_is_fitted_have_a_gradient_and_a_rate() -> None:
    tensors, groups = create_tensors(
        ["Fe"], ["ENERGY_SLOPE", "ENERGY_OFFSET"], {"ENERGY_SLOPE": 0.012}, {"ENERGY_OFFSET": 0.01}
    )
    assert set(tensors) == {*PARAMETERS, "Fe"}
    assert [n for n, t in tensors.items() if t.requires_grad] == ["ENERGY_SLOPE", "Fe"]
    assert {float(g["params"].detach()): g["lr"] for g in groups} == {0.012: 1e-6, 0.0: 1e-2}
    assert float(tensors["ENERGY_OFFSET"]) == 0.01
    assert all(t.dtype == torch.float64 for t in tensors.values())


def test_tensors_that_are_not_tuned_are_amplitudes_only() -> None:
    tensors, groups = create_tensors(["Fe", COMPTON], tune_params=False, map_shape=(2, 3))
    assert [n for n, t in tensors.items() if t.requires_grad] == ["Fe", COMPTON]
    assert tensors["Fe"].shape == (2, 3)
    assert len(groups) == 2


def test_amplitudes_that_are_given_go_before_those_of_the_spectrum() -> None:
    tensors, _ = create_tensors(
        ["Fe", "Ca", "Cu"], (), {"Fe": 2.0}, {"Ca": 1.5}, init_amp=True, spec=torch.stack([mixture()] * 2)
    )
    assert [tensors[n].tolist() for n in ("Fe", "Ca")] == [[2.0, 2.0], [1.5, 1.5]]
    assert [tensors[n].requires_grad for n in ("Fe", "Ca", "Cu")] == [True, False, True]
    assert float(tensors["Cu"][0].detach()) > 3


def test_amplitudes_start_near_the_truth_at_every_gain() -> None:
    names = [*ELEMENTS, COMPTON, ELASTIC]
    for slope, count in ((0.005, 2400), (0.01, 1200), (0.02, 600)):
        spec = model_spec({**AMPLITUDES, "ENERGY_SLOPE": slope}, (0, count - 1), ELEMENTS)
        tensors, _ = create_tensors(
            names, (), {"ENERGY_SLOPE": slope}, init_amp=True, spec=torch.stack([spec, 0 * spec])
        )
        for name in names:
            found, nothing = tensors[name].detach()
            assert abs(float(found) - AMPLITUDES[name]) < (1.0 if name == ELASTIC else 0.35), name
            assert float(nothing) == 0


def test_wrong_tensors_are_refused() -> None:
    with pytest.raises(ConfigError, match="init_amp without a spectrum; mend"):
        create_tensors(["Fe"], init_amp=True)
    with pytest.raises(ConfigError, match="'SLOPE' is no parameter"):
        create_tensors(["Fe"], ["SLOPE"])
    with pytest.raises(ConfigError, match="ENERGY_SLOPE: found 2"):
        create_tensors(["Fe"], fixed_param_vals={"ENERGY_SLOPE": 2.0})
    with pytest.raises(DataError, match="negative or no numbers"):
        create_tensors(["Fe"], init_amp=True, spec=np.full(1000, -1.0))


def test_amplitudes_are_recovered() -> None:
    fit = fit_spec(mixture(), RANGE, ELEMENTS, tune_params=False, use_snip=False, n_iter=400)
    for name in (*ELEMENTS, COMPTON):
        assert abs(float(fit.tensors[name]) - AMPLITUDES[name]) < 0.01, name
    assert not fit.bkg.any()
    assert len(fit.loss_trace) == 400
    assert fit.loss_trace[-1] < 1e-3 * fit.loss_trace[0]


def test_a_wrong_calibration_is_mended() -> None:
    truth = {"ENERGY_OFFSET": 0.02, "FWHM_OFFSET": 0.11}
    counts = torch.poisson(mixture(**truth) + 5, generator=torch.Generator().manual_seed(0))
    start = fit_spec(counts, RANGE, ELEMENTS, (), n_iter=250, loss="poisson_deviance")
    fit = fit_spec(counts, RANGE, ELEMENTS, tuple(truth), n_iter=250, loss="poisson_deviance")
    assert float(fit.tensors["ENERGY_OFFSET"]) == pytest.approx(0.02, abs=0.002)
    assert fit.loss_trace[-1] < 0.2 * start.loss_trace[-1]
    assert float(fit.tensors["ENERGY_SLOPE"]) == 0.01


def by_hand(loss: Loss, m: FloatArray, y: FloatArray) -> float:
    if loss == "mse":
        return float(np.sum((m - y) ** 2))
    if loss == "chi2":
        return float(np.sum((m - y) ** 2 / np.maximum(m, 1)))
    return float(2 * np.sum(special.kl_div(y, np.maximum(m, 1e-6))))


@pytest.mark.parametrize("loss", ["mse", "poisson_deviance", "chi2"])
@pytest.mark.parametrize("indices", [None, list(range(100, 300))])
def test_the_loss_is_its_formula(loss: Loss, indices: list[int] | None) -> None:
    counts = torch.poisson(mixture() + 3, generator=torch.Generator().manual_seed(0)).numpy()
    trace = fit_spec(counts, RANGE, ELEMENTS, n_iter=1, loss=loss, indices=indices).loss_trace
    tensors, _ = create_tensors([*ELEMENTS, ELASTIC, COMPTON], init_amp=True, spec=counts)
    p = defaults()
    background = snip_bkg(
        counts,
        RANGE,
        p["ENERGY_OFFSET"],
        p["ENERGY_SLOPE"],
        0.0,
        p["SNIP_WIDTH"],
        0.1,
        1e-4,
        use_full_spectrum=True,
    )
    m = (model_spec(tensors, RANGE, ELEMENTS).detach() + background).numpy()
    y, at = counts[RANGE[0] : RANGE[1] + 1].astype(float), indices or slice(None)
    assert trace == [pytest.approx(by_hand(loss, m[at], y[at]), rel=1e-9)]


def test_a_fit_is_the_model_at_its_parameters() -> None:
    counts = torch.poisson(mixture() + 3, generator=torch.Generator().manual_seed(0))
    tensors, spec_fit, bkg, _ = fit_spec(
        counts, RANGE, ELEMENTS, n_iter=3, fixed_param_vals={"SNIP_USE_SINGLE_LOG": 1.0}
    )
    torch.testing.assert_close(spec_fit, model_spec(tensors, RANGE, ELEMENTS))
    names = (
        "ENERGY_OFFSET",
        "ENERGY_SLOPE",
        "ENERGY_QUADRATIC",
        "SNIP_WIDTH",
        "FWHM_OFFSET",
        "FWHM_FANOPRIME",
    )
    given: list[Any] = [tensors[name] for name in names]
    torch.testing.assert_close(
        bkg, snip_bkg(counts, RANGE, *given, use_single_log=True, use_full_spectrum=True)
    )
    assert not any(t.requires_grad for t in (*tensors.values(), spec_fit, bkg))


def test_parameters_stay_in_their_ranges() -> None:
    # peaks wider than FWHM_OFFSET can make them
    counts = sum(1e5 * GAIN * stats.norm.pdf(EV, energy, 0.3) for energy in (3.69, 6.4, 8.05))
    start = {"FWHM_OFFSET": 0.499}
    fit = fit_spec(np.asarray(counts), RANGE, ELEMENTS, ("FWHM_OFFSET",), start, use_snip=False, n_iter=200)
    assert float(fit.tensors["FWHM_OFFSET"]) == PARAMETERS["FWHM_OFFSET"].high
    fit = fit_spec(np.asarray(counts), RANGE, ELEMENTS, use_snip=False, n_iter=40)
    for name, known in PARAMETERS.items():
        assert known.low <= float(fit.tensors[name]) <= known.high, name


def test_no_counts_are_fitted_by_none() -> None:
    fit = fit_spec(np.zeros(1200), RANGE, ELEMENTS, n_iter=5, loss="poisson_deviance")
    assert all(bool(torch.isfinite(t).all()) for t in (*fit.tensors.values(), fit.spec_fit, fit.bkg))
    assert all(float(fit.tensors[name]) < 0 for name in ELEMENTS)


@pytest.mark.parametrize("options", [{"loss": "l1"}, {"optimizer": "lbfgs"}])
def test_unknown_losses_and_optimizers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"fit_spec: .*mend"):
        fit_spec(np.ones(1200), RANGE, ELEMENTS, **options)


@pytest.mark.parametrize("counts", [np.full(1200, np.nan), -np.ones(1200), np.ones(1100)])
def test_spectra_that_cannot_be_fitted_are_refused(counts: FloatArray) -> None:
    with pytest.raises(DataError, match="mend"):
        fit_spec(counts, RANGE, ELEMENTS, n_iter=1)


def test_the_real_standard_is_fitted_as_well_as_by_maps(shared_data: Path) -> None:
    scan = read_mda(shared_data / "xrf" / "axo_std.mda")
    counts = np.asarray(scan.levels[-1].detectors[0].values, dtype=np.float64).sum((0, 1))
    file = read_override(shared_data / "xrf" / "maps_fit_parameters_override.txt")
    fit = fit_spec(counts, (100, 1155), file.elements, init_param_vals=file.parameters)
    y = counts[100:1156]
    rest = y - (fit.spec_fit + fit.bkg).numpy()
    assert 1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum() > 0.932
