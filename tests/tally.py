"""An engine that costs nothing and takes reflectometry frames: it adds up what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, ClassVar

from skyloop.callbacks import Technique
from skyloop.callbacks.reflectometry import TECHNIQUE, Keys
from skyloop.engines.reflectometry import Frame
from skyloop.errors import Outcome
from skyloop.quantities import Quantity, Sizes


@dataclass(frozen=True)
class Tallied:
    outcome: Outcome
    reason: str
    points: int
    q: Annotated[float, Quantity("1/angstrom")]
    q_sigma: Annotated[float, Quantity("1/angstrom")]
    counts: Annotated[float, Quantity("count")]
    exposure: Annotated[float, Quantity("count")]
    reflectivity: float


State = tuple[Frame, ...]


@dataclass(frozen=True)
class Config:
    scale: float = 1.0


class Engine:
    """Result: the last point, and how many came."""

    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = Tallied

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sizes: Sizes = {}
        self.units: Mapping[str, str] = {}

    def start(self, key: int, /) -> State:
        return ()

    def step(self, state: State, frames: Sequence[Frame], /) -> tuple[State, Tallied]:
        state = (*state, *frames)
        return state, self.finish(state)

    def finish(self, state: State, /) -> Tallied:
        last = max(state, key=lambda frame: float(frame.q[-1]))
        columns = (last.q, last.q_sigma, last.counts, last.exposure, last.reflectivity)
        points = sum(len(frame) for frame in state)
        return Tallied(Outcome.OK, "", points, *(float(column[-1]) for column in columns))


def tally(keys: Keys | None = None) -> Technique:
    """The technique reflectometry with this engine."""
    return replace(TECHNIQUE.called(asdict(keys or Keys())), engine=Engine, hints=("points",))
