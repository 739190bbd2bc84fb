"""The best parameters of one whole curve, from many starts, with every other minimum worth knowing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from skyloop.engines.reflectometry.chart import Chart
from skyloop.engines.reflectometry.config import Config
from skyloop.engines.reflectometry.frame import Frame
from skyloop.engines.reflectometry.likelihood import Data, gather
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.smearing import model_curve, model_curve_and_slopes
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.numerics.least_squares import Minimum, Quadratic, covariance, least_squares
from skyloop.quantities import FloatArray

__all__ = ["THOROUGH", "Fit", "Mode", "Search", "fit_curve", "fit_data", "quick_search"]

_SCOUT_SYSTEMATIC = 0.2  # in the first look, so that deep and high points weigh alike
_SCOUT_STEPS = 10
_SCOUT_TOLERANCE = 1e-3
_PER_FRINGE, _MOST_CANDIDATES = 48, 16384
_PER_FRINGE_SEEN, _FEWEST_SEEN = 8, 200
_STARTS_PER_PARAMETER, _FEWEST_STARTS = 7, 32
_BATCH = 512
_REFINED = 8
_RIVAL = 4.5  # a cost this much higher is 3 sigma away


@dataclass(frozen=True, slots=True)
class Search:
    """How hard a minimum is sought."""

    starts: int = 64
    """Starting points, filling the prior evenly."""
    steps: int = 200
    """Steps from the best distinct ends of a first look, at most."""
    tolerance: float = 1e-9
    """A step that promises less log likelihood is the last."""


THOROUGH = Search()
"""For a fit that is told."""


def quick_search(n_parameters: int) -> Search:
    """For a fit that only guides; many parameters need more starts, or it misses a mode now and then."""
    starts = max(_FEWEST_STARTS, _STARTS_PER_PARAMETER * n_parameters)
    return Search(starts=starts, steps=30, tolerance=1e-3)


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """One minimum of the cost."""

    theta: FloatArray
    """Parameters [p], in their units."""
    cost: float
    """Minus the log likelihood."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Maximum-likelihood parameters of a curve."""

    names: tuple[str, ...]
    """Names of the parameters [p]."""
    theta: FloatArray
    """Their values [p]."""
    sigma: FloatArray
    """Standard deviations [p] from the error bars of the data; NaN where the data do not tell.

    Nothing in them is scaled by chi2.
    """
    chi2: float
    """Sum of squares of (data - model)/sigma over the degrees of freedom."""
    cost: float
    """Minus the log likelihood."""
    modes: tuple[Mode, ...]
    """Distinct minima, best first; the first is this fit."""
    outcome: Outcome
    """Whether it can be used."""
    reason: str
    """What to care about; empty when it is ok."""


def fit_curve(config: Config, frame: Frame, *, search: Search = THOROUGH, key: int = 0) -> Fit:
    """Fit all free parameters to a whole curve, bounded by their priors.

    Maximum likelihood of `likelihood.Data` (counts: negative binomial or Poisson, so that few counts are
    not biased; measured: normal) by Fisher scoring with analytic derivatives, in the unit cube. Starts
    fill the cube evenly (Sobol points scrambled by `key`); all of them take a few steps on data with a
    coarse systematic error, of a dense curve no more than its fringes need, and the best distinct few are
    then refined on the data as they are. Where many fringes fit into the range of a thickness, the starts are
    the likeliest of many points.

    Raises:
        ConfigError: nothing is free.
        DataError: no parameters have a finite likelihood.
    """
    data = gather(frame, systematic=config.systematic, tolerance=0.0)
    return fit_data(config, data, search=search, key=key)


