from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from engines.xrf.spectra import SURE, Truth, problem_of, truth
from torch import Tensor

from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.joint import Doubts, Joint, joint_fit, loose_columns
from skyloop.engines.xrf.objective import OBJECTIVES, ObjectiveName
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.projection import amplitudes
from skyloop.engines.xrf.setup import SCATTER

FREE = ("ENERGY_OFFSET", "ENERGY_SLOPE", "FWHM_OFFSET", "COMPTON_ANGLE")
SIZES = torch.tensor([0.01, 2e-5, 0.01, 1.0], dtype=torch.float64)
CONFIG = Config(incident_energy=10.0, free=FREE)
EVERY = pytest.mark.parametrize("name", OBJECTIVES)


def sample(*, absent: bool = False, total: float = 3e5, off: tuple[int, Doubts] | None = None) -> Truth:
    elements = {"Ca": 0.3, "Fe": 1.0, "Co": 0.2, "Cu": 0.4} | ({"Ni": 0.0} if absent else {})
    return truth(elements, total=total, off=off)


def joint(problem: Problem, name: ObjectiveName = "poisson", doubts: Doubts = SURE) -> Joint:
    objective = OBJECTIVES[name]
    found = amplitudes(problem, objective.first_weights(problem.counts), problem.start)
    return joint_fit(problem, objective, problem.start, found, doubts)


def slopes_of(problem: Problem, at: Joint) -> Tensor:
    """[amplitude + free, channel] by differences."""
    rows = [at.basis]
    for k, size in enumerate(SIZES[: len(problem.free)].tolist()):
        step = torch.zeros_like(at.x)
        step[k] = 1e-4 * size
        models = [at.amplitudes @ problem.basis(at.x + sign * step) for sign in (1, -1)]
        rows.append(((models[0] - models[1]) / (2e-4 * size))[None])
    return torch.cat(rows)


def known(covariance: Tensor) -> Tensor:
    return (~covariance.diagonal().isnan()).nonzero()[:, 0]


@EVERY
def test_the_cost_is_never_above_that_of_the_start(name: ObjectiveName) -> None:
    of, objective = sample(), OBJECTIVES[name]
    for seed, doubts in enumerate((SURE, Doubts(), Doubts(branching=0.0))):
        problem = problem_of(of, of.counts(seed), CONFIG, {"ENERGY_OFFSET": 0.02, "FWHM_OFFSET": 0.12})
        first = amplitudes(problem, objective.first_weights(problem.counts), problem.start)
        before = objective.cost(problem.counts, first @ problem.basis(problem.start)).sum()
        found = joint_fit(problem, objective, problem.start, first, doubts)
        assert found.converged
        assert found.cost + found.strain / 2 < float(before)


@EVERY
def test_the_gradient_is_zero_where_nothing_is_at_an_end(name: ObjectiveName) -> None:
    of = sample()
    problem = problem_of(of, of.counts(0), CONFIG)
    found = joint(problem, name)
    slope = OBJECTIVES[name].slope(problem.counts, found.model)
    inside = known(found.covariance)
    gradient = (slopes_of(problem, found) @ slope)[inside]
    pull = gradient * found.covariance.diagonal()[inside].sqrt()
    assert len(inside) >= len(problem.rows.names) + len(FREE)
    assert float(pull.abs().max()) < 0.1


def test_the_model_is_made_of_its_parts() -> None:
    of = sample()
    problem = problem_of(of, of.counts(0), CONFIG)
    found = joint(problem)
    torch.testing.assert_close(found.model, found.amplitudes @ found.basis)
    torch.testing.assert_close(found.basis, problem.basis(found.x))
    half = OBJECTIVES["poisson"].cost(problem.counts, found.model).sum()
    assert found.cost == pytest.approx(float(half))


def test_the_covariance_of_a_poisson_fit_is_the_inverse_fisher_information() -> None:
    of = sample()
    problem = problem_of(of, of.counts(0), CONFIG)
    found = joint(problem)
    slopes = slopes_of(problem, found)
    inside = known(found.covariance)
    scale = slopes[inside].norm(dim=1)
    fisher = (slopes[inside] / found.model) @ slopes[inside].T / scale / scale[:, None]
    inverse = torch.linalg.inv(fisher) / scale / scale[:, None]
    own = found.covariance[inside][:, inside]
    size = inverse.diagonal().sqrt()
    torch.testing.assert_close(own / size / size[:, None], inverse / size / size[:, None], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["mse", "chi2"])
def test_the_covariance_is_the_scatter_of_many_fits(name: ObjectiveName) -> None:
    of, draws = truth({"Fe": 0.2, "Cu": 1.0}, total=3e5), 100
    config = Config(incident_energy=10.0, free=("ENERGY_OFFSET", "FWHM_OFFSET"), energy_range=(5.5, 9.2))
    found = [joint(_single(of, seed, config), name) for seed in range(draws)]
    x = torch.stack([torch.cat([each.amplitudes[:2], each.x]) for each in found])
    at = [0, 1, -2, -1]
    told = torch.stack([each.covariance[at][:, at] for each in found]).mean(0)
    size = told.diagonal().sqrt()
    seen = torch.cov(x.T) / size / size[:, None]
    expected = told / size / size[:, None]
    # a variance of n draws has the relative standard deviation sqrt(2 / n)
    torch.testing.assert_close(seen, expected, rtol=0, atol=4 * (2 / draws) ** 0.5)


