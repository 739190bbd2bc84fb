"""What can go wrong, row by row: the scan succeeds, the documents tell the outcome, one line says why."""

from __future__ import annotations

import copy
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import faulty
import pytest
import toy
from beam import analyzer, count, one_by_one
from event_model import pack_event_page
from fake_analysis import engine
from listener import Listener

from skyloop.callbacks import Analyzer
from skyloop.errors import DataError

Documents = list[tuple[Any, Any]]


def scan(analysis: Analyzer, plan: Any) -> tuple[Listener, Listener]:
    """Raw and analysis documents of a plan, which must not notice that there is an analysis."""
    raw, listener = Listener(), Listener()
    sink = analysis.subscribe(listener)
    result = engine(analysis, raw)(plan)
    assert result.exit_status == "success"
    assert analysis.flush(60)
    assert sink.failed == 0
    assert analysis.health.faults == ()
    return raw, listener


def play(analysis: Analyzer, docs: Documents) -> Listener:
    """Analysis documents of raw documents, however damaged."""
    listener = Listener()
    analysis.subscribe(listener)
    before = copy.deepcopy(docs)
    for name, doc in docs:
        analysis(name, doc)
    assert analysis.flush(60)
    assert docs == before
    assert analysis.health.faults == ()
    return listener


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the user sees of us."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("skyloop") and record.levelno >= logging.WARNING
    ]


# malformed documents, order -------------------------------------------------------------------------


def without(doc: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in doc.items() if k != key}


MALFORMED: dict[str, Callable[[Documents], tuple[Any, Any]]] = {
    "unknown name": lambda docs: ("evnt", docs[2][1]),
    "no dictionary": lambda docs: ("event", [1, 2]),
    "no name": lambda docs: (None, docs[2][1]),
    "no uid": lambda docs: ("event", without(docs[2][1], "uid")),
    "uid is a path": lambda docs: ("event", docs[2][1] | {"uid": "../../etc/passwd"}),
    "seq_num -5": lambda docs: ("event", docs[2][1] | {"uid": "u", "seq_num": -5}),
    "time is no time": lambda docs: ("event", docs[2][1] | {"uid": "u", "time": float("nan")}),
    "time is huge": lambda docs: ("event", docs[2][1] | {"uid": "u", "time": 10**400}),
    "undeclared key": lambda docs: ("event", docs[2][1] | {"uid": "u", "data": {"y": 1.0}}),
    "missing data": lambda docs: ("event", docs[2][1] | {"uid": "u", "data": {}, "timestamps": {}}),
    "uid used twice": lambda docs: ("event", docs[2][1] | {"seq_num": 7}),
    "torn page": lambda docs: ("event_page", {"uid": ["a"], "descriptor": docs[1][1]["uid"]}),
    "second start": lambda docs: ("start", docs[0][1] | {"plan_name": "another"}),
    "second descriptor": lambda docs: ("descriptor", docs[1][1] | {"name": "another"}),
    "wrong axes": lambda docs: ("event", docs[2][1] | {"uid": "u", "data": {"x": [[1.0]]}}),
}


@pytest.mark.parametrize("fault", MALFORMED)
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_malformed_document_is_put_aside_with_its_reason_and_the_run_goes_on(
    fault: str, executor: str, caplog: pytest.LogCaptureFixture
) -> None:
    docs: Documents = toy.raw_run([1.0, 3.0])
    docs.insert(3, MALFORMED[fault](docs))
    with analyzer(executor) as analysis:
        run = play(analysis, docs).run()
        assert sum(analysis.health.quarantined.values()) == 1
    assert sorted(run.spots()) == [1, 2]
    assert set(run.outcomes().values()) <= {"ok", "superseded"}
    assert run.final().mean == 2.0
    (line,) = lines(caplog)
    (reason,) = analysis.health.quarantined
    assert reason
    assert reason in line
    assert "\n" not in line


