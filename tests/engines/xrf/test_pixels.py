from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.optimize import nnls as scipy_nnls
from torch import Tensor

from skyloop.engines.xrf._likelihood import Likelihood
from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, shapes
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.parameters import defaults
from skyloop.engines.xrf.pixels import Basis, Fault, Limits, Pixels, PixelSolver, shared_weights
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, rows_of
from skyloop.errors import ConfigError, DataError, Outcome

SPAN = Span(60, 1240)
NAMES = ("Si", "Ca", "Fe", "Cu", ELASTIC, COMPTON)
SHARES = (0.2, 0.15, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05)
LEAST_SQUARES, LIKELIHOOD = Limits(few_counts=0.0), Limits(few_counts=float("inf"))
BOTH = pytest.mark.parametrize("limits", [LEAST_SQUARES, LIKELIHOOD], ids=["squares", "likelihood"])


def basis(*names: str) -> Basis:
    rows = rows_of(names or NAMES, line_table(), incident_energy=10.0)
    x = torch.linspace(0, 1, SPAN.count, dtype=torch.float64)
    smooth = torch.stack([torch.exp(-4 * x), torch.exp(-(((x - 0.5) / 0.25) ** 2))])
    columns = torch.cat([shapes(rows, theta_of(defaults()), SPAN), smooth / smooth.sum(1, keepdim=True)])
    weights = shared_weights(columns, 1 / columns.sum(1))
    return Basis((*rows.names, "low", "high"), columns, len(rows.names), SPAN.first, weights)


def truth(of: Basis, counts: float, shares: tuple[float, ...] = SHARES) -> Tensor:
    """Amplitudes with that many counts in all."""
    return counts * torch.tensor(shares, dtype=torch.float64) / of.columns.sum(1)


def drawn(of: Basis, amplitudes: Tensor, pixels: int, seed: int = 0) -> Tensor:
    mean = (amplitudes @ of.columns).expand(pixels, -1)
    return torch.poisson(mean, generator=torch.Generator().manual_seed(seed))


def assert_same(found: Pixels, wanted: Pixels, rtol: float = 1e-9) -> None:
    for field in fields(Pixels):
        pair = getattr(found, field.name), getattr(wanted, field.name)
        torch.testing.assert_close(*pair, rtol=rtol, atol=1e-9, equal_nan=True, msg=field.name)


