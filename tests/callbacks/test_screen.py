"""What is left out of a table or a plot, and how that is let go of."""

from __future__ import annotations

from threading import Event
from typing import Any

from beam import analyzer, count
from fake_analysis import PATIENT, engine

from skyloop.callbacks._screen import shows_something
from skyloop.runtime.sinks import Sink


def test_an_event_is_left_out_for_the_outcome_of_its_technique_alone() -> None:
    events = [
        {"toy_outcome": "ok", "toy_last_outcome": "superseded"},
        {"toy_outcome": "superseded", "toy_last_outcome": "ok"},
        {"toy_outcome": "failed", "toy_last_outcome": "ok"},
    ]
    shown = [data for data in events if shows_something(("event", {"data": data}), "toy_outcome")]
    assert shown == [events[0], events[2]]


def test_all_other_documents_are_passed_on() -> None:
    assert all(shows_something((name, {}), "toy_outcome") for name in ("start", "descriptor", "stop"))


class Table:
    """A screen that holds a file."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.closed = False

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.names.append(name)

    def close(self) -> None:
        self.closed = True


def test_a_screen_is_closed_with_the_analysis() -> None:
    table, analysis = Table(), analyzer("inline")
    analysis.show(table)
    engine(analysis)(count([1.0, 2.0]))
    analysis.close()
    assert table.closed
    assert table.names[-1] == "stop"


def test_a_flush_waits_for_a_shared_sink_that_is_shown_and_a_close_leaves_it_open() -> None:
    go, taken = Event(), list[str]()

    def slow(name: str, doc: dict[str, Any]) -> None:
        go.wait(PATIENT)
        taken.append(name)

    shared, analysis = Sink(slow), analyzer("inline")
    assert analysis.show(shared) is shared
    engine(analysis)(count([1.0, 2.0]))
    assert not analysis.flush(0.0)
    go.set()
    assert analysis.flush(PATIENT)
    assert taken[0] == "start"
    assert taken[-1] == "stop"
    analysis.close()
    shared("start", {"uid": "another"})
    assert shared.close()
    assert taken[-1] == "start"
