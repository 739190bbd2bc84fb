from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from skyloop.engines.reflectometry.frame import Frame, join
from skyloop.engines.reflectometry.likelihood import gather

Q = np.array([0.02, 0.05, 0.11])
R = np.array([[0.3, 1e-3, 2e-5], [0.29, 1.1e-3, 3e-5]])
EXPOSURE = np.array([1e3, 1e5, 1e6])
COUNTS = np.array([310.0, 95.0, 24.0])


def counted(**given):
    return gather(Frame.counted(Q, COUNTS, EXPOSURE), **{"systematic": 0.0, "tolerance": 0.0, **given})


def test_without_systematic_error_counts_are_exactly_poisson():
    exact = np.sum(stats.poisson.logpmf(COUNTS, EXPOSURE * R), axis=1)
    np.testing.assert_allclose(counted().log_likelihood(R), exact, rtol=1e-12)


def test_with_systematic_error_counts_are_negative_binomial():
    size = 0.05**-2
    exact = np.sum(stats.nbinom.logpmf(COUNTS, size, size / (size + EXPOSURE * R)), axis=1)
    np.testing.assert_allclose(counted(systematic=0.05).log_likelihood(R), exact, rtol=1e-9)


def test_a_tiny_systematic_error_changes_nothing():
    tiny = counted(systematic=1e-5).log_likelihood(R)
    np.testing.assert_allclose(tiny, counted().log_likelihood(R), rtol=1e-5)


def test_measured_points_are_normal_with_the_floor_of_the_model():
    value, sigma = np.array([0.31, 9e-4, 2.4e-5]), np.array([1e-2, 1e-4, 1e-5])
    data = gather(Frame.measured(Q, value, sigma), systematic=0.1, tolerance=0.0)
    exact = np.sum(stats.norm.logpdf(value, R, np.hypot(sigma, 0.1 * R)), axis=1)
    np.testing.assert_allclose(data.log_likelihood(R), exact, rtol=1e-12)


def test_kinds_of_points_mix():
    value, sigma = np.array([0.31, 9e-4, 2.4e-5]), np.array([1e-2, 1e-4, 1e-5])
    measured = Frame.measured(Q, value, sigma)
    both = gather(join([Frame.counted(Q, COUNTS, EXPOSURE), measured]), systematic=0.0, tolerance=1.0)
    alone = gather(measured, systematic=0.0, tolerance=0.0).log_likelihood(R)
    pooled = stats.poisson.logpmf(COUNTS.sum(), (EXPOSURE * R).sum(axis=1))
    assert len(both) == 2  # each kind is one group at this tolerance
    apart = gather(join([Frame.counted(Q, COUNTS, EXPOSURE), measured]), systematic=0.0, tolerance=0.0)
    np.testing.assert_allclose(apart.log_likelihood(np.hstack([R, R])), alone + counted().log_likelihood(R))
    only = gather(Frame.counted(Q, COUNTS, EXPOSURE), systematic=0.0, tolerance=1.0)
    np.testing.assert_allclose(only.log_likelihood(R), pooled)


def test_repeated_countings_share_one_systematic_error():
    once = gather(Frame.counted(0.05, 2000.0, 2e6), systematic=0.01, tolerance=0.0)
    twice = gather(Frame.counted([0.05, 0.05], [900.0, 1100.0], [9e5, 1.1e6]), systematic=0.01, tolerance=0.0)
    np.testing.assert_array_equal(once.log_likelihood(R[:, 1:2]), twice.log_likelihood(R[:, 1:2]))


def test_the_floor_of_repeated_measured_points_stays():
    frame = Frame.measured(np.full(10_000, 0.05), 1e-3, 1e-4)
    data = gather(frame, systematic=0.02, tolerance=0.0)
    assert np.sqrt(data.variance(np.array([1e-3])))[0] == pytest.approx(np.hypot(1e-6, 2e-5))


def test_neighbours_within_the_tolerance_are_one_point_at_their_own_q():
    data = gather(
        Frame.counted([0.05, 0.0501, 0.06], [10, 20, 5], [1e4, 3e4, 1e5]),
        systematic=0.01,
        tolerance=2e-4,
    )
    assert len(data) == 2
    assert len(data.q) == 3
    np.testing.assert_allclose(data.expected(np.array([1e-3, 2e-3, 1e-4])), [70.0, 10.0])
    np.testing.assert_allclose(data.group_q, [(0.05 * 1e4 + 0.0501 * 3e4) / 4e4, 0.06])


