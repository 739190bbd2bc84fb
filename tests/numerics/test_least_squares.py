from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from skyloop.numerics.least_squares import Minimum, Quadratic, covariance, least_squares

Problem = Callable[[Tensor], Quadratic]
WIDE = torch.full((2,), 10.0, dtype=torch.float64)


def of_residuals(residuals: Tensor, jacobian: Tensor) -> Quadratic:
    """Sum of squares of residuals [batch, n], with their Jacobian [batch, n, p]."""
    transposed = jacobian.transpose(1, 2)
    return Quadratic(
        cost=0.5 * (residuals**2).sum(dim=1),
        gradient=(transposed @ residuals[..., None])[..., 0],
        curvature=transposed @ jacobian,
    )


def rosenbrock(x: Tensor) -> Quadratic:
    a, b = x[:, 0], x[:, 1]
    zero = torch.zeros_like(a)
    residuals = torch.stack([10 * (b - a**2), 1 - a], dim=1)
    rows = [torch.stack([-20 * a, zero + 10], dim=1), torch.stack([zero - 1, zero], dim=1)]
    return of_residuals(residuals, torch.stack(rows, dim=1))


def linear(x: Tensor) -> Quadratic:
    """Residuals A x - b."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(7, 2, dtype=torch.float64, generator=generator)
    target = torch.randn(7, dtype=torch.float64, generator=generator)
    return of_residuals(x @ matrix.T - target, matrix.expand(len(x), -1, -1))


def decay(x: Tensor) -> Quadratic:
    """A decaying exponential with a rate and a height."""
    t = torch.linspace(0, 4, 30, dtype=torch.float64)
    data = 3 * torch.exp(-0.7 * t) + 0.01 * torch.cos(17 * t)
    curve = torch.exp(-x[:, :1] * t)
    jacobian = torch.stack([-x[:, 1:] * t * curve, curve], dim=2)
    return of_residuals((x[:, 1:] * curve - data) / 0.01, jacobian / 0.01)


def starts(count: int, low: float = -2.0, high: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return low + (high - low) * torch.rand(count, 2, dtype=torch.float64, generator=generator)


def solve(problem: Problem, start: Tensor, **given: Tensor) -> Minimum:
    box = {"low": -WIDE, "high": WIDE, **given}
    return least_squares(problem, start, low=box["low"], high=box["high"], tolerance=1e-20)


def test_rosenbrock_is_solved_from_every_start() -> None:
    found = solve(rosenbrock, starts(50))
    assert found.converged.all()
    torch.testing.assert_close(found.x, torch.ones_like(found.x), rtol=1e-8, atol=0)


def test_a_linear_problem_is_solved_exactly() -> None:
    found = solve(linear, starts(5))
    here = linear(torch.zeros(1, 2, dtype=torch.float64))
    exact = -torch.linalg.solve(here.curvature[0], here.gradient[0])
    torch.testing.assert_close(found.x, exact.expand_as(found.x), rtol=1e-7, atol=0)
    torch.testing.assert_close(covariance(found.curvature)[0], here.curvature[0].inverse())


def test_the_first_step_of_a_linear_problem_goes_almost_all_the_way() -> None:
    once = least_squares(linear, starts(5), low=-WIDE, high=WIDE, max_steps=1)
    best = solve(linear, starts(5)).cost
    assert ((once.cost - best) < 1e-4 * (linear(starts(5)).cost - best)).all()


def test_an_active_bound_holds_and_is_told() -> None:
    high = torch.tensor([0.5, 10.0], dtype=torch.float64)
    found = solve(rosenbrock, starts(20, high=0.4), high=high)
    assert found.converged.all()
    torch.testing.assert_close(found.x, torch.tensor([[0.5, 0.25]]).double().expand(20, -1))
    assert found.at_bound.tolist() == [[True, False]] * 20


def test_a_corner_is_found() -> None:
    low = torch.tensor([2.0, 5.0], dtype=torch.float64)
    found = solve(rosenbrock, starts(5, low=5.0, high=9.0), low=low)
    # Best for a >= 2 and b >= 5: a = 2 would want b = 4, so that b is at its bound and a is not.
    assert found.converged.all()
    assert found.at_bound.tolist() == [[False, True]] * 5
    torch.testing.assert_close(found.x[:, 1], low[1].expand(5))
    assert rosenbrock(found.x).gradient[:, 0].abs().max() < 1e-6


def test_no_bound_is_told_inside_the_box() -> None:
    assert not solve(decay, starts(5, 0.1, 5.0)).at_bound.any()


def test_no_start_gets_worse() -> None:
    start = starts(30)
    for steps in (1, 3, 10):
        found = least_squares(rosenbrock, start, low=-WIDE, high=WIDE, max_steps=steps)
        assert (found.cost <= rosenbrock(start).cost).all()


@pytest.mark.parametrize("problem", [rosenbrock, linear, decay])
def test_a_batch_is_its_members(problem: Problem) -> None:
    start = starts(8, 0.1, 3.0)
    together = solve(problem, start)
    for i in range(len(start)):
        alone = solve(problem, start[i : i + 1])
        torch.testing.assert_close(together.x[i], alone.x[0], rtol=1e-8, atol=1e-12)


def test_units_of_the_parameters_do_not_matter() -> None:
    units = torch.tensor([1e-6, 1e4], dtype=torch.float64)

    def scaled(y: Tensor) -> Quadratic:
        here = rosenbrock(y * units)
        return Quadratic(here.cost, here.gradient * units, here.curvature * units * units[:, None])

    start = starts(8)
    plain = least_squares(rosenbrock, start, low=-WIDE, high=WIDE, max_steps=12)
    other = least_squares(scaled, start / units, low=-WIDE / units, high=WIDE / units, max_steps=12)
    torch.testing.assert_close(other.x * units, plain.x, rtol=1e-6, atol=1e-9)


def test_a_parameter_without_influence_stays_and_has_no_covariance() -> None:
    def flat(x: Tensor) -> Quadratic:
        jacobian = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
        return of_residuals(x @ jacobian.T - 1, jacobian.expand(len(x), -1, -1))

    found = solve(flat, starts(4))
    assert found.converged.all()
    torch.testing.assert_close(found.x[:, 1], starts(4)[:, 1])
    assert covariance(found.curvature).isnan().all()


def test_covariance_is_the_scatter_of_repeated_fits() -> None:
    generator = torch.Generator().manual_seed(2)
    t = torch.linspace(0, 1, 20, dtype=torch.float64)
    design = torch.stack([torch.ones_like(t), t], dim=1)
    noise = torch.randn(4000, 20, dtype=torch.float64, generator=generator)

    def line(x: Tensor) -> Quadratic:
        return of_residuals(x @ design.T - noise, design.expand(len(x), -1, -1))

    found = least_squares(line, torch.zeros(4000, 2).double(), low=-WIDE, high=WIDE, max_steps=1)
    torch.testing.assert_close(found.x.T.cov(), covariance(found.curvature)[0], rtol=0.1, atol=1e-3)


def test_a_cost_that_is_no_number_never_counts_as_converged() -> None:
    def broken(x: Tensor) -> Quadratic:
        here = rosenbrock(x)
        return Quadratic(here.cost * torch.nan, here.gradient, here.curvature)

    assert not solve(broken, starts(3)).converged.any()


def test_a_start_outside_the_box_is_refused() -> None:
    with pytest.raises(ValueError, match="outside its bounds"):
        solve(rosenbrock, starts(3) + 100)