def test_the_reason_of_a_thousand_bad_documents_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    docs: Documents = toy.raw_run([1.0])
    bad = [("event", docs[2][1] | {"uid": f"u{n}", "seq_num": 0}) for n in range(1000)]
    with analyzer("inline") as analysis:
        run = play(analysis, [*docs[:3], *bad, docs[-1]]).run()
    assert sum(analysis.health.quarantined.values()) == 1000
    assert len(lines(caplog)) == 1
    assert run.stream("summary")[0]["data"]["quarantined"] == 1000


def test_events_ahead_of_their_descriptor_are_analysed_when_it_comes() -> None:
    docs = toy.raw_run([1.0, 2.0, 6.0])
    docs = [docs[2], docs[0], docs[3], docs[1], *docs[4:]]
    with analyzer("inline") as analysis:
        run = play(analysis, docs).run()
    assert sorted(run.spots()) == [1, 2, 3]
    assert run.final().mean == 3.0


@pytest.mark.parametrize("seed", range(5))
def test_the_final_result_does_not_depend_on_the_order_of_the_events(seed: int) -> None:
    docs = toy.raw_run([0.1, 0.2, 0.7, 1e-9, 5.0])
    middle = docs[2:-1]
    random.Random(seed).shuffle(middle)
    with analyzer("inline") as ordered, analyzer("inline") as shuffled:
        a = play(ordered, docs).run()
        b = play(shuffled, [*docs[:2], *middle, docs[-1]]).run()
    assert sorted(b.spots()) == a.spots()
    assert (b.final().mean, b.final().values) == (a.final().mean, 5)


def test_an_event_after_the_stop_is_put_aside_and_nothing_is_written_after_the_stop() -> None:
    docs = toy.raw_run([1.0, 2.0])
    with analyzer("inline") as analysis:
        listener = play(analysis, [*docs[:3], docs[-1], docs[3]])
    assert listener.run().spots() == [1]
    (reason,) = analysis.health.quarantined
    assert "has stopped" in reason


def test_pages_give_the_same_documents_bit_for_bit() -> None:
    values = [0.1, 0.2, toy.RAISES, 0.7, "text", 1e-300]
    docs = toy.raw_run(values)
    events: list[Any] = [doc for name, doc in docs if name == "event"]
    page: Any = ("event_page", dict(pack_event_page(*events)))
    pages: Any = [("event_page", dict(pack_event_page(event))) for event in events]

    def results(given: Any) -> Any:
        # one document at a time, so that the batches of the engine are the same
        with analyzer("inline") as analysis:
            found = play(analysis, given).run()
        return (
            found.start["uid"],
            [
                {k: v for k, v in event["data"].items() if not k.endswith("_seconds")}
                for event in found.events
            ],
            [event["uid"] for event in found.events],
        )

    singles = repr(results(docs))
    assert repr(results([*docs[:2], *pages, docs[-1]])) == singles
    with analyzer("inline") as analysis:
        whole = play(analysis, [*docs[:2], page, docs[-1]]).run()
        assert sorted(whole.spots()) == [1, 2, 3, 4, 5, 6]
    with analyzer("inline") as analysis:
        assert repr(play(analysis, docs).run().final()) == repr(whole.final())


# rewound points --------------------------------------------------------------------------------------


def again(number: int, value: Any, emission: str = "b") -> tuple[str, Any]:
    return "event", toy.event("raw-1", number, value, emission=emission)


@pytest.mark.parametrize("fault", [toy.RAISES, "text"])
@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_point_measured_again_that_cannot_be_analysed_leaves_no_old_value_behind(
    executor: str, fault: Any
) -> None:
    docs = toy.raw_run([1.0, 50.0, 3.0])
    docs.insert(4, again(2, fault))
    with analyzer(executor) as analysis:
        run = play(analysis, docs).run()
    assert sorted(run.spots()) == [1, 2, 2, 3]
    assert (run.final().mean, run.final().values) == (2.0, 2)


