from __future__ import annotations

import logging
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import numpy as np
import pytest

from skyloop.errors import UnavailableError
from skyloop.runtime import sinks
from skyloop.runtime.mailbox import Mailbox
from skyloop.runtime.sinks import Sink, handed_over
from skyloop.storage.jsonl import JsonlWriter


def test_every_document_arrives_in_order() -> None:
    got: list[Any] = []
    sink = Sink(lambda name, doc: got.append((name, doc["n"])))
    for n in range(1000):
        sink("event", {"n": n})
    assert sink.close()
    assert got == [("event", n) for n in range(1000)]


def test_a_hanging_callback_keeps_nobody_waiting_and_loses_nothing() -> None:
    go, got = Event(), []
    sink = Sink(lambda _, doc: (go.wait(30), got.append(doc["n"])))
    for n in range(100):
        sink("event", {"n": n})
    assert not sink.flush(0.05)
    assert sink.waiting == 100
    go.set()
    assert sink.close()
    assert got == list(range(100))


@pytest.mark.parametrize("error", [ValueError, SystemExit, ReferenceError, KeyboardInterrupt])
def test_a_callback_that_raises_gets_the_next_document(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []

    def callback(_: str, doc: dict[str, Any]) -> None:
        if doc["n"] == 0:
            raise error("no")
        got.append(doc["n"])

    sink = Sink(callback)
    sink("event", {"n": 0})
    sink("event", {"n": 1})
    assert sink.close()
    assert got == [1]
    assert sink.failed == 1
    assert error.__name__ in sink.last_failure
    assert "lost a event document" in caplog.text


def test_losses_that_each_have_a_reason_of_their_own_fill_neither_memory_nor_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_KEPT", 10)

    def refuse(_: str, doc: dict[str, Any]) -> None:
        raise ValueError(f"not {doc['uid']}")

    sink = Sink(refuse)
    for n in range(15):
        sink("start", {"uid": f"run-{n}"})
    sink.close()
    assert sink.failed == 15
    *lost, last = caplog.messages
    assert lost == [f"a sink lost a start document: ValueError: not run-{n}" for n in range(10)]
    assert "of the runs run-0, run-1, run-2, run-3, run-4 and at least 5 more; the last: " in last
    assert "not run-14" in last


def test_an_unavailable_store_is_offered_the_same_document_until_it_takes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    got: list[int] = []
    refusals = iter([True, True, False, False])

    def callback(_: str, doc: dict[str, Any]) -> None:
        if next(refusals):
            raise UnavailableError("server is down")
        got.append(doc["n"])

    caplog.set_level(logging.WARNING)
    sink = Sink(callback)
    sink("event", {"n": 0})
    sink("event", {"n": 1})
    assert sink.close(20.0)
    assert got == [0, 1]
    assert sink.failed == 0
    assert caplog.text.count("does not answer") == 1


def test_what_comes_after_closing_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(lambda *_: None)
    sink.close()
    sink("stop", {})
    assert sink.failed == 1
    assert "closed" in caplog.text


def test_a_document_changed_after_the_hand_over_arrives_as_it_was() -> None:
    doc: dict[str, Any] = {"data": {"x": 1}, "seq_num": 1}
    copy = handed_over("event", doc)
    doc["data"]["x"] = 2
    assert copy["data"]["x"] == 1
    start = {"hints": {"dimensions": [["x"]]}}
    deep = handed_over("start", start)
    start["hints"]["dimensions"].append(["y"])
    assert deep["hints"]["dimensions"] == [["x"]]


def test_images_are_not_copied() -> None:
    image = np.zeros((2, 2))
    assert handed_over("event", {"data": {"image": image}})["data"]["image"] is image


def test_a_mailbox_hands_out_all_that_waits_and_then_says_it_is_closed() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.take(0.0) == []
    assert all(box.put(n) for n in range(3))
    box.close()
    assert not box.put(9)
    assert box.take() == [0, 1, 2]
    assert box.waiting == 3
    assert box.take() is None
    assert box.wait_idle(0.0)


def test_a_mailbox_is_not_idle_while_something_taken_is_kept_in_hand() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    assert box.take() == [1]
    assert box.take(0.0, kept=1) == []
    assert (box.waiting, box.wait_idle(0.0)) == (1, False)
    box.put(2)
    assert box.take(0.0, kept=1) == [2]
    assert box.waiting == 2
    assert box.take(0.0) == []
    assert box.wait_idle(0.0)


class Store:
    """A store that takes documents while it is up, and tells when and where it was closed."""

    def __init__(self, up: bool = True, broken: bool = False) -> None:
        self.up, self.broken = up, broken
        self.got: list[Any] = []
        self.asked = 0
        self.closed_on = ""

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.asked += 1
        if not self.up:
            raise UnavailableError("nobody answers")
        self.got.append((name, doc))

    def close(self) -> None:
        if self.broken:
            raise OSError("no space left")
        self.closed_on = current_thread().name
        self.got.append("closed")


def test_closing_a_sink_closes_what_it_wraps_after_the_last_document_on_its_own_thread() -> None:
    store = Store()
    sink = Sink(store)
    for n in range(100):
        sink("event", {"n": n})
    assert sink.close()
    assert store.got[-1] == "closed"
    assert len(store.got) == 101
    assert store.closed_on == "skyloop-sink"


@pytest.mark.parametrize("call", ["flush", "close"])
def test_a_callback_that_waits_for_its_own_sink_is_told_so_at_once(call: str) -> None:
    held: list[Sink] = []
    sink = Sink(lambda *_: getattr(held[0], call)(1000.0))
    held.append(sink)
    sink("stop", {})
    assert sink.close()
    assert f"RuntimeError: Sink.{call}() was called from within a sink" in sink.last_failure
    assert "mend: call it where the documents come from" in sink.last_failure


def test_a_forked_process_takes_nothing_for_the_sink_of_its_parent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Any] = []
    sink = Sink(lambda _, doc: got.append(doc))
    with monkeypatch.context() as forked:
        forked.setattr("os.getpid", lambda: -1)
        sink("event", {"n": 0})
        assert sink.flush(1000.0)
        assert sink.close(1000.0)
    assert "the sink is in the process that this one was forked from" in caplog.text
    sink("event", {"n": 1})
    assert sink.close()
    assert got == [{"n": 1}]


