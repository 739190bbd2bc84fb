from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

from skyloop.engines.reflectometry import Frame, State, example
from skyloop.engines.reflectometry.assess import other_mode
from skyloop.engines.reflectometry.belief import Curves, infer, update
from skyloop.engines.reflectometry.fit import fit_data
from skyloop.engines.reflectometry.frame import join
from skyloop.engines.reflectometry.guide import guided
from skyloop.engines.reflectometry.likelihood import gather
from skyloop.numerics.smc import moments

EXAMPLE = example()
CURVES = Curves.of(EXAMPLE.config)


def rng(seed):
    return np.random.Generator(np.random.Philox(key=seed))


def of_points(count):
    points = join(EXAMPLE.frames[:count])
    return points, gather(points, systematic=0.01, tolerance=1e-5)


def target_of(ensemble):
    mean, sigma = moments(CURVES.target(ensemble.points), ensemble.weight)
    return float(mean), float(sigma)


def by_brute_force(data, draws=400_000):
    """Mean and spread of the target by weighting the prior: slow, and right."""
    u = rng(99).random((draws, len(CURVES.parameters)))
    parts = np.array_split(u, 20)
    log_like = np.concatenate([data.log_likelihood(CURVES(part, data.q, data.q_sigma)) for part in parts])
    evidence = logsumexp(log_like)
    mean, sigma = moments(CURVES.target(u), np.exp(log_like - evidence))
    return float(mean), float(sigma), float(evidence - np.log(draws))


def by_a_fit(data):
    return guided(CURVES, fit_data(EXAMPLE.config, data), data, rng(2), size=800)


@pytest.mark.parametrize("count", [2, 3])
def test_few_points_give_what_brute_force_gives(count):
    _, data = of_points(count)
    mean, sigma, evidence = by_brute_force(data)
    ways = (
        infer(CURVES, data, rng(1), size=800),
        by_a_fit(data),
    )
    for ensemble in ways:
        found = target_of(ensemble)
        assert found[0] == pytest.approx(mean, abs=0.3 * sigma)
        assert found[1] == pytest.approx(sigma, rel=0.25)
        assert ensemble.log_evidence == pytest.approx(evidence, abs=0.5)


def test_two_ways_to_the_posterior_of_a_curve_agree():
    _, data = of_points(40)
    first = infer(CURVES, data, rng(1), size=800)
    second = by_a_fit(data)
    (mean, sigma), (other, spread) = target_of(first), target_of(second)
    assert other == pytest.approx(mean, abs=0.3 * sigma)
    assert spread == pytest.approx(sigma, rel=0.2)
    assert second.log_evidence == pytest.approx(first.log_evidence, abs=1.5)


def test_an_update_by_one_point_equals_an_inference():
    old, new = of_points(20)[1], of_points(21)[1]
    before = infer(CURVES, old, rng(1), size=800)
    updated = update(CURVES, before, old, new, rng(2), size=800)
    fresh = infer(CURVES, new, rng(3), size=800)
    (mean, sigma), (other, spread) = target_of(updated), target_of(fresh)
    assert other == pytest.approx(mean, abs=0.4 * sigma)
    assert spread == pytest.approx(sigma, rel=0.25)


def test_an_update_may_add_to_an_old_point():
    points = join(EXAMPLE.frames[:20])
    again = Frame.counted(points.q[-1], points.counts[-1], points.exposure[-1])
    old = gather(points, systematic=0.01, tolerance=1e-5)
    new = gather(join([points, again]), systematic=0.01, tolerance=1e-5)
    before = infer(CURVES, old, rng(1), size=800)
    updated = update(CURVES, before, old, new, rng(2), size=800)
    assert target_of(updated)[1] <= 1.1 * target_of(before)[1]


def test_a_state_survives_pickling():
    points, data = of_points(5)
    state = State(key=3, n_frames=5, points=points, ensemble=infer(CURVES, data, rng(0), size=100))
    again = pickle.loads(pickle.dumps(state))
    assert state.ensemble is not None
    assert state.points is not None
    np.testing.assert_array_equal(again.ensemble.points, state.ensemble.points)
    np.testing.assert_array_equal(again.points.q, state.points.q)
    assert replace(again, ensemble=None, points=None).n_frames == 5


def test_another_mode_is_found_with_its_mass_and_place():
    draw = np.random.default_rng(0)
    values = np.r_[draw.normal(300.0, 0.5, 950), draw.normal(340.0, 0.5, 50)]
    mass, place = other_mode(values, np.full(1000, 1e-3))
    assert mass == pytest.approx(0.05)
    assert place == pytest.approx(340.0, abs=0.5)


@pytest.mark.parametrize("shape", ["normal", "uniform", "exponential"])
def test_one_mode_has_no_other(shape):
    draw = getattr(np.random.default_rng(1), shape)(size=2000)
    mass, place = other_mode(draw, np.full(2000, 1 / 2000))
    assert mass < 0.01
    assert np.isnan(place) or mass > 0
