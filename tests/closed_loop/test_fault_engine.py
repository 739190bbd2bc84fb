"""An engine that breaks, hangs or dies costs its frame, which says so; the scan succeeds."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from dataclasses import replace
from typing import Any

import faulty
import pytest
import toy
from beam import analyzer, count, lines, one_by_one, scan
from fake_analysis import engine
from listener import Listener

from skyloop.callbacks import Analyzer
from skyloop.errors import DataError


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


def killed_in(runner: Any, moments: dict[int, str]) -> None:
    """Let the process of the engine die before, during or after some of the calls from now on."""
    exchange, numbers = runner._exchange, itertools.count(1)

    def kill() -> None:
        if runner.pid:
            os.kill(runner.pid, signal.SIGKILL)

    def exchanged(*message: Any) -> Any:
        moment = moments.get(next(numbers))
        beside = threading.Thread(target=kill)
        if moment == "before":
            kill()
        if moment == "during":
            beside.start()
        answer = exchange(*message)
        if moment == "during":
            beside.join()
        if moment == "after":
            kill()
        return answer

    runner._exchange = exchanged


@pytest.mark.parametrize("seed", [1, 2])
def test_killing_the_engine_at_random_points_loses_and_doubles_nothing(seed: int) -> None:
    values = [float(n) for n in range(1, 31)]
    dice = random.Random(seed)
    alone = dice.sample(range(1, 30), 12)  # waited for: there are at least as many calls
    calls, moments = dice.sample(range(1, 12), 2), dice.sample(["before", "during", "after"], 2)
    with analyzer("process") as analysis:
        runner: Any = analysis._runner
        killed_in(runner, dict(zip(calls, moments, strict=True)))

        def waited() -> None:
            assert analysis.flush(30)

        raw, listener = scan(analysis, one_by_one(values, after=dict.fromkeys(alone, waited)))
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
            monkeypatch.setattr("subprocess.Popen", gone)
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