@BOTH
def test_expected_counts_give_back_their_amplitudes(limits: Limits) -> None:
    of = basis()
    generator = torch.Generator().manual_seed(1)
    a = 1e4 * torch.rand(50, 8, generator=generator, dtype=torch.float64)
    a[torch.rand(50, 8, generator=generator) < 0.3] = 0.0
    found = PixelSolver(of, limits).solve(a @ of.columns)
    torch.testing.assert_close(found.amplitudes, a[:, :6], rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(found.background, a[:, 6:], rtol=1e-5, atol=1e-2)
    assert float(found.kkt.max()) <= 1e-6
    assert not bool(found.fault.any())


def test_least_squares_are_those_of_scipy() -> None:
    of = basis()
    y = torch.cat([drawn(of, truth(of, n), 20) for n in (5, 50, 500, 5e4)])
    found = PixelSolver(of, LEAST_SQUARES).solve(y)
    root = of.weights.sqrt()
    wanted = [scipy_nnls((of.columns * root).T.numpy(), (row * root).numpy())[0][:6] for row in y]
    scale = np.max(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(found.amplitudes.numpy() / scale, wanted / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("counts", [3, 30, 300, 30000])
def test_the_likelihood_is_greatest_at_what_is_found(counts: int) -> None:
    of = basis()
    y = drawn(of, truth(of, counts), 40)
    y = y[y.sum(1) > 0]
    found = PixelSolver(of, LIKELIHOOD).solve(y)
    a = torch.cat([found.amplitudes, found.background], dim=1)
    assert bool((a >= 0).all())
    gradient = of.columns.sum(1) - (y / (a @ of.columns).clamp(min=1e-300)) @ of.columns.T
    relative = gradient / of.columns.sum(1)
    assert float(relative[a > 0].abs().max()) < 2e-6
    assert float(relative.min()) > -2e-6


@pytest.mark.parametrize("wrong", range(8))
def test_the_maximum_does_not_depend_on_the_start(wrong: int) -> None:
    of = basis()
    y = drawn(of, truth(of, 1000), 20)
    likelihood = Likelihood(of.columns)
    start = torch.zeros(20, 8, dtype=torch.float64)
    wanted, _ = likelihood.maximum(y, start + truth(of, 1000))
    start[:, wrong] = 1e6
    found, kkt = likelihood.maximum(y, start)
    assert float(kkt.max()) <= 1e-6
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-2)


def test_maximum_likelihood_conserves_counts() -> None:
    of = basis()
    y = drawn(of, truth(of, 200), 100)
    found = PixelSolver(of, LIKELIHOOD).solve(y)
    explained = torch.cat([found.amplitudes, found.background], dim=1) @ of.columns.sum(1)
    torch.testing.assert_close(explained, y.sum(1), rtol=1e-5, atol=0)


def test_maximum_likelihood_is_the_better_one_where_a_pixel_lacks_what_is_strong_in_the_mean() -> None:
    of = basis("Fe", "Co", "Ni")
    mean = truth(of, 1000, (0.8, 0.05, 0.05, 0.05, 0.05))
    of = replace(of, weights=shared_weights(of.columns, mean))
    here = truth(of, 400, (0.0, 0.3, 0.4, 0.15, 0.15))
    y = drawn(of, here, 1000)
    worse, better = (
        (PixelSolver(of, limits).solve(y).amplitudes - here[:3]).square().mean(0)
        for limits in (LEAST_SQUARES, LIKELIHOOD)
    )
    assert bool((better < worse).all())
    assert float(better[1] / worse[1]) < 0.9


@BOTH
@pytest.mark.parametrize("counts", [300, 3000, 30000])
def test_sigma_covers_the_truth_as_often_as_it_says(limits: Limits, counts: int) -> None:
    of, pixels = basis(), 2000
    wanted = truth(of, counts)
    found = PixelSolver(of, limits).solve(drawn(of, wanted, pixels, seed=counts))
    z = (found.amplitudes - wanted[:6]).abs() / found.sigma
    for share, within in ((0.6827, 1.0), (0.95, 1.96)):
        covered = (z < within).double().mean(0)
        binomial = (share * (1 - share) / pixels) ** 0.5
        assert float((covered - share).abs().max()) < 3.5 * binomial


@BOTH
@pytest.mark.parametrize("counts", [100, 300])
def test_amplitudes_of_few_counts_are_right_in_the_mean(limits: Limits, counts: int) -> None:
    of, pixels = basis(), 3000
    wanted = truth(of, counts)
    found = PixelSolver(of, limits).solve(drawn(of, wanted, pixels, seed=7))
    off = (found.amplitudes.mean(0) - wanted[:6]) / (found.amplitudes.std(0) / pixels**0.5)
    assert float(off.abs().max()) < 4.0


def test_sigma_holds_for_weights_that_are_not_the_best() -> None:
    of = basis()
    of = replace(of, weights=torch.ones_like(of.weights))
    found = PixelSolver(of, LEAST_SQUARES).solve(drawn(of, truth(of, 5000), 3000))
    torch.testing.assert_close(found.sigma.mean(0), found.amplitudes.std(0), rtol=0.05, atol=0)


@BOTH
def test_sigma_at_zero_is_that_of_the_estimate_without_bound(limits: Limits) -> None:
    of = basis()
    shares = (0.3, 0.1, 0.0, 0.2, 0.0, 0.1, 0.2, 0.1)  # no iron, no elastic scatter
    y = drawn(of, truth(of, 20000, shares), 3000)
    found = PixelSolver(of, limits).solve(y)
    weighted = of.columns * (
        of.weights if limits is LEAST_SQUARES else 1 / (truth(of, 20000, shares) @ of.columns)
    )
    unbound = torch.linalg.solve(weighted @ of.columns.T, weighted @ y.T).T[:, :6]
    sigma = found.sigma.mean(0)
    torch.testing.assert_close(sigma, unbound.std(0), rtol=0.06, atol=0)
    assert float((found.amplitudes[:, 2] == 0).double().mean()) > 0.3


def test_an_amplitude_at_the_detection_limit_is_three_times_its_sigma() -> None:
    of = basis()
    a = truth(of, 4000, (0.3, 0.1, 0.0, 0.2, 0.1, 0.1, 0.1, 0.1))
    solver = PixelSolver(of, LEAST_SQUARES)
    limit = solver.solve((a @ of.columns)[None]).detection_limit[0, 2]
    a[2] = limit
    assert float(3 * solver.solve((a @ of.columns)[None]).sigma[0, 2]) == pytest.approx(
        float(limit), rel=1e-6
    )


def test_the_detection_limit_falls_as_the_root_of_the_exposure() -> None:
    of = basis()
    a = truth(of, 1e7, (0.3, 0.1, 0.0, 0.2, 0.1, 0.1, 0.1, 0.1)) @ of.columns
    exposure = torch.tensor([1.0, 100.0])
    rates = PixelSolver(of).solve(a * exposure[:, None], exposure=exposure).over(exposure)
    assert float(rates.detection_limit[0, 2] / rates.detection_limit[1, 2]) == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("counts", [30, 300, 3000, 30000])
def test_chi2_is_one_at_any_number_of_counts(counts: int) -> None:
    of, pixels = basis(), 2000
    chi2 = PixelSolver(of).solve(drawn(of, truth(of, counts), pixels)).chi2
    # a mean of ratios is off by the order of 1 / counts
    assert abs(float(chi2.mean()) - 1) < 4 * float(chi2.std()) / pixels**0.5 + 1 / counts


@pytest.mark.parametrize("counts", [400, 4000])
def test_chi2_shows_an_element_that_is_not_in_the_basis(counts: int) -> None:
    of, whole = basis("Si", "Ca", "Fe"), basis("Si", "Ca", "Fe", "Cu")
    y = drawn(whole, truth(whole, counts, (0.2, 0.2, 0.2, 0.2, 0.1, 0.1)), 100)
    lacking, full = (PixelSolver(each).solve(y).chi2 for each in (of, whole))
    assert float(lacking.quantile(0.1)) > float(full.quantile(0.95))


@BOTH
def test_twice_the_exposure_gives_the_same_rates(limits: Limits) -> None:
    of = basis()
    y = drawn(of, truth(of, 1000), 20)
    solver, once = PixelSolver(of, limits), torch.ones(20)
    rate = solver.solve(y, exposure=once).over(once)
    twice = solver.solve(2 * y, exposure=2 * once).over(2 * once)
    torch.testing.assert_close(twice.amplitudes, rate.amplitudes, rtol=1e-4, atol=1e-3)
    strong = rate.amplitudes[:, :4]
    assert float(strong.min()) > 1.0
    torch.testing.assert_close(twice.sigma[:, :4], rate.sigma[:, :4] / 2**0.5, rtol=1e-3, atol=0)


def test_rows_one_by_one_are_the_map_at_once() -> None:
    of = basis()
    y = torch.cat([drawn(of, truth(of, n), 150) for n in (100, 1000, 10000)])
    y = y[torch.randperm(450, generator=torch.Generator().manual_seed(0))]
    solver = PixelSolver(of)
    rows = [solver.solve(row) for row in y.split(45)]
    joined = Pixels(**{f.name: torch.cat([getattr(r, f.name) for r in rows]) for f in fields(Pixels)})
    assert_same(replace(joined, kkt=joined.kkt * 0), replace(solver.solve(y), kkt=joined.kkt * 0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.uint16])
def test_the_type_of_counts_does_not_matter(dtype: torch.dtype) -> None:
    of = basis()
    y = drawn(of, truth(of, 2000), 10)
    assert_same(PixelSolver(of).solve(y.to(dtype)), PixelSolver(of).solve(y))


def test_no_pixels_give_no_pixels() -> None:
    found = PixelSolver(basis()).solve(torch.zeros(0, SPAN.count))
    assert tuple(found.amplitudes.shape) == tuple(found.sigma.shape) == (0, 6)
    assert tuple(found.chi2.shape) == tuple(found.fault.shape) == (0,)


@BOTH
def test_no_counts_are_a_measurement_where_there_was_exposure(limits: Limits) -> None:
    of = basis()
    solver, y = PixelSolver(of, limits), torch.zeros(1, SPAN.count)
    found = solver.solve(y, exposure=torch.ones(1))
    assert found.outcome(0) is Outcome.OK
    assert not found.reason(0)
    assert bool((found.amplitudes == 0).all())
    one_count = 1 / of.columns.sum(1)[:6]
    assert bool((found.sigma >= 0.99 * one_count).all())
    assert bool((found.detection_limit >= 8.9 * one_count).all())
    assert bool(found.chi2.isnan().all())
    unknown = solver.solve(y)
    assert unknown.outcome(0) is Outcome.DEGRADED
    assert "exposure" in unknown.reason(0)


@BOTH
def test_counts_where_no_component_reaches_are_told_by_chi2(limits: Limits) -> None:
    of = basis("Fe", "Cu")
    of = Basis(of.names[:2], of.columns[:2], 2, of.first, torch.ones_like(of.weights))
    y = drawn(of, truth(of, 300, (0.5, 0.5)), 2)
    wanted = PixelSolver(of, limits).solve(y)
    assert float(of.columns[:, 100:110].sum()) == 0.0
    y[1, 100:110] = 50.0
    found = PixelSolver(of, limits).solve(y)
    torch.testing.assert_close(found.amplitudes, wanted.amplitudes, rtol=1e-5, atol=1e-5)
    assert float(found.chi2[1]) > 10 * float(wanted.chi2[1])
    only = torch.zeros(1, SPAN.count)
    only[0, 105] = 5.0
    lost = PixelSolver(of, limits).solve(only)
    assert lost.amplitudes.tolist() == [[0.0, 0.0]]
    assert bool(lost.chi2.isinf().all())
    assert bool((lost.sigma > 0).all())


FAULTS = [
    (Fault.NOT_FINITE, {"channel": float("nan")}),
    (Fault.NOT_FINITE, {"channel": float("inf")}),
    (Fault.NEGATIVE, {"channel": -1.0}),
    (Fault.SATURATED, {"channel": 65535.0}),
    (Fault.NO_EXPOSURE, {"exposure": 0.0}),
    (Fault.NO_EXPOSURE, {"exposure": -1.0}),
    (Fault.NO_EXPOSURE, {"exposure": float("nan")}),
    (Fault.DEAD_TIME, {"dead_time": 1.0}),
    (Fault.DEAD_TIME, {"dead_time": -0.1}),
    (Fault.DEAD_TIME, {"dead_time": float("nan")}),
    (Fault.LONG_DEAD_TIME, {"dead_time": 0.6}),
]


@BOTH
@pytest.mark.parametrize(("fault", "given"), FAULTS)
def test_a_bad_pixel_is_named_and_leaves_the_others_alone(
    limits: Limits, fault: Fault, given: dict[str, float]
) -> None:
    of = basis()
    solver = PixelSolver(of, replace(limits, saturation=65535.0))
    y, exposure, dead_time = drawn(of, truth(of, 900), 5), torch.ones(5), torch.full((5,), 0.1)
    good = solver.solve(y, exposure=exposure, dead_time=dead_time)
    for name, array in (("exposure", exposure), ("dead_time", dead_time), ("channel", y[:, 17])):
        array[2] = given.get(name, array[2])
    found = solver.solve(y, exposure=exposure, dead_time=dead_time)
    assert found.outcome(2) is fault.outcome is not Outcome.OK
    assert found.reason(2) == fault.reason != ""
    others = torch.tensor([0, 1, 3, 4])
    is_lost = fault.outcome is Outcome.REJECTED
    for field in fields(Pixels):
        left, wanted = getattr(found, field.name), getattr(good, field.name)
        torch.testing.assert_close(left[others], wanted[others], rtol=1e-6, atol=1e-6)
        if field.name not in ("fault", "kkt"):
            assert bool(left[2].isnan().all()) == is_lost


def test_a_search_without_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    of = basis()
    monkeypatch.setattr("skyloop.engines.xrf._likelihood._MOST_SWEEPS", 1)
    found = PixelSolver(of, LIKELIHOOD).solve(drawn(of, truth(of, 300), 1))
    assert found.outcome(0) is Outcome.DEGRADED
    assert float(found.kkt[0]) > 1e-6


def test_other_channels_than_those_of_the_basis_are_refused() -> None:
    solver = PixelSolver(basis())
    with pytest.raises(DataError, match=r"\(3, 2048\).* 1240 channels from channel 60"):
        solver.solve(torch.zeros(3, 2048))
    with pytest.raises(DataError, match=r"exposure of shape \(2,\) for 3 pixels"):
        solver.solve(torch.zeros(3, 1240), exposure=torch.ones(2))


def test_a_component_outside_the_channels_is_named() -> None:
    of = basis()
    columns = of.columns.clone()
    columns[2] = 0.0
    with pytest.raises(ConfigError, match="'Fe' reaches none"):
        replace(of, columns=columns)


def test_components_that_are_alike_are_named() -> None:
    of = basis()
    columns = of.columns.clone()
    columns[2] = 2 * columns[3]
    with pytest.raises(ConfigError, match="Fe, Cu cannot be told apart"):
        replace(of, columns=columns)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("columns", lambda x: -x),
        ("columns", lambda x: x.float()),
        ("columns", lambda x: x[:3]),
        ("weights", lambda x: x * torch.inf),
        ("weights", lambda x: x[:-1]),
        ("weights", lambda x: 0 * x),
    ],
)
def test_a_basis_that_is_none_is_refused(name: str, change) -> None:
    of = basis()
    with pytest.raises(ConfigError, match="mend"):
        replace(of, **{name: change(getattr(of, name))})
