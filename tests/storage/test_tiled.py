"""Runs in Tiled: bit for bit, once, in a folder that keeps them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import h5py
import httpx
import numpy as np
import pytest
from event_model import compose_run
from stored_runs import Fitted, analysis_run, essence, page_of, raw_run, uid_of

from skyloop.documents.schema import decode
from skyloop.errors import DataError, StorageError, UnavailableError
from skyloop.storage._tiled_runs import stored_documents
from skyloop.storage.databroker import read_back
from skyloop.storage.digest import digest
from skyloop.storage.tiled import TiledSink, connect, embedded_tiled


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with embedded_tiled(tmp_path_factory.mktemp("catalog")) as running:
        yield running


def put(sink, documents):
    for name, doc in documents:
        sink(name, doc)


def uid_in(documents):
    return documents[0][1]["uid"]


def stored(server, documents):
    return list(stored_documents(server.client[uid_in(documents)]))


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_an_analysis_run_comes_back_with_every_bit(server, batch_size):
    documents = analysis_run(f"batch {batch_size}")
    put(TiledSink(server.client, batch_size=batch_size), documents)
    assert essence(stored(server, documents)) == essence(documents)


@pytest.mark.parametrize("batch_size", [1, 100])
def test_results_are_decoded_to_what_was_encoded(server, batch_size):
    documents = analysis_run(f"decoded {batch_size}", seed=batch_size)
    put(TiledSink(server.client, batch_size=batch_size), documents)
    live = [doc["data"] for name, doc in documents if name == "event"]
    back = [doc["data"] for name, doc in stored(server, documents) if name == "event"]
    for one, other in zip(live, back, strict=True):
        a, b = (decode(Fitted, data, prefix="toy") for data in (one, other))
        assert a.covariance.shape == b.covariance.shape == (2, 3)
        np.testing.assert_array_equal(a.thickness, b.thickness)
        assert (a.outcome, a.reason, a.n_points, a.confirmed) == (
            b.outcome,
            b.reason,
            b.n_points,
            b.confirmed,
        )


@pytest.mark.parametrize("batch_size", [1, 100])
def test_a_point_measured_again_after_a_pause_keeps_its_own_arrays(server, batch_size):
    documents = raw_run(f"paused {batch_size}", seq_nums=(1, 2, 2, 3))
    put(TiledSink(server.client, batch_size=batch_size), documents)
    events = [doc for name, doc in stored(server, documents) if name == "event"]
    assert [event["seq_num"] for event in events] == [1, 2, 2, 3]
    assert len({event["uid"] for event in events}) == 4
    for event in events:
        np.testing.assert_array_equal(event["data"]["curve"], np.full(4, event["data"]["x"]))


def test_the_export_of_the_server_mixes_such_points_up(server):
    """Why the rows are read here; when this fails, the export can be used instead."""
    documents = raw_run("paused, exported", seq_nums=(1, 2, 2, 3))
    put(TiledSink(server.client), documents)
    exported = [doc for name, doc in server.client[uid_in(documents)].documents() if name == "event"]
    assert any(event["data"]["curve"][0] != event["data"]["x"] for event in exported)


def test_pages_and_single_events_are_stored_alike(server):
    single, paged = raw_run("single"), raw_run("paged")
    put(TiledSink(server.client), single)
    put(TiledSink(server.client), [*paged[:2], page_of(paged), paged[-1]])
    assert essence(stored(server, paged)) == essence(paged)
    assert len(stored(server, single)) == len(stored(server, paged))


def test_interleaved_runs_are_kept_apart(server):
    a, b = raw_run("left"), raw_run("right")
    sink = TiledSink(server.client)
    for pair in zip(a, b, strict=True):
        put(sink, pair)
    assert essence(stored(server, a)) == essence(a)
    assert essence(stored(server, b)) == essence(b)


def test_events_can_be_watched_while_the_run_goes_on(server):
    documents = analysis_run("watched")
    sink = TiledSink(server.client, batch_size=1)
    put(sink, documents[:4])
    names = [name for name, _ in stored(server, documents)]
    assert names.count("event") == 1
    assert "stop" not in names
    put(sink, documents[4:])
    assert essence(stored(server, documents)) == essence(documents)


def test_the_same_run_again_is_absorbed(server):
    documents = analysis_run("again")
    sink = TiledSink(server.client)
    put(sink, documents)
    before = server.client[uid_in(documents)].metadata["start"]["time"]
    put(sink, analysis_run("again", queue=7.0, first=1.9e9))
    assert server.client[uid_in(documents)].metadata["start"]["time"] == before
    assert essence(stored(server, documents)) == essence(documents)


def test_another_content_under_the_same_uid_is_refused_and_nothing_is_written(server):
    documents = analysis_run("differs")
    sink = TiledSink(server.client)
    put(sink, documents)
    with pytest.raises(StorageError, match=f"{uid_in(documents)}.*other content.*mend"):
        put(sink, analysis_run("differs", seed=2))
    assert essence(stored(server, documents)) == essence(documents)


def test_a_document_that_comes_twice_is_written_once(server):
    documents = analysis_run("twice")
    put(TiledSink(server.client, batch_size=1), (d for document in documents for d in (document, document)))
    assert essence(stored(server, documents)) == essence(documents)


def test_an_unfinished_run_is_replaced_only_when_that_is_asked_for(server):
    documents = analysis_run("unfinished")
    died = TiledSink(server.client, batch_size=1)
    put(died, documents[:5])
    died.close()
    with pytest.raises(StorageError, match=r"unfinished.*replace_unfinished"):
        put(TiledSink(server.client), documents)
    put(TiledSink(server.client, replace_unfinished=True), documents)
    assert essence(stored(server, documents)) == essence(documents)


def test_what_the_server_refuses_ends_one_run_and_says_why(server, monkeypatch):
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 2)
    bad, good = raw_run("bad"), raw_run("good")
    sink = TiledSink(server.client, batch_size=1)
    put(sink, [*bad[:3], *good[:2]])
    broken = bad[3][1] | {"data": {"x": "text", "curve": bad[3][1]["data"]["curve"]}}
    with pytest.raises(StorageError, match=f"run {uid_of('bad')} is not written to Tiled"):
        offered_until_taken(sink, "event", broken)
    for document in [*bad[4:], *good[2:]]:
        offered_until_taken(sink, *document)
    assert "stop" not in server.client[uid_of("bad")].metadata
    assert essence(stored(server, good)) == essence(good)


def offered_until_taken(sink, name, doc):
    """As the thread of a sink does: the server closes connections when it fails."""
    for _ in range(10):
        try:
            return sink(name, doc)
        except UnavailableError:
            pass
    raise AssertionError("offered for ever")


class Flaky:
    """A client whose connection breaks once at a chosen request of the writer."""

    def __init__(self, client, writes_before_failure):
        self.transport = client.context.http_client._transport
        self.left = writes_before_failure
        self.handle = self.transport.handle_request
        self.transport.handle_request = self._handle

    def _handle(self, request):
        if request.method != "GET":
            self.left -= 1
            if self.left == -1:
                raise httpx.ConnectError("gone")
        return self.handle(request)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.transport.handle_request = self.handle


@pytest.mark.parametrize(
    ("writes", "offers"),
    [(0, 1), (2, 1), (6, 1), (12, 0)],
    ids=["start", "descriptor", "array", "rows, which TiledWriter appends again by itself"],
)
def test_after_a_lost_connection_the_run_is_whole_when_the_document_is_offered_again(
    server, writes, offers, monkeypatch
):
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    documents = analysis_run(f"flaky {writes}")
    sink = TiledSink(server.client, batch_size=1)
    failures = 0
    with Flaky(server.client, writes):
        for document in documents:
            try:
                sink(*document)
            except UnavailableError:
                failures += 1
                sink(*document)
    assert failures == offers
    assert essence(stored(server, documents)) == essence(documents)


def test_rows_without_their_arrays_are_refused_not_guessed(server):
    documents = raw_run("torn")
    put(TiledSink(server.client), documents)
    run = server.client[uid_in(documents)]
    run["primary"].base["curve"].patch(np.zeros((1, 4)), offset=(3,), extend=True)
    with pytest.raises(DataError, match=r"another number of them.*curve.*mend"):
        stored(server, documents)


def test_a_run_written_by_others_with_small_arrays_in_its_table_is_read(server):
    from bluesky_tiled_plugins import TiledWriter

    documents = raw_run("of others")
    put(TiledWriter(server.client), documents)
    assert digest(stored(server, documents)).hexdigest() == digest(documents).hexdigest()
    paused = raw_run("of others, paused", seq_nums=(1, 2, 2, 3))
    counted = paused[-1][1] | {"num_events": {"primary": 4}}
    put(TiledWriter(server.client), [*paused[:-1], ("stop", counted)])
    with pytest.raises(DataError, match="paused and some points were measured again"):
        stored(server, paused)


def with_frames_in_a_file(path):
    """A run whose images lie in an HDF5 file, each announced before its event."""
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.arange(60).reshape(3, 4, 5)
    run: Any = compose_run()
    image = {"source": "s", "dtype": "array", "dtype_numpy": "<i8", "shape": [1, 4, 5], "external": "STREAM:"}
    number = {"source": "s", "dtype": "number", "dtype_numpy": "<f8", "shape": []}
    keys: Any = {"x": number, "image": image}
    stream = run.compose_descriptor(name="primary", data_keys=keys)
    frames = run.compose_stream_resource(
        data_key="image",
        mimetype="application/x-hdf5",
        uri=f"file://localhost{path}",
        parameters={"dataset": "/entry/data/data", "chunk_shape": (1, 4, 5)},
    )
    yield "start", run.start_doc
    yield "descriptor", stream.descriptor_doc
    yield "stream_resource", frames.stream_resource_doc
    for i in range(3):
        rows: Any = {"indices": {"start": i, "stop": i + 1}, "seq_nums": {"start": i + 1, "stop": i + 2}}
        yield "stream_datum", frames.compose_stream_datum(**rows, descriptor=stream.descriptor_doc)
        yield "event", stream.compose_event(data={"x": float(i)}, timestamps={"x": 1.0})
    yield "stop", run.compose_stop()


def test_frames_in_files_are_announced_again_and_not_copied(tmp_path):
    file = tmp_path / "frames.h5"
    documents: Any = list(with_frames_in_a_file(file))
    with embedded_tiled(tmp_path / "catalog", readable=[tmp_path]) as catalog:
        for _ in range(2):  # the second time it is absorbed
            put(TiledSink(catalog.client, batch_size=1), documents)
        back = stored(catalog, documents)
    (resource,) = (doc for name, doc in back if name == "stream_resource")
    (datum,) = (doc for name, doc in back if name == "stream_datum")
    assert resource["uri"] == f"file://localhost{file}"
    assert resource["parameters"]["dataset"] == "/entry/data/data"
    assert datum["seq_nums"] == {"start": 1, "stop": 4}
    assert [doc["data"] for name, doc in back if name == "event"] == [{"x": 0.0}, {"x": 1.0}, {"x": 2.0}]


def test_databroker_reads_the_results_back(server):
    documents = analysis_run("through databroker")
    put(TiledSink(server.client), documents)
    back = read_back(server.client, uid_in(documents))
    assert back.start["original_run_uid"] == "through databroker"
    assert back.stop["exit_status"] == "success"
    live = [doc["data"] for name, doc in documents if name == "event"][:-1]
    frame = back.tables["primary"]
    np.testing.assert_array_equal(frame["toy_chi2"], [row["toy_chi2"] for row in live])
    np.testing.assert_array_equal(
        np.stack(frame["toy_prediction"].to_list()), [row["toy_prediction"] for row in live]
    )
    assert list(frame["toy_reason"]) == [row["toy_reason"] for row in live]
    assert list(server.client[uid_in(documents)]["primary"].read()["toy_n_points"]) == [1, 2, 3]
    with pytest.raises(DataError, match="holds no run"):
        read_back(server.client, uid_of("nowhere"))


def listening_addresses() -> set[tuple[str, int]]:
    """Addresses of IPv4 and IPv6 sockets of this network namespace that wait for connections."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                address, port = local.split(":")
                found.add((address, int(port, 16)))
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc/net, which only Linux has")
def test_the_server_listens_on_loopback_alone(server):
    port = urlparse(server.uri).port
    addresses = {address for address, p in listening_addresses() if p == port}
    assert addresses == {"0100007F"}


