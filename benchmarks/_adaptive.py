"""Adaptive reflectometry against fixed scans, in simulated beam time: engine and policy, no devices.

One film on silicon with five unknowns, on a neutron and on an X-ray reflectometer. Beam time includes the
moves. Uniform scans get an oracle's stop: their total time is raised in steps of 1.25 until the target is
known, and the moves of one scan are charged. Samples whose target neither knows within the budget say nothing
of the ratio and are left out; one that only the adaptive run does not know counts with both times.
"""

from __future__ import annotations

import inspect
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
import torch

from benchmarks._figures import Figure
from skyloop.engines.reflectometry import Config, Engine, Frame, Result
from skyloop.engines.reflectometry.belief import Curves
from skyloop.engines.reflectometry.config import Layer, Medium, QGrid, Sample
from skyloop.plans._course import Action, Course, Pace, Proposal, Reason
from skyloop.plans._reflectometry_policies import GainPerSecond
from skyloop.plans.reflectometry import adaptive_reflectivity
from skyloop.quantities import FloatArray

__all__ = [
    "NEUTRONS",
    "X_RAYS",
    "Instrument",
    "Run",
    "Truth",
    "adaptive",
    "adaptive_figure",
    "measure",
    "on_all_cores",
    "outside",
    "truth",
    "uniform",
    "with_layer",
]

_T = TypeVar("_T")

_FLOOR = 0.01
_EXPLORATION: float = inspect.signature(adaptive_reflectivity).parameters["exploration"].default
_SEEDS = 8
_LONGEST = 360.0  # longest count time, in shortest ones
_RAISE, _MOST_RAISES, _FIRST_RAISE = 1.25, 43, 12  # up to 10^6 s
_PROCESSES = 2
_FAR = 5.0  # standard deviations: a stop farther from the truth is in a wrong mode


@dataclass(frozen=True, slots=True)
class Instrument:
    """A reflectometer with its prior, its target and its beam time."""

    config: Config
    """Sample model and question."""
    flux: float
    """Incident counts per second at q = 0."""
    growth: float
    """What is added to it at q = 0.25, growing with q^2."""
    settle: float
    """Seconds of each move, whatever its length."""
    per_q: float
    """Seconds per 1/angstrom of a move."""
    shortest: float
    """Shortest count time, in s; the seeds are counted so long."""
    budget: float
    """Beam time after which a run ends, in s."""

    @property
    def q(self) -> FloatArray:
        """Candidates."""
        grid = self.config.q_grid
        return np.linspace(grid.start, grid.stop, grid.num)

    def rate(self, q: FloatArray) -> FloatArray:
        """Incident counts per second."""
        return self.flux + self.growth * (q / 0.25) ** 2

    @property
    def pace(self) -> Pace:
        """What moves cost."""
        return Pace(self.settle, self.per_q)

    @property
    def policy(self) -> GainPerSecond:
        """What chooses the next point."""
        return GainPerSecond(
            target_sigma=self.config.target_sigma,
            start=self.config.q_grid.start,
            stop=self.config.q_grid.stop,
            shortest=self.shortest,
            longest=_LONGEST * self.shortest,
            budget=self.budget,
            move_overhead=self.settle,
            move_per_unit=self.per_q,
            systematic=_FLOOR,
            exploration=_EXPLORATION,
            seeds=_SEEDS,
        )


_FILM = Layer(thickness=(100.0, 500.0), sld=(0.0, 6.5), roughness=(2.0, 15.0), name="film")
_SILICON = Medium(sld=2.07, roughness=(2.0, 8.0), name="silicon")
_ORDER = ("film.thickness", "film.sld", "film.roughness", "silicon.roughness", "background")

