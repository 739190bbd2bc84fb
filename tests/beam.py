"""What the closed-loop tests measure with: a detector that reads what it is told, and scans of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import ophyd.sim
import toy
from bluesky import plan_stubs as bps
from bluesky import plans as bp

from skyloop.callbacks import Analyzer, Options

_sim: Any = ophyd.sim
_plans: Any = bp


class Number(_sim.SynSignal):
    """Reads the next of some values at each trigger."""

    def __init__(self, values: Iterable[Any], name: str = "x") -> None:
        self.values: Iterator[Any] = iter(values)
        super().__init__(func=lambda: 0.0, name=name)
        self._func = lambda: next(self.values)


def count(values: list[Any], **given: Any) -> Any:
    """A plain Bluesky count: one event per value."""
    return _plans.count([Number(values)], num=len(values), **given)


def one_by_one(values: list[Any], *, after: dict[int, Any], points: int = 0) -> Any:
    """The same, with something done (a function, or a plan) after some of the points."""
    x = Number(values)
    yield from bps.open_run()
    for number in range(1, (points or len(values)) + 1):
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([x])
        done = after[number]() if number in after else None
        if done is not None:
            yield from done
    yield from bps.close_run()


def analyzer(executor: str = "thread", technique: Any = toy.TECHNIQUE, **options: Any) -> Analyzer:
    """A toy analysis."""
    return Analyzer(technique, toy.Config(), Options(executor=executor, **options))  # type: ignore[arg-type]