def fit_data(config: Config, data: Data, *, search: Search = THOROUGH, key: int = 0) -> Fit:
    """Fit gathered points as `fit_curve` fits a curve.

    Raises:
        ConfigError: nothing is free.
        DataError: no parameters have a finite likelihood.
    """
    chart = Chart(Parameters.of(config))
    if not len(chart.parameters):
        raise ConfigError("sample: nothing is free; mend: give at least one parameter as [low, high]")
    scouts = _scouted(chart, _coarse(chart.parameters, data), search.starts, key)
    found = _minimised(chart, data, scouts, max_steps=search.steps, tolerance=search.tolerance)
    return _fit(chart, data, _picked(found, _distinct(found)))


def _coarse(parameters: Parameters, data: Data) -> Data:
    """Data for a first look: with a coarse systematic error, and thinned to what fringes need."""
    enough = max(math.ceil(_PER_FRINGE_SEEN * _fringes(parameters, data, 1.0)), _FEWEST_SEEN)
    coarse = replace(data, systematic=max(data.systematic, _SCOUT_SYSTEMATIC))
    return coarse if len(data) < 2 * enough else coarse.thinned(enough)


def _fringes(parameters: Parameters, data: Data, u: float) -> float:
    """Fringes of 2 pi / thickness on the curve of the thinnest (u = 0) or thickest (1) sample."""
    theta = parameters.theta(torch.full((1, len(parameters)), u, dtype=torch.float64))
    return float(parameters.slabs(theta).thickness.sum() * np.abs(data.q).max() / (2.0 * np.pi))


def _scouted(chart: Chart, data: Data, starts: int, key: int) -> Tensor:
    """Where to refine: the best distinct ends of a short search on coarse data."""
    begin = chart.of_prior(_promising(chart.parameters, data, starts, key))
    ends = _minimised(chart, data, begin, max_steps=_SCOUT_STEPS, tolerance=_SCOUT_TOLERANCE)
    return ends.x[_distinct(ends)[:_REFINED]]


def _promising(parameters: Parameters, data: Data, starts: int, key: int) -> Tensor:
    """Starts from the prior; of many more the likeliest, where many fringes fit into a thickness range.

    A thickness is found from a start within about a fringe of the right one.
    """
    fringes = _fringes(parameters, data, 1.0) - _fringes(parameters, data, 0.0)
    candidates = int(min(_PER_FRINGE * fringes, _MOST_CANDIDATES))
    if candidates <= starts:
        return _sobol(starts, len(parameters), key)
    points = _sobol(candidates, len(parameters), key)
    q, q_sigma = torch.from_numpy(data.q), torch.from_numpy(data.q_sigma)
    curves = [model_curve(q, q_sigma, parameters.slabs(parameters.theta(u))) for u in points.split(_BATCH)]
    likely = np.concatenate([data.log_likelihood(curve.numpy()) for curve in curves])
    return points[np.argsort(-likely, kind="stable")[:starts].copy()]


def _sobol(starts: int, dimensions: int, key: int) -> Tensor:
    sampler = qmc.Sobol(dimensions, rng=np.random.default_rng(key))
    points = sampler.random_base2(max(0, (starts - 1).bit_length()))
    return torch.from_numpy(points[:starts])


def _minimised(chart: Chart, data: Data, starts: Tensor, *, max_steps: int, tolerance: float) -> Minimum:
    ones = torch.ones(len(chart.parameters), dtype=torch.float64)
    return least_squares(
        lambda x: _quadratic(chart, data, x),
        starts,
        low=torch.zeros_like(ones),
        high=ones,
        max_steps=max_steps,
        tolerance=tolerance,
    )


def _quadratic(chart: Chart, data: Data, x: Tensor) -> Quadratic:
    """Minus the log likelihood at points x [batch, p]."""
    parameters, theta = chart.parameters, chart.theta(x)
    q, q_sigma = torch.from_numpy(data.q), torch.from_numpy(data.q_sigma)
    curve, slopes = model_curve_and_slopes(q, q_sigma, parameters.slabs(theta))
    by_x = parameters.gather(slopes) * chart.slope(theta)[:, None, :]
    groups = torch.from_numpy(np.searchsorted(data.starts, np.arange(len(data.q)), "right") - 1)
    share = by_x * torch.from_numpy(data.share)[:, None]
    jacobian = share.new_zeros(len(x), len(data), len(parameters)).index_add_(1, groups, share)
    score, information = _score(data, data.expected(curve.numpy()))
    return Quadratic(
        cost=-torch.from_numpy(data.log_likelihood(curve.numpy())),
        gradient=torch.einsum("bn,bnp->bp", score, jacobian),
        curvature=torch.einsum("bn,bnp,bnr->bpr", information, jacobian, jacobian),
    )


