from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from skyloop.engines.xrf.families import Family
from skyloop.engines.xrf.features import features, theta_of
from skyloop.engines.xrf.forward import Span, energies, line_shapes, shapes, slopes
from skyloop.engines.xrf.lines import LineTable, line_table
from skyloop.engines.xrf.parameters import FITTED, PARAMETERS, defaults
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows, rows_of
from skyloop.quantities import FloatArray

SPAN = Span(30, 1400)
NAMES = ("Si", "Ca", "Fe", "Cu", "La_L", "Pb_M", "Si_Cl", ELASTIC, COMPTON)
SCATTER_ESCAPE = 1.73998
LIKELY = {
    "ENERGY_OFFSET": (-0.1, 0.1),
    "ENERGY_SLOPE": (0.008, 0.02),
    "ENERGY_QUADRATIC": (-1e-7, 1e-7),
    "FWHM_OFFSET": (0.05, 0.2),
    "FWHM_FANOPRIME": (5e-5, 3e-4),
    "COHERENT_SCT_ENERGY": (9.5, 10.5),
    "COMPTON_ANGLE": (60.0, 160.0),
    "F_STEP_OFFSET": (1e-5, 1e-3),
    "F_STEP_LINEAR": (0.0, 1e-4),
    "F_TAIL_LINEAR": (0.0, 1e-4),
    "KB_F_TAIL_LINEAR": (0.0, 1e-4),
    "GAMMA_OFFSET": (1.0, 4.0),
    "GAMMA_LINEAR": (-0.05, 0.1),
    "COMPTON_GAMMA": (0.5, 5.0),
    "COMPTON_HI_GAMMA": (0.5, 3.0),
}


def rows(*names: str, energy: float = 10.0) -> Rows:
    return rows_of(names, line_table(), incident_energy=energy)


def one_line(energy: float = 6.4) -> Rows:
    family = Family(
        ("Ka1",), np.array([energy]), np.array([1.0]), np.array([1.0]), np.zeros(1, dtype=np.int64), None
    )
    families = MappingProxyType({"Fe": family})
    return rows_of(
        ["Fe"], LineTable(families, line_table().totals, (0.0, 120.0), "test"), incident_energy=10.0
    )


def theta(**given: float) -> Tensor:
    return theta_of(defaults({"ESCAPE_SCALE": 0.0, **given}))


def likely(seed: int, **given: float) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    ranges = {n: LIKELY.get(n, (p.low, p.high)) for n, p in PARAMETERS.items()}
    return {n: float(rng.uniform(*ranges[n])) for n in PARAMETERS} | given


def expected(of: Rows, p: dict[str, float], span: Span) -> FloatArray:
    """Every peak in every channel, by scipy."""
    channel = span.first + span.step * np.arange(span.count)
    e = p["ENERGY_OFFSET"] + p["ENERGY_SLOPE"] * channel + p["ENERGY_QUADRATIC"] * channel**2
    out = np.zeros((len(of.names), span.count))
    escape = p["SI_ESCAPE"]

    def sigma(at: float) -> float:
        return float(
            np.hypot(p["FWHM_OFFSET"] / 2.3548, np.sqrt(p["FWHM_FANO_COEFF"] * p["FWHM_FANOPRIME"] * at))
        )

    def gauss(at: float, width: float) -> FloatArray:
        return stats.norm.pdf(e, at, width)

    def tail(at: float, width: float, gamma: float, sign: int = 1) -> FloatArray:
        return stats.exponnorm.pdf(-sign * (e - at) / width, gamma) / width

    for i in range(len(of.ratio)):
        at, ratio, k = float(of.energy[i]), float(of.ratio[i]), int(of.of[i])
        if i >= of.n_tailed:
            share = float(of.escaping[i - of.n_tailed])
            out[k] += (
                ratio * gauss(at, sigma(at)) * (1 if np.isnan(share) else p["ESCAPE_SCALE"] * share + escape)
            )
            continue
        mu = float(of.attenuation[i])
        kind = "KB_F_TAIL" if " Kb" in of.labels[i] else "F_TAIL"
        f_tail = p[f"{kind}_OFFSET"] + p[f"{kind}_LINEAR"] * mu
        f_step = mu * (p["F_STEP_OFFSET"] + p["F_STEP_LINEAR"] * at)
        gamma = abs(p["GAMMA_OFFSET"] + p["GAMMA_LINEAR"] * at)
        peak = gauss(at, sigma(at)) + f_tail * tail(at, sigma(at), gamma)
        peak += f_step * stats.norm.sf(e, at, sigma(at)) / at
        out[k] += ratio / (1 + f_step + f_tail) * peak
    incident = p["COHERENT_SCT_ENERGY"]
    escape += p["ESCAPE_SCALE"] * of.scatter_escaping
    if ELASTIC in of.names:
        lost = incident - SCATTER_ESCAPE
        both = gauss(incident, sigma(incident)) + escape * gauss(lost, sigma(lost))
        out[of.names.index(ELASTIC)] = both
    if COMPTON in of.names:
        at = incident / (1 + incident / 510.99895 * (1 - np.cos(np.deg2rad(p["COMPTON_ANGLE"]))))
        broad = sigma(at) * p["COMPTON_FWHM_CORR"]
        s, low, high = p["COMPTON_F_STEP"], p["COMPTON_F_TAIL"], p["COMPTON_HI_F_TAIL"]
        peak = gauss(at, broad) + s * stats.norm.sf(e, at, sigma(at)) / at
        peak += low * tail(at, sigma(at), p["COMPTON_GAMMA"])
        peak += high * tail(at, sigma(at), p["COMPTON_HI_GAMMA"], -1)
        out[of.names.index(COMPTON)] = peak / (1 + s + low + high) + escape * gauss(
            at - SCATTER_ESCAPE, broad
        )
    return p["ENERGY_SLOPE"] * out


