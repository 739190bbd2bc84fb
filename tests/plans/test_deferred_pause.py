"""A deferred pause while a question is open is honoured after the answer, and before anything moves."""

from __future__ import annotations

import pytest
from bluesky.utils import RunEngineInterrupted
from fake_analysis import PATIENT, Axis, FakeAnalysis, FakeResult, Wander, det, engine, thread

from skyloop.plans import Action, ApprovalGate, Course, Instrument, Limits, Steering, steer

FIXED = tuple(Action(round(0.1 * i, 1), 1.0) for i in range(10))


def test_a_deferred_pause_during_a_question_comes_before_the_move_that_was_asked_about() -> None:
    analysis, axis, gate = FakeAnalysis(lambda _: FakeResult()), Axis((0.0, 1.0)), ApprovalGate()
    course = Course(fixed=FIXED, limits=Limits(position=(0.0, 1.0)), mode="confirm")
    steering = Steering(policy=Wander(points=3), course=course, inbox=analysis.inbox, gate=gate)
    run_engine = engine(analysis)

    def accept() -> None:
        (ticket,) = gate.wait_pending(PATIENT)
        gate.answer(ticket.uid, ticket.nonce, "accept", operator="ada")

    def pause_then_accept() -> None:
        assert gate.wait_pending(PATIENT)
        run_engine.request_pause(defer=True)
        accept()

    with thread(pause_then_accept), pytest.raises(RunEngineInterrupted):
        run_engine(steer(Instrument((det,), axis), steering))
    assert axis.sent == []
    assert [d["answer"] for d in analysis.decisions()] == ["accept"]  # and the answer is not lost
    with thread(lambda: [accept() for _ in range(3)]):
        run_engine.resume()
    assert [event["seq_num"] for event in analysis.events("primary")] == [1, 2, 3]
    assert [event["seq_num"] for event in analysis.events("decision")] == [1, 2, 3, 4]
