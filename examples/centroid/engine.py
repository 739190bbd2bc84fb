"""The engine: points in, the centre of the peak with its uncertainty out. Knows no Bluesky."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from skyloop.errors import Outcome
from skyloop.quantities import FloatArray, Quantity, blank


@dataclass(frozen=True)
class Config:
    least: float = 10.0
    """Counts below which nothing is said."""


@dataclass(frozen=True)
class Frame:
    x: Annotated[float, Quantity("mm")]
    counts: Annotated[float, Quantity("count")]


State = tuple[Frame, ...]


@dataclass(frozen=True)
class Result:
    outcome: Outcome
    reason: str
    target: Annotated[float, Quantity("mm")]
    target_sigma: Annotated[float, Quantity("mm")]
    n_points: int
    """Points that it rests on; a plan returns them as `points_used`."""


_FEWEST = 3
"""Places below which a peak has no width, and its centre no uncertainty."""


class Engine:
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = Result

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sizes: Mapping[str, int] = {}
        self.units: Mapping[str, str] = {}

    def start(self, key: int, /) -> State:
        return ()

    def step(self, state: State, frames: Sequence[Frame], /) -> tuple[State, Result]:
        state = (*state, *frames)
        return state, self.finish(state)

    def finish(self, state: State, /) -> Result:
        """Centroid sum(x n) / sum(n); its variance is sum((x - centre)^2 n) / sum(n)^2 for Poisson counts."""
        if not state:
            return blank(Result, {}, outcome=Outcome.REJECTED, reason="no points", n_points=0)
        # sorted, so that the last bit does not depend on the order in which they came
        x, n = np.array(sorted((f.x, f.counts) for f in state)).T
        reason = self._too_little(x, n)
        if reason:
            return blank(Result, {}, outcome=Outcome.DEGRADED, reason=reason, n_points=len(x))
        centre = float((x * n).sum() / n.sum())
        sigma = float(np.sqrt((((x - centre) ** 2) * n).sum()) / n.sum())
        return Result(Outcome.OK, "", centre, sigma, len(x))

    def _too_little(self, x: FloatArray, n: FloatArray) -> str:
        if n.sum() < self.config.least:
            return f"{n.sum():g} counts are too few"
        places = len(set(x[n > 0]))
        return f"counts at {places} places are too few" if places < _FEWEST else ""
