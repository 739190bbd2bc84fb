"""The life of an analysis: made, dropped, made again, and left open when the program ends."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faulty
import pytest
import toy
from beam import analyzer, count
from fake_analysis import engine
from listener import Listener

from skyloop.callbacks import Analyzer, Options
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import read_jsonl


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        os.sched_yield()
    return condition()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("skyloop")}


def named(name: str) -> Analyzer:
    return Analyzer(toy.TECHNIQUE, toy.Config(), Options(executor="thread"), name=name)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# dropped ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_an_analysis_that_nobody_holds_finishes_its_runs_and_leaves_no_process_and_no_thread(
    executor: str,
) -> None:
    before, heard = ours(), Listener()
    analysis = analyzer(executor)
    pid = analysis._runner.pid if executor == "process" else 0  # type: ignore[attr-defined]
    analysis.subscribe(heard)
    for item in toy.raw_run([1.0, 3.0], stop=False):
        analysis(*item)
    del analysis
    assert until(lambda: ours() <= before)
    assert not pid or gone(pid)
    run = heard.run()
    assert run.final().mean == 2.0
    assert run.stop is not None
    assert run.stop["exit_status"] == "abort"


def test_what_still_waits_when_an_analysis_is_dropped_is_analysed() -> None:
    technique, gated = faulty.gated()
    heard = Listener()
    analysis = analyzer("thread", technique)
    analysis.subscribe(heard)
    for item in toy.raw_run([1.0, 2.0, 6.0]):
        analysis(*item)
    assert gated.entered.wait(30)
    del analysis
    gated.gate.set()
    assert until(lambda: "stop" in heard.names())
    assert heard.run().final().mean == 3.0
    assert heard.run().stop == {**heard.docs[-1][1], "exit_status": "success"}


def test_making_an_analysis_again_and_again_keeps_one_process() -> None:
    pids: list[int] = []
    analysis = None
    for _ in range(3):
        analysis = analyzer("process")
        pids.append(analysis._runner.pid)  # type: ignore[attr-defined]
    assert until(lambda: all(gone(pid) for pid in pids[:-1]))
    assert analysis is not None
    assert not gone(pids[-1])
    assert analysis.close()
    assert gone(pids[-1])


def test_an_analysis_that_only_its_run_engine_holds_goes_on() -> None:
    heard = Listener()
    analysis = analyzer("thread")
    analysis.subscribe(heard)
    run_engine = engine(analysis)
    del analysis
    gc.collect()
    run_engine(count([1.0, 3.0]))
    assert until(lambda: "stop" in heard.names())
    assert heard.run().final().mean == 2.0


# made twice -------------------------------------------------------------------------------------------


def test_a_second_analysis_of_a_name_that_is_open_says_so_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with named("film") as first, named("film"), named("other"):
        (line,) = warnings_of(caplog)
        assert "'film' is open already" in line
        assert "mend: close the old one first" in line
        assert first.health.faults == ()


def test_an_analysis_of_the_name_of_a_closed_or_dropped_one_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = named("film")
    assert first.close()
    second = named("film")
    del second
    with named("film"), analyzer("thread"), analyzer("thread"):
        assert warnings_of(caplog) == []


def test_a_closed_analysis_takes_nothing_in(caplog: pytest.LogCaptureFixture) -> None:
    heard = Listener()
    shared = Sink(heard)
    for executor in ("inline", "thread"):
        analysis = analyzer(executor)
        analysis.subscribe(shared)
        assert analysis.close()
        for item in toy.raw_run([1.0]):
            analysis(*item)
        assert sum(analysis.health.quarantined.values()) == 4
        assert analysis._pipeline._open_runs == {}
        assert analysis._pipeline._newest._streams == {}
    assert shared.close()
    assert heard.docs == []
    assert len(warnings_of(caplog)) == 2


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_the_end_of_an_analysis_does_not_wait_for_a_store_that_others_share(executor: str) -> None:
    over, heard, kept = threading.Event(), Listener(), Listener()

    def slow(name: str, doc: dict[str, Any]) -> None:
        assert over.wait(60)
        kept(name, doc)

    store, analysis = Sink(slow), analyzer(executor)
    analysis.subscribe(store)
    analysis.subscribe(heard)
    for item in toy.raw_run([1.0]):
        analysis(*item)
    assert analysis.close()
    assert kept.docs == []
    over.set()
    assert store.close()
    assert kept.docs == heard.docs != []


@pytest.mark.parametrize("call", ["flush", "close"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_sink_that_waits_for_its_own_analysis_is_told_so_at_once(call: str, shared: bool) -> None:
    analysis = analyzer("thread")

    def waits(*_: object) -> None:
        getattr(analysis, call)(1000.0)

    given = analysis.subscribe(Sink(waits) if shared else waits)
    for item in toy.raw_run([1.0]):
        analysis(*item)
    assert analysis.close()
    assert given.close()
    assert f"RuntimeError: analysis.{call}() was called from within a sink" in given.last_failure


def test_what_the_analysis_calls_itself_must_not_wait_for_it(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    analysis = analyzer("thread")

    def waits(_: object) -> None:
        try:
            analysis.close(1000.0)
        except RuntimeError as error:
            told.append(str(error))

    analysis.inbox.future(("raw-1", "primary", 1)).add_done_callback(waits)
    for item in toy.raw_run([1.0]):
        analysis(*item)
    assert analysis.close()
    assert len(told) == 1
    assert "would wait for its own end" in told[0]


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_forked_process_leaves_the_analysis_to_its_parent(
    executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Listener()
    analysis = analyzer(executor)
    analysis.subscribe(heard)
    first, *rest = toy.raw_run([1.0, 3.0])
    analysis(*first)
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -1)
        for item in toy.raw_run([9.0], uid="of the child"):
            analysis(*item)
        assert analysis.flush(1000.0)
        assert analysis.close(1000.0)
    (reason,) = analysis.health.quarantined
    assert "in the process that this one was forked from" in reason
    for item in rest:
        analysis(*item)
    assert analysis.close()
    assert heard.run().final().mean == 2.0


# the end of the program -------------------------------------------------------------------------------

SCRIPT = """
import sys, threading
from pathlib import Path
import toy
from beam import analyzer
from skyloop.errors import UnavailableError
from skyloop.runtime import endings
from skyloop.storage.jsonl import JsonlWriter

