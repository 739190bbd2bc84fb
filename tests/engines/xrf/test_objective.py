from __future__ import annotations

import pytest
import torch
from scipy.stats import poisson
from torch import Tensor

from skyloop.engines.xrf.objective import OBJECTIVES, Objective, ObjectiveName

EACH = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
SQUARES = pytest.mark.parametrize("name", ["chi2", "mse"])


def counts() -> Tensor:
    return torch.tensor([0.0, 1.0, 3.0, 20.0, 500.0, 1e6], dtype=torch.float64)


def model() -> Tensor:
    return torch.tensor([0.2, 3.0, 2.5, 30.0, 480.0, 1.001e6], dtype=torch.float64)


@EACH
def test_the_slope_is_that_of_the_cost(objective: Objective) -> None:
    y, m = counts(), model()
    h = 1e-5 * m
    slope = (objective.cost(y, m + h) - objective.cost(y, m - h)) / (2 * h)
    torch.testing.assert_close(objective.slope(y, m), slope, rtol=1e-5, atol=1e-6)


@EACH
def test_the_weight_is_the_expected_slope_of_the_slope(objective: Objective) -> None:
    m = model()
    h = 1e-5 * m
    # the slope is linear in the counts, and their expectation is m
    second = (objective.slope(m, m + h) - objective.slope(m, m - h)) / (2 * h)
    torch.testing.assert_close(objective.weight(m, m), second, rtol=1e-5, atol=0)


def test_the_poisson_cost_is_half_the_deviance() -> None:
    y, m = counts(), model()
    half = poisson.logpmf(y.numpy(), y.numpy()) - poisson.logpmf(y.numpy(), m.numpy())
    torch.testing.assert_close(OBJECTIVES["poisson"].cost(y, m), torch.from_numpy(half), rtol=1e-5, atol=1e-5)


@EACH
def test_the_cost_is_least_where_the_model_is_what_was_counted(objective: Objective) -> None:
    y = counts()
    torch.testing.assert_close(objective.cost(y, y), torch.zeros_like(y), rtol=0, atol=1e-5)
    for other in (0.9 * y, 1.1 * y + 0.1):
        assert bool((objective.cost(y, other) > objective.cost(y, y) - 1e-12).all())


@EACH
def test_nothing_is_infinite_where_nothing_is_expected(objective: Objective) -> None:
    y, m = counts(), torch.zeros(6, dtype=torch.float64)
    for each in (objective.cost, objective.slope, objective.weight):
        assert bool(each(y, m).isfinite().all())


@EACH
def test_first_weights_are_positive_and_come_near_those_at_the_minimum(objective: Objective) -> None:
    y = torch.full((50,), 1000.0, dtype=torch.float64)
    first = objective.first_weights(y)
    assert first.shape == y.shape
    torch.testing.assert_close(first, objective.weight(y, y), rtol=2e-3, atol=0)
    assert bool((objective.first_weights(torch.zeros(50, dtype=torch.float64)) > 0).all())


@SQUARES
def test_squared_residuals_are_weighed_by_the_counts_or_by_their_mean(name: ObjectiveName) -> None:
    y, m = counts(), model()
    variance = y.clamp(min=1) if name == "chi2" else y.mean()
    torch.testing.assert_close(OBJECTIVES[name].cost(y, m), (y - m) ** 2 / variance / 2)