def assert_like(actual: Tensor, wanted: FloatArray, share: float = 1e-7) -> None:
    np.testing.assert_allclose(
        actual.numpy() / wanted.max(-1, keepdims=True),
        wanted / wanted.max(-1, keepdims=True),
        rtol=0,
        atol=share,
    )


@pytest.mark.parametrize("seed", range(6))
def test_every_peak_is_its_formula_in_every_channel(seed: int) -> None:
    p, of = likely(seed), rows(*NAMES, energy=9.5)
    assert_like(shapes(of, theta_of(p), SPAN), expected(of, p, SPAN))


@pytest.mark.parametrize("seed", range(6))
def test_windows_without_steps_lose_nothing(seed: int) -> None:
    p = likely(seed, F_STEP_OFFSET=0.0, F_STEP_LINEAR=0.0)
    of = rows(*NAMES, energy=9.5)
    assert_like(shapes(of, theta_of(p), SPAN), expected(of, p, SPAN))


@pytest.mark.parametrize("tail", [0.0, 0.1])
def test_germanium_escapes_with_its_own_parameter(tail: float) -> None:
    of = rows_of(["Br", "Fe"], line_table(), incident_energy=16.0, detector="Ge")
    p = defaults({"GE_ESCAPE": 0.1, "SI_ESCAPE": 0.3, "COHERENT_SCT_ENERGY": 16.0, "F_TAIL_OFFSET": tail})
    wanted = expected(of, p | {"SI_ESCAPE": p["GE_ESCAPE"]}, Span(0, 1600))
    assert_like(shapes(of, theta_of(p), Span(0, 1600)), wanted)


def test_counts_of_a_line_are_its_amplitude_with_and_without_tail() -> None:
    for f_tail in (0.0, 0.1):
        total = shapes(one_line(), theta(F_TAIL_OFFSET=f_tail), Span(0, 1200)).sum()
        assert float(total) == pytest.approx(1.0, abs=1e-7)


def test_counts_of_an_element_are_those_of_its_lines() -> None:
    of = rows("Fe")
    total = shapes(of, theta(KB_F_TAIL_OFFSET=0.2), Span(0, 1200)).sum()
    wanted = line_table().lines(["Fe"], 10.0).ratio.sum()
    assert float(total) == pytest.approx(wanted, rel=1e-7)


def test_counts_of_scatter_are_its_amplitude() -> None:
    total = shapes(rows(ELASTIC, COMPTON), theta(), Span(0, 2000)).sum(-1)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


def test_a_step_takes_its_share_of_the_amplitude_from_zero_energy_on() -> None:
    of, span = one_line(), Span(0, 2000)
    step = float(of.attenuation[0]) * 1e-3
    found = shapes(of, theta(F_STEP_OFFSET=1e-3, F_TAIL_OFFSET=0.0), span)[0]
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-3)
    assert float(found[:500].sum()) == pytest.approx(step / (1 + step) * 500 * 0.01 / 6.4, rel=1e-9)


def test_the_tail_is_a_gaussian_folded_with_an_exponential() -> None:
    fine, sigma, gamma = 1e-4, 0.06, 2.2
    energy = np.arange(4.0, 8.0, fine)
    decay = np.exp(-np.arange(0, 2.4, fine) / (gamma * sigma)) / (gamma * sigma) * fine
    decay[0] /= 2  # trapezoidal rule
    gauss = stats.norm.pdf(energy, 6.4, sigma)
    folded = np.convolve(gauss[::-1], decay)[: len(energy)][::-1]
    given = {
        "FWHM_OFFSET": sigma * 2.3548,
        "FWHM_FANOPRIME": 1e-6,
        "F_TAIL_OFFSET": 0.1,
        "GAMMA_OFFSET": gamma,
    }
    fano = 6.4 * 3.58e-6
    given["FWHM_OFFSET"] = float(np.sqrt(sigma**2 - fano)) * 2.3548
    span = Span(500, 250)
    at = np.rint((energies(theta(), span).numpy() - 4.0) / fine).astype(int)
    wanted = 0.01 * (gauss + 0.1 * folded)[at] / 1.1
    np.testing.assert_allclose(
        shapes(one_line(), theta(**given), span)[0], wanted, rtol=0, atol=1e-6 * wanted.max()
    )


