from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from bluesky.utils import RunEngineInterrupted
from event_model import DocumentNames, schema_validators
from fake_analysis import (
    PATIENT,
    POLICIES,
    Axis,
    FakeAnalysis,
    FakeResult,
    Wander,
    det,
    engine,
    scalars,
    thread,
)

from skyloop.errors import ConfigError, DataError, Outcome, RefusedError
from skyloop.plans._approval import ApprovalGate
from skyloop.plans._course import (
    Action,
    Choice,
    Continue,
    Course,
    Limits,
    Pace,
    Proposal,
    Reason,
    Situation,
    Stop,
)
from skyloop.plans._decision import DecisionRecord
from skyloop.plans._steer import steer
from skyloop.plans._steering import Instrument, Steering
from skyloop.plans._verify import Policies, VerifyReport, verify

FIXED = tuple(Action(round(0.1 * i, 1), 1.0) for i in range(10))
POSITIONS = [action.position for action in FIXED]
LONG = tuple(Action(place, 1e3) for place in POSITIONS)
"""A scan of which 5 % is longer than any test waits."""
LIMITS = Limits(position=(0.0, 1.0))
GOOD = FakeResult()


@dataclass(init=False)
class Scripted:
    """A policy of the test's own making; what it does is no parameter, so its runs cannot be verified."""

    name: ClassVar[str] = "scripted"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "fake"

    def __init__(self, do: Callable[[Sequence[FakeResult], Situation], Any]) -> None:
        self._do = do

    def __call__(self, results: Sequence[FakeResult], situation: Situation, /) -> Choice:
        return self._do(results, situation)


def follow(_: Any, __: Any) -> Choice:
    return Continue()


class Bench:
    """One run with everything around it."""

    def __init__(self, result_of: Callable[[int], FakeResult | None] = lambda _: GOOD) -> None:
        self.axis: Any = Axis((0.0, 1.0))
        self.analysis = FakeAnalysis(result_of)
        self.engine = engine(self.analysis)
        self.gate = ApprovalGate()

    def plan(
        self, policy: Any, *, timeout: float = PATIENT, answer_timeout: float = PATIENT, **course: Any
    ) -> Any:
        given: dict[str, Any] = {"fixed": FIXED, "limits": LIMITS} | course
        steering = Steering(
            policy=policy,
            course=Course(**given),
            inbox=self.analysis.inbox,
            gate=self.gate,
            timeout=timeout,
            answer_timeout=answer_timeout,
        )
        return steer(Instrument((det,), self.axis), steering)

    def run(self, policy: Any, **given: Any) -> dict[str, Any]:
        return self.engine(self.plan(policy, **given)).plan_result

    def verify(self, policies: Policies = POLICIES) -> VerifyReport:
        # through JSON, as a store would give them back
        raw, analysis = json.loads(json.dumps([self.analysis.raw, self.analysis.documents]))
        return verify(raw, analysis, policies=policies)

    def column(self, name: str) -> list[Any]:
        return [decision[name] for decision in self.analysis.decisions()]


def test_a_policy_chooses_the_points_and_each_of_them_has_its_decision() -> None:
    bench = Bench()
    result = bench.run(Wander(points=5))
    assert result["reason"] == "budget"
    assert (result["points"], result["points_used"]) == (5, 5)
    decisions = bench.analysis.decisions()
    assert [d["seq"] for d in decisions] == [1, 2, 3, 4, 5, 6]
    assert [d["raw_seq_num"] for d in decisions] == [0, 1, 2, 3, 4, 5]
    assert [d["executed_position"] for d in decisions[:-1]] == bench.analysis.positions()
    assert bench.analysis.positions() == bench.axis.sent
    assert [d["action"] for d in decisions] == ["measure"] * 5 + ["stop"]
    assert {d["source"] for d in decisions} == {"policy"}
    analysed = {doc["uid"] for name, doc in bench.analysis.documents if name == "event"}
    assert {d["analysis_event_uid"] for d in decisions[1:]} == analysed


def test_every_document_is_valid_and_what_a_plan_returns_is_json() -> None:
    bench = Bench()
    result = bench.run(Wander(points=3))
    for name, doc in bench.analysis.raw:
        schema_validators[DocumentNames[name]].validate(doc)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    start = bench.analysis.raw[0][1]
    json.dumps(start, allow_nan=False)
    assert Course.from_description(start["adaptive"]) == Course(FIXED, limits=LIMITS)


