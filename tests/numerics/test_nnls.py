from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls as reference
from torch import Tensor

from skyloop.numerics.nnls import NonNegative, nnls


def random_problem(rows: int, k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Columns [3k, k] and data [rows, 3k] of which about half of the components are negative."""
    generator = np.random.default_rng(seed)
    columns = generator.random((3 * k, k)) * 10.0 ** generator.uniform(-2, 2, k)
    data = generator.normal(size=(rows, k)) @ columns.T + generator.normal(size=(rows, 3 * k))
    return torch.tensor(columns), torch.tensor(data)


def overlapping_problem(rows: int, k: int, width: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian lines `width` line distances wide; every second one absent; 2 % noise."""
    generator = np.random.default_rng(seed)
    channel, centre = np.linspace(0, 1, 4 * k)[:, None], np.linspace(0.05, 0.95, k)
    columns = np.exp(-0.5 * ((channel - centre) * k / width) ** 2)
    amounts = generator.random((rows, k)) * (generator.random((rows, k)) < 0.5)
    data = amounts @ columns.T
    data += 0.02 * data.mean() * generator.normal(size=data.shape)
    return torch.tensor(columns), torch.tensor(data)


def spectra(rows: int) -> tuple[Tensor, Tensor]:
    """17 elements, 2048 channels, 2000 counts a row, a third of the elements absent."""
    generator = np.random.default_rng(3)
    energy, line = 0.01 * np.arange(2048)[:, None], np.sort(generator.uniform(1.5, 15, 17))
    columns = sum(
        (
            share * np.exp(-0.5 * ((energy - at) / (0.04 + 0.004 * at)) ** 2)
            for share, at in ((0.86, line), (0.14, 1.1 * line + 0.05))
        ),
        start=np.zeros((2048, 17)),
    )
    columns = columns / columns.sum(axis=0)
    amounts = generator.gamma(0.7, size=(rows, 17)) * (generator.random((rows, 17)) > 0.3)
    amounts *= 2000 / amounts.sum(axis=1, keepdims=True)
    return torch.tensor(columns), torch.tensor(generator.poisson(amounts @ columns.T)).double()


def solve(columns: Tensor, data: Tensor, start: Tensor | None = None) -> NonNegative:
    return nnls(columns.T @ columns, data @ columns, start=start)


def expected(columns: Tensor, data: Tensor) -> Tensor:
    return torch.tensor(np.array([reference(columns.numpy(), row.numpy())[0] for row in data]))


def violation(gram: Tensor, c: Tensor, x: Tensor) -> Tensor:
    """Optimality of each row, with columns of length one, written down anew."""
    length = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    gradient = ((gram @ x[..., None])[..., 0] - c) / length
    worst = torch.where(x > 0, gradient.abs(), (-gradient).clamp(min=0)).amax(dim=-1)
    return worst / (c / length).abs().amax(dim=-1)


def close(found: Tensor, wanted: Tensor, share: float = 1e-9) -> None:
    """Equal to a share of the largest component of the row."""
    assert ((found - wanted).abs() <= share * wanted.abs().amax(dim=-1, keepdim=True)).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 10_000))
def test_every_solution_is_optimal(k: int, rows: int, seed: int) -> None:
    columns, data = random_problem(rows, k, seed)
    found = solve(columns, data)
    assert found.converged.all()
    assert (found.x >= 0).all()
    assert torch.equal(found.free, found.x > 0)
    assert violation(columns.T @ columns, data @ columns, found.x).max() < 1e-10
    assert found.kkt.max() < 1e-10


@pytest.mark.parametrize("k", [1, 2, 17, 70])
def test_random_problems_agree_with_scipy(k: int) -> None:
    columns, data = random_problem(40, k)
    found, wanted = solve(columns, data).x, expected(columns, data)
    assert (wanted == 0).any()
    # Each in units in which its column has length one.
    length = columns.norm(dim=0)
    close(found * length, wanted * length)


def test_spectra_agree_with_scipy() -> None:
    columns, data = spectra(200)
    found = solve(columns, data)
    assert (~found.free).any(dim=1).sum() > 100
    close(found.x, expected(columns, data), 1e-8)


@pytest.mark.parametrize(("k", "width", "share"), [(17, 1.3, 1e-8), (60, 1.3, 1e-6), (17, 4.0, 1e-4)])
def test_overlapping_lines_agree_with_scipy(k: int, width: float, share: float) -> None:
    columns, data = overlapping_problem(30, k, width)
    assert torch.linalg.cond(columns.T @ columns) > 1e6
    found = solve(columns, data)
    assert found.converged.all()
    close(found.x, expected(columns, data), share)


