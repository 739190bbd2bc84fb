from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from engines.xrf.spectra import SURE, SURE_LINES, problem_of, truth

from skyloop.engines.xrf.boxcar import smoothed
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.evidence import Evidence, Pool, evidence
from skyloop.engines.xrf.joint import Doubts
from skyloop.engines.xrf.problem import Problem
from skyloop.engines.xrf.projection import amplitudes
from skyloop.quantities import FloatArray

NAMES = ("a", "b", "c", "d", "e")


def drawn(seed: int = 0, noise: float = 1.0) -> tuple[Evidence, FloatArray, FloatArray]:
    """Evidence of five candidates and a background of two columns; the columns; what they are fitted to."""
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0, 1, (7, 40))
    y = np.array([8.0, 0.0, 5.0, 0.0, 3.0, 2.0, 1.0]) @ columns + noise * rng.standard_normal(40)
    return Evidence(NAMES, columns @ columns.T, columns @ y), columns, y


def squares(columns: FloatArray, y: FloatArray, at: list[int]) -> float:
    """Sum of squares that free amplitudes of some columns leave."""
    x = np.linalg.lstsq(columns[at].T, y, rcond=None)[0]
    return float(((y - x @ columns[at]) ** 2).sum())


def test_amplitudes_and_errors_are_those_of_linear_regression() -> None:
    found, columns, y = drawn(noise=0.1)
    used, amplitudes, z = found.solved({0, 2, 4})
    assert used == [0, 2, 4, 5, 6]
    inverse = np.linalg.inv(columns[used] @ columns[used].T)
    np.testing.assert_allclose(amplitudes, inverse @ columns[used] @ y, rtol=1e-6)
    np.testing.assert_allclose(z, amplitudes / np.sqrt(np.diag(inverse)), rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_amplitudes_below_zero_are_not_used(seed: int) -> None:
    found, _, _ = drawn(seed, noise=3.0)
    used, amplitudes, _ = found.solved(range(5))
    assert bool((amplitudes > 0).all())
    gradient = found.gram[:, used] @ amplitudes - found.projected
    unused = [k for k in range(7) if k not in used]
    assert float(gradient[unused].min(initial=0.0)) > -1e-6


def test_a_gain_is_the_root_of_what_the_deviance_falls_by() -> None:
    found, columns, y = drawn()
    used, amplitudes, _ = found.solved({0, 2})
    gains = found.gains(used, amplitudes)
    for k in (1, 3, 4):
        fall = squares(columns, y, used) - squares(columns, y, [*used, k])
        assert gains[k] ** 2 == pytest.approx(fall, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(gains[used], 0.0, atol=1e-3)


def test_a_gain_without_another_is_that_of_a_fit_without_it() -> None:
    found, columns, y = drawn()
    used, amplitudes, z = found.solved({0, 2, 4})
    gains, own = found.gains_without(used, amplitudes)
    np.testing.assert_allclose(own, z, rtol=1e-6)
    for i, k in enumerate(used):
        rest = [j for j in used if j != k]
        without = squares(columns, y, rest)
        assert own[i] ** 2 == pytest.approx(without - squares(columns, y, used), rel=1e-5)
        for j in (1, 3):
            assert gains[j, i] ** 2 == pytest.approx(without - squares(columns, y, [*rest, j]), rel=1e-4)


def test_more_components_never_raise_the_deviance() -> None:
    found, _, _ = drawn(2, noise=2.0)
    falling = [found.deviance(range(n)) for n in range(6)]
    assert all(b <= a + 1e-9 for a, b in pairwise(falling))


def test_a_copy_of_what_is_used_gains_nothing() -> None:
    found, _, _ = drawn()
    at = [0, 1, 2, 3, 0, 5, 6]
    twin = Evidence(NAMES, found.gram[np.ix_(at, at)], found.projected[at])
    used, amplitudes, _ = twin.solved({0, 2})
    assert twin.gains(used, amplitudes)[4] == 0


def test_a_pool_of_one_says_what_its_part_says() -> None:
    found, _, _ = drawn()
    used, amplitudes, z = found.solved({0, 2})
    pool = Pool((found,))
    assert pool.names == NAMES
    assert pool.significance({0, 2}) == pytest.approx({0: z[0], 2: z[1]})
    np.testing.assert_allclose(pool.gains({0, 2}), np.maximum(found.gains(used, amplitudes)[:5], 0))
    assert pool.deviance({0, 2}) == found.deviance({0, 2})


def test_equal_detectors_say_together_what_one_does_times_the_root_of_their_number() -> None:
    found, _, _ = drawn()
    one, four = Pool((found,)), Pool((found,) * 4)
    assert four.significance({0, 2}) == pytest.approx({k: 2 * z for k, z in one.significance({0, 2}).items()})
    np.testing.assert_allclose(four.gains({0, 2}), 2 * one.gains({0, 2}))
    for pair in zip(four.gains_without({0, 2}), one.gains_without({0, 2}), strict=True):
        np.testing.assert_allclose(pair[0], 2 * pair[1])
    assert four.deviance({0, 2}) == pytest.approx(4 * one.deviance({0, 2}))


def posed() -> Problem:
    of = truth({"Ca": 0.3, "Fe": 1.0, "Co": 0.1, "Cu": 0.4})
    return problem_of(of, of.counts(0), Config(incident_energy=10.0))


def told(problem: Problem, doubts: Doubts | None, tolerance: float = 0.0) -> dict[str, float]:
    first = amplitudes(problem, 1 / (smoothed(problem.counts) + 1), problem.start)
    found = evidence(problem, problem.start, first, doubts, tolerance=tolerance)
    used, _, z = found.solved(range(len(found.names)))
    return {found.names[k]: float(v) for k, v in zip(used, z, strict=True) if k < len(found.names)}


def test_what_is_not_known_makes_components_less_significant() -> None:
    problem = posed()
    sure, lines, every = (told(problem, doubts) for doubts in (None, SURE_LINES, Doubts()))
    assert all(sure[name] >= lines[name] >= every[name] - 1e-6 for name in ("Ca", "Fe", "Co", "Cu"))
    assert lines["Co"] < 0.9 * sure["Co"]  # on top of the K beta lines of Fe
    assert told(problem, SURE) == pytest.approx(sure)


def test_an_error_of_the_model_makes_components_less_significant() -> None:
    problem = posed()
    exact, rough = told(problem, None), told(problem, None, tolerance=0.05)
    assert all(rough[name] < exact[name] for name in exact)


def test_amplitudes_of_the_truth_are_found_in_it() -> None:
    of = truth({"Ca": 0.3, "Fe": 1.0, "Co": 0.1, "Cu": 0.4})
    problem = problem_of(of, of.counts(1), Config(incident_energy=10.0))
    first = amplitudes(problem, 1 / (smoothed(problem.counts) + 1), problem.start)
    found = evidence(problem, problem.start, first, None)
    used, amplitude, z = found.solved(range(len(found.names)))
    for k, a, t in zip(used, amplitude, z, strict=True):
        if k < len(found.names):
            assert abs(a - of.amplitudes[found.names[k]]) < 4 * a / t
