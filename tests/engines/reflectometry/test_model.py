from __future__ import annotations

import pytest
import torch

from skyloop.engines.reflectometry.config import load
from skyloop.engines.reflectometry.forward import reflectivity
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.slopes import reflectivity_and_slopes
from skyloop.engines.reflectometry.smearing import model_curve, model_curve_and_slopes

TEXT = """
sample:
  fronting: {sld: [0, 1]}
  layers:
    - {name: film, thickness: [100, 500], roughness: [2, 15], sld: [0, 6.5], isld: [0, 0.3]}
    - repeat: 3
      layers:
        - {name: light, thickness: 20, sld: 1.0}
        - {name: dense, thickness: 30, sld: [4, 6], roughness: [1, 4]}
  backing: {name: Si, sld: 2.07, roughness: [2, 8]}
scale: [0.9, 1.1]
background: [1e-8, 1e-5]
q_offset: [-1e-4, 1e-4]
resolution: [0.9, 1.2]
target: Si.roughness
"""
Q = torch.linspace(0.03, 0.2, 40, dtype=torch.float64)


@pytest.fixture
def parameters() -> Parameters:
    return Parameters.of(load(TEXT))


def cube(parameters: Parameters, batch: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, len(parameters), dtype=torch.float64, generator=generator)


def test_free_parameters_come_in_order_with_units(parameters: Parameters) -> None:
    assert parameters.names[:6] == (
        "film.thickness", "film.roughness", "film.sld", "film.isld", "dense.roughness", "dense.sld"
    )  # fmt: skip
    assert parameters.names[6:] == (
        "fronting.sld", "Si.roughness", "scale", "background", "q_offset", "resolution"
    )  # fmt: skip
    assert dict(zip(parameters.names, parameters.units, strict=True))["q_offset"] == "1/angstrom"
    assert parameters.names[parameters.target] == "Si.roughness"


def test_unit_cube_and_values_are_each_others_inverse(parameters: Parameters) -> None:
    u = cube(parameters)
    torch.testing.assert_close(parameters.uniform(parameters.theta(u)), u, rtol=0, atol=1e-12)


def test_corners_of_the_cube_are_the_ends_of_the_prior(parameters: Parameters) -> None:
    ends = parameters.theta(torch.stack([torch.zeros(12), torch.ones(12)]).double())
    torch.testing.assert_close(ends[0], parameters.low, rtol=1e-12, atol=0)
    torch.testing.assert_close(ends[1], parameters.high, rtol=1e-12, atol=0)


def test_the_background_is_uniform_in_its_logarithm(parameters: Parameters) -> None:
    middle = parameters.theta(torch.full((1, 12), 0.5, dtype=torch.float64))[0]
    assert float(middle[9]) == pytest.approx(10**-6.5)


def test_slope_is_the_derivative_of_the_transform(parameters: Parameters) -> None:
    u = cube(parameters).requires_grad_()
    theta = parameters.theta(u)
    (slope,) = torch.autograd.grad(theta.sum(), u)
    torch.testing.assert_close(parameters.slope(theta.detach()), slope)


def test_repeats_are_written_out_and_share_their_parameters(parameters: Parameters) -> None:
    theta = parameters.theta(cube(parameters))
    slabs = parameters.slabs(theta)
    assert slabs.thickness.shape == (5, 7)
    assert slabs.sld.shape == slabs.isld.shape == (5, 9)
    assert slabs.roughness.shape == (5, 8)
    for period in range(3):
        torch.testing.assert_close(slabs.sld[:, 3 + 2 * period], theta[:, 5])
        torch.testing.assert_close(slabs.roughness[:, 2 + 2 * period], theta[:, 4])


def test_values_hold_the_known_and_the_free(parameters: Parameters) -> None:
    theta = parameters.theta(cube(parameters))
    values = dict(zip([e.name for e in parameters.entries], parameters.values(theta).T, strict=True))
    torch.testing.assert_close(values["film.isld"], theta[:, 3])
    torch.testing.assert_close(values["light.thickness"], torch.full((5,), 20.0).double())
    assert len(values) == 3 * 4 + 1 + 3 + 4


def test_slopes_gather_to_those_of_the_parameters(parameters: Parameters) -> None:
    theta = parameters.theta(cube(parameters))
    _, slopes = model_curve_and_slopes(Q, 0.02 * Q, parameters.slabs(theta))
    by_square = torch.where(parameters.is_roughness, 2 * theta, 1.0)
    by_theta = parameters.gather(slopes) * by_square[:, None]
    assert by_theta.shape == (5, len(Q), 12)
    for i in range(12):
        h = 1e-6 * (parameters.high - parameters.low)[i]
        step = torch.zeros(12, dtype=torch.float64)
        step[i] = h
        up = model_curve(Q, 0.02 * Q, parameters.slabs(theta + step))
        down = model_curve(Q, 0.02 * Q, parameters.slabs(theta - step))
        quotient = (up - down) / (2 * h)
        worst = ((by_theta[:, :, i] - quotient).abs() / quotient.abs().amax()).max()
        assert worst < 1e-5, parameters.names[i]


def test_nothing_free_is_a_model_too() -> None:
    parameters = Parameters.of(load("sample:\n  backing: {sld: 2.07}\n"))
    slabs = parameters.slabs(torch.zeros(1, 0, dtype=torch.float64))
    assert len(parameters) == 0
    assert parameters.target == -1
    values, _ = reflectivity_and_slopes(Q, slabs)
    torch.testing.assert_close(values, reflectivity(Q, slabs))
