"""Simulation-based calibration: truths from the prior must be uniform quantiles of their posteriors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from skyloop.engines.reflectometry import Frame, example
from skyloop.engines.reflectometry.belief import Curves, infer, update
from skyloop.engines.reflectometry.fit import fit_data
from skyloop.engines.reflectometry.guide import guided
from skyloop.engines.reflectometry.likelihood import gather
from skyloop.numerics.smc import moments

CONFIG = example().config
CURVES = Curves.of(CONFIG)
Q = np.linspace(0.012, 0.18, 20)
EXPOSURE = 3e4 * (Q / 0.02) ** 2
RUNS = 48


def rng(seed, stream):
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def data_of(frame):
    return gather(frame, systematic=CONFIG.systematic, tolerance=1e-6)


def by_updates(frames, draw):
    """The first 17 points at once and the rest one by one, as live points come."""
    taken = Frame.counted(*(column[:17] for column in frames))
    old, ensemble = data_of(taken), infer(CURVES, data_of(taken), draw, size=800)
    for count in (18, 19, 20):
        new = data_of(Frame.counted(*(column[:count] for column in frames)))
        ensemble, old = update(CURVES, ensemble, old, new, draw, size=800), new
    return ensemble


def by_a_fit(frames, draw):
    data = data_of(Frame.counted(*frames))
    return guided(CURVES, fit_data(CONFIG, data), data, draw, size=800)


def quantiles(way):
    """Quantile of each true parameter in its posterior [runs, d], and z of the target [runs]."""
    found, scores = [], []
    for run in range(RUNS):
        simulate = rng(run, 0)
        u = simulate.random((1, len(CURVES.parameters)))
        r = CURVES(u, Q, np.zeros_like(Q))[0]
        factor = simulate.gamma(CONFIG.systematic**-2, CONFIG.systematic**2, len(Q))
        order = simulate.permutation(len(Q))
        counts = simulate.poisson(EXPOSURE * r * factor)
        ensemble = way((Q[order], counts[order], EXPOSURE[order]), rng(run, 1))
        found.append(ensemble.weight @ (ensemble.points < u))
        mean, sigma = moments(CURVES.target(ensemble.points), ensemble.weight)
        scores.append((CURVES.target(u)[0] - mean) / sigma)
    return np.array(found), np.array(scores)


@pytest.mark.parametrize("way", [by_updates, by_a_fit])
def test_truths_are_uniform_quantiles_of_their_posteriors(way):
    found, scores = quantiles(way)
    for column, name in zip(found.T, CURVES.parameters.names, strict=True):
        assert stats.kstest(column, "uniform").pvalue > 2e-3, name
    assert np.mean(np.abs(scores) > 2.0) < 0.15
    assert 0.75 < scores.std() < 1.3