def test_it_stops_when_the_target_is_known() -> None:
    bench = Bench(lambda n: replace(GOOD, target_sigma=4.0 / n))
    result = bench.run(Wander(points=50, sigma=1.0))
    assert (result["reason"], result["points"], result["target_sigma"]) == ("target_reached", 4, 1.0)
    assert bench.analysis.stop["exit_status"] == "success"


@pytest.mark.parametrize("mode", ["shadow", "advise"])
def test_shadow_and_advise_leave_the_fixed_scan_as_it_is(mode: str) -> None:
    bench = Bench(lambda n: replace(GOOD, target_sigma=4.0 / n))
    result = bench.run(Wander(points=50, sigma=1.0), mode=mode)
    assert bench.analysis.positions() == POSITIONS
    assert result["reason"] == "scan_complete"
    assert bench.column("choice") == ["measure"] * 4 + ["stop"] * 7
    assert bench.column("source") == ["plan"] * 11
    assert not math.isnan(bench.column("proposed_position")[0])


def test_a_late_analysis_costs_one_wait_and_no_point() -> None:
    bench = Bench(lambda _: None)
    result = bench.run(Wander(points=5), timeout=0.01)
    assert bench.analysis.positions() == [bench.axis.sent[0], *left_of(bench.axis.sent[0])]
    assert bench.column("fault") == ["", *["silent"] * len(bench.axis.sent)]
    assert result["reason"] == "analysis_lost"
    assert bench.analysis.stop["exit_status"] == "success"
    assert bench.verify().verified


def test_an_analysis_that_is_not_subscribed_is_told_after_the_first_point(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.analysis.deliver = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    waits: list[str] = []
    bench.engine.msg_hook = lambda message: waits.append(message.command)
    bench.run(Scripted(follow), timeout=0.01)
    assert waits.count("wait_for") == 1
    line = "no result for this run arrived: is the analysis subscribed? mend: RE.subscribe(analysis)"
    assert bench.column("reason") == ["", *[line] * (len(FIXED) - 1), "analysis_lost"]
    assert [record.getMessage() for record in caplog.records] == [f"{line}; the fixed scan goes on"]
    assert bench.analysis.positions() == POSITIONS


def test_an_analysis_that_was_heard_once_is_late_or_lost(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(lambda n: GOOD if n == 1 else None)
    bench.run(Scripted(follow), timeout=0.01)
    assert bench.column("fault") == ["", "", "late", *["lost"] * (len(FIXED) - 2)]
    assert caplog.records == []


def left_of(first: float) -> list[float]:
    """The fixed scan without the point that the first one stands for."""
    nearest = min(POSITIONS, key=lambda place: abs(place - first))
    return [place for place in POSITIONS if place != nearest]


def test_on_course_a_late_analysis_leaves_the_fixed_scan_complete_and_in_order() -> None:
    bench = Bench(lambda _: None)
    result = bench.run(Scripted(follow), timeout=0.01)
    assert bench.analysis.positions() == POSITIONS
    assert result["beam_time"] == Course(FIXED).planned


def test_results_steer_again_when_they_come_back() -> None:
    bench = Bench()
    kept: list[int] = []

    def late_once(seq_num: int) -> FakeResult | None:
        for old in kept:  # the analysis catches up while the next point is measured
            bench.analysis.deliver(old, GOOD)
        kept[:] = [seq_num] if seq_num in (3, 4) else []
        return None if kept else GOOD

    bench.analysis = FakeAnalysis(late_once)
    bench.engine = engine(bench.analysis)
    bench.run(Wander(points=8), timeout=0.05)
    assert bench.column("fault") == ["", "", "", "late", "late", "", "", "", ""]
    assert bench.column("source") == ["policy"] * 3 + ["fallback"] * 2 + ["policy"] * 4
    assert bench.verify().verified


def test_a_result_of_an_earlier_point_never_steers() -> None:
    seen: list[int] = []

    def policy(results: Sequence[FakeResult], situation: Situation) -> Choice:
        seen.append(len(situation.measured))
        return Continue()

    bench = Bench(lambda n: GOOD if n != 4 else None)
    bench.run(Scripted(policy), timeout=0.01)
    assert seen == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REJECTED, Outcome.TIMEOUT, Outcome.SUPERSEDED])
