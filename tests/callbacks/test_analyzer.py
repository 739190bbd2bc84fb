from __future__ import annotations

import copy
import math
import os
import signal
from collections.abc import Iterator
from threading import Event
from typing import Any

import faulty
import numpy as np
import pytest
import toy
from event_model import DocumentNames, schema_validators

from skyloop.callbacks import Analyzer, Options
from skyloop.documents.schema import decode
from skyloop.errors import ConfigError, Outcome

EXECUTORS = ["inline", "thread", "process"]


class Record:
    """Keeps the documents it is given."""

    def __init__(self) -> None:
        self.docs: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.docs.append((name, doc))

    def names(self) -> list[str]:
        return [name for name, _ in self.docs]

    def of(self, stream: str) -> list[toy.Result]:
        streams = {doc["uid"]: doc["name"] for name, doc in self.docs if name == "descriptor"}
        return [
            decode(toy.Result, doc["data"], prefix="toy")
            for name, doc in self.docs
            if name == "event" and streams[doc["descriptor"]] == stream
        ]

    def stop(self) -> dict[str, Any]:
        return next(doc for name, doc in self.docs if name == "stop")

    def spots(self) -> list[int]:
        return [d["data"]["raw_seq_num"] for n, d in self.docs if n == "event" and "raw_seq_num" in d["data"]]


def analyzer(executor: str = "inline", **options: Any) -> Analyzer:
    return Analyzer(toy.TECHNIQUE, toy.Config(), Options(executor=executor, **options))  # type: ignore[arg-type]


@pytest.fixture(params=EXECUTORS)
def analysis(request: pytest.FixtureRequest) -> Iterator[Analyzer]:
    with analyzer(request.param, deadline=2.0) as made:
        yield made


def play(analysis: Analyzer, docs: list[tuple[str, dict[str, Any]]]) -> Record:
    record = Record()
    analysis.subscribe(record)
    for name, doc in docs:
        analysis(name, doc)
    assert analysis.flush(30.0)
    return record


def test_each_frame_leaves_exactly_one_result_and_all_documents_are_valid(analysis: Analyzer) -> None:
    record = play(analysis, toy.raw_run([1.0, 2.0, 3.0]))
    assert record.names() == ["start", "descriptor", "descriptor", *["event"] * 4, "stop"]
    assert record.spots() == [1, 2, 3]
    for name, doc in record.docs:
        schema_validators[DocumentNames[name]].validate(doc)
    assert record.of("summary")[0].mean == 2.0
    assert record.stop()["num_events"] == {"primary": 3, "summary": 1}
    assert not analysis.health.faults


def test_every_executor_gives_the_same_final_result() -> None:
    docs = toy.raw_run([1.5, 2.5, 4.0])
    finals = []
    for executor in EXECUTORS:
        with analyzer(executor) as analysis:
            record = play(analysis, docs)
            finals.append((record.docs[0][1]["uid"], record.of("summary")[0].mean))
    assert len(set(finals)) == 1


def test_raw_documents_are_not_changed(analysis: Analyzer) -> None:
    docs = toy.raw_run([1.0, 2.0])
    before = copy.deepcopy(docs)
    play(analysis, docs)
    assert docs == before


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(toy.RAISES, Outcome.FAILED), (toy.EXITS, Outcome.FAILED), ("text", Outcome.REJECTED)],
)
def test_a_frame_that_cannot_be_analysed_costs_only_itself(
    analysis: Analyzer, fault: object, outcome: Outcome
) -> None:
    record = play(analysis, toy.raw_run([1.0, fault, 3.0]))
    results = dict(zip(record.spots(), record.of("primary"), strict=True))
    assert results[2].outcome is outcome
    assert results[2].reason
    assert np.isnan(results[2].mean)
    assert record.of("summary")[0].mean == 2.0
    assert record.stop()["exit_status"] == "success"


def test_a_backlog_is_folded_in_one_step_whose_result_covers_all_its_frames() -> None:
    with analyzer("thread") as analysis:
        gate, entered = Event(), Event()
        step = analysis.engine.step

        def slow(state: toy.State, frames: list[float]) -> tuple[toy.State, toy.Result]:
            entered.set()
            gate.wait(30)
            return step(state, frames)

        analysis.engine.step = slow  # type: ignore[method-assign]
        docs = toy.raw_run([1.0, 2.0, 3.0, 4.0])
        record = Record()
        analysis.subscribe(record)
        for item in docs[:3]:
            analysis(*item)
        assert entered.wait(30)
        for item in docs[3:]:
            analysis(*item)
        gate.set()
        assert analysis.flush(30)
    results = record.of("primary")
    assert [r.outcome for r in results] == [
        Outcome.OK,
        Outcome.SUPERSEDED,
        Outcome.SUPERSEDED,
        Outcome.OK,
    ]
    assert results[-1].mean == 2.5
    assert results[-1].folds == 2
    assert "primary 4" in results[1].reason
    assert record.spots() == [1, 2, 3, 4]