@pytest.mark.parametrize("limits", [{"_EXCHANGES": 0}, {"_EXCHANGES": 1000, "_PATIENCE": 0}])
def test_each_way_to_the_end_leads_there(limits: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The active set alone, and the exchange of one component at a time."""
    problems = [random_problem(30, 12), overlapping_problem(30, 17, 1.0)]
    wanted = [solve(*problem).x for problem in problems]
    for name, value in limits.items():
        monkeypatch.setattr(f"skyloop.numerics.nnls.{name}", value)
    for problem, x in zip(problems, wanted, strict=True):
        found = solve(*problem)
        assert found.converged.all()
        close(found.x, x)


def test_lines_that_cannot_be_told_apart_still_give_the_least_squares() -> None:
    columns, data = random_problem(30, 12)
    columns = torch.cat([columns, columns, columns[:, :6] + columns[:, 6:]], dim=1)
    found = solve(columns, data)
    assert found.converged.all()
    best = ((expected(columns, data) @ columns.T - data) ** 2).sum(dim=1)
    torch.testing.assert_close(((found.x @ columns.T - data) ** 2).sum(dim=1), best, rtol=1e-12, atol=0)


def test_of_two_equal_columns_the_first_is_used() -> None:
    column = torch.tensor([[1.0], [2.0]]).double()
    found = solve(torch.cat([column, column], dim=1), 3 * column.T)
    torch.testing.assert_close(found.x, torch.tensor([[3.0, 0.0]]).double())
    assert found.free.tolist() == [[True, False]]


def own_grams(rows: int, k: int) -> tuple[Tensor, Tensor]:
    parts = [overlapping_problem(1, k, 0.5 + 0.02 * seed, seed) for seed in range(rows)]
    gram = torch.stack([columns.T @ columns for columns, _ in parts])
    return gram, torch.cat([data @ columns for columns, data in parts])


@pytest.mark.parametrize("k", [1, 20, 100])
def test_rows_with_their_own_matrix_are_solved_as_each_alone(k: int) -> None:
    gram, c = own_grams(30, k)
    together = nnls(gram, c)
    assert together.converged.all()
    close(together.x, torch.stack([nnls(gram[i], c[i]).x for i in range(30)]), 1e-7)


def test_rows_with_one_matrix_are_solved_as_each_alone() -> None:
    columns, data = random_problem(30, 9)
    close(solve(columns, data).x, torch.cat([solve(columns, data[i : i + 1]).x for i in range(30)]))


def test_a_shared_matrix_is_the_same_matrix_for_each_row() -> None:
    columns, data = random_problem(20, 8)
    gram, c = columns.T @ columns, data @ columns
    close(nnls(gram.expand(20, 8, 8), c).x, nnls(gram, c).x)


def test_the_order_of_rows_and_of_columns_does_not_matter() -> None:
    columns, data = random_problem(30, 9)
    generator = torch.Generator().manual_seed(0)
    rows, order = torch.randperm(30, generator=generator), torch.randperm(9, generator=generator)
    close(solve(columns[:, order], data[rows]).x, solve(columns, data).x[rows][:, order])


@pytest.mark.parametrize("factor", [3.0, 1e-200, 1e200])
def test_the_solution_scales_with_the_data(factor: float) -> None:
    columns, data = random_problem(30, 9)
    gram, c = columns.T @ columns, data @ columns
    close(nnls(gram, factor * c).x / factor, nnls(gram, c).x)


@pytest.mark.parametrize("exponent", [3, 70])
def test_units_of_the_columns_do_not_matter(exponent: int) -> None:
    columns, data = random_problem(30, 9)
    units = 10.0 ** torch.linspace(-exponent, exponent, 9).double()
    plain, other = solve(columns, data), solve(columns * units, data)
    assert torch.equal(plain.free, other.free)
    close(other.x * units, plain.x)
    torch.testing.assert_close(other.kkt, plain.kkt, rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [0.6, 4.0])
def test_any_start_leads_to_the_same_solution(width: float) -> None:
    columns, data = overlapping_problem(30, 17, width)
    cold = solve(columns, data)
    nothing, some = torch.zeros_like(cold.free), torch.arange(17) < 4
    chance = torch.rand(30, 17, generator=torch.Generator().manual_seed(0)) < 0.5
    for start in (cold.free, ~cold.free, nothing, chance, some):
        warm = solve(columns, data, start=start)
        assert warm.converged.all()
        close(warm.x, cold.x, 1e-6)


def test_the_ridge_shrinks_by_its_share_of_the_diagonal() -> None:
    c = torch.tensor([[3.0, 8.0, -1.0]]).double()
    gram = torch.diag(torch.tensor([1.0, 4.0, 2.0]).double())
    torch.testing.assert_close(nnls(gram, c, ridge=0.25).x, nnls(gram, c).x / 1.25)
    columns, data = random_problem(30, 9)
    length = columns.norm(dim=0)
    sizes = [
        (nnls(columns.T @ columns, data @ columns, ridge=ridge).x * length).norm(dim=1)
        for ridge in (0.0, 0.1, 1.0, 10.0)
    ]
    for less, more in zip(sizes[1:], sizes, strict=False):
        assert (less <= more).all()
    assert (sizes[-1] < sizes[0]).any()


def test_negative_and_empty_data_have_no_components() -> None:
    columns, data = random_problem(5, 6)
    gram, c = columns.T @ columns, -(data @ columns).abs()
    c[0] = 0
    found = nnls(gram, c)
    assert found.converged.all()
    assert not found.x.any()
    assert not found.free.any()
    assert not found.kkt.any()


def test_a_column_of_zeros_stays_at_zero() -> None:
    columns, data = random_problem(20, 6)
    with_zero = torch.cat([columns[:, :3], torch.zeros_like(columns[:, :1]), columns[:, 3:]], dim=1)
    found = solve(with_zero, data, start=torch.ones(7, dtype=torch.bool))
    assert found.converged.all()
    assert not found.x[:, 3].any()
    assert not found.free[:, 3].any()
    close(found.x[:, [0, 1, 2, 4, 5, 6]], solve(columns, data).x)


def test_data_that_no_columns_could_have_given_are_told() -> None:
    found = nnls(
        torch.diag(torch.tensor([1.0, 0.0]).double()), torch.tensor([[1.0, 1.0], [1.0, 0.0]]).double()
    )
    assert found.converged.tolist() == [False, True]
    assert found.kkt.tolist() == [1.0, 0.0]
    assert found.x.tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_leading_dimensions_are_kept() -> None:
    columns, data = random_problem(6, 4)
    gram, c = columns.T @ columns, data @ columns
    flat, grid = nnls(gram, c), nnls(gram, c.reshape(2, 3, 4))
    torch.testing.assert_close(grid.x, flat.x.reshape(2, 3, 4), rtol=0, atol=0)
    assert grid.kkt.shape == grid.converged.shape == (2, 3)
    single = nnls(gram, c[0])
    assert single.converged.shape == ()
    close(single.x, flat.x[0])


@pytest.mark.parametrize("shape", [(3, 3), (0, 3, 3)])
def test_no_rows_give_no_rows(shape: tuple[int, ...]) -> None:
    found = nnls(torch.zeros(shape).double(), torch.zeros(0, 3).double())
    assert found.x.shape == found.free.shape == (0, 3)
    assert found.kkt.shape == found.converged.shape == (0,)


def test_many_rows_are_solved_in_blocks_as_in_one() -> None:
    columns, data = random_problem(400, 60)
    close(solve(columns, data).x[-3:], solve(columns, data[-3:]).x)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_with_its_row(bad: float) -> None:
    columns, data = random_problem(5, 3)
    gram, c = columns.T @ columns, data @ columns
    grams, broken = gram.repeat(5, 1, 1), c.clone()
    broken[3, 1], grams[2, 0, 0] = bad, bad
    with pytest.raises(ValueError, match="row 3 of projected is not finite"):
        nnls(gram, broken)
    with pytest.raises(ValueError, match="row 2 of gram is not finite"):
        nnls(grams, c)
    with pytest.raises(ValueError, match=r"^gram is not finite"):
        nnls(grams[2], c)


def test_what_is_no_problem_is_refused() -> None:
    gram, c = torch.eye(3).double(), torch.ones(5, 3).double()
    for wrong in (torch.eye(4).double(), gram.expand(4, 3, 3)):
        with pytest.raises(ValueError, match="does not fit"):
            nnls(wrong, c)
    with pytest.raises(ValueError, match="does not fit"):
        nnls(torch.zeros(0, 0).double(), torch.zeros(5, 0).double())
    with pytest.raises(ValueError, match="float32"):
        nnls(gram, c.float())
    with pytest.raises(ValueError, match="negative diagonal"):
        nnls(-gram, c)
    with pytest.raises(ValueError, match="ridge"):
        nnls(gram, c, ridge=-1.0)
    with pytest.raises(ValueError, match="start"):
        nnls(gram, c, start=torch.ones(5, 3))