def test_a_file_is_let_go_of_when_its_sink_is_closed(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    sink = Sink(writer)
    sink("start", {"uid": "a", "time": 1.0})
    assert sink.close()
    assert writer._open == {}


def test_a_callback_that_cannot_be_closed_says_so_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(Store(broken=True))
    sink("stop", {})
    assert sink.close()
    assert sink.failed == 0
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "a sink could not be closed: OSError: no space left"


def test_a_sink_that_nobody_holds_delivers_what_waits_and_ends() -> None:
    store = Store()
    sink = Sink(store)
    thread = sink._delivery.thread
    for n in range(1000):
        sink("event", {"n": n})
    del sink
    thread.join(60)
    assert not thread.is_alive()
    assert len(store.got) == 1001


def test_a_store_that_is_down_at_the_end_is_not_asked_for_every_document(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store(up=False)
    sink = Sink(store)
    for uid in ("a", "b"):
        sink("start", {"uid": uid})
        sink("descriptor", {"uid": f"{uid}-d", "run_start": uid})
        for n in range(100):
            sink("event", {"uid": f"{uid}-{n}", "descriptor": f"{uid}-d"})
        sink("stop", {"uid": f"{uid}-s", "run_start": uid})
    assert not sink.close(0.05)
    assert store.asked <= 3
    assert store.closed_on
    lines = [record.getMessage() for record in caplog.records if "did not reach" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("206 documents did not reach a sink, of the runs a, b; the last: stop: Unav")
    assert "nobody answers; mend: `skyloop replay`" in lines[0]


def test_many_lost_runs_are_not_all_named(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(Store(up=False))
    for n in range(50):
        sink("start", {"uid": f"run-{n}"})
    assert not sink.close(0.05)
    assert "of the runs run-0, run-1, run-2, run-3, run-4 and 45 more;" in caplog.text


def test_a_document_that_is_taken_while_the_sink_closes_is_not_left() -> None:
    got: list[int] = []

    def callback(_: str, doc: dict[str, Any]) -> None:
        sink._delivery.mailbox.wait_closed(30)
        got.append(doc["n"])

    sink = Sink(callback)
    for n in range(3):
        sink("event", {"n": n})
    assert sink.close(0.0)
    assert got == [0, 1, 2]


def test_a_callback_that_hangs_in_its_closing_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sinks, "_GRACE_SECONDS", 0.05)
    go, store = Event(), Store()
    monkeypatch.setattr(store, "close", lambda: go.wait(60))
    sink = Sink(store)
    sink("start", {"uid": "r"})
    assert sink.flush(30)
    assert sink.close(0.05)
    assert "took every document, but its callback hangs in close()" in caplog.text
    go.set()
    sink._delivery.thread.join(60)
    caplog.clear()
    sink.close(0.05)
    assert caplog.text == ""


def test_a_busy_sink_tells_at_its_closing_what_it_did_not_take(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sinks, "_GRACE_SECONDS", 0.05)
    go = Event()
    sink = Sink(lambda *_: go.wait(60))
    for n in range(3):
        sink("event", {"n": n})
    assert not sink.close(0.05)
    assert "3 documents did not reach a sink" in caplog.text
    assert "still busy" in caplog.text
    go.set()
    sink._delivery.thread.join(60)
    assert not sink._delivery.thread.is_alive()
