from __future__ import annotations

import logging
from threading import Event
from typing import Any

import numpy as np
import pytest

from skyloop.errors import UnavailableError
from skyloop.runtime.mailbox import Mailbox
from skyloop.runtime.sinks import Sink, handed_over


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
