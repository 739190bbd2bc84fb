"""A Tiled server that is killed in mid-run and comes back with its catalog has every document, in order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from beam import analyzer, one_by_one
from fake_analysis import engine
from listener import Listener
from stored_runs import essence
from waiting import until

from skyloop.runtime import sinks
from skyloop.storage._tiled_runs import stored_documents
from skyloop.storage.tiled import TiledSink, connect

SERVER = """
import sys
from functools import partial
from pathlib import Path
import bluesky_tiled_plugins
import tiled.server
from skyloop.storage import tiled as ours
port = int(sys.stdin.readline())
tiled.server.SimpleTiledServer = partial(tiled.server.SimpleTiledServer, port=port)
ours._key = lambda: "thesamekey"
server = ours.embedded_tiled(Path(sys.argv[1]))
print(server.uri, flush=True)
sys.stdin.read()
"""


class Server:
    """An embedded server in a process of its own."""

    def __init__(self, catalog: Path) -> None:
        command, pipe = [sys.executable, "-c", SERVER, str(catalog)], subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.communicate()

    def open(self, port: int = 0) -> str:
        """Open the catalog and serve it; where."""
        assert self._process.stdin
        assert self._process.stdout
        print(port, file=self._process.stdin, flush=True)
        uri = self._process.stdout.readline().strip()
        assert uri, "the server did not start"
        return uri

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)


@contextmanager
def client(uri: str) -> Generator[Any]:
    connected = connect(uri)
    try:
        yield connected
    finally:
        connected.context.http_client.close()


def kept(uri: str, uid: str) -> list[tuple[str, Any]]:
    with client(uri) as catalog:
        return list(stored_documents(catalog[uid]))


def order(documents: list[tuple[str, Any]], stream: str) -> list[int]:
    ours = {doc["uid"] for name, doc in documents if name == "descriptor" and doc["name"] == stream}
    return [doc["seq_num"] for name, doc in documents if name == "event" and doc["descriptor"] in ours]


def test_a_killed_tiled_server_that_comes_back_gets_the_whole_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    monkeypatch.setattr(sinks, "_RETRY_SECONDS", (0.05,))
    told: list[str] = []
    raw, heard = Listener(), Listener()
    with ExitStack() as held:
        first, second = (held.enter_context(Server(tmp_path)) for _ in range(2))
        uri = first.open()
        catalog = held.enter_context(client(uri))
        analysis = held.enter_context(analyzer("thread"))
        sink = analysis.subscribe(TiledSink(catalog, batch_size=1))
        analysis.subscribe(heard)

        def kill_amid(response: Any) -> None:
            """After the array of the second result, and before its row in the table."""
            request = response.request
            if request.method == "PATCH" and request.url.path.endswith("/primary/toy_last"):
                first.kill()

        def again() -> None:
            until(lambda: analysis.health.sinks)
            told.extend(analysis.health.sinks)
            assert second.open(urlparse(uri).port or 0) == uri

        catalog.context.http_client.event_hooks["response"].append(kill_amid)
        plan = one_by_one([1.0, 2.0, 6.0, 7.0], after={3: again})
        assert engine(analysis, sink, raw)(plan).exit_status == "success"
        assert analysis.flush(60)
        assert len(told) == 1
        assert "Tiled server does not answer" in told[0]
        assert (sink.failed, sink.waiting, analysis.health.sinks, analysis.health.faults) == (0, 0, (), ())
        for documents in (raw.docs, heard.docs):
            stored = kept(uri, documents[0][1]["uid"])
            assert essence(stored) == essence(documents)
            assert order(stored, "primary") == [1, 2, 3, 4]