def test_a_bad_point_beside_one_measured_again_costs_only_itself() -> None:
    technique, gated = faulty.gated()
    docs = toy.raw_run([1.0, 50.0, 3.0, toy.RAISES, 5.0])
    with analyzer("thread", technique) as analysis:
        listener = Listener()
        analysis.subscribe(listener)
        gated.gate.set()
        for item in docs[:5]:
            analysis(*item)
            assert analysis.flush(30)
        gated.gate.clear()
        gated.entered.clear()
        analysis(*again(1, 1.0))  # holds the engine, while the next two come in together
        assert gated.entered.wait(30)
        analysis(*again(2, 2.0))
        analysis(*docs[5])
        gated.gate.set()
        assert analysis.flush(30)
        for item in docs[6:]:
            analysis(*item)
        assert analysis.flush(30)
    run = listener.run()
    assert run.spots() == [1, 2, 3, 1, 2, 4, 5]
    outcomes = [str(result.outcome) for result in run.results()]
    assert outcomes == ["ok", "ok", "ok", "ok", "ok", "failed", "ok"]
    assert run.results()[-1].mean == run.final().mean == 2.75
    assert run.final().values == 4


def test_a_point_measured_again_while_it_waits_gives_each_emission_its_result() -> None:
    technique, gated = faulty.gated()
    with analyzer("thread", technique) as analysis:
        listener = Listener()
        analysis.subscribe(listener)
        docs = toy.raw_run([1.0, 50.0, 3.0])
        for item in docs[:3]:
            analysis(*item)
        assert gated.entered.wait(30)
        for item in (docs[3], again(2, 2.0), *docs[4:]):
            analysis(*item)
        key = ("raw-1", "primary", 2)
        future = analysis.inbox.future(key)
        gated.gate.set()
        assert analysis.flush(30)
        assert future.done()
    run = listener.run()
    assert sorted(run.spots()) == [1, 2, 2, 3]
    assert run.final().mean == 2.0


# faults of the analysis -------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [*faulty.ERRORS, faulty.NO_RESULT, faulty.NO_NUMBER, faulty.NO_PAIR])
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_an_engine_that_breaks_costs_its_frame_and_says_so(
    executor: str, frame: float, caplog: pytest.LogCaptureFixture
) -> None:
    with analyzer(executor, faulty.TECHNIQUE) as analysis:
        _, listener = scan(analysis, one_by_one([1.0, frame, 3.0], after={}))
    run = listener.run()
    assert run.spots() == [1, 2, 3]
    assert run.outcomes()[2] == "failed"
    error = faulty.ERRORS.get(frame)
    assert (error.__name__ if error else "engine") in run.reasons()[2] or not error
    assert run.reasons()[2]
    assert run.final().mean == 2.0
    assert run.stream("summary")[0]["data"]["not_analysed"] == 1
    assert any("point primary 2" in line for line in lines(caplog))


@pytest.fixture(scope="module")
def worker():
    with analyzer("process", faulty.TECHNIQUE, deadline=1.0) as made:
        yield made


@pytest.mark.parametrize(
    "frame", [*faulty.ERRORS, faulty.NO_RESULT, faulty.NO_NUMBER, faulty.NO_PAIR, toy.DIES]
)
def test_an_engine_that_breaks_in_its_own_process_costs_its_frame_and_says_so(
    worker: Analyzer, frame: float, caplog: pytest.LogCaptureFixture
) -> None:
    _, listener = scan(worker, count([1.0, frame, 3.0]))
    run = listener.run()
    assert sorted(run.spots()) == [1, 2, 3]
    assert run.outcomes()[2] == "failed"
    assert run.reasons()[2]
    assert run.final().mean == 2.0
    assert any("point primary 2" in line for line in lines(caplog))


def test_an_engine_that_hangs_is_ended_and_the_frame_is_a_timeout(worker: Analyzer) -> None:
    _, listener = scan(worker, count([1.0, toy.HANGS, 3.0]))
    run = listener.run()
    assert sorted(run.spots()) == [1, 2, 3]
    assert run.outcomes()[2] == "timeout"
    assert "1 s" in run.reasons()[2]
    assert run.final().mean == 2.0


