"""What was changed in a stored run is found, and what a store may change is not held against it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_analysis import FakeResult, Wander
from steered import GOOD, Bench, Undecided, forge

from skyloop.errors import DataError, Outcome
from skyloop.plans import Action, Pace, Policies


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
    forge(bench, 3, **{name: value})
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