def test_the_call_returns_at_once_while_the_engine_hangs_and_the_deadline_ends_it() -> None:
    with analyzer("process", deadline=1.0) as analysis:
        record = play(analysis, toy.raw_run([1.0, toy.HANGS, 3.0]))
    outcomes = dict(zip(record.spots(), record.of("primary"), strict=True))
    assert outcomes[2].outcome is Outcome.TIMEOUT
    assert record.of("summary")[0].mean == 2.0


def test_a_worker_killed_in_mid_run_is_not_noticed_in_the_results() -> None:
    docs = toy.raw_run([1.0, 2.0, 3.0])
    with analyzer("process") as analysis:
        record = Record()
        analysis.subscribe(record)
        for item in docs[:4]:
            analysis(*item)
        assert analysis.flush(30)
        os.kill(analysis._runner.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        for item in docs[4:]:
            analysis(*item)
        assert analysis.flush(60)
    assert {r.outcome for r in record.of("primary")} <= {Outcome.OK, Outcome.SUPERSEDED}
    assert record.of("primary")[-1].outcome is Outcome.OK
    assert record.of("summary")[0].mean == 2.0


def test_after_three_failures_in_a_row_the_engine_is_left_alone_and_the_run_says_so() -> None:
    with analyzer("inline") as analysis:
        record = play(analysis, toy.raw_run([1.0, *[toy.RAISES] * 3, 5.0]))
    last = record.of("primary")[-1]
    assert last.outcome is Outcome.FAILED
    assert "off after 3 failures" in last.reason
    assert record.of("summary")[0].outcome is Outcome.FAILED
    assert record.stop()["exit_status"] == "fail"


def test_a_point_measured_again_counts_once_with_its_newest_value(analysis: Analyzer) -> None:
    docs = toy.raw_run([1.0, 10.0, 3.0])
    docs.insert(4, ("event", toy.event("raw-1", 2, 2.0, emission="b")))
    record = play(analysis, docs)
    assert record.of("summary")[0].mean == 2.0
    assert sorted(record.spots()) == [1, 2, 2, 3]


def test_a_duplicated_event_is_absorbed(analysis: Analyzer) -> None:
    docs = toy.raw_run([1.0, 3.0])
    docs.insert(3, docs[2])
    record = play(analysis, docs)
    assert record.spots() == [1, 2]
    assert record.of("summary")[0].mean == 2.0


def test_a_plan_finds_the_result_of_its_point_in_the_inbox(analysis: Analyzer) -> None:
    future = analysis.inbox.future(("raw-1", "primary", 2))
    record = play(analysis, toy.raw_run([1.0, 3.0]))
    found = future.result(10)
    assert found.result.mean == 2.0 or found.result.outcome is Outcome.SUPERSEDED
    assert found.event_uid in {doc["uid"] for name, doc in record.docs if name == "event"}


def test_a_plan_is_not_given_the_result_of_a_point_that_is_measured_again() -> None:
    with analyzer("thread") as analysis:
        docs = toy.raw_run([1.0], stop=False)
        play(analysis, docs)
        key = ("raw-1", "primary", 1)
        assert analysis.inbox.future(key).result(10).result.mean == 1.0
        analysis("event", toy.event("raw-1", 1, 5.0, emission="b"))
        assert analysis.inbox.future(key).result(10).result.mean == 5.0


def test_what_waits_in_the_inbox_when_the_run_ends_is_cancelled(analysis: Analyzer) -> None:
    never = analysis.inbox.future(("raw-1", "primary", 99))
    play(analysis, toy.raw_run([1.0]))
    assert never.cancelled()


def test_interleaved_runs_are_analysed_apart(analysis: Analyzer) -> None:
    a, b = toy.raw_run([1.0, 3.0], "a"), toy.raw_run([10.0, 30.0], "b")
    mixed = [doc for pair in zip(a, b, strict=True) for doc in pair]
    record = play(analysis, mixed)
    starts = {d["uid"]: d["original_run_uid"] for n, d in record.docs if n == "start"}
    assert sorted(starts.values()) == ["a", "b"]
    assert sorted(r.mean for r in record.of("summary")) == [2.0, 20.0]


def test_a_run_without_a_frame_leaves_no_analysis(analysis: Analyzer) -> None:
    docs = toy.raw_run([1.0])
    docs[1][1]["data_keys"] = {"y": docs[1][1]["data_keys"]["x"]}
    docs[1][1]["object_keys"] = {"y": ["y"]}
    docs[2][1]["data"] = {"y": 1.0}
    docs[2][1]["timestamps"] = {"y": 1.0}
    assert play(analysis, docs).docs == []


@pytest.mark.parametrize("status", ["abort", "fail"])
def test_the_stop_of_the_raw_run_is_mirrored(analysis: Analyzer, status: str) -> None:
    docs = [
        *toy.raw_run([1.0], stop=False),
        ("stop", toy.stop_of("raw-1", 1, exit_status=status, reason="why")),
    ]
    stop = play(analysis, docs).stop()
    assert (stop["exit_status"], stop["reason"]) == (status, "why")


def test_a_run_without_a_stop_is_closed_after_its_time_to_live() -> None:
    with analyzer("inline", time_to_live=5.0) as analysis:
        record = play(analysis, toy.raw_run([1.0], stop=False))
        analysis._pipeline.expire(1e12)
        assert analysis.flush(10)
    assert record.stop()["exit_status"] == "abort"
    assert "no stop" in record.stop()["reason"]


def test_subscribed_in_mid_run_it_says_so_and_takes_the_next_run(analysis: Analyzer) -> None:
    late = toy.raw_run([1.0, 2.0], "early")[1:]
    record = play(analysis, [*late, *toy.raw_run([4.0], "next")])
    assert [r.mean for r in record.of("summary")] == [4.0]
    assert sum(analysis.health.quarantined.values()) >= 1
    assert not analysis.health.faults


@pytest.mark.parametrize(
    "junk", [("event", None), (None, {}), ("event", {"uid": 3}), ("nonsense", {}), (1, 2)]
)
def test_junk_is_put_aside_and_the_rest_goes_on(analysis: Analyzer, junk: tuple[Any, Any]) -> None:
    docs = toy.raw_run([1.0, 3.0])
    docs.insert(3, junk)
    record = play(analysis, docs)
    assert record.of("summary")[0].mean == 2.0
    assert sum(analysis.health.quarantined.values()) == 1
    assert not analysis.health.faults


def test_a_sink_that_raises_stops_nothing(analysis: Analyzer) -> None:
    def broken(name: str, doc: dict[str, Any]) -> None:
        raise SystemExit("no")

    analysis.subscribe(broken)
    record = play(analysis, toy.raw_run([1.0, 3.0]))
    assert record.of("summary")[0].mean == 2.0
    assert "no" in analysis.health.sinks[0]


def test_an_unknown_executor_is_refused_with_the_mend() -> None:
    with pytest.raises(ConfigError, match="inline, thread, process"):
        Options(executor="gpu")  # type: ignore[arg-type]


def test_a_run_whose_only_frame_hung_blames_the_analysis_and_not_the_data() -> None:
    with analyzer("process", deadline=0.5) as analysis:
        record = play(analysis, toy.raw_run([toy.HANGS]))
        assert analysis.health.failures == 2
    (last,) = record.of("summary")
    assert last.outcome is Outcome.FAILED
    assert last.reason.endswith("could be analysed; the last one: the analysis took longer than 0.5 s")
    event = next(doc["data"] for name, doc in record.docs if name == "event")
    assert event["compute_seconds"] >= 0.5
    assert event["queue_seconds"] > 0


def test_a_run_of_data_that_are_no_frame_blames_the_data() -> None:
    with analyzer() as analysis:
        record = play(analysis, toy.raw_run(["word"]))
    (last,) = record.of("summary")
    assert last.outcome is Outcome.REJECTED
    assert "the last one: x is 'word', not a number" in last.reason


def test_a_point_repeated_within_one_batch_is_not_folded_together_with_itself() -> None:
    technique, engine = faulty.gated()
    with Analyzer(technique, toy.Config(), Options(executor="thread")) as analysis:
        record = Record()
        analysis.subscribe(record)
        docs = toy.raw_run([1.0, 9.0])
        docs.insert(4, ("event", toy.event("raw-1", 2, 3.0, emission="b")))
        for item in docs[:3]:
            analysis(*item)
        assert engine.entered.wait(30)
        for item in docs[3:]:
            analysis(*item)
        engine.gate.set()
        assert analysis.flush(30)
    again = record.of("primary")[1]
    assert (again.outcome, again.reason) == (Outcome.SUPERSEDED, "the point was measured again")
    assert record.of("summary")[0].mean == 2.0


@pytest.mark.parametrize("name", ["deadline", "time_to_live"])
@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf, "60"])
def test_a_limit_that_is_no_time_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: found {value!r}; mend: give seconds above 0"):
        Options(**{name: value})


def test_a_deadline_that_the_system_cannot_wait_for_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^deadline: found 1e\+07; mend: give at most 2e\+06 s"):
        Options(deadline=1e7)
    with analyzer("process", deadline=2e6) as analysis:
        record = play(analysis, toy.raw_run([1.0]))
    assert record.of("primary")[0].outcome is Outcome.OK


@pytest.mark.parametrize("value", [0, -1, 1.5, "3"])
def test_a_number_of_failures_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^max_failures: found {value!r}; mend: a whole number above 0"):
        Options(max_failures=value)
