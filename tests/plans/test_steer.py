"""A policy chooses the points of a run; each of them has its decision, and all of it is documented."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from event_model import DocumentNames, schema_validators
from fake_analysis import Wander, scalars
from steered import FIXED, GOOD, LIMITS, POSITIONS, Bench, Scripted, follow

from skyloop.plans import Action, Course


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


@pytest.mark.parametrize(("mode", "told"), [("shadow", 0), ("advise", 5), ("auto", 0)])
def test_advise_alone_tells_each_wish_once(mode: str, told: int, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(lambda n: replace(GOOD, target_sigma=4.0 / n))
    bench.run(Wander(points=50, sigma=1.0), mode=mode)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == told  # four points and, once, to stop
    assert all(line.startswith("advice: ") for line in lines)
    if lines:
        assert "Stop the measurement here" in lines[-1]
        assert not any("?" in line for line in lines)  # nobody is asked


def test_the_same_seed_gives_the_same_decisions_and_another_seed_others() -> None:
    def decisions(seed: int) -> list[dict[str, Any]]:
        bench = Bench()
        bench.run(Wander(points=5), seed=seed)
        return [scalars(decision) for decision in bench.analysis.decisions()]

    assert decisions(1) == decisions(1)
    assert decisions(1) != decisions(2)


def test_repeated_positions_of_a_fixed_scan_are_each_measured() -> None:
    fixed = (Action(0.1, 1.0), Action(0.2, 1.0), Action(0.1, 1.0))
    bench = Bench()
    bench.run(Scripted(follow), fixed=fixed)
    assert bench.axis.sent == [0.1, 0.2, 0.1]
    assert [a.position for a in Course(fixed).left(Course(fixed).situation([Action(0.19, 1.0)]))] == [
        0.1,
        0.1,
    ]
