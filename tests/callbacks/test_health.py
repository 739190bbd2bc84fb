"""What a person sees who looks in the morning: which documents were put aside, and what the stores did."""

from __future__ import annotations

import random
from threading import Event
from typing import Any

import pytest
import toy
from beam import analyzer
from listener import Listener

from skyloop.callbacks import _options
from skyloop.errors import UnavailableError
from skyloop.runtime import sinks


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_documents_that_were_put_aside_are_named_with_uid_reason_and_run(
    executor: str, caplog: pytest.LogCaptureFixture
) -> None:
    docs: list[Any] = toy.raw_run([1.0, 3.0])
    docs.insert(3, ("event", docs[2][1] | {"uid": "the-bad-one", "seq_num": -5}))
    docs.insert(3, ("evnt", {"uid": 7}))
    with analyzer(executor) as analysis:
        for item in docs:
            analysis(*item)
        assert analysis.flush(30)
        unknown, bad = analysis.health.put_aside
    assert (unknown.name, unknown.uid, unknown.reason) == ("evnt", "7", "no document has this name")
    assert (bad.name, bad.uid, bad.run_uid) == ("event", "the-bad-one", "raw-1")
    assert bad.reason in analysis.health.quarantined
    assert "put aside document 'event' (uid 'the-bad-one'): " + bad.reason in caplog.text


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_document_after_the_end_is_named_too(executor: str) -> None:
    with analyzer(executor) as analysis:
        pass
    analysis(*toy.raw_run([1.0])[0])
    (late,) = analysis.health.put_aside
    assert (late.name, late.uid) == ("start", "raw-1")


def test_many_documents_that_were_put_aside_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_options, "_KEPT", 10)
    docs = toy.raw_run([1.0], stop=False)
    with analyzer("inline") as analysis:
        for item in docs:
            analysis(*item)
        for n in range(15):
            analysis("event", docs[2][1] | {"uid": f"u{n}", "seq_num": 0})
        health = analysis.health
    assert [document.uid for document in health.put_aside] == [f"u{n}" for n in range(5, 15)]
    assert sum(health.quarantined.values()) == 15


def test_a_store_that_does_not_answer_is_seen_while_it_is_away_and_not_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sinks, "_RETRY_SECONDS", (0.005,))
    up, tried = Event(), Event()

    def store(name: str, doc: dict[str, Any]) -> None:
        if not up.is_set():
            tried.set()
            raise UnavailableError("nobody answers")

    with analyzer("inline") as analysis:
        sink = analysis.subscribe(store)
        for item in toy.raw_run([1.0, 3.0], stop=False):
            analysis(*item)
        assert tried.wait(30)
        assert not sink.flush(0.1)
        (trouble,) = analysis.health.sinks
        assert trouble == "does not answer, 5 documents wait: UnavailableError: nobody answers"
        up.set()
        assert analysis.flush(30)
        assert analysis.health.sinks == ()


def test_a_store_that_lost_documents_is_told_at_once_and_not_only_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(name: str, doc: dict[str, Any]) -> None:
        raise OSError("No space left on device")

    with analyzer("inline") as analysis:
        sink = analysis.subscribe(full)
        for item in toy.raw_run([1.0], stop=False):
            analysis(*item)
        assert analysis.flush(30)
        assert caplog.messages == ["a sink lost a start document: OSError: No space left on device"]
        (trouble,) = analysis.health.sinks
        assert trouble.startswith(f"{sink.failed} documents lost; the last: event: OSError: No space left")


@pytest.mark.parametrize("seed", range(3))
def test_points_that_came_late_or_out_of_order_are_told_by_their_numbers_in_order_of_arrival(
    seed: int,
) -> None:
    docs = toy.raw_run([float(n) for n in range(8)])
    middle = docs[2:-1]
    random.Random(seed).shuffle(middle)
    heard = Listener()
    with analyzer("inline") as analysis:
        analysis.subscribe(heard)
        for item in (*docs[:2], *middle, docs[-1]):
            analysis(*item)
        assert analysis.flush(30)
    came = [doc["seq_num"] for _, doc in middle]
    assert heard.run().spots() == came
    assert [event["seq_num"] for event in heard.run().stream("primary")] == list(range(1, 9))
