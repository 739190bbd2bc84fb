from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engines.reflectometry.stacks import Q, orso_case, random_slabs
from torch import Tensor

from skyloop.engines.reflectometry.forward import Slabs, reflectivity, stack
from skyloop.engines.reflectometry.smearing import (
    CUT,
    model_curve,
    model_curve_and_slopes,
    node_groups,
)

NONE = torch.zeros_like(Q)
LOST = 0.999535  # the references keep the weight that the cut Gaussian lacks


@pytest.mark.parametrize("case", [4, 5])
def test_smeared_orso_references_are_reproduced(shared_data: Path, case: int) -> None:
    slabs, table = orso_case(shared_data, case)
    q, width = torch.tensor(table[:, 0]), torch.tensor(table[:, 3])
    values = model_curve(q, width, slabs)[0].numpy() * LOST
    np.testing.assert_allclose(values, table[:, 1], rtol=2e-5)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.05])
@pytest.mark.parametrize("longest", [100.0, 600.0])
def test_few_nodes_do_what_many_do(share: float, longest: float) -> None:
    slabs = random_slabs(3, batch=3, seed=1)
    slabs = _plain(replace(slabs, thickness=slabs.thickness * longest / 200))
    few, many = model_curve(Q, share * Q, slabs), _brute(Q, share * Q, slabs)
    torch.testing.assert_close(few, many, rtol=1e-3, atol=1e-12)
    assert ((few / many - 1).abs() < 1e-5).double().mean() > 0.95


def test_narrow_resolution_needs_few_nodes() -> None:
    slabs = stack([100.0], [0, 4, 2.07])
    q = torch.linspace(0.03, 0.2, 50, dtype=torch.float64)
    assert sum(nodes.shape[1] * nodes.shape[2] for _, nodes, _ in node_groups(q, 0.01 * q, slabs)) <= 350


def test_points_without_resolution_have_one_node() -> None:
    slabs = random_slabs(2)
    width = torch.where(torch.arange(len(Q)) % 2 == 0, 0.02 * Q, 0.0)
    for at, nodes, _ in node_groups(Q, width, slabs):
        assert bool((width[at] > 0).all()) or nodes.shape[2] == 1


def test_every_point_is_in_one_group_and_weights_sum_to_one() -> None:
    groups = list(node_groups(Q, 0.03 * Q, random_slabs(3)))
    assert sorted(i for at, _, _ in groups for i in at.tolist()) == list(range(len(Q)))
    for _, _, weights in groups:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(()).double().expand(weights.shape[:-1]))


def test_without_resolution_it_is_the_scaled_reflectivity() -> None:
    slabs = random_slabs(2)
    q = Q + slabs.q_offset[:, None]
    expected = slabs.scale[:, None] * reflectivity(q, slabs) + slabs.background[:, None]
    torch.testing.assert_close(model_curve(Q, NONE, slabs), expected)


def test_resolution_is_a_factor_and_offset_a_shift() -> None:
    slabs = random_slabs(2, batch=1)
    plain = replace(slabs, q_offset=torch.zeros(1).double(), resolution=torch.ones(1).double())
    width = 0.02 * Q
    expected = model_curve(Q + slabs.q_offset, slabs.resolution * width, plain)
    torch.testing.assert_close(model_curve(Q, width, slabs), expected, rtol=1e-10, atol=0)


def test_a_constant_stays_constant() -> None:
    nothing = stack([], [0.0, 0.0])
    background = replace(nothing, background=torch.tensor([0.3], dtype=torch.float64))
    expected = torch.full((1, len(Q)), 0.3, dtype=torch.float64)
    torch.testing.assert_close(model_curve(Q, 0.05 * Q, background), expected)


def test_a_batch_is_its_members() -> None:
    slabs = random_slabs(2)
    together = model_curve(Q, 0.02 * Q, slabs)
    for i in range(len(slabs)):
        member = Slabs(*(getattr(slabs, name)[i : i + 1] for name in Slabs.__slots__))
        alone = model_curve(Q, 0.02 * Q, member)[0]
        torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-10)


def test_a_curve_without_resolution_may_be_among_others() -> None:
    slabs = _plain(random_slabs(2))
    mixed = replace(slabs, resolution=torch.tensor([0.0, 1, 1, 0, 1, 1], dtype=torch.float64))
    sharp, curves = reflectivity(Q, slabs), model_curve(Q, 0.03 * Q, mixed)
    torch.testing.assert_close(curves[[0, 3]], sharp[[0, 3]], rtol=1e-6, atol=1e-12)
    assert ((curves / sharp - 1).abs().amax(dim=1)[[1, 2, 4, 5]] > 1e-3).all()


def test_negative_nodes_are_reflected() -> None:
    """A resolution wider than q itself sees the same reflectivity on both sides of zero."""
    slabs = stack([50.0], [0, 4, 2.07])
    q, width = torch.tensor([0.002]).double(), torch.tensor([0.002]).double()
    torch.testing.assert_close(model_curve(q, width, slabs), _brute(q, width, slabs), rtol=1e-4, atol=0)


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_slopes_are_difference_quotients(share: float) -> None:
    slabs = random_slabs(2)
    # Away from critical edges, where the derivative by a density has no limit.
    q = torch.linspace(0.035, 0.3, 60, dtype=torch.float64)
    curve, slopes = model_curve_and_slopes(q, share * q, slabs)
    torch.testing.assert_close(curve, model_curve(q, share * q, slabs), rtol=1e-9, atol=1e-15)
    for name in Slabs.__slots__:
        field = getattr(slabs, name)
        flat = field.reshape(len(field), -1)
        for i in range(flat.shape[1]):
            slope = getattr(slopes, name).reshape(len(field), len(q), -1)[..., i]
            if name == "isld" and i == 0:
                assert not slope.any()
                continue
            h = 1e-6 * max(1.0, float(flat[:, i].abs().max())) * (1e-4 if name == "q_offset" else 1)
            quotient = _quotient(q, share * q, slabs, (name, i, h))
            size = quotient.abs().amax(dim=1, keepdim=True)
            if name == "roughness":
                slope = 2 * flat[:, [i]] * slope  # which is by the square
            assert ((slope - quotient).abs() <= 1e-5 * size + 1e-12).all(), (name, i)


def _quotient(q: Tensor, width: Tensor, slabs: Slabs, place: tuple[str, int, float]) -> Tensor:
    name, i, h = place
    curves: list[Tensor] = []
    for sign in (1, -1):
        field = getattr(slabs, name).clone()
        field.reshape(len(field), -1)[:, i] += sign * h
        curves.append(model_curve(q, width, replace(slabs, **{name: field})))
    return (curves[0] - curves[1]) / (2 * h)


def _plain(slabs: Slabs) -> Slabs:
    ones, zeros = torch.ones_like(slabs.scale), torch.zeros_like(slabs.scale)
    return replace(slabs, scale=ones, background=zeros, q_offset=zeros, resolution=ones)


def _brute(q: Tensor, width: Tensor, slabs: Slabs) -> Tensor:
    x, w = np.polynomial.legendre.leggauss(801)
    z = torch.from_numpy(CUT * x)
    weights = torch.from_numpy(w) * torch.exp(-z * z / 2)
    nodes = (q[:, None] + width[:, None] * z).flatten()
    values = reflectivity(nodes, slabs).unflatten(1, (len(q), len(z)))
    return (values * weights).sum(dim=2) / weights.sum()