def _score(data: Data, expected: FloatArray) -> tuple[Tensor, Tensor]:
    """First derivative of the cost by each expected value, and the expectation of the second."""
    variance = data.variance(expected)
    excess = expected - data.value
    score, information = excess / variance, 1 / variance
    # The variance of a measured point grows with its model: d(variance)/d(expected) over 2 variance.
    growth = np.where(np.isnan(data.known_variance), 0.0, data.systematic**2 * expected / variance)
    score = score + growth * (1 - excess**2 / variance)
    return torch.from_numpy(score), torch.from_numpy(information + 2 * growth**2)


def _distinct(ends: Minimum) -> list[int]:
    """Starts [...] that ended in different minima, best first.

    Two ends are one minimum when the better one's own uncertainty covers the way to the other.
    """
    kept: list[int] = []
    for i in torch.argsort(ends.cost, stable=True).tolist():
        if torch.isfinite(ends.cost[i]) and not any(_same(ends, i, j) for j in kept):
            kept.append(i)
    if not kept:
        raise DataError("the data have no finite likelihood; mend: look for absurd numbers among them")
    return kept


def _same(ends: Minimum, i: int, j: int) -> bool:
    way = ends.x[i] - ends.x[j]
    return float(way @ ends.curvature[j] @ way) < len(way)


def _picked(found: Minimum, rows: list[int]) -> Minimum:
    return Minimum(
        found.x[rows],
        found.cost[rows],
        found.curvature[rows],
        found.converged[rows],
        found.at_bound[rows],
    )


def _fit(chart: Chart, data: Data, found: Minimum) -> Fit:
    parameters, theta = chart.parameters, chart.theta(found.x)
    modes = tuple(Mode(t, c) for t, c in zip(theta.numpy(), found.cost.tolist(), strict=True))
    sigma = covariance(found.curvature[:1])[0].diagonal().sqrt()
    reason = _reason(parameters, found, sigma)
    return Fit(
        names=parameters.names,
        theta=modes[0].theta,
        sigma=chart.sigma(theta[0], sigma).numpy(),
        chi2=_chi2(parameters, data, theta[:1]),
        cost=modes[0].cost,
        modes=modes,
        outcome=Outcome.DEGRADED if reason else Outcome.OK,
        reason=reason,
    )


def _chi2(parameters: Parameters, data: Data, theta: Tensor) -> float:
    q, q_sigma = torch.from_numpy(data.q), torch.from_numpy(data.q_sigma)
    curve = model_curve(q, q_sigma, parameters.slabs(theta)).numpy()
    freedom = len(data) - len(parameters)
    return float((data.residuals(curve) ** 2).sum() / freedom) if freedom > 0 else float("nan")


def _reason(parameters: Parameters, found: Minimum, sigma: Tensor) -> str:
    names = zip(parameters.names, found.at_bound[0].tolist(), strict=True)
    at_bound = [name for name, is_there in names if is_there]
    rivals = int((found.cost[1:] - found.cost[0] < _RIVAL).sum())
    reasons = {
        f"at a bound of the prior: {', '.join(at_bound)}": bool(at_bound),
        "not converged": not bool(found.converged[0]),
        "the data do not determine all parameters": bool(sigma.isnan().any()),
        f"other minima explain the data as well: {rivals}": rivals > 0,
    }
    return "; ".join(reason for reason, holds in reasons.items() if holds)
