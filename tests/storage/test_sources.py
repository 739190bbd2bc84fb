"""One word opens a file, a folder, a catalog; the runs in it are the runs that were put there."""

from __future__ import annotations

import pytest
from stored_runs import analysis_run, essence, raw_run, uid_of

from skyloop.errors import DataError
from skyloop.storage.jsonl import JsonlWriter, json_line
from skyloop.storage.packed import pack
from skyloop.storage.sources import open_source, search_of
from skyloop.storage.tiled import TiledSink, embedded_tiled

FIRST = raw_run("first", plan_name="growth", scan_id=1)
SECOND = raw_run("second", plan_name="count", scan_id=2)
ANALYSIS = analysis_run(uid_of("first"))
RUNS = [FIRST, SECOND, ANALYSIS]


def put_all(sink):
    for documents in RUNS:
        for name, doc in documents:
            sink(name, doc)
    sink.close()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same three runs in every kind of store, by the word that opens it."""
    top = tmp_path_factory.mktemp("stores")
    put_all(JsonlWriter(top / "lines"))
    whole = b"".join(json_line(*document) for documents in RUNS for document in documents)
    (top / "all.jsonl").write_bytes(whole)
    packed = [pack(list(document)) for documents in RUNS for document in documents]
    (top / "all.msgpack").write_bytes(b"".join(packed))
    with embedded_tiled(top / "catalog") as made:
        put_all(TiledSink(made.client))
    with embedded_tiled(top / "served") as server:
        put_all(TiledSink(server.client))
        yield {
            "folder": str(top / "lines"),
            "jsonl": str(top / "all.jsonl"),
            "msgpack": str(top / "all.msgpack"),
            "embedded": str(top / "catalog"),
            "uri": server.uri,
        }


@pytest.mark.parametrize("kind", ["folder", "jsonl", "msgpack", "embedded", "uri"])
def test_every_store_gives_the_same_runs(stores, kind):
    with open_source(stores[kind]) as source:
        assert {run.uid for run in source} == {uid_of("first"), uid_of("second")}
        (analysis,) = source.analyses_of(uid_of("first"))
        assert list(source.analyses_of(uid_of("second"))) == []
        assert essence(analysis.documents()) == essence(ANALYSIS)
        for run in source:
            expected = FIRST if run.uid == uid_of("first") else SECOND
            assert essence(run.documents()) == essence(expected)
            assert essence(run.documents()) == essence(expected)  # and again, from the first document on


@pytest.mark.parametrize("kind", ["folder", "msgpack", "uri"])
def test_runs_are_found_by_uid_and_by_what_they_say(stores, kind):
    with open_source(stores[kind], run=uid_of("second")[:8]) as source:
        assert [run.uid for run in source] == [uid_of("second")]
    with open_source(stores[kind], run=ANALYSIS[0][1]["uid"][:8]) as source:
        assert [run.is_analysis for run in source] == [True]
    with open_source(stores[kind], search={"plan_name": "growth"}) as source:
        assert [run.uid for run in source] == [uid_of("first")]
    with open_source(stores[kind], search={"purpose": "analysis"}) as source:
        assert [run.uid for run in source] == [ANALYSIS[0][1]["uid"]]
    with open_source(stores[kind], search=search_of(["scan_id=2", "plan_name=growth"])) as source:
        assert list(source) == []


def test_the_uri_of_one_run_gives_that_run(stores):
    base, key = stores["uri"].split("?")
    with open_source(f"{base}/metadata/{uid_of('first')}?{key}") as source:
        assert [run.uid for run in source] == [uid_of("first")]


def test_documents_are_plain_dictionaries(stores):
    with open_source(stores["uri"]) as source:
        assert {type(doc) for run in source for _, doc in run.documents()} == {dict}


def test_a_uid_that_fits_no_run_says_so(stores):
    with (
        open_source(stores["jsonl"], run="zzz") as source,
        pytest.raises(DataError, match=r"no run in .*'zzz'"),
    ):
        iter(source)


def test_an_ambiguous_uid_names_the_candidates(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"".join(json_line("start", {"uid": uid}) for uid in ("ab1", "ab2", "c")))
    with open_source(str(file), run="ab") as source, pytest.raises(DataError, match="ab1, ab2; mend"):
        iter(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere/run.jsonl", "there is no file or folder nowhere/run.jsonl; mend"),
        (
            "no-such-profile",
            "'no-such-profile' is not a file or a folder here, and as a Tiled catalog: .*profile",
        ),
        (
            "http://127.0.0.1:9/?api_key=secret",
            "'http://127.0.0.1:9/' is not a file.*no Tiled server answers",
        ),
    ],
)
def test_what_cannot_be_opened_says_what_was_tried(monkeypatch, text, message):
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    with pytest.raises(DataError, match=message) as caught:
        open_source(text)
    assert "secret" not in str(caught.value)


def test_a_run_that_was_never_finished_is_read_by_its_own_name_only(tmp_path):
    writer = JsonlWriter(tmp_path)
    for document in ANALYSIS[:-1]:
        writer(*document)
    writer.close()
    (part,) = tmp_path.iterdir()
    with pytest.raises(DataError, match=rf"holds 1 unfinished and no finished runs; mend: .*{part.name}"):
        open_source(str(tmp_path))
    with open_source(str(part)) as source:
        (run,) = source.all_runs()
        assert len(list(run.documents())) == len(ANALYSIS) - 1


def test_an_empty_folder_and_a_foreign_file_say_what_is_wanted(tmp_path):
    with pytest.raises(DataError, match=r"holds no run: neither \.jsonl nor \.msgpack"):
        open_source(str(tmp_path))
    foreign = tmp_path / "notes.txt"
    foreign.write_text("hello")
    with open_source(str(foreign)) as source, pytest.raises(DataError, match=r"ends in \.jsonl or \.msgpack"):
        list(source)


def test_a_search_term_without_a_value_is_refused():
    with pytest.raises(DataError, match="'plan_name' is not a search term; mend: write key=value"):
        search_of(["plan_name"])


@pytest.mark.parametrize("value", ["[", "!!python/x y", "*a", "%", "!!bool x", "!!int ''", "!!int x", "\0"])
def test_a_search_term_that_is_no_yaml_is_refused_with_what_to_write(value):
    with pytest.raises(DataError, match=r"'a=.*' is not a search term; mend: write key=value, .* quotes: a="):
        search_of([f"a={value}"])


def test_a_value_with_signs_is_found_in_quotes():
    assert search_of(["a='['", 'b="!x"', "c=[1, 2]"]) == {"a": "[", "b": "!x", "c": [1, 2]}
