"""Runs that do not end, clocks that jump, and documents that come after the end."""

from __future__ import annotations

import time

import pytest
import toy
from beam import analyzer, count, lines, one_by_one, scan
from fake_analysis import engine
from listener import Listener


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_closing_in_mid_run_ends_the_analysis_run_and_says_why(executor: str) -> None:
    listener = Listener()
    with analyzer(executor) as analysis:
        analysis.subscribe(listener)
        never = analysis.inbox.future(("raw-1", "primary", 9))
        for item in toy.raw_run([1.0, 3.0], stop=False):
            analysis(*item)
    run = listener.run()
    assert run.stop is not None
    assert run.stop["exit_status"] == "abort"
    assert "closed" in run.stop["reason"]
    assert run.final().mean == 2.0
    assert never.cancelled()


def test_runs_without_a_stop_or_without_a_start_leave_nothing_in_memory() -> None:
    with analyzer("inline", time_to_live=5.0) as analysis:
        pipeline = analysis._pipeline
        for number in range(300):
            docs = toy.raw_run([1.0, 2.0], f"run-{number}")
            for item in docs[:-1] if number % 3 else docs[1:]:
                analysis(*item)
        pipeline.expire(time.monotonic() + 1e6)
        assert pipeline._open_runs == {}
        assert pipeline._gate.open_runs == ()
        assert pipeline._gate.parked == 0
        assert pipeline._newest._times == {}
        assert pipeline._newest._streams == {}
        assert analysis._runner._states == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_changes_no_result(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, shift = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: now() + shift[0])

    def leap() -> None:
        shift[0] += jump

    with analyzer("process", deadline=30.0, time_to_live=60.0) as analysis:
        raw, listener = scan(analysis, one_by_one([1.0, 2.0, 6.0], after={1: leap, 2: leap}))
    times = [event["time"] for event in raw.of("event")]
    assert abs(times[1] - times[0]) > 3000
    run = listener.run()
    assert set(run.outcomes().values()) <= {"ok", "superseded"}
    assert run.final().mean == 3.0
    assert run.stop is not None
    assert run.stop["exit_status"] == "success"


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_documents_after_closing_are_reported_and_raise_nothing(
    executor: str, caplog: pytest.LogCaptureFixture
) -> None:
    analysis = analyzer(executor)
    listener = Listener()
    analysis.subscribe(listener)
    assert analysis.close()
    result = engine(analysis)(count([1.0]))
    assert result.exit_status == "success"
    assert listener.docs == []
    assert any("closed" in line for line in lines(caplog))
