"""What waits while the engine hangs: everything, in little memory, told, and folded in one step."""

from __future__ import annotations

import gc
import logging
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import faulty
import numpy as np
import pytest
import toy
from beam import analyzer

from skyloop.callbacks import _crew

EVENTS = 20_000
PER_EVENT = 3000
"""Bytes that an event of one number may take while it waits, twice what it does: it is a few dictionaries."""


def events(first: int, last: int) -> Iterator[tuple[str, dict[str, Any]]]:
    return (("event", toy.event("raw-1", n, float(n))) for n in range(first, last + 1))


def test_a_long_backlog_takes_little_memory_is_told_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_crew, "_MANY", 1000)
    caplog.set_level(logging.WARNING)
    technique, engine = faulty.gated()
    heard: list[dict[str, Any]] = []
    with analyzer("thread", technique) as analysis:
        analysis.subscribe(lambda name, doc: heard.append(doc["data"]) if name == "event" else None)
        for item in (*toy.raw_run([], stop=False), *events(1, 1)):
            analysis(*item)
        assert engine.entered.wait(30)
        tracemalloc.start()
        for item in events(2, EVENTS):
            analysis(*item)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert EVENTS - 1 <= analysis.health.waiting <= EVENTS + 2
        assert taken < EVENTS * PER_EVENT
        told = [line for line in caplog.messages if "documents wait for an analysis" in line]
        assert [int(line.split()[0]) for line in told] == [1000, 2000, 4000, 8000, 16000]
        engine.gate.set()
        analysis("stop", toy.stop_of("raw-1", EVENTS))
        assert analysis.flush(120)
        assert analysis.health.waiting == 0
    *events_heard, summary = heard
    assert [data["raw_seq_num"] for data in events_heard] == list(range(1, EVENTS + 1))  # each once
    newest = [data for data in events_heard if data["toy_outcome"] != "superseded"]
    assert 1 <= len(newest) <= 3  # one for each step
    assert (newest[-1]["raw_seq_num"], summary["toy_outcome"]) == (EVENTS, "ok")


def test_arrays_of_events_that_wait_are_the_ones_of_the_detector() -> None:
    technique, engine = faulty.gated()
    image = np.zeros(1000)
    with analyzer("thread", technique) as analysis:
        for item in toy.raw_run([1.0], stop=False):
            analysis(*item)
        assert engine.entered.wait(30)
        before = sys.getrefcount(image)
        analysis("event", toy.event("raw-1", 2, image))
        assert sys.getrefcount(image) == before + 1  # no copy is kept
        engine.gate.set()
        assert analysis.flush(30)


def test_an_engine_that_always_hangs_is_left_alone_so_that_its_backlog_ends() -> None:
    outcomes: Counter[str] = Counter()
    docs = toy.raw_run([toy.HANGS] * 200)
    with analyzer("process", deadline=0.3) as analysis:
        analysis.subscribe(
            lambda name, doc: outcomes.update([doc["data"]["toy_outcome"]]) if name == "event" else None
        )
        for item in docs:
            analysis(*item)
        assert analysis.flush(120)
        assert analysis.health.waiting == 0
    assert outcomes == {"timeout": 3, "failed": 198}  # the summary is one of those that failed
