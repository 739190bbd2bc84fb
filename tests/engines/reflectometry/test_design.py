from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from skyloop.engines.reflectometry.design import (
    Choice,
    choose,
    information_gain,
)

TIMES = np.array([1.0, 10.0, 100.0])


@dataclass(frozen=True)
class Told:
    q_grid: np.ndarray
    prediction: np.ndarray
    prediction_sigma: np.ndarray
    target_correlation: np.ndarray
    exposure_grid: np.ndarray
    target_sigma: float = 2.0


def told(n: int = 6, **given: Any) -> Told:
    q = np.linspace(0.01, 0.06, n)
    arrays: dict[str, Any] = {
        "prediction": np.full(n, 1e-3),
        "prediction_sigma": np.full(n, 1e-4),
        "target_correlation": np.full(n, 0.8),
        "exposure_grid": np.zeros(n),
    }
    return Told(q_grid=q, **{**arrays, **given})


def rule(prediction: Told, **given: Any) -> Choice:
    rate = np.full(len(prediction.q_grid), 1e4)
    rest: dict[str, Any] = {
        "move_time": lambda d: 1.0 + 100.0 * d,
        "position": 0.01,
        "systematic": 0.01,
        **given,
    }
    return choose(prediction, rate=rate, times=TIMES, **rest)


def gain(prediction, systematic=0.0, times=TIMES):
    rate = np.full(len(prediction.q_grid), 1e4)
    return information_gain(prediction, rate=rate, times=times, systematic=systematic)


def test_gain_is_the_shrinking_of_a_gaussian_posterior():
    rng = np.random.default_rng(1)
    target = rng.normal(300.0, 2.0, 400_000)
    curve = 1e-3 + 3e-5 * (target - 300.0) + rng.normal(0.0, 2e-5, target.size)
    noise = np.sqrt(1e-3 / (1e4 * 10.0))
    seen = curve + rng.normal(0.0, noise, curve.size)
    slope = np.cov(target, seen)[0, 1] / seen.var()
    left = (target - slope * seen).std()
    prediction = told(
        1,
        prediction_sigma=np.array([curve.std()]),
        target_correlation=np.array([np.corrcoef(target, curve)[0, 1]]),
    )
    found = 2.0 * np.exp(-gain(prediction, times=np.array([10.0]))[0, 0])
    assert found == pytest.approx(left, rel=0.01)


def test_gain_grows_with_time_and_has_a_ceiling():
    values = gain(told())
    assert (np.diff(values, axis=1) > 0).all()
    assert (values < -0.5 * np.log(1 - 0.8**2)).all()


def test_nothing_is_gained_where_the_target_does_not_matter():
    np.testing.assert_array_equal(gain(told(target_correlation=np.zeros(6))), 0.0)


def test_a_point_at_its_floor_gains_nothing_more():
    spent = told(exposure_grid=np.full(6, 1e12), prediction_sigma=np.full(6, 1e-5))
    assert gain(spent, systematic=0.01).max() < 1e-3 * gain(told(), systematic=0.01).max()


def test_repeats_gain_what_one_long_counting_gains():
    sure: dict[str, Any] = {"prediction_sigma": np.full(6, 1e-9)}
    first = gain(told(**sure), systematic=0.02, times=np.array([10.0]))
    later = told(exposure_grid=np.full(6, 1e5), **sure)
    second = gain(later, systematic=0.02, times=np.array([10.0]))
    whole = gain(told(**sure), systematic=0.02, times=np.array([20.0]))
    np.testing.assert_allclose(first + second, whole, rtol=1e-6)


def test_the_most_informative_candidate_is_chosen():
    correlation = np.array([0.1, 0.2, 0.95, 0.2, 0.1, 0.1])
    assert rule(told(target_correlation=correlation)).index == 2


def test_among_equals_the_nearer_one_is_chosen():
    assert rule(told(), position=0.04).q == pytest.approx(0.04)


def test_among_equals_at_equal_cost_the_lower_index_is_chosen():
    assert rule(told(), move_time=np.zeros_like).index == 0


def test_last_bits_do_not_decide():
    base = told()
    for seed in range(20):
        noise = 1.0 + 1e-10 * np.random.default_rng(seed).standard_normal(6)
        shaken = replace(base, prediction_sigma=base.prediction_sigma * noise)
        assert rule(shaken, move_time=np.zeros_like).index == 0


def test_what_is_not_allowed_is_not_chosen():
    allowed = np.array([False, False, False, False, True, False])
    assert rule(told(), allowed=allowed).index == 4


def test_a_choice_tells_what_it_expects():
    choice = rule(told())
    assert choice.score == pytest.approx(choice.gain / (choice.time + choice.move_time), rel=1e-5)