@pytest.mark.parametrize(
    "error",
    [DataError, ValueError, SystemExit, ReferenceError, MemoryError, KeyboardInterrupt, StopIteration],
)
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_frame_that_cannot_be_made_is_a_result_that_says_why(
    executor: str, error: type[BaseException]
) -> None:
    technique = replace(toy.TECHNIQUE, frame_of=faulty.broken_frames(error))
    with analyzer(executor, technique) as analysis:
        _, listener = scan(analysis, count([1.0, -1.0, 3.0]))
    run = listener.run()
    assert run.outcomes()[2] == ("rejected" if error is DataError else "failed")
    assert "on demand" in run.reasons()[2]
    assert run.final().mean == 2.0


def test_a_frame_that_cannot_travel_to_the_engine_is_a_result_that_says_why() -> None:
    def frame_of(point: Any) -> Any:
        frame = toy.frame_of(point)
        return (lambda: frame) if frame == 2.0 else frame

    technique = replace(toy.TECHNIQUE, frame_of=frame_of)
    with analyzer("process", technique) as analysis:
        _, listener = scan(analysis, count([1.0, 2.0, 3.0]))
    run = listener.run()
    assert sorted(run.spots()) == [1, 2, 3]
    assert run.outcomes()[2] == "failed"
    assert "pickle" in run.reasons()[2]
    assert run.final().mean == 2.0


def test_a_technique_that_chooses_its_keys_wrongly_is_told_as_a_fault_and_the_scan_goes_on() -> None:
    def wanted(descriptor: Any) -> set[str]:
        raise ValueError("on demand")

    technique = replace(toy.TECHNIQUE, wanted=wanted)
    with analyzer("inline", technique) as analysis:
        listener = Listener()
        analysis.subscribe(listener)
        assert engine(analysis)(count([1.0, 3.0])).exit_status == "success"
        assert analysis.flush(10)
        assert analysis.health.faults  # a bug of the technique, told as what it is


# the process of the engine ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_killing_the_engine_at_random_points_loses_and_doubles_nothing(seed: int) -> None:
    values = [float(n) for n in range(1, 31)]
    dice = random.Random(seed)
    when = {number: dice.random() * 0.05 for number in dice.sample(range(1, 30), 2)}
    with analyzer("process") as analysis:
        runner: Any = analysis._runner

        def kill(delay: float) -> Callable[[], None]:
            def now() -> None:
                time.sleep(delay)  # anywhere in the course of a step: the seed chooses, nothing waits for it
                if runner.pid:
                    os.kill(runner.pid, signal.SIGKILL)

            return now

        raw, listener = scan(
            analysis, one_by_one(values, after={n: kill(delay) for n, delay in when.items()})
        )
        assert runner.restarts >= 1
    run = listener.run()
    assert run.spots() == [event["seq_num"] for event in raw.of("event")]
    assert set(run.outcomes().values()) <= {"ok", "superseded"}
    assert run.final().mean == sum(values) / len(values)
    assert run.stop is not None
    assert run.stop["exit_status"] == "success"


def test_an_engine_that_can_not_be_started_again_fails_its_frames_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with analyzer("process") as analysis:
        runner: Any = analysis._runner

        def gone(*_: Any, **__: Any) -> Any:
            raise OSError("Resource temporarily unavailable")

        def no_more() -> None:
            assert analysis.flush(30)
            monkeypatch.setattr("skyloop.runtime.worker.subprocess.Popen", gone)
            os.kill(runner.pid, signal.SIGKILL)

        _, listener = scan(analysis, one_by_one([1.0, 2.0, 3.0], after={1: no_more}))
        monkeypatch.undo()
    run = listener.run()
    assert run.spots() == [1, 2, 3]
    assert run.outcomes() == {1: "ok", 2: "failed", 3: "failed"}
    assert "process" in run.reasons()[2]


