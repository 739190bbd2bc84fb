"""The toy technique with more that can go wrong: each negative number is a fault of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import toy

from skyloop.callbacks import Technique
from skyloop.documents.frames import Point

ERRORS: dict[float, type[BaseException]] = {
    -10.0: ValueError,
    -11.0: SystemExit,
    -12.0: ReferenceError,
    -13.0: MemoryError,
    -14.0: KeyboardInterrupt,
    -15.0: asyncio.CancelledError,
    -16.0: GeneratorExit,
    -17.0: RecursionError,
}
"""Frame that raises, and what."""

NO_RESULT, NO_NUMBER, NO_PAIR = -20.0, -21.0, -22.0
"""Frames for which the engine returns None, a result that cannot be written, or no pair."""


class Engine(toy.Engine):
    """Breaks on demand."""

    def step(self, state: toy.State, frames: Sequence[float], /) -> tuple[toy.State, toy.Result]:
        for frame in frames:
            if error := ERRORS.get(frame):
                raise error("on demand")
        stepped = super().step(state, frames)
        returns: dict[float, Any] = {
            NO_RESULT: (state, None),
            NO_NUMBER: (state, replace(stepped[1], values=float("nan"))),
            NO_PAIR: None,
        }
        return next((returns[frame] for frame in frames if frame in returns), stepped)


TECHNIQUE = replace(toy.TECHNIQUE, engine=Engine)


class Gated(toy.Engine):
    """Holds each step back until its gate opens; tells when it has been entered. For threads only."""

    def __init__(self, config: toy.Config) -> None:
        super().__init__(config)
        self.gate, self.entered = threading.Event(), threading.Event()

    def step(self, state: toy.State, frames: Sequence[float], /) -> tuple[toy.State, toy.Result]:
        self.entered.set()
        assert self.gate.wait(60)
        return super().step(state, frames)


def gated() -> tuple[Technique, Gated]:
    """A technique whose engine waits, and that engine."""
    engine = Gated(toy.Config())
    return replace(toy.TECHNIQUE, engine=lambda _: engine), engine


def broken_frames(error: type[BaseException]) -> Callable[[Point], float | None]:
    """A `frame_of` that raises on negative numbers."""

    def frame_of(point: Point) -> float | None:
        frame = toy.frame_of(point)
        if frame is not None and frame < 0:
            raise error("on demand")
        return frame

    return frame_of