def test_wrong_results_are_ignored_and_recorded(outcome: Outcome) -> None:
    bad = FakeResult(outcome=outcome, target_sigma=0.0)
    bench = Bench(lambda n: bad if n in (2, 3) else GOOD)
    result = bench.run(Wander(points=6, sigma=1.0))
    assert bench.column("fault")[2:4] == [outcome, outcome]
    assert bench.column("source")[2:4] == ["fallback", "fallback"]
    assert bench.column("analysis_event_uid")[2:4] == ["", ""]
    assert result["reason"] == "budget"
    assert result["points_used"] == result["points"] - 2


def test_a_policy_that_raises_costs_no_point() -> None:
    def broken(results: Sequence[FakeResult], situation: Situation) -> Choice:
        if len(situation.measured) == 3:
            raise ZeroDivisionError("a bug")
        return Continue()

    bench = Bench()
    bench.run(Scripted(broken))
    assert bench.analysis.positions() == POSITIONS
    assert bench.column("choice")[3] == "broken"
    assert bench.column("choice_reason")[3] == "ZeroDivisionError: a bug"
    assert bench.column("source")[3] == "fallback"


@pytest.mark.parametrize("junk", [None, 0.5, Proposal(None), "stop"])  # pyright: ignore[reportArgumentType]
def test_a_policy_that_returns_no_choice_costs_no_point(junk: Any) -> None:
    bench = Bench()
    bench.run(Scripted(lambda _, __: junk))
    assert bench.analysis.positions() == POSITIONS
    assert set(bench.column("choice")) == {"broken"}


@dataclass(frozen=True)
class Undecided:
    """Raises, or has no point to propose."""

    name: ClassVar[str] = "undecided"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "fake"

    reason: str

    def __call__(self, results: Sequence[FakeResult], situation: Situation, /) -> Choice:
        if not self.reason:
            raise ZeroDivisionError("a bug")
        return Continue(self.reason)


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("", "policy_failed"),
        ("no exposure is known", "scan_complete"),
        ("model_misfit", "model_misfit"),
    ],
)
def test_an_analysis_that_was_there_is_not_called_lost(reason: str, end: str) -> None:
    bench = Bench()
    result = bench.run(Undecided(reason))
    assert bench.analysis.positions() == POSITIONS
    assert result["reason"] == end
    assert set(bench.column("reason")[:-1]) == {reason or "broken policy"}
    assert set(bench.column("choice_reason")) == {reason or "ZeroDivisionError: a bug"}
    assert bench.verify(Policies(FakeResult, (Undecided,))).verified


BAD = [
    (Action(math.nan, 1.0), "finite"),
    (Action(math.inf, 1.0), "finite"),
    (Action("0.5", 1.0), "finite"),  # pyright: ignore[reportArgumentType]
    (Action(1.5, 1.0), "user_limits"),
    (Action(-0.1, 1.0), "user_limits"),
    (Action(0.5, -1.0), "count_time"),
    (Action(0.5, 100.0), "count_time"),
    (Action(0.95, 1.0), "step"),
]


@pytest.mark.parametrize(("action", "rule"), BAD)
def test_what_the_guard_refuses_is_recorded_and_not_moved_to(action: Action, rule: str) -> None:
    limits = Limits(position=(0.0, 1.0), count_time=(0.1, 10.0), step=0.5)
    bench = Bench()

    def policy(results: Sequence[FakeResult], situation: Situation) -> Choice:
        return Proposal(action) if len(situation.measured) == 2 else Continue()

    bench.run(Scripted(policy), limits=limits)
    assert bench.axis.sent == POSITIONS
    decision = bench.analysis.decisions()[2]
    assert (decision["guard_rule"], decision["source"], decision["reason"]) == (rule, "guard", rule)
    assert decision["guard_message"]
    assert decision["executed_position"] == POSITIONS[2]


def test_a_fixed_scan_out_of_its_limits_is_refused_before_anything_moves() -> None:
    bench = Bench()
    bench.axis.limits = (0.0, 0.45)
    with pytest.raises(RefusedError, match=r"device_limits: position 0\.5"):
        bench.run(Wander(points=3))
    assert bench.axis.sent == []
    assert bench.analysis.raw == []


def test_without_any_limits_nothing_moves() -> None:
    bench = Bench()
    bench.axis.limits = (0.0, 0.0)
    with pytest.raises(RefusedError, match="device_limits_unknown"):
        bench.run(Wander(points=3), limits=Limits())
    assert bench.axis.sent == []


