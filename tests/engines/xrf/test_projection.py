from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from engines.xrf.spectra import SURE, problem_of, truth
from scipy.optimize import nnls as scipy_nnls
from torch import Tensor

from skyloop.engines.xrf import projection
from skyloop.engines.xrf.boxcar import smoothed
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.projection import amplitudes, projected_fit
from skyloop.numerics.least_squares import Quadratic, least_squares

FREE = ("ENERGY_OFFSET", "ENERGY_SLOPE", "FWHM_OFFSET", "FWHM_FANOPRIME", "COMPTON_ANGLE", "F_TAIL_OFFSET")
OFF = torch.tensor([0.01, 2e-5, 0.01, 1e-5, 2.0, 0.01], dtype=torch.float64)
"""By how much starts are away from the truth."""


def posed(seed: int = 0, *, with_absent: bool = False) -> Problem:
    elements = {"Ca": 0.3, "Ti": 0.2, "Fe": 1.0, "Cu": 0.4} | ({"Mn": 0.0, "K": 0.0} if with_absent else {})
    of = truth(elements, total=3e5)
    return problem_of(of, of.counts(seed), Config(incident_energy=10.0, free=FREE, doubts=SURE))


def weights_of(problem: Problem) -> Tensor:
    return 1 / (smoothed(problem.counts) + 1)


def starts_of(problem: Problem, count: int = 5) -> Tensor:
    u = torch.rand(count, len(FREE), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (problem.start + (2 * u - 1) * OFF).clamp(problem.low, problem.high)


def quadratic_of(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], Quadratic]:
    seen: list[Callable[[Tensor], Quadratic]] = []

    def watched(quadratic: Callable[[Tensor], Quadratic], *args: Any, **given: Any) -> Any:
        seen.append(quadratic)
        return least_squares(quadratic, *args, **given)

    monkeypatch.setattr(projection, "least_squares", watched)
    projected_fit(problem, weights_of(problem), problem.start[None], max_steps=0)
    return seen[0]


@pytest.mark.parametrize("with_absent", [False, True])
def test_the_gradient_is_that_of_the_cost(monkeypatch: pytest.MonkeyPatch, *, with_absent: bool) -> None:
    problem = posed(with_absent=with_absent)
    quadratic = quadratic_of(problem, monkeypatch)
    for x in starts_of(problem):
        steps = 1e-4 * torch.diag(OFF)
        slope = (quadratic(x + steps).cost - quadratic(x - steps).cost) / (2e-4 * OFF)
        torch.testing.assert_close(
            quadratic(x[None]).gradient[0] * OFF,
            slope * OFF,
            rtol=1e-4,
            atol=1e-3 * float((slope * OFF).norm()),
        )


def test_the_curvature_is_that_of_the_residuals_that_no_amplitude_makes_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = posed()
    x, weights = starts_of(problem)[0], weights_of(problem)
    found = amplitudes(problem, weights, x)
    basis = (problem.basis(x)[found > 0] * weights.sqrt()).numpy()
    slopes = (problem.slopes(x, found) * weights.sqrt() * OFF[:, None]).numpy()
    left = slopes - np.linalg.lstsq(basis.T, slopes.T, rcond=None)[0].T @ basis
    curvature = quadratic_of(problem, monkeypatch)(x[None]).curvature[0] * OFF * OFF[:, None]
    np.testing.assert_allclose(curvature.numpy(), left @ left.T, rtol=1e-5, atol=1e-6 * (left @ left.T).max())


def test_the_curvature_is_positive_semidefinite(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = posed(with_absent=True)
    curvature = quadratic_of(problem, monkeypatch)(starts_of(problem, 8)).curvature * OFF * OFF[:, None]
    least = torch.linalg.eigvalsh(curvature)
    assert float((least[:, 0] / least[:, -1]).min()) > -1e-9


def test_the_minimum_does_not_depend_on_the_start() -> None:
    problem = posed()
    found = projected_fit(problem, weights_of(problem), starts_of(problem), tolerance=1e-8)
    assert bool(found.converged.all())
    spread = found.curvature[0].diagonal().rsqrt()
    torch.testing.assert_close(found.x / spread, (found.x[0] / spread).expand(5, -1), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.cost, found.cost[:1].expand(5), rtol=0, atol=1e-5)


def test_one_start_ends_where_it_ends_among_others() -> None:
    problem = posed()
    starts, weights = starts_of(problem, 3), weights_of(problem)
    together = projected_fit(problem, weights, starts)
    for start, x in zip(starts, together.x, strict=True):
        torch.testing.assert_close(projected_fit(problem, weights, start[None]).x[0], x, rtol=1e-8, atol=1e-8)


def test_the_truth_is_found_without_noise() -> None:
    of = truth({"Ca": 0.3, "Fe": 1.0}, continuum=0.0)
    problem = problem_of(of, of.mean, Config(incident_energy=10.0, free=FREE))
    found = projected_fit(problem, weights_of(problem), starts_of(problem), tolerance=1e-10)
    true = torch.tensor([of.values[name] for name in FREE], dtype=torch.float64)
    torch.testing.assert_close(found.x / OFF, (true / OFF).expand(5, -1), rtol=0, atol=1e-3)


def test_amplitudes_are_those_of_scipy() -> None:
    problem = posed(with_absent=True)
    weights = weights_of(problem)
    root = weights.sqrt()
    basis = (problem.basis(problem.start) * root).numpy()
    wanted = scipy_nnls(basis.T, (problem.counts * root).numpy())[0]
    np.testing.assert_allclose(
        amplitudes(problem, weights, problem.start).numpy(), wanted, rtol=1e-6, atol=1e-6 * wanted.max()
    )


def test_what_is_known_is_not_fitted() -> None:
    problem = posed()
    known = torch.linspace(5, 1, problem.span.count, dtype=torch.float64)
    weights = weights_of(problem)
    more = Problem(
        counts=problem.counts + known,
        span=problem.span,
        rows=problem.rows,
        background=problem.background,
        known=known,
        values=problem.values,
        free=problem.free,
    )
    torch.testing.assert_close(
        amplitudes(more, weights, problem.start), amplitudes(problem, weights, problem.start)
    )


def test_smoothing_is_the_mean_of_five_neighbours() -> None:
    y = torch.rand(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = [y[max(0, i - 2) : i + 3].mean() for i in range(30)]
    torch.testing.assert_close(smoothed(y), torch.stack(padded))
    torch.testing.assert_close(smoothed(y.expand(2, 3, 30)), smoothed(y).expand(2, 3, 30))
