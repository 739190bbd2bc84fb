from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engines.reflectometry.stacks import Q, abeles, orso_case, random_slabs

from skyloop.engines.reflectometry.forward import Slabs, reflectivity, stack
from skyloop.engines.reflectometry.slopes import reflectivity_and_slopes
from skyloop.errors import DataError

LAYERS = [0, 1, 2, 3, 7]
FIELDS = ["thickness", "sld", "isld", "roughness"]


@pytest.mark.parametrize(
    ("case", "tolerance"), [(0, 1e-10), (1, 8e-5), (2, 1e-10), (3, 8e-5), (6, 1e-10), (7, 1e-10)]
)
def test_orso_references_are_reproduced(shared_data: Path, case: int, tolerance: float) -> None:
    slabs, table = orso_case(shared_data, case)
    values = reflectivity(torch.tensor(table[:, 0]), slabs)[0].numpy()
    np.testing.assert_allclose(values, table[:, 1], rtol=tolerance)


@pytest.mark.parametrize("absorbing", [True, False])
@pytest.mark.parametrize("layers", LAYERS)
def test_recursion_equals_matrix_product(layers: int, absorbing: bool) -> None:
    slabs = random_slabs(layers, absorbing=absorbing)
    torch.testing.assert_close(reflectivity(Q, slabs), abeles(Q, slabs), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("layers", LAYERS)
def test_a_vanishing_absorption_changes_nothing(layers: int) -> None:
    """The short cuts for real wavenumbers give what the general way gives."""
    slabs = random_slabs(layers, absorbing=False)
    general = replace(slabs, isld=torch.full_like(slabs.isld, 1e-14))
    torch.testing.assert_close(reflectivity(Q, slabs), reflectivity(Q, general), rtol=1e-8, atol=0)


@pytest.mark.parametrize("layers", LAYERS)
def test_a_common_shift_of_all_densities_changes_nothing(layers: int) -> None:
    slabs = random_slabs(layers)
    shifted = replace(slabs, sld=slabs.sld + 3.21)
    torch.testing.assert_close(reflectivity(Q, slabs), reflectivity(Q, shifted), rtol=1e-9, atol=0)


@pytest.mark.parametrize("layers", LAYERS)
def test_a_batch_is_its_members(layers: int) -> None:
    slabs = random_slabs(layers)
    own_q = Q * torch.linspace(0.9, 1.1, len(slabs), dtype=torch.float64)[:, None]
    together = reflectivity(own_q, slabs)
    for i in range(len(slabs)):
        alone = reflectivity(own_q[i], _member(slabs, i))[0]
        torch.testing.assert_close(together[i], alone, rtol=1e-10, atol=1e-16)


def test_many_points_and_curves_are_as_few() -> None:
    slabs = random_slabs(2, batch=300)
    q = torch.linspace(0.01, 0.3, 200, dtype=torch.float64)
    torch.testing.assert_close(reflectivity(q, slabs)[:, 77:79], reflectivity(q[77:79], slabs))


def test_bare_substrate_follows_fresnel() -> None:
    k0 = Q / 2
    k1 = (k0**2 - 4e-6 * torch.pi * 2.07 + 0j).sqrt()
    fresnel = ((k0 - k1) / (k0 + k1)).abs() ** 2
    torch.testing.assert_close(reflectivity(Q, stack([], [0.0, 2.07]))[0], fresnel)


@pytest.mark.parametrize("absorption", [0.0, 0.1])
def test_a_layer_cut_in_two_stays_the_same(absorption: float) -> None:
    whole = stack([90.0], [0, 4, 2], isld=[0, absorption, 0], roughness=[3, 5])
    halves = stack([30.0, 60.0], [0, 4, 4, 2], isld=[0, absorption, absorption, 0], roughness=[3, 0, 5])
    torch.testing.assert_close(reflectivity(Q, whole), reflectivity(Q, halves), rtol=1e-10, atol=0)


def test_a_layer_without_thickness_vanishes() -> None:
    without = stack([80.0], [0, 4, 2], roughness=[4, 0])
    between = stack([80.0, 0.0], [0, 4, 7, 2], roughness=[4, 0, 0])
    torch.testing.assert_close(reflectivity(Q, without), reflectivity(Q, between), rtol=1e-10, atol=0)


@pytest.mark.parametrize("layers", LAYERS)
def test_nothing_is_lost_in_total_reflection(layers: int) -> None:
    slabs = random_slabs(layers, absorbing=False)
    fronting, backing = torch.zeros(len(slabs), 1), torch.full((len(slabs), 1), 9.0)
    sld = torch.cat([fronting, slabs.sld[:, 1:-1], backing], dim=1).double()
    q = torch.linspace(0.001, 0.021, 40, dtype=torch.float64)
    values = reflectivity(q, replace(slabs, sld=sld))
    torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-10, atol=0)


