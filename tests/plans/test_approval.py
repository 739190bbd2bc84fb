from __future__ import annotations

import gc
import time
from typing import Any

import pytest
from bluesky import plan_stubs as bps
from bluesky.utils import RunEngineInterrupted
from fake_analysis import PATIENT, det, engine, thread
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloop.errors import ConfigError, RefusedError
from skyloop.plans._approval import Answer, ApprovalGate, confirm, gate_named


def one_question(gate: ApprovalGate, answers: list[Answer], timeout: float = PATIENT) -> Any:
    yield from bps.open_run()
    yield from bps.trigger_and_read([det])
    yield from bps.checkpoint()
    answers.append((yield from confirm(gate, "uid", "measure?", timeout=timeout)))
    yield from bps.checkpoint()
    yield from bps.trigger_and_read([det])
    yield from bps.close_run()


def reply(gate: ApprovalGate, verb: str, comment: str = "") -> Any:
    def work() -> None:
        (ticket,) = gate.wait_pending(PATIENT)
        gate.answer(ticket.uid, ticket.nonce, verb, operator="ada", comment=comment)

    return work


@pytest.mark.parametrize("verb", ["accept", "reject", "stop"])
def test_the_answer_of_a_person_reaches_the_plan(verb: str) -> None:
    gate, answers = ApprovalGate(), []
    with thread(reply(gate, verb, "go")):
        engine()(one_question(gate, answers))
    (answer,) = answers
    assert (answer.verb, answer.operator, answer.comment) == (verb, "ada", "go")
    assert answer.seconds >= 0
    assert gate.pending() == []


def test_no_answer_is_never_an_acceptance() -> None:
    gate, answers = ApprovalGate(), []
    engine()(one_question(gate, answers, timeout=0.01))
    assert answers == [Answer("expired")]
    assert gate.pending() == []


def refused(gate: ApprovalGate, uid: str, nonce: str, verb: str) -> str:
    with pytest.raises(RefusedError) as error:
        gate.answer(uid, nonce, verb, operator="eve")
    return str(error.value)


def test_a_wrong_answer_is_refused_for_the_first_of_its_faults() -> None:
    gate = ApprovalGate()
    expired = gate.ask("old", "?", seconds=0.0)
    ticket = gate.ask("new", "?", seconds=PATIENT)
    assert "no such ticket" in refused(gate, "none", "", "steal")
    assert "another question" in refused(gate, "old", "wrong", "steal")
    assert "another question" in refused(gate, "new", expired.nonce, "accept")
    assert "expired" in refused(gate, "old", expired.nonce, "steal")
    assert "none of accept, reject, stop" in refused(gate, "new", ticket.nonce, "Accept")
    gate.answer("new", ticket.nonce, "accept", operator="ada")
    assert "answered already" in refused(gate, "new", ticket.nonce, "steal")
    assert ticket.future.result().operator == "ada"
    gate.close("new")
    assert "no such ticket" in refused(gate, "new", ticket.nonce, "accept")


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.text(), st.text())
def test_no_guess_opens_a_ticket(nonce: str, verb: str) -> None:
    gate = ApprovalGate()
    ticket = gate.ask("uid", "?", seconds=PATIENT)
    refused(gate, "uid", nonce, verb)
    assert not ticket.future.done()


def test_asking_again_is_the_same_ticket_until_it_is_closed() -> None:
    gate = ApprovalGate()
    first = gate.ask("uid", "?", seconds=PATIENT)
    assert gate.ask("uid", "?", seconds=PATIENT) is first
    gate.close("uid")
    again = gate.ask("uid", "?", seconds=PATIENT)
    assert again.nonce != first.nonce
    assert "another question" in refused(gate, "uid", first.nonce, "accept")


def test_an_answer_given_during_a_pause_counts_after_it() -> None:
    gate, answers = ApprovalGate(), []
    events: list[Any] = []
    run_engine = engine(lambda name, doc: events.append(doc["seq_num"]) if name == "event" else None)

    def pause() -> None:
        assert gate.wait_pending(PATIENT)
        run_engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        run_engine(one_question(gate, answers))
    reply(gate, "accept")()
    run_engine.resume()
    assert answers[0].verb == "accept"
    assert events == [1, 2]


def test_abort_leaves_no_open_ticket() -> None:
    gate, answers = ApprovalGate(), []
    stops: list[Any] = []
    run_engine = engine(lambda name, doc: stops.append(doc) if name == "stop" else None)

    def pause() -> None:
        assert gate.wait_pending(PATIENT)
        run_engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        run_engine(one_question(gate, answers))
    assert len(gate.pending()) == 1
    run_engine.abort()
    assert gate.pending() == []
    assert answers == []
    assert stops[0]["exit_status"] == "abort"


def test_a_gate_is_found_by_its_name_as_long_as_somebody_holds_it() -> None:
    gate = ApprovalGate("desk")
    assert gate_named("desk") is gate
    del gate
    gc.collect()
    with pytest.raises(ConfigError, match="no approval gate is named 'desk'"):
        gate_named("desk")


HOUR = 3600.0


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_step_of_the_wall_clock_neither_ends_nor_prolongs_a_ticket(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, wall = ApprovalGate(), time.time
    expired = gate.ask("old", "?", seconds=0.0)
    ticket = gate.ask("new", "?", seconds=PATIENT)
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    assert 0.0 < ticket.seconds_left <= PATIENT
    assert expired.seconds_left <= 0.0
    assert "expired" in refused(gate, "old", expired.nonce, "accept")
    gate.answer("new", ticket.nonce, "accept", operator="ada")
    assert 0.0 <= ticket.future.result().seconds <= PATIENT


def test_a_question_outlives_a_step_of_the_wall_clock_during_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, answers, wall = ApprovalGate(), [], time.time
    run_engine = engine()

    def pause() -> None:
        assert gate.wait_pending(PATIENT)
        run_engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        run_engine(one_question(gate, answers))
    monkeypatch.setattr(time, "time", lambda: wall() + HOUR)
    with thread(reply(gate, "accept")):
        run_engine.resume()
    assert [answer.verb for answer in answers] == ["accept"]