def test_a_stranger_without_the_key_is_refused(server):
    bare = server.uri.split("?")[0]
    answer = httpx.get(f"{bare}/search/", timeout=10.0)
    assert answer.status_code == 401


def test_a_second_start_in_the_same_folder_finds_the_runs(tmp_path):
    documents = analysis_run("kept")
    with embedded_tiled(tmp_path) as first:
        put(TiledSink(first.client), documents)
    with embedded_tiled(tmp_path) as second:
        assert list(second.client) == [uid_in(documents)]
        assert essence(stored(second, documents)) == essence(documents)
        more = analysis_run("kept too")
        put(TiledSink(second.client), more)
        assert len(second.client) == 2


def test_two_catalogs_can_be_open_at_once(server, tmp_path):
    with embedded_tiled(tmp_path) as other:
        documents = analysis_run("in both")
        for catalog in (server, other):
            put(TiledSink(catalog.client), documents)
            assert essence(stored(catalog, documents)) == essence(documents)


_OPENS = """
import sys
from pathlib import Path
from skyloop.errors import StorageError
from skyloop.storage.tiled import embedded_tiled
try:
    embedded_tiled(Path(sys.argv[1])).close()
except StorageError as error:
    sys.exit(f"StorageError: {error}")
"""


def test_a_catalog_that_is_open_is_refused_here_and_in_another_process(server):
    with pytest.raises(StorageError, match="close the server that has it open"):
        embedded_tiled(server.folder)
    second = subprocess.run(
        [sys.executable, "-c", _OPENS, str(server.folder)], capture_output=True, text=True, timeout=100
    )
    assert second.returncode == 1
    assert "StorageError" in second.stderr
    assert "close the server that has it open" in second.stderr


_LEAVES_OPEN = """
import sys
from pathlib import Path
from stored_runs import raw_run
from skyloop.runtime.sinks import Sink
from skyloop.storage.tiled import TiledSink, embedded_tiled
sink = Sink(TiledSink(embedded_tiled(Path(sys.argv[1])).client))
for document in raw_run("left open"):
    sink(*document)
"""


def test_a_server_that_nobody_closes_serves_the_sinks_and_ends_with_the_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _LEAVES_OPEN, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Finished server process" in (tmp_path / "error.log").read_text()
    with embedded_tiled(tmp_path) as again:
        assert essence(stored(again, documents := raw_run("left open"))) == essence(documents)


def test_a_forked_process_leaves_the_server_to_its_parent(tmp_path, monkeypatch):
    with embedded_tiled(tmp_path) as running:
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: -1)
            running.close()
        assert len(running.client) == 0


def test_no_server_and_no_profile_are_told_apart(monkeypatch):
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    with pytest.raises(UnavailableError, match=r"no Tiled server answers at http://127.0.0.1:9/api/v1:"):
        connect("http://127.0.0.1:9/api/v1?api_key=secret")
    with pytest.raises(StorageError, match="no Tiled profile 'nowhere'"):
        connect("nowhere")