def test_limits_that_change_between_decision_and_move_stop_the_move() -> None:
    bench = Bench()

    class Narrowing(FakeAnalysis):
        def __call__(self, name: str, doc: dict[str, Any]) -> None:
            super().__call__(name, doc)
            if name == "event" and doc["data"].get("decision_seq") == 3:
                bench.axis.limits = (0.0, bench.axis.sent[-1])  # the decision is written, the move not made

    bench.analysis = Narrowing(lambda _: GOOD)
    bench.engine = engine(bench.analysis)
    up = Scripted(lambda _, situation: Proposal(Action(0.1 + 0.01 * len(situation.measured), 1.0)))
    result = bench.run(up)
    assert bench.axis.sent[:2] == [0.1, 0.11]
    assert max(bench.axis.sent) == 0.11
    assert bench.column("fault")[3] == "refused"
    assert bench.column("source")[3] == "guard"
    # the fixed scan goes on where it may, until it may not: then the plan stops by itself
    assert result["reason"] == "guard"
    assert len(bench.analysis.events("primary")) == result["points"]


def answering(bench: Bench, verbs: list[str]) -> Callable[[], None]:
    def work() -> None:
        for verb in verbs:
            (ticket,) = bench.gate.wait_pending(PATIENT)
            bench.gate.answer(ticket.uid, ticket.nonce, verb, operator="ada", comment="seen")

    return work


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
    records = [DecisionRecord.from_data(event["data"]) for event in bench.analysis.events("decision")]
    records[1] = replace(records[1], answer="refused before")
    last = None
    for event, record in zip(bench.analysis.events("decision"), records, strict=True):
        last = record.chained(last)
        event["data"] = last.data()
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


def test_the_same_seed_gives_the_same_decisions_and_another_seed_others() -> None:
    def decisions(seed: int) -> list[dict[str, Any]]:
        bench = Bench()
        bench.run(Wander(points=5), seed=seed)
        return [scalars(decision) for decision in bench.analysis.decisions()]

    assert decisions(1) == decisions(1)
    assert decisions(1) != decisions(2)


def test_a_stored_run_verifies() -> None:
    bench = Bench(lambda n: None if n == 3 else FakeResult(outcome=Outcome.FAILED) if n == 5 else GOOD)
    bench.run(Wander(points=9), timeout=0.01, pace=Pace(1.0, 2.0))
    report = bench.verify()
    assert report.differences == ()
    assert report.decisions == len(bench.analysis.decisions())


TAMPERED = [
    ("executed_position", 0.123),
    ("proposed_position", 0.123),
    ("gain", 9.0),
    ("source", "human"),
    ("reason", "operator"),
    ("guard_rule", "user_limits"),
    ("spent", 0.0),
    ("fault", "late"),
    ("target_sigma", 0.1),
    ("operator", "ada"),
    ("t_decided", 0.0),
    ("uid", "another"),
]


@pytest.mark.parametrize(("name", "value"), TAMPERED)
def test_a_decision_that_was_changed_after_the_run_is_found(name: str, value: Any) -> None:
    bench = Bench()
    bench.run(Wander(points=5))
    assert bench.verify().verified
    event = bench.analysis.events("decision")[2]
    event["data"][f"decision_{name}"] = value
    report = bench.verify()
    assert not report.verified
    assert 3 in {difference.seq for difference in report.differences}


FORGED = [
    *TAMPERED[:8],
    ("executed_count_time", 2.0),
    ("choice", "stop"),
    ("raw_seq_num", 3),
    ("action", "stop"),
]


@pytest.mark.parametrize(("name", "value"), FORGED)
def test_a_forged_decision_is_found_even_when_the_chain_is_forged_with_it(name: str, value: Any) -> None:
    bench = Bench()
    bench.run(Wander(points=5))
    records = [DecisionRecord.from_data(event["data"]) for event in bench.analysis.events("decision")]
    records[2] = replace(records[2], **{name: value})
    last = None
    for event, record in zip(bench.analysis.events("decision"), records, strict=True):
        last = record.chained(last)
        event["data"] = last.data()
    differences = bench.verify().differences
    assert 3 in {difference.seq for difference in differences}
    assert "chain_sha256" not in {difference.field for difference in differences}


def test_uids_of_events_may_be_rewritten_by_a_store() -> None:
    bench = Bench()
    bench.run(Wander(points=3))
    for name, doc in (*bench.analysis.raw, *bench.analysis.documents):
        if name == "event":
            doc["uid"] = f"event-{doc['descriptor']}-{doc['seq_num']}"
    assert bench.verify().verified