@pytest.mark.parametrize("angle", [30.0, 90.0, 180.0])
def test_compton_loses_energy_by_its_angle(angle: float) -> None:
    found = features(rows(COMPTON, energy=12.0), theta(COHERENT_SCT_ENERGY=12.0, COMPTON_ANGLE=angle)).center
    # in wavelengths, angstrom: Compton's own way to say it
    wavelength = 12.398419843 / 12.0 + 0.02426310235 * (1 - np.cos(np.deg2rad(angle)))
    np.testing.assert_allclose(found[:3], 12.398419843 / wavelength, rtol=1e-9)


def test_the_tail_of_k_beta_is_its_own() -> None:
    of = rows("Ca", "Fe", "Au_L", energy=15.0)
    lines = torch.arange(of.n_tailed)
    here, there = (
        line_shapes(of, theta(KB_F_TAIL_OFFSET=x, COHERENT_SCT_ENERGY=15.0), SPAN, lines)
        for x in (0.05, 0.15)
    )
    is_moved = (here != there).any(-1)
    assert is_moved.tolist() == [" Kb" in label for label in of.labels[: of.n_tailed]]
    assert 0 < int(is_moved.sum()) < len(is_moved)


def test_m_lines_have_neither_tail_nor_step() -> None:
    of = rows("Pb_M", "Fe")
    found = features(of, theta(F_TAIL_OFFSET=0.1, F_STEP_OFFSET=1e-3))
    is_lead = of.of == 0
    assert bool((found.tail[is_lead] == 0).all())
    assert bool((found.step[is_lead] == 0).all())
    assert bool((found.tail[: of.n_tailed] > 0).all())
    assert of.n_tailed == int((~is_lead).sum()) - int(of.is_escape[of.of[of.n_tailed :] == 1].sum())


def test_lines_add_up_to_their_component() -> None:
    of, p = rows("Fe", "Pb_M", "Si_Cl"), theta_of(likely(3))
    each = line_shapes(of, p, SPAN, torch.arange(len(of.ratio)))
    together = torch.zeros(len(of.names), SPAN.count, dtype=torch.float64).index_add(0, of.of, each)
    torch.testing.assert_close(together, shapes(of, p, SPAN))


@pytest.mark.parametrize(
    "span", [Span(400, 60), Span(630, 20), Span(700, 100), Span(30, 25), Span(1200, 200)]
)
@pytest.mark.parametrize("step", [0.0, 1e-3])
def test_part_of_the_channels_are_part_of_the_spectrum(span: Span, step: float) -> None:
    of, p = rows(*NAMES), theta(F_STEP_OFFSET=step, F_TAIL_OFFSET=0.1, GAMMA_OFFSET=6.0)
    whole = shapes(of, p, Span(0, 1500))
    start = span.first
    assert_part(shapes(of, p, span), whole[:, start : start + span.count], whole)


def assert_part(part: Tensor, wanted: Tensor, whole: Tensor) -> None:
    assert float(((part - wanted).abs() / whole.amax(-1, keepdim=True)).max()) < 1e-7


def test_every_fourth_channel_is_that_of_all() -> None:
    of, p = rows(*NAMES), theta(F_TAIL_OFFSET=0.1, ENERGY_QUADRATIC=5e-8)
    whole = shapes(of, p, Span(40, 1400))
    assert_part(shapes(of, p, Span(40, 350, step=4)), whole[:, ::4], whole)


def test_an_offset_of_one_channel_moves_the_spectrum_by_one() -> None:
    of = rows(*NAMES)
    here = shapes(of, theta(), SPAN)
    there = shapes(of, theta(ENERGY_OFFSET=0.01), Span(SPAN.first - 1, SPAN.count))
    assert_part(there, here, here)


def test_a_quadratic_moves_peaks_to_where_their_energy_is() -> None:
    p = theta(ENERGY_QUADRATIC=1e-7, ENERGY_OFFSET=-0.05)
    top = int(shapes(one_line(), p, SPAN)[0].argmax())
    assert abs(float(energies(p, SPAN)[top]) - 6.4) < 0.006


