from __future__ import annotations

import numpy as np
import pytest
import torch

from skyloop.numerics.smc import Ensemble, Sampler, bridge, from_prior, moments, resampled

CENTRE = np.array([0.4, 0.6, 0.5])
ROOT = np.array([[0.02, 0.0, 0.0], [0.015, 0.01, 0.0], [0.0, 0.0, 0.03]])


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def gaussian(points, centre=CENTRE, root=ROOT):
    z = np.linalg.solve(root, (points - centre).T)
    return -0.5 * (z**2).sum(0)


def flat_to(log_target):
    return lambda points: np.stack([np.zeros(len(points)), log_target(points)])


def infer(log_target, dims, seed, count=8000, sampler=None):
    return bridge(from_prior(count, dims, rng(seed)), flat_to(log_target), rng(seed + 99), sampler=sampler)


def test_mean_and_covariance_of_a_gaussian_are_recovered():
    ensembles = [infer(gaussian, 3, seed) for seed in range(8)]
    points = np.concatenate([e.points for e in ensembles])
    weight = np.concatenate([e.weight for e in ensembles]) / 8
    mean, _ = moments(points, weight)
    centred = points - mean
    covariance = np.einsum("p,pd,pe->de", weight, centred, centred)
    np.testing.assert_allclose(mean, CENTRE, atol=0.002)
    np.testing.assert_allclose(covariance, ROOT @ ROOT.T, rtol=0.1, atol=2e-5)


def test_evidence_of_a_gaussian_is_its_integral():
    exact = 1.5 * np.log(2 * np.pi) + np.log(np.diag(ROOT)).sum()
    found = [infer(gaussian, 3, seed).log_evidence for seed in range(8)]
    assert np.mean(found) == pytest.approx(exact, abs=0.1)


def test_both_modes_keep_their_mass():
    narrow = 0.01 * np.eye(2)

    def two(points):
        left = gaussian(points, np.array([0.2, 0.3]), narrow) + np.log(0.7)
        right = gaussian(points, np.array([0.8, 0.6]), narrow) + np.log(0.3)
        return np.logaddexp(left, right)

    mass = [e.weight[e.points[:, 0] < 0.5].sum() for e in (infer(two, 2, s) for s in range(12))]
    assert np.mean(mass) == pytest.approx(0.7, abs=0.06)


def test_mass_at_a_wall_is_kept():
    def exponential(points):
        return -points[:, 0] / 0.05

    ensembles = [infer(exponential, 2, seed) for seed in range(6)]
    mean = np.mean([moments(e.points, e.weight)[0] for e in ensembles], axis=0)
    np.testing.assert_allclose(mean, [0.05, 0.5], rtol=0.06)


def test_an_update_equals_an_inference_on_all_data():
    def second(points):
        return gaussian(points) + gaussian(points, CENTRE + 0.02, 0.03 * np.eye(3))

    means, spreads = [], []
    for seed in range(6):
        first = infer(gaussian, 3, seed)
        updated = bridge(first, lambda u: np.stack([gaussian(u), second(u)]), rng(seed + 7))
        mean, spread = moments(updated.points, updated.weight)
        means.append(mean)
        spreads.append(spread)
    precision = np.linalg.inv(ROOT @ ROOT.T) + np.eye(3) / 0.03**2
    shift = np.linalg.solve(precision, np.full(3, 0.02) / 0.03**2)
    np.testing.assert_allclose(np.mean(means, axis=0), CENTRE + shift, atol=0.002)
    np.testing.assert_allclose(np.mean(spreads, axis=0), np.sqrt(np.diag(np.linalg.inv(precision))), rtol=0.1)


def test_an_update_that_says_nothing_changes_nothing():
    first = infer(gaussian, 3, 0)
    again = bridge(first, lambda u: np.stack([gaussian(u), gaussian(u)]), rng(1))
    np.testing.assert_array_equal(again.points, first.points)
    assert again.log_evidence == pytest.approx(first.log_evidence)


def test_same_seed_gives_the_same_bits_whatever_the_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = infer(gaussian, 3, 5)
    finally:
        torch.set_num_threads(before)
    one = infer(gaussian, 3, 5)
    np.testing.assert_array_equal(one.points, two.points)
    assert one.log_evidence == two.log_evidence


def test_another_seed_gives_other_particles():
    assert not np.array_equal(infer(gaussian, 3, 1).points, infer(gaussian, 3, 2).points)


def test_particles_stay_in_the_cube_and_weights_sum_to_one():
    def corner(points):
        return 200.0 * points.sum(axis=1)

    ensemble = infer(corner, 4, 3, sampler=Sampler(size=200))
    assert ensemble.points.min() >= 0.0
    assert ensemble.points.max() <= 1.0
    assert len(ensemble.points) == 200
    assert ensemble.weight.sum() == pytest.approx(1.0)
    assert 100 <= ensemble.ess <= 200 + 1e-9


def test_resampling_keeps_expected_counts():
    weight = np.array([0.5, 0.3, 0.15, 0.05])
    ensemble = Ensemble(np.arange(4.0)[:, None] / 4, np.log(weight))
    drawn = resampled(ensemble, rng(0), 1000).points[:, 0] * 4
    counts = np.bincount(drawn.astype(int), minlength=4)
    assert np.abs(counts - 1000 * weight).max() <= 1.0


def test_the_work_is_bounded_where_no_particle_explains_the_target():
    evaluations = []

    def hopeless(points):
        evaluations.append(len(points))
        return -1e18 * (points[:, 0] + 1.0) ** 2

    found = infer(hopeless, 2, seed=0)
    assert len(evaluations) < 2000
    assert ((found.points >= 0.0) & (found.points <= 1.0)).all()
    assert found.points[:, 0].max() < 1e-3