def test_the_analysis_of_another_point_is_found() -> None:
    bench = Bench()
    bench.run(Wander(points=3))
    event = [doc for name, doc in bench.analysis.documents if name == "event"][1]
    event["data"]["raw_seq_num"] = 1
    assert "analysis_seq_num" in {d.field for d in bench.verify().differences}
    bench.analysis.documents = [pair for pair in bench.analysis.documents if pair[1] is not event]
    assert "not stored" in {d.recomputed for d in bench.verify().differences}


def test_a_result_that_was_changed_after_the_run_is_found() -> None:
    bench = Bench(lambda n: replace(GOOD, target_sigma=4.0 / n))
    bench.run(Wander(points=50, sigma=1.0))
    event = [doc for name, doc in bench.analysis.documents if name == "event"][3]
    event["data"]["fake_target_sigma"] = 2.0
    assert {d.field for d in bench.verify().differences} >= {"choice", "action"}


def test_a_point_that_was_removed_or_moved_is_found() -> None:
    bench = Bench()
    bench.run(Wander(points=5))
    bench.analysis.events("primary")[2]["data"]["x"] += 0.5
    assert [d.field for d in bench.verify().differences] == ["x of point 3"]
    last = bench.analysis.events("primary")[-1]
    bench.analysis.raw = [pair for pair in bench.analysis.raw if pair[1] is not last]
    assert "points" in {d.field for d in bench.verify().differences}


def without(key: str) -> Callable[[Bench], None]:
    def damage(bench: Bench) -> None:
        for _, doc in (*bench.analysis.raw, *bench.analysis.documents):
            for part in (doc, doc.get("data", {}), doc.get("adaptive", {})):
                part.pop(key, None)

    return damage


def without_descriptors(bench: Bench) -> None:
    bench.analysis.raw = [pair for pair in bench.analysis.raw if pair[0] != "descriptor"]


def with_other_parameters(bench: Bench) -> None:
    bench.analysis.raw[0][1]["adaptive"]["parameters"] = {"colour": 3}


KEYS = [
    *("policy", "technique", "fixed", "limits", "axis", "uid", "seq_num", "data", "raw_stream"),
    *("fake_target", "decision_fault", "descriptor"),
]


@pytest.mark.parametrize("damage", [*map(without, KEYS), without_descriptors, with_other_parameters])
def test_a_damaged_run_is_one_readable_error(damage: Callable[[Bench], None]) -> None:
    bench = Bench()
    bench.run(Wander(points=3))
    damage(bench)
    with pytest.raises(DataError, match=r"^the stored run is damaged or not complete \(.*; mend: "):
        bench.verify()


def test_a_scan_at_one_position_may_be_read_back_with_rounding_and_not_elsewhere() -> None:
    bench = Bench()
    bench.run(Undecided("stays"), fixed=(Action(0.1, 1.0),) * 3)
    policies = Policies(FakeResult, (Undecided,))
    point = bench.analysis.events("primary")[1]["data"]
    point["x"] = float(np.float32(0.1))
    assert point["x"] != 0.1
    assert bench.verify(policies).verified
    for elsewhere in (0.101, math.nan):
        point["x"] = elsewhere
        assert [d.field for d in bench.verify(policies).differences] == ["x of point 2"]


def test_after_an_excursion_the_fixed_scan_fits_into_the_beam_time_that_is_left() -> None:
    course = Course(FIXED, limits=Limits(time=11.0), pace=Pace(overhead=0.1))
    measured = [Action(0.3, 4.0)]
    situation = course.situation(measured)
    left = course.left(situation)
    assert [action.position for action in left] == [p for p in POSITIONS if p != 0.3]
    total = situation.spent + course.pace.total(left, situation.position)
    assert total == pytest.approx(11.0)
    assert total <= 11.0
    assert len({action.count_time for action in left}) == 1


def test_repeated_positions_of_a_fixed_scan_are_each_measured() -> None:
    fixed = (Action(0.1, 1.0), Action(0.2, 1.0), Action(0.1, 1.0))
    bench = Bench()
    bench.run(Scripted(follow), fixed=fixed)
    assert bench.axis.sent == [0.1, 0.2, 0.1]
    assert [a.position for a in Course(fixed).left(Course(fixed).situation([Action(0.19, 1.0)]))] == [
        0.1,
        0.1,
    ]
