"""While the analysis or the policy is late, wrong or gone, the fixed scan is measured and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fake_analysis import FakeAnalysis, FakeResult, Wander, engine
from steered import FIXED, GOOD, POSITIONS, Bench, Scripted, Undecided, follow, left_of

from skyloop.errors import Outcome
from skyloop.plans import Choice, Continue, Course, Policies, Proposal, Situation


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