@pytest.mark.parametrize("layers", LAYERS)
def test_no_stack_reflects_more_than_all(layers: int) -> None:
    slabs = random_slabs(layers, batch=200)
    smooth = replace(slabs, roughness=torch.zeros_like(slabs.roughness))
    values = reflectivity(Q, smooth)
    assert values.min() >= 0
    assert values.max() <= 1 + 1e-10


def test_identical_media_reflect_nothing_at_their_common_edge() -> None:
    edge = float(4 * np.sqrt(np.pi * 4e-6))
    slabs = stack([50.0], [0, 4, 4], isld=[0, 0, 0])
    assert torch.isfinite(reflectivity(torch.tensor([edge], dtype=torch.float64), slabs)).all()


def test_a_stack_of_wrong_lengths_is_refused() -> None:
    with pytest.raises(DataError, match="mend: SLDs and absorptions are two more"):
        stack([10.0], [0, 2])


@pytest.mark.parametrize("layers", LAYERS)
def test_slopes_equal_automatic_differentiation(layers: int) -> None:
    slabs = random_slabs(layers)
    values, slopes = reflectivity_and_slopes(Q, slabs)
    torch.testing.assert_close(values, reflectivity(Q, slabs), rtol=1e-9, atol=1e-14)
    for name in FIELDS:
        expected = _by_autograd(name, slabs)
        if name == "isld":
            expected[..., 0] = 0  # absorption of the fronting is ignored
        slope = getattr(slopes, name)
        if name == "roughness":
            slope = 2 * slabs.roughness[:, None] * slope  # which is by the square
        torch.testing.assert_close(slope, expected, rtol=1e-7, atol=1e-12)


def test_slope_by_q_is_its_difference_quotient() -> None:
    slabs, h = random_slabs(3), 1e-7
    _, slopes = reflectivity_and_slopes(Q, slabs)
    quotient = (reflectivity(Q + h, slabs) - reflectivity(Q - h, slabs)) / (2 * h)
    torch.testing.assert_close(slopes.q, quotient, rtol=1e-5, atol=1e-6)


def test_a_common_shift_has_no_slope() -> None:
    _, slopes = reflectivity_and_slopes(Q, random_slabs(3))
    total = slopes.sld.sum(dim=2)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-12)


def _member(slabs: Slabs, i: int) -> Slabs:
    return Slabs(*(getattr(slabs, name)[i : i + 1] for name in Slabs.__slots__))


def _by_autograd(name: str, slabs: Slabs) -> torch.Tensor:
    """Derivatives [batch, n, ...] of the matrix product: each point gets its own copy of the field."""
    field = getattr(slabs, name)
    copies = field.repeat_interleave(len(Q), dim=0).requires_grad_()
    alike = {f: getattr(slabs, f).repeat_interleave(len(Q), dim=0) for f in Slabs.__slots__}
    single = Slabs(**{**alike, name: copies})
    values = abeles(Q.repeat(len(slabs))[:, None], single)
    (slope,) = torch.autograd.grad(values.sum() + 0 * copies.sum(), copies)
    return slope.unflatten(0, (len(slabs), len(Q)))