def test_a_process_that_dies_while_it_starts_is_no_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with analyzer("process") as analysis:
        runner: Any = analysis._runner

        def dead_on_arrival() -> None:
            assert analysis.flush(30)
            monkeypatch.setattr("skyloop.runtime.worker.sys.executable", "/bin/false")
            os.kill(runner.pid, signal.SIGKILL)

        _, listener = scan(analysis, one_by_one([1.0, 2.0, 3.0], after={1: dead_on_arrival}))
        monkeypatch.undo()
    assert listener.run().spots() == [1, 2, 3]


def test_closing_while_the_engine_hangs_leaves_no_process_behind() -> None:
    analysis = analyzer("process")
    runner: Any = analysis._runner
    for item in toy.raw_run([1.0, toy.HANGS], stop=False):
        analysis(*item)
    assert not analysis.close(0.5)
    thread = analysis._crew.thread
    assert thread is not None
    thread.join(60)
    assert not thread.is_alive()
    assert runner.pid == 0


# runs that do not end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_closing_in_mid_run_ends_the_analysis_run_and_says_why(executor: str) -> None:
    listener = Listener()
    with analyzer(executor) as analysis:
        analysis.subscribe(listener)
        never = analysis.inbox.future(("raw-1", "primary", 9))
        for item in toy.raw_run([1.0, 3.0], stop=False):
            analysis(*item)
    run = listener.run()
    assert run.stop is not None
    assert run.stop["exit_status"] == "abort"
    assert "closed" in run.stop["reason"]
    assert run.final().mean == 2.0
    assert never.cancelled()


def test_runs_without_a_stop_or_without_a_start_leave_nothing_in_memory() -> None:
    with analyzer("inline", time_to_live=5.0) as analysis:
        pipeline = analysis._pipeline
        for number in range(300):
            docs = toy.raw_run([1.0, 2.0], f"run-{number}")
            for item in docs[:-1] if number % 3 else docs[1:]:
                analysis(*item)
        pipeline.expire(time.monotonic() + 1e6)
        assert pipeline._courses == {}
        assert pipeline._gate.open_runs == ()
        assert pipeline._gate.parked == 0
        assert pipeline._newest._times == {}
        assert pipeline._newest._streams == {}
        assert analysis._runner._states == {}  # type: ignore[attr-defined]


# clocks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_changes_no_result(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, shift = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: now() + shift[0])

    def leap() -> None:
        shift[0] += jump

    with analyzer("process", deadline=30.0, time_to_live=60.0) as analysis:
        raw, listener = scan(analysis, one_by_one([1.0, 2.0, 6.0], after={1: leap, 2: leap}))
    times = [event["time"] for event in raw.of("event")]
    assert abs(times[1] - times[0]) > 3000
    run = listener.run()
    assert set(run.outcomes().values()) <= {"ok", "superseded"}
    assert run.final().mean == 3.0
    assert run.stop is not None
    assert run.stop["exit_status"] == "success"


# after the end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_documents_after_closing_are_reported_and_raise_nothing(
    executor: str, caplog: pytest.LogCaptureFixture
) -> None:
    analysis = analyzer(executor)
    listener = Listener()
    analysis.subscribe(listener)
    assert analysis.close()
    result = engine(analysis)(count([1.0]))
    assert result.exit_status == "success"
    assert listener.docs == []
    assert any("closed" in line for line in lines(caplog))


def test_a_new_process_folds_a_long_run_again_with_the_deadline_of_one_step() -> None:
    values = [float(n) for n in range(1, 9)]
    sent: list[int] = []
    with analyzer("process") as analysis:
        runner: Any = analysis._runner

        def seen() -> None:
            assert analysis.flush(30)  # each point is a batch of its own

        def killed() -> None:
            seen()
            os.kill(runner.pid, signal.SIGKILL)
            exchange = runner._exchange

            def counted(message: Any, *rest: Any) -> Any:
                sent.append(len(message[3]))
                return exchange(message, *rest)

            runner._exchange = counted

        _, listener = scan(analysis, one_by_one(values, after=dict.fromkeys(range(1, 7), seen) | {7: killed}))
    assert max(sent) == 1
    assert sum(sent) >= len(values)
    assert listener.run().final().mean == 4.5
