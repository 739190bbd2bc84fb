"""A technique that computes nothing, so that only the harness is measured, and one that never answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from skyloop.callbacks import Technique
from skyloop.documents.frames import Point
from skyloop.errors import Outcome

__all__ = ["HANGING", "NOOP", "Config", "Result", "raw_run"]


@dataclass(frozen=True)
class Config:
    """Nothing can be set."""


@dataclass(frozen=True)
class Result:
    """How many frames came."""

    outcome: Outcome
    reason: str
    target: float
    target_sigma: float
    confirmed: bool
    p_value: float


class _Engine:
    version: ClassVar[str] = "1"
    result_type: ClassVar[type] = Result
    hangs: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sizes: Mapping[str, int] = {}
        self.units: Mapping[str, str] = {}

    def start(self, key: int, /) -> int:
        return 0

    def step(self, state: int, frames: Sequence[float], /) -> tuple[int, Result]:
        while self.hangs:
            time.sleep(1.0)
        state += len(frames)
        return state, self.finish(state)

    def finish(self, state: int, /) -> Result:
        return Result(Outcome.OK, "", float(state), 1.0, confirmed=False, p_value=0.5)


class _Hanging(_Engine):
    hangs: ClassVar[bool] = True


def _frame_of(point: Point) -> float | None:
    return float(point.seq_num) if point.stream == "primary" else None


def _load(source: str | Path) -> Config:
    return Config()


NOOP = Technique("noop", load=_load, engine=_Engine, frame_of=_frame_of, hints=("target",))
HANGING = Technique("noop", load=_load, engine=_Hanging, frame_of=_frame_of, hints=("target",))


def raw_run(events: int, keys: int = 6) -> list[tuple[str, dict[str, Any]]]:
    """Documents of a run with scalar events."""
    names = [f"x{i}" for i in range(keys)]
    entries = {n: {"source": "benchmark", "dtype": "number", "shape": []} for n in names}
    descriptor = {"uid": "descriptor-1", "run_start": "run-1", "time": 1.0, "name": "primary"}
    descriptor |= {"data_keys": entries, "object_keys": {}, "configuration": {}, "hints": {}}
    start = {"uid": "run-1", "time": 1.0, "scan_id": 1, "plan_name": "count"}
    stop = {"uid": "stop-1", "run_start": "run-1", "time": 1e4, "exit_status": "success", "reason": ""}
    rng = np.random.Generator(np.random.Philox(1))
    return [
        ("start", start),
        ("descriptor", descriptor),
        *(
            ("event", _event(i, dict(zip(names, rng.random(keys).tolist(), strict=True))))
            for i in range(1, events + 1)
        ),
        ("stop", stop | {"num_events": {"primary": events}}),
    ]


def _event(number: int, data: dict[str, float]) -> dict[str, Any]:
    event: dict[str, Any] = {"uid": f"event-{number}", "descriptor": "descriptor-1", "seq_num": number}
    stamp = 1.0 + number
    return event | {"time": stamp, "data": data, "timestamps": dict.fromkeys(data, stamp), "filled": {}}
