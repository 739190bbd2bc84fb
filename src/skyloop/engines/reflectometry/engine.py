"""The reflectometry engine: points in, the sample and its uncertainty out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from skyloop.engines.reflectometry.assess import Assessment, assess
from skyloop.engines.reflectometry.belief import Curves, infer, update
from skyloop.engines.reflectometry.config import Config
from skyloop.engines.reflectometry.fit import Fit, fit_data, quick_search
from skyloop.engines.reflectometry.frame import Frame, join
from skyloop.engines.reflectometry.guide import guided
from skyloop.engines.reflectometry.likelihood import Data, gather
from skyloop.engines.reflectometry.result import Result
from skyloop.engines.reflectometry.rival import with_further_layer
from skyloop.engines.reflectometry.state import Settled, State
from skyloop.engines.reflectometry.tell import tell
from skyloop.engines.reflectometry.verdict import Verdict, agree, carried, settled
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.numerics.smc import Ensemble, merged
from skyloop.quantities import Sizes, blank

__all__ = ["Engine"]

_STEP, _CHECK, _FINAL, _FINAL_CHECK = range(4)
_ALWAYS_INFERRED = 16
"""Up to so many distinct abscissae each new one is worth an inference: early modes must not be lost."""
_FROM_PRIOR = 64
"""Up to so many distinct abscissae particles are drawn from the prior; beyond, a fit guides them."""
_GROWTH = 2.0
_RECHECK_GROWTH = 1.1
_LONGEST_DOUBT = 1.5
"""A little evidence for a rival delays the target until there are this many times as many points."""
_SAME_POINT = 0.02
"""Countings closer than this share of the grid's step are countings of one point."""


