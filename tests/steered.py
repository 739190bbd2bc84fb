"""What the tests of `steer` share: one run with everything around it, and policies for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from fake_analysis import PATIENT, POLICIES, Axis, FakeAnalysis, FakeResult, det, engine

from skyloop.plans import (
    Action,
    ApprovalGate,
    Choice,
    Continue,
    Course,
    Instrument,
    Limits,
    Policies,
    Situation,
    Steering,
    VerifyReport,
    steer,
    verify,
)
from skyloop.plans._decision import DecisionRecord

FIXED = tuple(Action(round(0.1 * i, 1), 1.0) for i in range(10))
POSITIONS = [action.position for action in FIXED]
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


def left_of(first: float) -> list[float]:
    """The fixed scan without the point that the first one stands for."""
    nearest = min(POSITIONS, key=lambda place: abs(place - first))
    return [place for place in POSITIONS if place != nearest]


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


def answering(bench: Bench, verbs: list[str]) -> Callable[[], None]:
    def work() -> None:
        for verb in verbs:
            (ticket,) = bench.gate.wait_pending(PATIENT)
            bench.gate.answer(ticket.uid, ticket.nonce, verb, operator="ada", comment="seen")

    return work


def forge(bench: Bench, seq: int, **changed: Any) -> None:
    """Change one decision, and the chain of all of them with it."""
    last = None
    for event in bench.analysis.events("decision"):
        record = DecisionRecord.from_data(event["data"])
        last = (replace(record, **changed) if record.seq == seq else record).chained(last)
        event["data"] = last.data()