def test_bent_calibrations_lose_nothing_either() -> None:
    # the width of a channel changes fourfold along the spectrum
    p = defaults(
        {"ENERGY_SLOPE": 0.002, "ENERGY_QUADRATIC": -1e-7, "ESCAPE_SCALE": 0.0, "F_TAIL_OFFSET": 0.0}
    )
    span = Span(0, 9500)
    assert_like(shapes(one_line(9.0), theta_of(p), span), expected(one_line(9.0), p, span))


def test_a_batch_is_one_by_one() -> None:
    of = rows(*NAMES, energy=9.5)
    batch = torch.stack([theta_of(likely(seed)) for seed in range(6)]).reshape(2, 3, -1)
    a = torch.rand(2, 3, len(NAMES), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together, sloped = shapes(of, batch, SPAN), slopes(of, batch, SPAN, a, FITTED)
    assert together.shape == (2, 3, len(NAMES), SPAN.count)
    for i in range(2):
        for j in range(3):
            alone = shapes(of, batch[i, j], SPAN)
            assert_part(together[i, j], alone, alone)
            own = slopes(of, batch[i, j], SPAN, a[i, j], FITTED)
            assert_part(sloped[i, j], own, own.abs())


def spectrum_slopes(of: Rows, p: Tensor, span: Span, a: Tensor) -> Tensor:
    """[parameter, channel], by dual numbers."""

    def spectrum(t: Tensor) -> Tensor:
        return (a[:, None] * shapes(of, t, span)).sum(-2)

    return torch.func.jacfwd(spectrum)(p).T


# torch warns of its own loading of forward mode
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("has_steps", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_slopes_are_those_of_the_shapes_for_every_parameter(seed: int, has_steps: bool) -> None:
    off = {} if has_steps else {"F_STEP_OFFSET": 0.0, "F_STEP_LINEAR": 0.0}
    of, p = rows(*NAMES, energy=9.5), theta_of(likely(seed) | off)
    a = 1e4 * torch.rand(len(NAMES), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    names = tuple(name for name in PARAMETERS if has_steps or name not in off)
    by_name = dict(zip(PARAMETERS, spectrum_slopes(of, p, SPAN, a), strict=True))
    unused = {"GE_ESCAPE", "SNIP_WIDTH"}
    for name, one in zip(names, slopes(of, p, SPAN, a, names), strict=True):
        other = by_name[name]
        assert (float(other.abs().max()) == 0) == (name in unused), name
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11 * float(other.abs().max()), msg=name)


@pytest.mark.parametrize("name", ["F_TAIL_OFFSET", "KB_F_TAIL_OFFSET", "F_STEP_OFFSET", "COMPTON_F_STEP"])
def test_slopes_where_tail_and_step_are_zero_reach_as_far_as_those_will(name: str) -> None:
    of, h = rows("Ca", "Fe", COMPTON), 1e-9
    none = {"F_TAIL_OFFSET": 0.0, "KB_F_TAIL_OFFSET": 0.0, "F_STEP_OFFSET": 0.0, "COMPTON_F_STEP": 0.0}
    a = torch.ones(3, dtype=torch.float64)
    found = slopes(of, theta(**none), SPAN, a, [name])[0]
    here, there = (shapes(of, theta(**(none | {name: x})), SPAN).sum(0) for x in (0.0, h))
    wanted = (there - here) / h
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def test_slopes_are_linear_in_the_amplitudes() -> None:
    of, p = rows(*NAMES), theta()
    a, b = torch.rand(2, len(NAMES), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, other, both = (slopes(of, p, SPAN, x, FITTED) for x in (a, b, 2 * a + 3 * b))
    torch.testing.assert_close(both, 2 * one + 3 * other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_shapes_are_never_negative(seed: int) -> None:
    found = shapes(rows(*NAMES, energy=9.5), theta_of(likely(seed)), SPAN)
    assert bool(torch.isfinite(found).all())
    assert bool((found >= 0).all())


@pytest.mark.parametrize("seed", range(12))
def test_gradients_are_finite_at_the_ends_of_all_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    given = {n: float(rng.choice([p.low, p.high])) for n, p in PARAMETERS.items()}
    given |= {"COHERENT_SCT_ENERGY": 10.0}  # of its range, 1 keV excites nothing here
    p = theta_of(given).requires_grad_()
    found = shapes(rows(*NAMES), p, Span(0, 300))
    found.sum().backward()
    assert bool(torch.isfinite(found).all())
    assert p.grad is not None
    assert bool(torch.isfinite(p.grad).all())


def test_no_component_is_no_spectrum() -> None:
    of = rows()
    assert shapes(of, theta(), SPAN).shape == (0, SPAN.count)
    assert not slopes(of, theta(), SPAN, torch.zeros(0, dtype=torch.float64), ["ENERGY_SLOPE"]).any()


def test_no_parameter_is_no_slope() -> None:
    a = torch.ones(1, dtype=torch.float64)
    assert slopes(rows("Fe"), theta(), SPAN, a, []).shape == (0, SPAN.count)