def away(name, doc):
    raise UnavailableError("nobody answers")

def busy(name, doc):
    threading.Event().wait()

def main(executor, folder, values, stop, sink):
    analysis = analyzer(executor)
    analysis.subscribe(JsonlWriter(Path(folder)))
    if sink:
        analysis.subscribe({"away": away, "busy": busy}[sink])
    print(getattr(analysis._runner, "pid", 0), flush=True)
    for item in toy.raw_run(values, stop=stop):
        analysis(*item)
    return analysis
"""


def left_open(folder: Path, last: str) -> subprocess.CompletedProcess[str]:
    """Run a program that closes nothing; it hangs no longer than the test may wait."""
    return subprocess.run(
        [sys.executable, "-c", f"{SCRIPT}\n{last}\n"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def stored(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    (path,) = folder.glob("*.jsonl")
    return list(read_jsonl(path))


@pytest.mark.parametrize("kept", ["kept = ", ""])
@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_program_that_closes_nothing_leaves_complete_runs(executor: str, kept: str, tmp_path: Path) -> None:
    values = [float(n) for n in range(100)]
    done = left_open(tmp_path, f"{kept}main({executor!r}, {str(tmp_path)!r}, {values}, True, '')")
    docs = stored(tmp_path)
    assert [name for name, _ in docs][-2:] == ["event", "stop"]
    assert docs[-1][1]["exit_status"] == "success"
    assert docs[-1][1]["num_events"] == {"primary": 100, "summary": 1}
    assert docs[-2][1]["data"]["toy_mean"] == 49.5
    assert done.stderr == ""
    assert gone(int(done.stdout)) or not int(done.stdout)


def test_a_run_that_the_program_leaves_open_is_ended_with_its_summary(tmp_path: Path) -> None:
    left_open(tmp_path, f"kept = main('process', {str(tmp_path)!r}, [1.0, 3.0], False, '')")
    docs = stored(tmp_path)
    assert docs[-1][1]["exit_status"] == "abort"
    assert docs[-2][1]["data"]["toy_mean"] == 2.0


@pytest.mark.parametrize(("sink", "word"), [("away", "nobody answers"), ("busy", "still busy")])
def test_a_dead_sink_does_not_keep_the_program_from_ending(sink: str, word: str, tmp_path: Path) -> None:
    last = f"endings.EXIT_SECONDS = 0.5\nkept = main('thread', {str(tmp_path)!r}, [1.0, 3.0], True, {sink!r})"
    done = left_open(tmp_path, last)
    assert stored(tmp_path)[-1][0] == "stop"
    (line,) = [line for line in done.stderr.splitlines() if "did not reach a sink" in line]
    assert line.startswith("7 documents")
    assert word in line


def test_an_engine_that_hangs_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    last = f"endings.EXIT_SECONDS = 0.5\nkept = main('process', {str(tmp_path)!r}, [toy.HANGS], True, '')"
    done = left_open(tmp_path, last)
    docs = stored(tmp_path)
    assert docs[-1][0] == "stop"
    assert docs[3][1]["data"]["toy_outcome"] == "failed"
    assert "an analysis was closed with" in done.stderr
    assert gone(int(done.stdout))
