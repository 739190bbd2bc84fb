from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy

from skyloop.runtime import endings
from skyloop.runtime._child import _answer
from skyloop.runtime.guarded import Broken
from skyloop.runtime.runners import LocalRunner


class Work:
    """Notes when it is closed; its `flush` may be a Ctrl-C of a person who does not want to wait."""

    closed: list[Work]

    def __init__(self, *, breaks: bool = False, stopped: bool = False, left: str = "") -> None:
        self.breaks, self.stopped, self.words = breaks, stopped, left

    def flush(self, _: float, /) -> bool:
        if self.stopped:
            raise KeyboardInterrupt
        return True

    def left(self) -> str:
        return self.words

    def close(self, timeout: float = 10.0, /) -> bool:
        self.closed.append(self)
        if self.breaks:
            raise OSError("no space left")
        endings.ended(self)
        return True


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """What was closed, in a program where nothing else is open and nobody else works."""
    monkeypatch.setattr(endings, "_open", {})
    monkeypatch.setattr(endings, "_others_work", lambda: False)
    monkeypatch.setattr(Work, "closed", [], raising=False)
    return Work.closed


def test_one_that_cannot_be_closed_at_the_end_leaves_none_open(
    closed: list[Work], caplog: pytest.LogCaptureFixture
) -> None:
    works = [Work(), Work(breaks=True), Work()]
    for work in works:
        endings.ends_with(Work, work)
    endings._while_pools_last()
    assert closed == works
    assert "could not be closed at the end: OSError: no space left" in caplog.text


def test_at_the_end_analyses_are_closed_before_sinks_and_each_once(closed: list[Work]) -> None:
    sink, analysis = Work(), Work()
    endings.ends_with(Work, sink, last=True)
    endings.ends_with(Work, analysis)
    endings._while_pools_last()
    endings._at_exit()
    assert closed == [analysis, sink]


def test_what_may_still_be_filled_is_closed_at_exit(
    closed: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "_others_work", lambda: True)
    monkeypatch.setattr(endings, "_SETTLE_SECONDS", 0.0)
    work = Work()
    endings.ends_with(Work, work)
    endings._while_pools_last()
    assert closed == []
    endings._at_exit()
    assert closed == [work]


def test_ctrl_c_at_the_end_tells_what_is_left_behind_and_waits_for_nothing_more(
    closed: list[Work], caplog: pytest.LogCaptureFixture
) -> None:
    works = [Work(stopped=True, left="3 documents to analyse"), Work(), Work(left="7 documents for Store")]
    for work in works:
        endings.ends_with(Work, work)
    endings._while_pools_last()
    endings._at_exit()
    assert closed == []
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "stopped by Ctrl-C while the program ended; left behind: "
        "3 documents to analyse, 7 documents for Store; mend: `skyloop replay`"
    )


def test_a_python_without_the_hook_before_the_end_of_pools_has_the_end_at_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered: list[object] = []
    monkeypatch.setattr("atexit.register", registered.append)
    monkeypatch.delattr("threading._register_atexit")
    endings._register.__wrapped__()
    assert registered == [endings._at_exit]


# programs ---------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from skyloop.runtime import endings
from skyloop.runtime.sinks import Sink

class Store:
    def __init__(self, path, ready=None):
        self.path, self.ready = path, ready or threading.Event()

    def __call__(self, name, doc):
        self.ready.wait()
        with open(self.path, "a") as file:
            file.write(f"{doc['n']} ")

    def close(self):
        self(None, {"n": "closed"})

class Pooled(Store):
    def __init__(self, path):
        super().__init__(path)
        self.pool = ThreadPoolExecutor(1)
        self.pool.submit(int).result()

    def __call__(self, name, doc):
        self.pool.submit(super().__call__, name, doc).result()

out = sys.argv[1]
"""
COUNT = 20
FILL = f"""
for n in range({COUNT}):
    sink("event", {{"n": n}})
"""
ALL = " ".join(map(str, range(COUNT))) + " closed "


def ran(folder: Path, program: str, code: int = 0) -> str:
    """Run a program that closes nothing; gives what it stored, and it must not complain."""
    done = subprocess.run(
        [sys.executable, "-c", f"{SCRIPT}\n{program}\n", str(folder / "out")],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (code, "")
    return (folder / "out").read_text()


# the store takes nothing before the end of the program has begun
LATE = """
threading._register_atexit(store.ready.set)
"""


@pytest.mark.parametrize("store", ["Store", "Pooled"])
@pytest.mark.parametrize(("last", "code"), [("", 0), ("sys.exit(3)", 3)])
def test_the_end_of_a_program_delivers_what_waits(store: str, last: str, code: int, tmp_path: Path) -> None:
    program = f"store = {store}(out)\nsink = Sink(store)\n{LATE}{FILL}{last}"
    assert ran(tmp_path, program, code) == ALL


def test_what_another_thread_brings_after_the_main_one_is_delivered(tmp_path: Path) -> None:
    program = f"""
sink = Sink(store := Store(out))
{LATE}
def bring():
    threading.main_thread().join()
    {FILL.replace(chr(10), chr(10) + "    ")}
threading.Thread(target=bring).start()
"""
    assert ran(tmp_path, program) == ALL


def test_a_service_that_is_told_to_end_delivers_what_waits(tmp_path: Path) -> None:
    program = f"""
signal.signal(signal.SIGTERM, signal.default_int_handler)
sink = Sink(store := Store(out))
{LATE}{FILL}
try:
    signal.raise_signal(signal.SIGTERM)
except KeyboardInterrupt:
    sys.exit(143)
"""
    assert ran(tmp_path, program, 143) == ALL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_ends_at_once_and_writes_nothing(tmp_path: Path) -> None:
    program = f"""
import logging
endings.EXIT_SECONDS = 1000.0
sink = Sink(store := Store(out))
{FILL}
logging.disable()
if (child := os.fork()) == 0:
    sink("event", {{"n": "child"}})
    sys.exit(0 if sink.failed and sink.flush(1000.0) and sink.close(1000.0) else 1)
assert os.waitpid(child, 0)[1] == 0
store.ready.set()
"""
    assert ran(tmp_path, program) == ALL


def test_a_call_that_the_child_does_not_know_is_not_answered_as_if_it_did() -> None:
    runner = LocalRunner(toy.Engine(toy.Config()))
    answer = _answer(runner, "stepp", "raw-1", [])
    assert isinstance(answer, Broken)
    assert answer.reason == "no call is named 'stepp'"
    assert _answer(runner, "ready", "", []) == "ready"
