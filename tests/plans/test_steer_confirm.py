"""In confirm mode a person has the last word, and silence is the fixed scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from fake_analysis import PATIENT, FakeAnalysis, FakeResult, Wander, thread
from steered import FIXED, POSITIONS, Bench, Scripted, answering, forge, left_of

from skyloop.errors import ConfigError
from skyloop.plans import (
    Action,
    Choice,
    Continue,
    Course,
    Policies,
    Proposal,
    Reason,
    Situation,
    Steering,
    Stop,
)


def test_in_confirm_mode_a_person_has_the_last_word() -> None:
    bench = Bench()
    with thread(answering(bench, ["accept", "reject", "accept", "accept"])):
        result = bench.run(Wander(points=3), mode="confirm")
    assert bench.column("answer") == ["accept", "reject", "accept", "accept"]
    assert bench.column("source") == ["policy", "human", "policy", "policy"]
    assert bench.column("operator") == ["ada"] * 4
    assert bench.column("comment") == ["seen"] * 4
    assert bench.axis.sent[1] == left_of(bench.axis.sent[0])[0]
    assert result["reason"] == "budget"
    assert bench.verify().verified


def test_a_person_ends_the_measurement_by_an_answer() -> None:
    bench = Bench()
    with thread(answering(bench, ["accept", "stop"])):
        result = bench.run(Wander(points=3), mode="confirm")
    assert result["reason"] == "operator"
    assert result["points"] == 1
    last = bench.analysis.decisions()[-1]
    assert (last["source"], last["action"], last["answer"]) == ("human", "stop", "stop")
    assert last["operator"] == "ada"
    assert last["choice"] == "measure"
    assert bench.analysis.stop["exit_status"] == "success"
    assert bench.verify().verified


def test_an_answer_that_ends_the_measurement_is_verified_with_all_that_led_to_it() -> None:
    bench = Bench()
    with thread(answering(bench, ["accept", "stop"])):
        bench.run(Wander(points=3), mode="confirm")
    bench.analysis.events("decision")[-1]["data"]["decision_proposed_position"] = 0.123
    assert "proposed_position" in {d.field for d in bench.verify().differences}


@dataclass(frozen=True)
class Stubborn:
    """A policy that proposes two points by turns, whatever was said of them."""

    name: ClassVar[str] = "stubborn"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "fake"

    def __call__(self, results: Sequence[FakeResult], situation: Situation, /) -> Choice:
        return Proposal(Action(0.55 if len(situation.measured) % 2 else 0.45, 1.0))


def test_a_point_that_was_refused_is_not_asked_about_again() -> None:
    bench = Bench()
    with thread(answering(bench, ["reject", "reject"])):
        bench.run(Stubborn(), mode="confirm")
    assert bench.analysis.positions() == POSITIONS
    again = len(POSITIONS) - 1
    assert bench.column("answer") == ["reject"] * 2 + ["refused before"] * again
    assert bench.column("reason") == ["reject"] * 2 + ["refused before"] * (again - 1) + ["scan_complete"]
    assert set(bench.column("source")) == {"human"}
    assert set(bench.column("operator")) == {"ada"}
    assert bench.verify(Policies(FakeResult, (Stubborn,))).verified


@dataclass(frozen=True)
class Finished:
    """A policy that takes the target for known after each point, and from some point on has no budget."""

    name: ClassVar[str] = "finished"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "fake"

    points: int = 100

    def __call__(self, results: Sequence[FakeResult], situation: Situation, /) -> Choice:
        if not results:
            return Continue()
        enough = len(situation.measured) >= self.points
        return Stop(Reason.BUDGET if enough else Reason.TARGET_REACHED)


def test_a_stop_that_was_refused_is_not_asked_about_again() -> None:
    bench = Bench()
    with thread(answering(bench, ["reject"])):
        result = bench.run(Finished(), mode="confirm")
    assert bench.analysis.positions() == POSITIONS
    assert result["reason"] == "scan_complete"
    again = len(POSITIONS) - 1
    assert bench.column("answer") == ["", "reject", *["refused before"] * again]
    assert set(bench.column("source")[1:]) == {"human"}
    assert set(bench.column("operator")[1:]) == {"ada"}
    assert bench.verify(Policies(FakeResult, (Finished,))).verified


def test_a_stop_for_another_reason_is_asked_about() -> None:
    bench = Bench()
    with thread(answering(bench, ["reject", "accept"])):
        result = bench.run(Finished(points=4), mode="confirm")
    assert result["reason"] == "budget"
    assert bench.column("answer") == ["", "reject", "refused before", "refused before", "accept"]
    assert bench.verify(Policies(FakeResult, (Finished,))).verified


def test_an_expired_question_is_asked_again() -> None:
    bench = Bench()
    bench.run(Stubborn(), mode="confirm", answer_timeout=0.01)
    assert set(bench.column("answer")) == {"expired"}


def test_a_refusal_that_nobody_spoke_is_found() -> None:
    bench = Bench()
    with thread(answering(bench, ["accept"] * 4)):
        bench.run(Wander(points=3), mode="confirm")
    forge(bench, 2, answer="refused before")
    assert (2, "answer") in {(d.seq, d.field) for d in bench.verify().differences}


def test_in_confirm_mode_silence_is_the_fixed_scan() -> None:
    bench = Bench()
    bench.run(Scripted(lambda _, __: Stop(Reason.TARGET_REACHED)), mode="confirm", answer_timeout=0.01)
    assert bench.analysis.positions() == POSITIONS
    assert set(bench.column("answer")) == {"expired"}
    assert set(bench.column("source")) == {"fallback"}


def test_the_guard_comes_before_the_question_and_again_after_the_answer() -> None:
    bench = Bench()

    def narrow_then_accept() -> None:
        (ticket,) = bench.gate.wait_pending(PATIENT)
        bench.axis.limits = (0.0, 0.05)
        bench.gate.answer(ticket.uid, ticket.nonce, "accept", operator="ada")
        (ticket,) = bench.gate.wait_pending(PATIENT)
        bench.gate.answer(ticket.uid, ticket.nonce, "accept", operator="ada")

    def policy(_: Any, situation: Situation) -> Choice:
        return Stop(Reason.TARGET_REACHED) if situation.measured else Proposal(Action(0.5, 1.0))

    with thread(narrow_then_accept):
        bench.run(Scripted(policy), mode="confirm")
    assert bench.axis.sent == [0.0]
    assert bench.column("fault") == ["", "refused", ""]


def test_confirm_mode_needs_a_gate() -> None:
    with pytest.raises(ConfigError, match="approval gate"):
        Steering(Wander(points=1), Course(FIXED, mode="confirm"), FakeAnalysis(lambda _: None).inbox)
