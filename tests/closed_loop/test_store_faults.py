"""Stores that are full, slow, down and back: the scan never waits, and what was kept comes in order."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from beam import analyzer, count, one_by_one
from fake_analysis import engine
from listener import Listener

from skyloop.errors import UnavailableError
from skyloop.runtime import sinks
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import JsonlWriter, read_jsonl
from skyloop.storage.tiled import TiledSink, connect, embedded_tiled

FULL_DISK = """
import json, logging, resource, sys
from pathlib import Path
from beam import analyzer, count
from fake_analysis import engine
from listener import Listener
from skyloop.storage.jsonl import JsonlWriter

logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
folder, most = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
heard, raw = Listener(), Listener()
with analyzer("thread") as analysis:
    sink = analysis.subscribe(JsonlWriter(folder))
    analysis.subscribe(heard)
    run_engine = engine(analysis, raw)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, most))
    results = [run_engine(count([1.0] * 30)).exit_status]
    assert analysis.flush(30)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    results.append(run_engine(count([2.0] * 30)).exit_status)
    assert analysis.flush(30)
    found = {
        "results": results, "faults": analysis.health.faults, "sinks": analysis.health.sinks,
        "raw": len(raw.docs), "analysis": [run.start["uid"] for run in heard.runs()],
        "spots": [len(run.spots()) for run in heard.runs()], "failed": sink.failed,
    }
print(json.dumps(found))
"""


def test_a_full_disk_costs_that_file_alone_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["results"] == ["success", "success"]
    assert found["faults"] == []
    assert found["spots"] == [30, 30]
    assert found["raw"] == 2 * 33
    (told,) = found["sinks"]
    assert "File too large" in told
    assert str(folder) in told
    assert done.stderr.count("File too large") >= 1
    full, roomy = found["analysis"]
    assert sorted(path.suffix for path in folder.iterdir()) == [".jsonl", ".part"]
    (torn,) = folder.glob(f"{full}.*.jsonl.part")
    names = [name for name, _ in read_jsonl(torn)]
    assert names[:3] == ["start", "descriptor", "descriptor"]
    assert "stop" not in names
    assert [name for name, _ in read_jsonl(folder / f"{roomy}.jsonl")][-1] == "stop"


def test_a_store_that_comes_back_gets_everything_in_order(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sinks, "_RETRY_SECONDS", (0.005,))
    up, tried = Event(), Event()
    kept = Listener()

    def store(name: str, doc: dict[str, Any]) -> None:
        if not up.is_set():
            tried.set()
            raise UnavailableError("nobody answers")
        kept(name, doc)

    raw, heard = Listener(), Listener()
    with analyzer("thread") as analysis:
        sink = analysis.subscribe(store)
        analysis.subscribe(heard)
        run_engine = engine(analysis, sink, raw)  # one writer for raw and analysis documents
        assert run_engine(count([1.0, 2.0, 3.0])).exit_status == "success"
        assert run_engine(count([4.0])).exit_status == "success"
        assert tried.wait(30)
        assert not analysis.flush(0.2)
        assert kept.docs == []
        assert sink.waiting == len(raw.docs) + len(heard.docs)
        up.set()
        assert analysis.flush(30)
    assert sink.failed == 0
    assert [doc["uid"] for _, doc in kept.docs if doc["uid"] in {d["uid"] for _, d in raw.docs}] == [
        doc["uid"] for _, doc in raw.docs
    ]
    theirs = {doc["uid"] for _, doc in heard.docs}
    assert [doc["uid"] for _, doc in kept.docs if doc["uid"] in theirs] == [d["uid"] for _, d in heard.docs]
    assert len(kept.docs) == len(raw.docs) + len(heard.docs)
    assert caplog.text.count("does not answer") == 1


def test_a_store_that_never_comes_back_is_reported_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sinks, "_RETRY_SECONDS", (0.005,))

    def store(name: str, doc: dict[str, Any]) -> None:
        raise UnavailableError("nobody answers")

    sink = Sink(store)
    with analyzer("thread") as analysis:
        heard = Listener()
        analysis.subscribe(heard)
        assert engine(analysis, sink)(count([1.0, 2.0])).exit_status == "success"
        assert analysis.flush(30)
    assert not sink.close(0.1)
    sink._delivery.thread.join(30)
    assert sink.failed == 5
    caplog.clear()
    sink.close(0.1)
    assert "5 documents did not reach a sink" in caplog.text
    assert "nobody answers" in caplog.text


def test_a_hanging_store_keeps_neither_the_scan_nor_the_other_stores_waiting(tmp_path: Path) -> None:
    go = Event()
    with analyzer("thread") as analysis:
        slow = analysis.subscribe(lambda *_: go.wait(60))
        quick = analysis.subscribe(JsonlWriter(tmp_path))
        heard = Listener()
        analysis.subscribe(heard)
        assert engine(analysis, slow)(count([1.0, 2.0])).exit_status == "success"
        assert not analysis.flush(0.2)
        assert quick.flush(30)
        assert slow.waiting > 0
        run = heard.run()
        assert [name for name, _ in read_jsonl(tmp_path / f"{run.start['uid']}.jsonl")][-1] == "stop"
        go.set()
        assert analysis.flush(30)


def test_a_tiled_server_that_goes_down_in_mid_run_costs_neither_scan_nor_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import tiled.client.utils as tiled_client

    monkeypatch.setattr(tiled_client, "TILED_RETRY_ATTEMPTS", 1)
    monkeypatch.setattr(sinks, "_RETRY_SECONDS", (0.05,))
    server = embedded_tiled(tmp_path / "catalog")
    caplog.set_level(logging.WARNING)
    heard, raw = Listener(), Listener()
    analysis = analyzer("thread")
    tiled = TiledSink(connect(server.uri), batch_size=1)
    sink = analysis.subscribe(tiled)
    beside = analysis.subscribe(JsonlWriter(tmp_path / "runs"))
    analysis.subscribe(heard)

    def down() -> None:
        assert sink.flush(30)
        server.close()

    result = engine(analysis, sink, raw)(one_by_one([1.0, 2.0, 6.0], after={1: down}))
    assert result.exit_status == "success"
    assert not analysis.flush(1.0)
    assert beside.flush(30)
    run = heard.run()
    assert run.final().mean == 3.0
    stored = [name for name, _ in read_jsonl(tmp_path / "runs" / f"{run.start['uid']}.jsonl")]
    assert stored == heard.names()
    assert not sink.close(0.2)
    sink._delivery.thread.join(60)
    assert sink.failed > 0
    analysis.close(1.0)
    tiled.close()
    assert caplog.text.count("a sink does not answer, documents are kept for it") == 1
    assert "Tiled server does not answer" in sink.last_failure
    assert analysis.health.faults == ()