NEUTRONS = Instrument(
    Config(
        Sample(layers=(_FILM,), backing=_SILICON),
        background=(10**-6.5, 1e-5),
        target="film.thickness",
        target_sigma=0.5,
        systematic=_FLOOR,
    ),
    flux=500.0,
    growth=2e5,
    settle=5.0,
    per_q=100.0,
    shortest=10.0,
    budget=1e5,
)
X_RAYS = Instrument(
    Config(
        Sample(layers=(replace(_FILM, sld=(6.0, 16.0)),), backing=replace(_SILICON, sld=20.1)),
        background=(1e-8, 1e-7),
        target="film.thickness",
        target_sigma=0.2,
        systematic=_FLOOR,
        q_grid=QGrid(0.02, 0.6, 146),
    ),
    flux=1e6,
    growth=0.0,
    settle=0.2,
    per_q=5.0,
    shortest=0.1,
    budget=300.0,
)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A sample from the prior, with the systematic error of each wavevector transfer."""

    seed: int
    """Number of the sample."""
    curves: Curves
    """Curves of the true sample model."""
    u: FloatArray
    """Its parameters in the unit cube [1, d]."""
    target: float
    """The true film thickness."""

    def reflectivity(self, q: FloatArray) -> FloatArray:
        """What the instrument sees; a repeated point has the same systematic error again."""
        errors = [self._error(x) for x in q]
        return self.curves(self.u, q, np.zeros_like(q))[0] * np.array(errors)

    def _error(self, q: float) -> float:
        bits = np.random.Philox(key=self.seed, counter=round(q * 1e9))
        return float(np.random.Generator(bits).gamma(_FLOOR**-2, _FLOOR**2))


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended."""

    seconds: float
    """Beam time with moves."""
    reason: str
    """Why it ended: a `Reason`."""
    error: float
    """Estimate minus truth."""
    sigma: float
    """Standard deviation that was claimed."""
    points: int
    """How many were counted."""
    doubt: str
    """What the last result says against itself; empty: nothing."""

    @property
    def known(self) -> bool:
        """True when it ended because the target was known."""
        return self.reason == Reason.TARGET_REACHED

    @property
    def z(self) -> float:
        """Error in standard deviations."""
        return self.error / self.sigma


def with_layer(instrument: Instrument, layer: Layer) -> Instrument:
    """The instrument with a layer more in its model, next to the substrate."""
    sample = instrument.config.sample
    sample = replace(sample, layers=(*sample.layers, layer))
    return replace(instrument, config=replace(instrument.config, sample=sample))


def truth(instrument: Instrument, seed: int, *, hidden: Layer | None = None) -> Truth:
    """A sample from the prior; on request with a layer that the model does not know."""
    rng = np.random.default_rng(1000 + seed)
    drawn: dict[str, float] = dict(zip(_ORDER, rng.random(len(_ORDER)), strict=True))
    if hidden is not None:
        instrument = with_layer(instrument, hidden)
        drawn[f"{hidden.name}.thickness"] = rng.random()
    curves = Curves.of(instrument.config)
    u = np.array([[drawn[name] for name in curves.parameters.names]])
    return Truth(seed, curves, u, float(curves.target(u)[0]))


def adaptive(instrument: Instrument, sample: Truth, *, whole_curve: bool = False) -> Run:
    """One decision after another until the policy stops, finds a misfit, or the budget is spent.

    Args:
        instrument: reflectometer, model and target.
        sample: what is measured.
        whole_curve: choose as if all of the curve were the target, not the thickness alone.
    """
    engine, rng = Engine(instrument.config), np.random.default_rng(5000 + sample.seed)
    state, results = engine.start(sample.seed), list[Result]()
    policy, course, measured = instrument.policy, Course((), pace=instrument.pace), list[Action]()
    while True:
        told = [_blind(result) for result in results[-1:]] if whole_curve else results[-1:]
        choice = policy(told, course.situation(measured))
        if not isinstance(choice, Proposal):
            reason = choice.reason
            break
        measured.append(choice.action)
        frame = _counted(instrument, sample, choice.action, rng)
        state, result = engine.step(state, [frame])
        results.append(result)
    last, spent = results[-1], course.situation(measured).spent
    return Run(spent, reason, last.target - sample.target, last.target_sigma, len(measured), last.reason)


def _blind(result: Result) -> Result:
    return replace(result, target_correlation=np.ones_like(result.q_grid))


def _counted(instrument: Instrument, sample: Truth, action: Action, rng: np.random.Generator) -> Frame:
    q = np.array([action.position])
    exposure = instrument.rate(q) * action.count_time
    return Frame.counted(q, rng.poisson(exposure * sample.reflectivity(q)), exposure)


