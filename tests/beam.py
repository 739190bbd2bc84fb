"""What the closed-loop tests measure with: a detector that reads what it is told, and scans of it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import ophyd.sim
import pytest
import toy
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from fake_analysis import engine
from listener import Listener

from skyloop.callbacks import Analyzer, Options

Documents = list[tuple[Any, Any]]
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


def scan(analysis: Analyzer, plan: Any) -> tuple[Listener, Listener]:
    """Raw and analysis documents of a plan, which must not notice that there is an analysis."""
    raw, listener = Listener(), Listener()
    sink = analysis.subscribe(listener)
    result = engine(analysis, raw)(plan)
    assert result.exit_status == "success"
    assert analysis.flush(60)
    assert sink.failed == 0
    assert analysis.health.faults == ()
    return raw, listener


def play(analysis: Analyzer, docs: Documents) -> Listener:
    """Analysis documents of raw documents, however damaged."""
    listener = Listener()
    analysis.subscribe(listener)
    before = copy.deepcopy(docs)
    for name, doc in docs:
        analysis(name, doc)
    assert analysis.flush(60)
    assert docs == before
    assert analysis.health.faults == ()
    return listener


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the user sees of us."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("skyloop") and record.levelno >= logging.WARNING
    ]