def _single(of: Truth, seed: int, config: Config) -> Problem:
    """Without scatter, which is outside the range, and with a background of one column."""
    problem = problem_of(Truth(of.mean, {"Fe": 0, "Cu": 0}, of.values, of.beam), of.counts(seed), config)
    return replace(problem, background=problem.background.sum(0, keepdim=True))


def test_nothing_is_off_where_nothing_is_doubted() -> None:
    of = sample()
    problem = problem_of(of, of.counts(0), CONFIG)
    found = joint(problem)
    assert found.strain == 0
    n = len(problem.rows.names) + len(problem.background) + len(FREE)
    assert found.covariance.shape == (n, n)
    x, first = found.x, found.amplitudes
    assert loose_columns(problem, x, first, SURE, 1 / found.model).shape == (0, problem.span.count)


def test_doubts_that_vanish_change_nothing() -> None:
    of = sample()
    problem = problem_of(of, of.counts(0), CONFIG)
    one, other = joint(problem), joint(problem, doubts=Doubts(1e-6, 1e-7, 1e-6, 1e-6))
    size = one.covariance.diagonal().sqrt().nan_to_num(1.0)
    both = [torch.cat([each.amplitudes, each.x]) / size for each in (one, other)]
    torch.testing.assert_close(both[0], both[1], rtol=0, atol=0.05)


def test_what_is_doubted_is_less_sure() -> None:
    of = sample()
    problem = problem_of(of, of.counts(0), CONFIG)
    sure, unsure = (joint(problem, doubts=doubts).covariance.diagonal()[:4] for doubts in (SURE, Doubts()))
    assert bool((unsure > sure).all())


def test_lines_elsewhere_are_described_only_where_they_are_doubted() -> None:
    of = sample(total=3e6, off=(3, Doubts(branching=0.0, position=0.008, width=0.0)))
    problem = problem_of(of, of.counts(0), CONFIG)
    rigid, loose = joint(problem), joint(problem, doubts=Doubts(position=0.008))
    channels = problem.span.count
    assert 2 * rigid.cost > 1.5 * channels
    assert 2 * loose.cost < 1.15 * channels
    assert loose.strain > 0.5


def test_the_strain_is_what_lines_are_off_by() -> None:
    doubts = Doubts(branching=0.05, position=0.0, width=0.0)
    strains = [
        joint(problem_of(of, of.counts(seed), CONFIG), doubts=doubts).strain
        for seed in range(12)
        for of in [sample(total=1e8, off=(seed, doubts))]
    ]
    exact = joint(problem_of(sample(), sample().mean, CONFIG), doubts=doubts).strain
    assert exact < 0.05
    assert 2 < float(np.mean(strains)) < 25


def test_what_is_at_an_end_has_no_standard_deviation() -> None:
    of = sample(absent=True)
    problem = problem_of(of, of.counts(0), CONFIG)
    problem = replace(problem, free={**problem.free, "FWHM_OFFSET": (0.05, 0.08)})
    found = joint(problem)
    assert found.at_bound == ("FWHM_OFFSET",)
    k = len(found.amplitudes) + FREE.index("FWHM_OFFSET")
    assert float(found.x[FREE.index("FWHM_OFFSET")]) == 0.08
    assert bool(found.covariance[k].isnan().all() & found.covariance[:, k].isnan().all())
    others = [
        *range(4),
        *(len(found.amplitudes) + FREE.index(name) for name in FREE if name != "FWHM_OFFSET"),
    ]
    assert bool(found.covariance[others][:, others].isfinite().all())


def test_an_absent_component_is_at_zero_without_one_or_within_it() -> None:
    of = sample(absent=True)
    at = list(of.amplitudes).index("Ni")
    for seed in range(10):
        found = joint(problem_of(of, of.counts(seed), CONFIG))
        amplitude, sigma = float(found.amplitudes[at]), float(found.covariance[at, at].sqrt())
        assert amplitude >= 0
        assert amplitude < 4 * sigma or (amplitude == 0 and np.isnan(sigma))


def test_a_column_that_no_channel_shows_does_not_take_the_errors_of_the_others() -> None:
    of = truth({"Fe": 1.0, "Cu": 0.4, "Fe_Fe": 0.0})  # at 12.8 keV, above the fitted range
    found = joint(problem_of(of, of.counts(0), CONFIG))
    names = list(of.amplitudes)
    seen = [names.index(name) for name in ("Fe", "Cu", *SCATTER)]
    assert bool(found.covariance[seen, seen].isfinite().all())
    assert bool(found.covariance[names.index("Fe_Fe"), names.index("Fe_Fe")].isnan())


def test_what_cannot_be_told_apart_is_not_sure_and_the_others_are_as_before() -> None:
    of = sample()
    problem = problem_of(of, of.counts(0), CONFIG)
    twins = replace(problem, background=torch.cat([problem.background, problem.background[5:6]]))
    n = len(problem.rows.names)
    alone, found = (joint(each).covariance.diagonal() for each in (problem, twins))
    for k in (n + 5, n + len(problem.background)):
        assert bool(found[k].isnan()) or float(found[k]) > 100 * float(alone[n + 5])
    torch.testing.assert_close(found[:n], alone[:n], rtol=1e-3, atol=0)
