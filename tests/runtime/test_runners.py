from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy

from skyloop.errors import ConfigError
from skyloop.runtime.guarded import Broken
from skyloop.runtime.runners import LocalRunner, Runner
from skyloop.runtime.worker import DeadlineError, WorkerDiedError, WorkerRunner

BATCHES = [[1.0], [2.0, 3.0], [4.0]]


@pytest.fixture(params=["local", "worker"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    engine = toy.Engine(toy.Config())
    made = LocalRunner(engine) if request.param == "local" else WorkerRunner(engine, deadline=20.0)
    yield made
    made.close()


@pytest.fixture
def worker() -> Iterator[WorkerRunner]:
    made = WorkerRunner(toy.Engine(toy.Config()), deadline=20.0)
    yield made
    made.close()


def straight(batches: list[list[float]]) -> toy.Result:
    engine = toy.Engine(toy.Config())
    state, results = engine.start(0), []
    for batch in batches:
        state, result = engine.step(state, batch)
        results.append(result)
    return results[-1]


def same(a: toy.Result, b: toy.Result) -> bool:
    return (a.mean, a.values, a.folds) == (b.mean, b.values, b.folds)


def test_a_runner_folds_each_batch_once(runner: Runner) -> None:
    for count in (1, 2, 3):
        assert same(runner.step("run", BATCHES[:count]), straight(BATCHES[:count]))


def test_a_forgotten_run_is_folded_again_to_the_same_result(runner: Runner) -> None:
    first = runner.step("run", BATCHES)
    runner.forget("run")
    assert same(runner.step("run", BATCHES), first)


def test_interleaved_runs_do_not_touch_each_other(runner: Runner) -> None:
    runner.step("a", BATCHES[:1])
    runner.step("b", [[100.0]])
    assert same(runner.step("a", BATCHES[:2]), straight(BATCHES[:2]))


@pytest.mark.parametrize("fault", [toy.RAISES, toy.EXITS])
def test_a_batch_that_raises_leaves_the_run_as_it_was(runner: Runner, fault: float) -> None:
    runner.step("run", BATCHES[:1])
    broken = runner.step("run", [*BATCHES[:1], [fault]])
    assert isinstance(broken, Broken)
    assert broken.reason
    assert same(runner.step("run", BATCHES[:2]), straight(BATCHES[:2]))


def test_finish_does_not_depend_on_the_batches(runner: Runner) -> None:
    assert same(runner.finish("a", BATCHES), runner.finish("b", [[1.0, 2.0, 3.0, 4.0]]))


def test_a_killed_worker_is_replaced_and_gives_the_same_numbers(worker: WorkerRunner) -> None:
    worker.step("run", BATCHES[:2])
    os.kill(worker.pid, signal.SIGKILL)
    assert same(worker.step("run", BATCHES), straight(BATCHES))
    assert worker.restarts == 1


def test_a_frame_that_kills_the_worker_every_time_is_given_up(worker: WorkerRunner) -> None:
    broken = worker.step("run", [[toy.DIES]])
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, WorkerDiedError)
    assert same(worker.step("run", BATCHES), straight(BATCHES))


def test_a_hanging_engine_is_ended_at_its_deadline() -> None:
    worker = WorkerRunner(toy.Engine(toy.Config()), deadline=0.5)
    broken = worker.step("run", [[toy.HANGS]])
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, DeadlineError)
    assert same(worker.step("run", BATCHES), straight(BATCHES))
    worker.close()


def test_a_worker_leaves_it_to_its_parent_when_to_end(worker: WorkerRunner) -> None:
    """A service manager tells every process of a service to end, the worker before the last frame is done."""
    pid = worker.pid
    os.kill(pid, signal.SIGTERM)
    assert same(worker.step("run", BATCHES), straight(BATCHES))
    assert (worker.pid, worker.restarts) == (pid, 0)


def test_a_forked_copy_of_a_runner_leaves_the_worker_to_its_parent(
    worker: WorkerRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = worker._child
    assert child is not None
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -1)
        child.end()
    assert same(worker.step("run", BATCHES), straight(BATCHES))
    assert worker.restarts == 0
    child._process.kill()
    child._process.wait()


def test_closing_ends_the_process(worker: WorkerRunner) -> None:
    pid = worker.pid
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_that_nobody_holds_takes_its_process_with_it() -> None:
    worker = WorkerRunner(toy.Engine(toy.Config()))
    pid = worker.pid
    assert pid
    del worker
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_closing_while_the_process_starts_leaves_none_behind(
    worker: WorkerRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    started, popen = list[subprocess.Popen[bytes]](), subprocess.Popen

    def closing(*args: Any, **given: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **given))
        worker.close()  # as from another thread
        return started[-1]

    monkeypatch.setattr("subprocess.Popen", closing)
    assert isinstance(worker.step("run", BATCHES), Broken)
    monkeypatch.undo()
    assert worker.pid == 0
    assert [child.poll() is not None for child in started] == [True]


def test_an_engine_of_the_session_itself_is_refused_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.Engine, "__module__", "__main__")
    with pytest.raises(ConfigError, match="executor='thread'"):
        WorkerRunner(toy.Engine(toy.Config()))


def test_a_hanging_engine_ends_with_the_process_that_started_it() -> None:
    script = (
        "import sys, threading, time, toy\n"
        "from skyloop.runtime.worker import WorkerRunner\n"
        "worker = WorkerRunner(toy.Engine(toy.Config()), deadline=600.0)\n"
        "threading.Thread(target=worker.step, args=('run', [[toy.HANGS]]), daemon=True).start()\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    path = os.pathsep.join(sys.path)
    command, environment = [sys.executable, "-c", script], os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    ended = time.monotonic() + 30.0
    while alive(child) and time.monotonic() < ended:
        os.sched_yield()
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
