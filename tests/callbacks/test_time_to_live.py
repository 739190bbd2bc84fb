"""A run that never stops is closed by the analysis itself, live and without any help."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import toy
from beam import analyzer
from listener import Listener

from skyloop.callbacks import _crew


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_run_from_which_nothing_is_heard_any_more_is_closed_and_freed(
    executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_crew, "_IDLE_SECONDS", 0.01)
    heard, closed = Listener(), threading.Event()

    def listen(name: str, doc: dict[str, Any]) -> None:
        heard(name, doc)
        if name == "stop":
            closed.set()

    with analyzer(executor, time_to_live=0.05) as analysis:
        analysis.subscribe(listen)
        never, cancelled = analysis.inbox.future(("raw-1", "primary", 2)), threading.Event()
        never.add_done_callback(lambda _: cancelled.set())
        for item in toy.raw_run([1.0], stop=False):
            analysis(*item)
        assert closed.wait(60)
        run = heard.run()
        assert run.stop is not None
        assert (run.stop["exit_status"], "no stop" in run.stop["reason"]) == ("abort", True)
        assert run.final().mean == 1.0
        assert cancelled.wait(60)  # a plan that still waits falls back at once
        assert never.cancelled()
    assert analysis._pipeline._open_runs == {}


def test_inline_closes_a_silent_run_when_later_documents_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now, heard = time.monotonic, Listener()
    with analyzer("inline", time_to_live=60.0) as analysis:
        analysis.subscribe(heard)
        for item in toy.raw_run([1.0], "silent", stop=False):
            analysis(*item)
        with monkeypatch.context() as later:
            later.setattr(time, "monotonic", lambda: now() + 1000.0)
            for item in toy.raw_run([1.0], "later"):
                analysis(*item)
        assert analysis.flush(10)
        runs = {run.raw_uid: run for run in heard.runs()}
        assert runs["silent"].stop is not None
        assert "no stop for 60 s" in runs["silent"].stop["reason"]
        assert runs["later"].stop is not None
        assert runs["later"].stop["exit_status"] == "success"
