"""A tiny technique with every fault on demand: the running mean of a number."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from skyloop.callbacks import Technique
from skyloop.documents.frames import Point
from skyloop.errors import DataError, Outcome
from skyloop.quantities import FloatArray, Quantity, Sizes

RAISES, EXITS, HANGS, DIES = -1.0, -2.0, -3.0, -4.0


@dataclass(frozen=True)
class Config:
    scale: float = 1.0


@dataclass(frozen=True)
class State:
    key: int
    values: tuple[float, ...] = ()
    folds: int = 0


@dataclass(frozen=True)
class Result:
    outcome: Outcome
    reason: str
    mean: Annotated[float, Quantity("count")]
    mean_sigma: Annotated[float, Quantity("count")]
    values: int
    folds: int
    last: Annotated[FloatArray, Quantity("count", ("last",))]


class Engine:
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = Result

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def config(self) -> Config:
        return self._config

    @property
    def sizes(self) -> Sizes:
        return {"last": 2}

    @property
    def units(self) -> Mapping[str, str]:
        return {}

    def start(self, key: int, /) -> State:
        return State(key)

    def step(self, state: State, frames: Sequence[float], /) -> tuple[State, Result]:
        for frame in frames:
            _fault(frame)
        state = replace(state, values=state.values + tuple(frames), folds=state.folds + 1)
        return state, self._result(state)

    def finish(self, state: State, /) -> Result:
        return self._result(replace(state, folds=0, values=tuple(sorted(state.values))))

    def _result(self, state: State) -> Result:
        mean = self._config.scale * sum(state.values) / len(state.values)
        last = np.array((np.nan, *state.values)[-2:])
        sigma = abs(mean) / len(state.values) ** 0.5
        return Result(Outcome.OK, "", mean, sigma, len(state.values), state.folds, last)


def _fault(value: float) -> None:
    if value == RAISES:
        raise ValueError("minus one")
    if value == EXITS:
        raise SystemExit("bye")
    if value == HANGS:
        time.sleep(3600)
    if value == DIES:
        os._exit(1)


def frame_of(point: Point) -> float | None:
    if point.stream != "primary" or "x" not in point.data:
        return None
    if not isinstance(point.data["x"], int | float):
        raise DataError(f"x is {point.data['x']!r}, not a number")
    return float(point.data["x"])


def load(source: str | Path) -> Config:
    return Config(float(str(source)))


TECHNIQUE = Technique(name="toy", load=load, engine=Engine, frame_of=frame_of, hints=("mean", "mean_sigma"))


def raw_run(
    values: Sequence[Any], uid: str = "raw-1", *, stop: bool = True
) -> list[tuple[str, dict[str, Any]]]:
    """Documents of a raw run with one event per value."""
    key = {"source": "test", "dtype": "number", "shape": [], "units": "count"}
    docs: list[tuple[str, dict[str, Any]]] = [
        ("start", {"uid": uid, "time": 1.0, "scan_id": 1, "plan_name": "count"}),
        (
            "descriptor",
            {
                "uid": f"{uid}-d",
                "run_start": uid,
                "time": 1.0,
                "name": "primary",
                "data_keys": {"x": key},
                "object_keys": {"x": ["x"]},
                "configuration": {},
                "hints": {},
            },
        ),
    ]
    docs += [("event", event(uid, number, value)) for number, value in enumerate(values, start=1)]
    if stop:
        docs.append(("stop", stop_of(uid, len(values))))
    return docs


def event(uid: str, number: int, value: Any, *, emission: str = "a") -> dict[str, Any]:
    return {
        "uid": f"{uid}-e{number}{emission}",
        "descriptor": f"{uid}-d",
        "time": 1.0 + number + 0.5 * (emission != "a"),
        "seq_num": number,
        "data": {"x": value},
        "timestamps": {"x": 1.0 + number},
        "filled": {},
    }


def stop_of(uid: str, events: int, **more: Any) -> dict[str, Any]:
    base = {"uid": f"{uid}-stop", "run_start": uid, "time": 99.0, "exit_status": "success"}
    return base | {"reason": "", "num_events": {"primary": events}} | more
