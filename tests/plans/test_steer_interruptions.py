"""A run that is paused, aborted or broken at any moment loses and repeats no point."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from bluesky.utils import RunEngineInterrupted
from fake_analysis import PATIENT, Axis, Wander, thread
from steered import GOOD, POSITIONS, Bench, Scripted, answering, follow

from skyloop.plans import Action

LONG = tuple(Action(place, 1e3) for place in POSITIONS)
"""A scan of which 5 % is longer than any test waits."""


def test_pause_during_the_wait_repeats_nothing() -> None:
    bench = Bench(lambda n: GOOD if n != 2 else None)

    def pause() -> None:
        assert bench.analysis.inbox.asked(2).wait(PATIENT)
        bench.engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        bench.engine(bench.plan(Wander(points=4), fixed=LONG))
    bench.analysis.deliver(2, GOOD)
    bench.engine.resume()
    assert [e["seq_num"] for e in bench.analysis.events("primary")] == [1, 2, 3, 4]
    assert [e["seq_num"] for e in bench.analysis.events("decision")] == [1, 2, 3, 4, 5]
    assert bench.verify().verified


def test_a_pause_at_any_message_loses_and_repeats_no_point() -> None:
    reference = Bench()
    messages: list[str] = []
    reference.engine.msg_hook = lambda message: messages.append(message.command)
    reference.run(Wander(points=2))
    # not at the very end: with its run closed a plan has no checkpoint to go back to
    for number in range(messages.index("open_run") + 2, messages.index("close_run") - 1):
        _pause_at(number, reference)


def _paused_at(number: int) -> Bench:
    bench, seen = Bench(), iter(range(10**6))
    helpers: list[threading.Thread] = []

    def hook(_: Any) -> None:
        if next(seen) == number:
            helpers.append(threading.Thread(target=bench.engine.request_pause, daemon=True))
            helpers[0].start()

    bench.engine.msg_hook = hook
    with pytest.raises(RunEngineInterrupted):
        bench.engine(bench.plan(Wander(points=2)))
    helpers[0].join(PATIENT)
    return bench


def _pause_at(number: int, reference: Bench) -> None:
    bench = _paused_at(number)
    bench.engine.resume()
    assert {e["seq_num"] for e in bench.analysis.events("primary")} == {1, 2}
    assert bench.verify().differences == ()
    decisions = {
        e["seq_num"]: e["data"]["decision_executed_position"] for e in bench.analysis.events("decision")
    }
    expected = reference.column("executed_position")
    assert [repr(decisions[i + 1]) for i in range(len(expected))] == [repr(p) for p in expected]


def test_an_abort_at_any_message_leaves_a_run_that_verifies() -> None:
    messages: list[str] = []
    reference = Bench()
    reference.engine.msg_hook = lambda message: messages.append(message.command)
    reference.run(Wander(points=2))
    for number in range(messages.index("open_run") + 2, messages.index("close_run") - 1):
        bench = _paused_at(number)
        bench.engine.abort()
        assert bench.analysis.stop["exit_status"] == "abort"
        assert bench.column("reason")[-1] == "operator", messages[number]
        assert bench.verify().differences == (), messages[number]


def test_pause_while_a_ticket_is_open_repeats_nothing() -> None:
    bench = Bench()

    def pause() -> None:
        assert bench.gate.wait_pending(PATIENT)
        bench.engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        bench.engine(bench.plan(Wander(points=2), mode="confirm"))
    with thread(answering(bench, ["accept"] * 3)):
        bench.engine.resume()
    assert [e["seq_num"] for e in bench.analysis.events("primary")] == [1, 2]
    assert bench.verify().verified


def test_a_deferred_pause_during_a_question_comes_before_the_move_that_was_asked_about() -> None:
    bench = Bench()

    def pause_then_accept() -> None:
        assert bench.gate.wait_pending(PATIENT)
        bench.engine.request_pause(defer=True)
        answering(bench, ["accept"])()

    with thread(pause_then_accept), pytest.raises(RunEngineInterrupted):
        bench.engine(bench.plan(Wander(points=3), mode="confirm"))
    assert bench.axis.sent == []
    assert bench.column("answer") == ["accept"]  # and the answer is not lost
    with thread(answering(bench, ["accept"] * 3)):
        bench.engine.resume()
    assert [e["seq_num"] for e in bench.analysis.events("primary")] == [1, 2, 3]
    assert [e["seq_num"] for e in bench.analysis.events("decision")] == [1, 2, 3, 4]


def test_abort_while_waiting_is_the_last_decision_and_leaves_no_ticket() -> None:
    bench = Bench()

    def pause() -> None:
        assert bench.gate.wait_pending(PATIENT)
        bench.engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        bench.engine(bench.plan(Wander(points=2), mode="confirm"))
    bench.engine.abort()
    assert bench.gate.pending() == []
    last = bench.analysis.decisions()[-1]
    assert (last["action"], last["source"], last["reason"]) == ("stop", "human", "operator")
    assert bench.analysis.stop["exit_status"] == "abort"
    assert bench.verify().verified


def test_a_device_that_breaks_closes_the_run_with_its_reason() -> None:
    bench = Bench()

    class Broken(Axis):
        def set(self, value: float) -> Any:
            if value > 0.35:
                raise RuntimeError("encoder lost")
            return super().set(value)

    bench.axis = Broken((0.0, 1.0))
    with pytest.raises(RuntimeError, match="encoder lost"):
        bench.run(Scripted(follow))
    assert bench.analysis.positions() == POSITIONS[:4]
    assert bench.analysis.stop["exit_status"] == "fail"
    assert bench.analysis.stop["reason"] == "encoder lost"
