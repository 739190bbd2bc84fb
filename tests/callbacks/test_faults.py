"""Faults that come with every event are told once in each run, and the run goes on."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import toy
from beam import analyzer
from listener import Listener

from skyloop.callbacks import Analyzer, Technique
from skyloop.documents.frames import Point, Points
from skyloop.runtime.guarded import Broken

EVENTS = 500


def breaks(doc: Any) -> Any:
    raise ValueError(f"on demand, at {id(doc)}")


def played(analysis: Analyzer, *runs: str) -> Listener:
    heard = Listener()
    analysis.subscribe(heard)
    for uid in runs:
        for item in toy.raw_run([float(n) for n in range(EVENTS)], uid):
            analysis(*item)
    assert analysis.flush(60)
    return heard


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_frame_of_that_breaks_on_every_event_is_told_once_in_each_run_with_its_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with analyzer("inline", replace(toy.TECHNIQUE, frame_of=breaks)) as analysis:
        heard = played(analysis, "a", "b")
        lines = errors(caplog)
        assert analysis.health.faults == ()
        assert analysis.health.failures == 2 * (EVENTS + 1)  # and the last word on each run
    assert len(lines) == 4
    for first, last, run in ((lines[0], lines[1], "a"), (lines[2], lines[3], "b")):
        assert first.startswith("technique 'toy' breaks on events: ValueError: on demand")
        assert f"{EVENTS} times in run {run}" in last
    assert [len(run.spots()) for run in heard.runs()] == [EVENTS, EVENTS]


def test_data_that_are_no_frame_are_results_and_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    with analyzer("inline") as analysis:
        for item in toy.raw_run(["word"] * 20):
            analysis(*item)
        assert analysis.health.faults == ()
    assert errors(caplog) == []


def test_a_choice_of_keys_that_breaks_costs_no_frame_and_is_told_once_in_each_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with analyzer("inline", replace(toy.TECHNIQUE, wanted=breaks)) as analysis:
        heard = played(analysis, "a", "b")
        (fault,) = analysis.health.faults
    assert fault.startswith("ValueError: on demand")
    assert fault.endswith("(2 times)")
    assert len(errors(caplog)) == 2
    for run in heard.runs():
        assert set(run.outcomes().values()) == {"ok"}
        assert run.final().mean == (EVENTS - 1) / 2


def test_a_choice_that_is_no_set_of_keys_is_a_fault_like_any_other() -> None:
    technique: Technique = replace(toy.TECHNIQUE, wanted=lambda descriptor: None)  # type: ignore[arg-type, return-value]
    with analyzer("inline", technique) as analysis:
        heard = played(analysis, "a")
        assert len(analysis.health.faults) == 1
    assert set(heard.run().outcomes().values()) == {"ok"}


def test_a_fault_of_our_own_with_every_event_fills_neither_the_screen_nor_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Points.feed

    def broken(self: Points, name: str, doc: Any) -> list[Point]:
        return breaks(doc) if name == "event" else feed(self, name, doc)

    monkeypatch.setattr(Points, "feed", broken)
    with analyzer("inline") as analysis:
        played(analysis, "a", "b")
        (fault,) = analysis.health.faults
        assert fault.endswith(f"({2 * EVENTS} times)")
        assert analysis._pipeline.faults._of_runs == {}
    lines = errors(caplog)
    assert len(lines) == 4
    assert f"fault of the analyzer, {EVENTS} times in run a" in lines[1]


def test_a_fault_at_the_end_of_a_run_takes_neither_its_stop_nor_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Points, "close", breaks)
    with analyzer("inline") as analysis:
        heard = played(analysis, "a")
        assert len(analysis.health.faults) == 1
        assert analysis._pipeline._open_runs == {}
        assert analysis._pipeline._newest._times == {}
        assert analysis._runner._states == {}  # type: ignore[attr-defined]
    assert heard.run().final().mean == (EVENTS - 1) / 2
    assert heard.run().stop is not None


def test_a_fault_with_one_run_keeps_no_other_from_being_analysed(monkeypatch: pytest.MonkeyPatch) -> None:
    with analyzer("inline") as analysis:
        heard = Listener()
        analysis.subscribe(heard)
        first, second = toy.raw_run([1.0], "a"), toy.raw_run([3.0], "b")
        for item in (*first[:2], *second[:2]):
            analysis(*item)
        monkeypatch.setattr(analysis._pipeline._open_runs["a"].points, "retry", lambda: breaks(0))
        monkeypatch.setattr(analysis._pipeline._open_runs["a"].points, "refused", lambda: breaks(0))
        analysis(*second[2])
        assert analysis.flush(30)
        assert heard.names().count("event") == 1


def test_what_a_fault_without_a_traceback_says_is_kept() -> None:
    with analyzer("inline") as analysis:
        analysis._pipeline.faults.note(Broken("told", ValueError("told")))
        assert analysis.health.faults == ("told",)


def test_a_first_run_that_holds_nothing_for_the_technique_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    technique = replace(toy.TECHNIQUE, frame_of=lambda point: None, keys={"counts": "pilatus", "per": 1.0})
    with analyzer("thread", technique) as analysis:
        played(analysis, "raw-1", "raw-2")
    assert errors(caplog) == [
        "run raw-1 holds nothing for 'toy', which looks for counts='pilatus'; "
        "mend, if it should: give the names of its data"
    ]


def test_a_run_of_others_after_the_first_frame_is_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    mine = {"raw-1"}
    technique = replace(
        toy.TECHNIQUE, frame_of=lambda point: toy.frame_of(point) if point.run["uid"] in mine else None
    )
    with analyzer("thread", technique) as analysis:
        played(analysis, "raw-1", "raw-2")
    assert errors(caplog) == []
