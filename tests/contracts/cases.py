"""A technique at work on a small problem whose answer is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from skyloop.callbacks import Technique
from skyloop.engines import Engine

KEY = 20_240_607
"""Seed of all runs."""
SINGLE, BATCH = 6, 6
"""Frames folded one by one, and then together."""


@dataclass(frozen=True, eq=False)
class Case:
    """A technique at work."""

    technique: Technique
    config: Any
    frames: Sequence[Any]
    truth: Mapping[str, float]
    engine: Engine[Any, Any, Any]
    states: list[Any]
    results: list[Any]
    final: Any

    @property
    def name(self) -> str:
        return self.technique.name

    def panels(self, frames: Sequence[Any], result: Any, **more: Any) -> tuple[Any, ...]:
        """Pictures of a result; a technique without any has nothing to show on the command line."""
        assert self.technique.panels is not None
        return tuple(self.technique.panels(frames, result, config=self.config, **more))


def fold(engine: Engine[Any, Any, Any], batches: Sequence[Sequence[Any]]) -> tuple[list[Any], list[Any]]:
    """States from the first on, and results."""
    states, results = [engine.start(KEY)], []
    for batch in batches:
        state, result = engine.step(states[-1], batch)
        states.append(state)
        results.append(result)
    return states, results


def spread(frames: Sequence[Any], count: int) -> list[Any]:
    """Some frames from all over the run, in their order."""
    step = max(1, len(frames) // count)
    return list(frames[::step])[:count]


def case_of(technique: Technique) -> Case:
    """The example of a technique, folded: some frames one by one, the rest together."""
    example = import_module(f"skyloop.engines.{technique.name}.example").example()
    engine = technique.engine(example.config)
    frames = spread(example.frames, SINGLE + BATCH)
    batches = [*([frame] for frame in frames[:SINGLE]), frames[SINGLE:]]
    states, results = fold(engine, batches)
    return Case(
        technique, example.config, frames, example.truth, engine, states, results, engine.finish(states[-1])
    )
