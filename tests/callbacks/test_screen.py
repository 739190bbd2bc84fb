"""What is left out of a table or a plot."""

from __future__ import annotations

from typing import Any

from skyloop.callbacks._screen import with_results


def test_an_event_is_left_out_for_the_outcome_of_its_technique_alone() -> None:
    shown: list[dict[str, Any]] = []
    screen = with_results(lambda _, doc: shown.append(doc["data"]), "toy_outcome")
    events = [
        {"toy_outcome": "ok", "toy_last_outcome": "superseded"},
        {"toy_outcome": "superseded", "toy_last_outcome": "ok"},
        {"toy_outcome": "failed", "toy_last_outcome": "ok"},
    ]
    for data in events:
        screen("event", {"data": data})
    assert shown == [events[0], events[2]]


def test_all_other_documents_are_passed_on() -> None:
    shown: list[str] = []
    screen = with_results(lambda name, _: shown.append(name), "toy_outcome")
    for name in ("start", "descriptor", "stop"):
        screen(name, {})
    assert shown == ["start", "descriptor", "stop"]