class Engine:
    """Folds reflectometer points into the posterior of a sample model.

    Raises:
        ConfigError: nothing is free in the configuration.
    """

    version: ClassVar[str] = "3"
    result_type: ClassVar[type] = Result

    def __init__(self, config: Config) -> None:
        self._config = config
        self._curves = Curves.of(config)
        if not len(self._curves.parameters):
            raise ConfigError("sample: nothing is free; mend: give one parameter a range [low, high]")

    @property
    def config(self) -> Config:
        """The sample model and the question."""
        return self._config

    @property
    def sizes(self) -> Sizes:
        """Interior layers, and candidates for the next point."""
        layers = len(self._config.sample.named_layers())
        return {"layer": layers, "grid": self._config.q_grid.num}

    @property
    def units(self) -> Mapping[str, str]:
        """The target's unit depends on what the target is."""
        unit = self._curves.parameters.units[self._curves.parameters.target]
        return {"target": unit, "target_sigma": unit}

    def start(self, key: int, /) -> State:
        """State before the first point."""
        return State(key=key)

    def step(self, state: State, frames: Sequence[Frame], /) -> tuple[State, Result]:
        """Fold frames in; check by an independent inference once the target seems known."""
        given = [frame for frame in frames if len(frame)]
        if not given:
            return state, self._nothing(state.points, "the frame holds no points")
        n_frames = state.n_frames + len(frames)
        points = join(given if state.points is None else [state.points, *given])
        try:
            return self._folded(state, points, n_frames=n_frames)
        except DataError as error:  # without these frames, so that the rest of the run goes on
            return replace(state, n_frames=n_frames), self._nothing(state.points, str(error))

    def _folded(self, state: State, points: Frame, *, n_frames: int) -> tuple[State, Result]:
        data = self._data(points)
        grown = self._grown(state, points, data, n_frames=n_frames)
        found = assess(self._curves, _known(grown), data)
        verdict = carried(found, grown.z)
        if self._must_check(grown, found, len(points)):
            grown, found, verdict = self._checked(grown, points, data, whole=_is_whole(state, data))
        return grown, self._told(points, data, _known(grown), found, verdict)

    def finish(self, state: State, /) -> Result:
        """Two independent inferences on all points, settled as one."""
        if state.points is None:
            return self._nothing(None, "the run holds no points")
        try:
            return self._concluded(state, state.points)
        except DataError as error:
            return self._nothing(state.points, str(error))

    def _concluded(self, state: State, points: Frame) -> Result:
        data, final = self._data(points), state.final
        if final is None:
            first = self._inferred(data, _generator(state.key, len(points), _FINAL))
            final = self._settled(first, data, _generator(state.key, len(points), _FINAL_CHECK))
        return self._told(points, data, final.ensemble, final.found, final.judged(strict=False))

    def _data(self, points: Frame) -> Data:
        grid = self._config.q_grid
        tolerance = _SAME_POINT * (grid.stop - grid.start) / (grid.num - 1)
        return gather(points, systematic=self._config.systematic, tolerance=tolerance)

    def _grown(self, state: State, points: Frame, data: Data, *, n_frames: int) -> State:
        """The posterior under all points: an update of the last one where that is enough."""
        rng, now = _generator(state.key, n_frames, _STEP), len(data.q)
        grown = replace(state, n_frames=n_frames, points=points, final=None)
        is_new = now != state.n_inferred
        must_infer = is_new and (now <= _ALWAYS_INFERRED or now >= _GROWTH * state.n_inferred)
        if state.ensemble is None or state.points is None or must_infer:
            if _is_whole(state, data):
                rng = _generator(state.key, len(points), _FINAL)
            return replace(grown, ensemble=self._inferred(data, rng), n_inferred=now)
        before = self._data(state.points)
        size = self._config.particles
        ensemble = update(self._curves, state.ensemble, before, data, rng, size=size)
        return replace(grown, ensemble=ensemble)

    def _inferred(self, data: Data, rng: np.random.Generator) -> Ensemble:
        if len(data.q) > _FROM_PRIOR:
            return self._guided(self._fitted(data, rng), data, rng)
        return infer(self._curves, data, rng, size=self._config.particles)

    def _fitted(self, data: Data, rng: np.random.Generator) -> Fit:
        search = quick_search(len(self._curves.parameters))
        return fit_data(self._config, data, key=int(rng.integers(2**31)), search=search)

    def _guided(self, fit: Fit, data: Data, rng: np.random.Generator) -> Ensemble:
        return guided(self._curves, fit, data, rng, size=self._config.particles)

    def _must_check(self, state: State, found: Assessment, n_points: int) -> bool:
        """When the target seems known or the model wrong, unless that was checked just now."""
        is_recent = n_points < _RECHECK_GROWTH * state.n_checked
        if found.target_sigma <= self._config.target_sigma:
            return bool(np.isnan(state.z)) or not is_recent
        return found.is_misfit and not is_recent

    def _checked(
        self, state: State, points: Frame, data: Data, *, whole: bool
    ) -> tuple[State, Assessment, Verdict]:
        """Infer in another way; what is settled is kept, so that a wrong mode is left at once."""
        n_points = len(points)
        check = (n_points, _FINAL_CHECK) if whole else (state.n_frames, _CHECK)
        both = self._settled(_known(state), data, _generator(state.key, *check))
        verdict = both.judged(strict=_is_strict(state, n_points))
        holds = verdict.confirmed and both.found.target_sigma <= self._config.target_sigma
        checked = replace(
            state,
            ensemble=both.ensemble,
            n_inferred=len(data.q),
            n_checked=n_points,
            n_doubted=state.n_doubted or (n_points if verdict.is_open else 0),
            z=verdict.z if holds else float("nan"),
            final=both if whole else None,
        )
        return checked, both.found, verdict

    def _settled(self, first: Ensemble, data: Data, rng: np.random.Generator) -> Settled:
        """An ensemble and an independent one as one when they agree; else the one of larger evidence.

        A target that both know gets a rival, by which it is doubted once more: strictly before it is taken
        as known, so that points which decide come first, and later by clear evidence alone.
        """
        fit = self._fitted(data, rng)
        other = self._guided(fit, data, rng)
        pair = assess(self._curves, first, data), assess(self._curves, other, data)
        likelier = max(other, first, key=lambda ensemble: ensemble.log_evidence)
        ensemble = merged(first, other) if agree(*pair) else likelier
        found = assess(self._curves, ensemble, data)
        verdict, rival = settled(found, pair), None
        if verdict.confirmed and found.target_sigma <= self._config.target_sigma:
            cost = min(fit.cost, found.cost)  # a quick fit may have missed its minimum
            rival = with_further_layer(self._config, data, cost, key=int(rng.integers(2**31)))
        return Settled(ensemble, found, verdict, rival)

    def _told(
        self, points: Frame, data: Data, ensemble: Ensemble, found: Assessment, verdict: Verdict
    ) -> Result:
        return tell(
            self._config,
            self._curves,
            ensemble,
            data,
            found=found,
            verdict=verdict,
            n_points=len(points),
        )

    def _nothing(self, points: Frame | None, reason: str) -> Result:
        n_points = 0 if points is None else len(points)
        return blank(Result, self.sizes, outcome=Outcome.REJECTED, reason=reason, n_points=n_points)


def _known(state: State) -> Ensemble:
    if state.ensemble is None:
        raise ValueError("a state without points has no posterior")
    return state.ensemble


def _is_whole(before: State, data: Data) -> bool:
    """Whether the first step sees a whole curve: most likely all of the run, and then its last word too."""
    return before.points is None and len(data.q) > _FROM_PRIOR


def _is_strict(state: State, n_points: int) -> bool:
    """Whether a little evidence for a rival counts: at first, and not for ever."""
    is_over = 0 < state.n_doubted < n_points / _LONGEST_DOUBT
    return bool(np.isnan(state.z)) and not is_over


def _generator(key: int, count: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, stream, count]))