def uniform(instrument: Instrument, sample: Truth) -> Run:
    """A scan with equal times, stopped by an oracle at the first total time that suffices."""
    rng, q = np.random.default_rng(9000 + sample.seed), instrument.q
    totals = _SEEDS * instrument.shortest * _RAISE ** np.arange(_MOST_RAISES)
    exposure = np.outer(totals, instrument.rate(q) / len(q))
    added = np.diff(exposure, axis=0, prepend=0.0)
    counts = np.cumsum(rng.poisson(added * sample.reflectivity(q)), axis=0)
    engine = Engine(replace(instrument.config, target_sigma=1e-9))  # the oracle needs no check

    def tried(k: int) -> Result:
        frame = Frame.counted(q, counts[k], exposure[k])
        return engine.step(engine.start(1000 * sample.seed + k), [frame])[1]

    k, result = _first(tried, instrument.config.target_sigma)
    moves = instrument.pace.total([Action(float(x), 0.0) for x in q])
    reached = result.target_sigma <= instrument.config.target_sigma
    reason = Reason.TARGET_REACHED if reached else Reason.BUDGET
    error = result.target - sample.target
    return Run(totals[k] + moves, reason, error, result.target_sigma, len(q), result.reason)


def _first(tried: Callable[[int], Result], target_sigma: float) -> tuple[int, Result]:
    """First step that suffices, sought from a guess by the square root of the time; else the last one."""
    result, k, last = cache(tried), _FIRST_RAISE, _MOST_RAISES - 1
    for _ in range(2):
        k += round(2.0 * np.log(result(k).target_sigma / target_sigma) / np.log(_RAISE))
        k = min(max(k, 0), last)
    while result(k).target_sigma > target_sigma and k < last:
        k += 1
    while k > 0 and max(result(k).target_sigma, result(k - 1).target_sigma) <= target_sigma:
        k -= 1
    return k, result(k)


def _pair(seed: int) -> tuple[Run, Run]:
    torch.set_num_threads(1)
    sample = truth(NEUTRONS, seed)
    return adaptive(NEUTRONS, sample), uniform(NEUTRONS, sample)


def _wide(seed: int) -> Run:
    torch.set_num_threads(1)
    return adaptive(X_RAYS, truth(X_RAYS, seed), whole_curve=True)


def measure(quick: bool) -> list[Figure]:
    """Beam time against a uniform scan, calibration at the stop, and what a wrong mode does."""
    pairs = on_all_cores(_pair, range(20 if quick else 200))
    wide = on_all_cores(_wide, range(8 if quick else 200))
    return [*_gains(pairs), *_risks([a for a, _ in pairs], wide)]


def on_all_cores(work: Callable[[int], _T], seeds: Iterable[int]) -> list[_T]:
    """What a function makes of each seed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_PROCESSES, mp_context=context) as pool:
        return list(pool.map(work, seeds))


def _gains(pairs: Sequence[tuple[Run, Run]]) -> list[Figure]:
    told = [(a, u) for a, u in pairs if a.known or (u.known and u.seconds <= NEUTRONS.budget)]
    ratios = [u.seconds / (a.seconds if a.known else a.seconds + u.seconds) for a, u in told]
    undoubted = [ratio for ratio, (_, u) in zip(ratios, told, strict=True) if not u.doubt]
    return [
        adaptive_figure("speedup.median", float(np.median(ratios)), "times", 3.5, peer="uniform scan"),
        adaptive_figure("speedup.min", min(ratios), "times", 1.5, peer="uniform scan"),
        adaptive_figure("speedup.min_undoubted", min(undoubted), "times", 1.5, peer="uniform scan"),
        adaptive_figure("left_out", 1.0 - len(told) / len(pairs), "share of samples", 0.25, up=False),
    ]


def _risks(neutrons: Sequence[Run], x_rays: Sequence[Run]) -> list[Figure]:
    wrong = sum(run.known and abs(run.z) > _FAR for run in (*neutrons, *x_rays))
    return [
        adaptive_figure("coverage", outside(neutrons), "share beyond 2 sigma", 0.08, up=False),
        adaptive_figure("coverage_xray", outside(x_rays), "share beyond 2 sigma", 0.08, up=False),
        adaptive_figure("wrong_mode_stops", float(wrong), "runs", 0.0, up=False),
    ]


def outside(runs: Sequence[Run]) -> float:
    """Share of the runs that stopped on their target more than 2 sigma from it."""
    known = [run for run in runs if run.known]
    return sum(abs(run.z) > 2.0 for run in known) / len(known)


def adaptive_figure(
    name: str, value: float, unit: str, goal: float, *, up: bool = True, peer: str = ""
) -> Figure:
    """A figure of the adaptive measurement."""
    return Figure(
        figure=f"reflectometry.adaptive.{name}",
        value=value,
        unit=unit,
        peer=peer,
        peer_version="",
        peer_value=1.0 if peer else float("nan"),
        goal=goal,
        higher_is_better=up,
    )
