from __future__ import annotations

import pytest
import torch

from skyloop.engines.reflectometry.chart import Chart
from skyloop.engines.reflectometry.config import load
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.smearing import model_curve, model_curve_and_slopes

TEXT = """
sample:
  layers:
    - repeat: 2
      layers:
        - {name: a, thickness: [20, 50], roughness: [0, 9], sld: [3, 5]}
        - {name: b, thickness: 30, roughness: [2, 7], sld: 1}
  backing: {sld: 2.07, roughness: 3}
background: [1e-8, 1e-5]
scale: [0.9, 1.1]
"""
Q = torch.linspace(0.01, 0.2, 40, dtype=torch.float64)


@pytest.fixture
def chart() -> Chart:
    return Chart(Parameters.of(load(TEXT)))


def cube(chart: Chart) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    size = len(chart.parameters)
    inside = torch.rand(5, size, dtype=torch.float64, generator=generator)
    return torch.cat([inside, torch.zeros(1, size).double(), torch.ones(1, size).double()])


def test_a_point_of_the_prior_keeps_its_values(chart: Chart) -> None:
    u = cube(chart)
    torch.testing.assert_close(
        chart.theta(chart.of_prior(u)), chart.parameters.theta(u), rtol=1e-12, atol=1e-12
    )


def test_the_ends_of_the_cube_are_the_ends_of_the_ranges(chart: Chart) -> None:
    *_, lowest, highest = chart.theta(cube(chart))
    rough = chart.parameters.is_roughness
    torch.testing.assert_close(lowest[rough], chart.parameters.low[rough], rtol=0, atol=0)
    torch.testing.assert_close(highest[rough], chart.parameters.high[rough], rtol=0, atol=0)


def test_slopes_are_difference_quotients_also_where_an_interface_is_smooth(chart: Chart) -> None:
    x, h = cube(chart)[:-1], 1e-6
    theta = chart.theta(x)
    _, slopes = model_curve_and_slopes(Q, 0.02 * Q, chart.parameters.slabs(theta))
    by_x = chart.parameters.gather(slopes) * chart.slope(theta)[:, None]
    for i, name in enumerate(chart.parameters.names):
        step = h * torch.eye(x.shape[1], dtype=torch.float64)[i]
        up, twice = (_curve(chart, x + n * step) for n in (1, 2))
        quotient = (4 * up - twice - 3 * _curve(chart, x)) / (2 * h)
        size = quotient.abs().amax(dim=1, keepdim=True)
        assert ((by_x[:, :, i] - quotient).abs() <= 1e-5 * size + 1e-9).all(), name
        assert (size > 1e-8).all(), name


def test_uncertainties_are_those_of_the_parameters(chart: Chart) -> None:
    x, h = cube(chart)[:5], 1e-7
    sigma = torch.full_like(x, h)
    moved = chart.theta(x + h) - chart.theta(x)
    torch.testing.assert_close(chart.sigma(chart.theta(x), sigma), moved, rtol=1e-5, atol=1e-14)


def _curve(chart: Chart, x: torch.Tensor) -> torch.Tensor:
    return model_curve(Q, 0.02 * Q, chart.parameters.slabs(chart.theta(x)))
