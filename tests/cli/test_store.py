"""A command whose store did not take every document says so and ends with an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from bluesky import plan_stubs
from cli.conftest import Command, Said

from skyloop.cli import _demo
from skyloop.cli._store import finish_store
from skyloop.errors import StorageError
from skyloop.runtime import sinks
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import JsonlWriter

NOT_STORED = r"documents were not stored: at least [1-9]\d* \(.*\); mend: run the command again"
Stuck = Callable[[], Callable[..., None]]


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Generator[Stuck]:
    """`stuck()` is a store that takes nothing until the test is over; sinks do not wait for it then."""
    over, close, flush = Event(), Sink.close, Sink.flush

    def store(*_: object) -> None:
        over.wait(60)

    def made() -> Callable[..., None]:
        monkeypatch.setattr(Sink, "close", lambda self, timeout=0.0: close(self, timeout))
        monkeypatch.setattr(Sink, "flush", lambda self, _: flush(self, 0.0))
        monkeypatch.setattr(sinks, "_GRACE_SECONDS", 0.0)
        return store

    yield made
    over.set()


def last_line(said: Said) -> str:
    """What is wrong, after the warnings."""
    assert (said.code, "Traceback" in said.err) == (2, False), (said.out, said.err)
    return said.err.splitlines()[-1]


def full(*_: object) -> None:
    raise OSError("no space left")


def test_a_store_that_took_everything_passes():
    taken: list[str] = []
    sink = Sink(lambda name, _: taken.append(name))
    sink("start", {"uid": "r"})
    finish_store(sink)
    assert taken == ["start"]


def test_documents_that_were_refused_are_counted_with_the_reason():
    sink = Sink(full)
    for name in ("start", "stop"):
        sink(name, {"uid": "r"})
    with pytest.raises(
        StorageError, match=r"^documents were not stored: at least 2 \(the last: stop: .*no space"
    ):
        finish_store(sink)


def test_documents_that_still_wait_are_counted(stuck: Stuck):
    sink = Sink(stuck())
    for _ in range(100):
        sink("event", {})
    with pytest.raises(
        StorageError, match=r"^documents were not stored: at least 100 \(the store is still busy"
    ):
        finish_store(sink)


class Slow:
    """A store that takes one document in the time it is given, and sticks at the last ones."""

    failed, last_failure = 0, ""

    def __init__(self, waiting: int, sticks_at: int) -> None:
        self.waiting, self.sticks_at, self.flushes = waiting, sticks_at, 0

    def flush(self, _: float) -> bool:
        self.flushes += 1
        self.waiting = max(self.sticks_at, self.waiting - 1)
        return not self.waiting

    def close(self, timeout: float) -> None:
        assert timeout == 0.0


def test_a_slow_store_is_waited_for_and_a_stuck_one_is_not():
    slow: Any = Slow(5, sticks_at=0)
    finish_store(slow)
    assert slow.flushes == 5
    stuck: Any = Slow(5, sticks_at=2)
    with pytest.raises(StorageError, match="at least 2"):
        finish_store(stuck)
    assert stuck.flushes == 4


@pytest.mark.parametrize("command", ["analyze", "simulate", "replay"])
def test_a_command_with_a_slow_store_is_refused(
    skyloop: Command, curve: Path, model: Path, command: str, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
):
    if command == "replay":
        assert skyloop("analyze", curve, "-m", model, "-o", "first").code == 0
    words = {"analyze": [curve, "-m", model], "simulate": ["--points", 8], "replay": ["first", "-m", model]}
    store = stuck()
    monkeypatch.setattr(JsonlWriter, "__call__", lambda self, *_: store())
    assert re.search(NOT_STORED, last_line(skyloop(command, *words[command], "-o", "out")))


def test_the_demo_with_a_slow_store_is_refused(stuck: Stuck, monkeypatch: pytest.MonkeyPatch):
    store = stuck()
    monkeypatch.setattr(_demo, "TiledSink", lambda _: store)
    monkeypatch.setattr(_demo, "adaptive_reflectivity", lambda *_, **__: short_scan())
    with pytest.raises(StorageError, match=NOT_STORED):
        _demo._measure(None, 7, lambda *_: None)


def short_scan() -> Generator[Any, Any, dict[str, Any]]:
    yield from plan_stubs.open_run()
    yield from plan_stubs.close_run()
    return {}