def part_of(q, whole, bins):
    return np.minimum((q - whole.min()) / np.ptp(whole) * bins, bins - 1).astype(int)


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 1000])
def test_thinned_data_are_the_first_group_of_each_part_of_the_range(bins):
    rng = np.random.default_rng(8)
    q = np.sort(rng.uniform(0.01, 0.012, 40))
    data = gather(Frame.counted(q, rng.poisson(9.0, 40), 1e4), systematic=0.01, tolerance=1e-4)
    assert len(data) < len(data.q)
    first = np.unique(part_of(data.group_q, data.group_q, bins), return_index=True)[1]
    thin, curve = data.thinned(bins), rng.uniform(1e-4, 1e-2, len(data.q))
    seen = curve[np.isin(data.q, thin.q)]
    np.testing.assert_array_equal(thin.expected(seen), data.expected(curve)[first])
    np.testing.assert_array_equal(thin.residuals(seen), data.residuals(curve)[first])
    np.testing.assert_array_equal(thin.group_q, data.group_q[first])


def test_thinned_data_keep_all_points_where_they_are_sparse():
    dense, sparse = np.linspace(0.004, 0.01, 8000), np.linspace(0.0105, 0.2, 90)
    frame = Frame.counted(np.r_[dense, sparse], 9.0, 1e4)
    thin = gather(frame, systematic=0.01, tolerance=0.0).thinned(380)
    np.testing.assert_array_equal(thin.q[thin.q > 0.0105 - 1e-9], sparse)
    assert len(thin) < 2 * len(sparse)


def test_thinned_data_keep_both_kinds_of_points():
    q = np.linspace(0.01, 0.2, 50)
    frame = join([Frame.counted(q, 9.0, 1e4), Frame.measured(q, 1e-3, 1e-4)])
    thin = gather(frame, systematic=0.01, tolerance=0.0).thinned(10)
    counted = np.isnan(thin.known_variance)
    np.testing.assert_array_equal(thin.q[counted], thin.q[~counted])
    assert len(thin) == 20


@pytest.mark.parametrize("q", [0.1, 5e-324])
def test_points_at_one_place_are_thinned_to_one(q):
    frame = Frame.counted(np.full(30, q), np.arange(30.0), 1e4, q_sigma=np.linspace(0.0, 0.01, 30))
    assert len(gather(frame, systematic=0.01, tolerance=0.0).thinned(200)) == 1


def test_thinned_data_do_not_depend_on_the_order_of_the_points():
    rng = np.random.default_rng(4)
    q, order = np.repeat(rng.uniform(0.01, 0.2, 60), 2), rng.permutation(120)
    counts = rng.poisson(50, 120).astype(float)
    frames = Frame.counted(q, counts, 1e4), Frame.counted(q[order], counts[order], 1e4)
    first, second = (gather(f, systematic=0.01, tolerance=1e-4).thinned(20) for f in frames)
    for name in ("q", "share", "starts", "value", "exposure"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_any_order_of_points_gives_the_same_bits():
    rng = np.random.default_rng(3)
    q = np.repeat(rng.uniform(0.01, 0.2, 20), 3)
    counts, exposure = rng.poisson(50, 60).astype(float), rng.uniform(1e4, 1e6, 60)
    order = rng.permutation(60)
    first = gather(Frame.counted(q, counts, exposure), systematic=0.01, tolerance=1e-4)
    second = gather(Frame.counted(q[order], counts[order], exposure[order]), systematic=0.01, tolerance=1e-4)
    for name in ("q", "share", "starts", "value", "exposure"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_the_tail_is_uniform_for_data_of_the_model():
    rng = np.random.default_rng(5)
    q, exposure = np.linspace(0.01, 0.2, 40), np.geomspace(1e3, 1e7, 40)
    r = 2e-4 * (0.05 / q) ** 2
    tails = []
    for _ in range(400):
        counts = rng.poisson(exposure * r * rng.gamma(1e4, 1e-4, 40))
        data = gather(Frame.counted(q, counts, exposure), systematic=0.01, tolerance=0.0)
        tails.append(data.p_value(r[None])[0])
    assert stats.kstest(tails, "uniform").pvalue > 1e-3


def test_old_abscissae_are_found_among_new_ones():
    old = gather(Frame.counted([0.1, 0.05], [1, 2], 1e3), systematic=0.0, tolerance=1e-4)
    new = gather(Frame.counted([0.1, 0.07, 0.05, 0.05], [1, 3, 2, 9], 1e3), systematic=0.0, tolerance=1e-4)
    np.testing.assert_array_equal(new.q[old.columns_in(new)], old.q)


def test_a_curve_of_zeros_is_improbable_and_finite():
    assert np.isfinite(counted().log_likelihood(np.zeros((1, 3)))).all()
