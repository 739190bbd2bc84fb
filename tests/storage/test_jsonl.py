"""Runs in JSON lines: nothing is lost, nothing is written twice, and a torn file is still read."""

from __future__ import annotations

import json
import os
import re
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pytest
from stored_runs import analysis_run, essence, raw_run, uid_of

from skyloop.errors import DataError, StorageError
from skyloop.storage.jsonl import JsonlWriter, json_line, read_jsonl


def put(writer, documents):
    for name, doc in documents:
        writer(name, doc)


@pytest.fixture
def writer(tmp_path):
    made = JsonlWriter(tmp_path / "runs")
    yield made
    made.close()


def only_file(writer) -> Path:
    (file,) = writer.path("x").parent.iterdir()
    return file


@pytest.mark.parametrize("documents", [analysis_run("raw"), raw_run("a")], ids=["analysis", "raw"])
def test_a_run_comes_back_with_every_bit(writer, documents):
    put(writer, documents)
    assert essence(read_jsonl(writer.path(documents[0][1]["uid"]))) == essence(documents)


def test_interleaved_runs_go_to_their_own_files(writer):
    runs = [raw_run("a"), raw_run("b", seq_nums=(1, 2)), analysis_run(uid_of("a"))]
    put(writer, (doc for doc in chain(*zip_longest(*runs)) if doc))
    for run in runs:
        assert essence(read_jsonl(writer.path(run[0][1]["uid"]))) == essence(run)


def test_every_line_can_be_read_as_soon_as_it_is_written(writer):
    documents = raw_run("a")
    for number, (name, doc) in enumerate(documents, 1):
        writer(name, doc)
        assert len(list(read_jsonl(only_file(writer)))) == number


def test_both_dialects_of_json_lines_are_read(tmp_path):
    documents = raw_run("a")
    ours, suitcase = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    ours.write_bytes(b"".join(json_line(*document) for document in documents))
    plain = [json.loads(line) for line in ours.read_bytes().splitlines()]
    suitcase.write_text("\n".join(json.dumps([line["name"], line["doc"]]) for line in plain))
    assert list(read_jsonl(ours)) == list(read_jsonl(suitcase))


def test_the_same_run_again_is_absorbed_and_the_file_stays(writer):
    put(writer, analysis_run("raw"))
    before = only_file(writer).read_bytes()
    put(writer, analysis_run("raw", queue=9.0, first=1.8e9))
    assert only_file(writer).read_bytes() == before


def test_another_content_under_the_same_uid_is_refused_and_the_file_stays(writer):
    put(writer, analysis_run("raw"))
    before = only_file(writer).read_bytes()
    other = analysis_run("raw", seed=2)
    with pytest.raises(StorageError, match=r"other content; what came now is in (\S+); mend") as refusal:
        put(writer, other)
    file = writer.path(other[0][1]["uid"])
    assert file.read_bytes() == before
    (part,) = (path for path in file.parent.iterdir() if path != file)
    assert part.name in str(refusal.value)
    assert essence(read_jsonl(part)) == essence(other)


def test_a_run_bears_its_name_only_when_it_has_stopped(writer):
    *documents, stop = analysis_run("raw")
    put(writer, documents)
    final = writer.path(documents[0][1]["uid"])
    assert re.fullmatch(rf"{final.stem}\.{os.getpid()}-\d+\.jsonl\.part", only_file(writer).name)
    put(writer, [stop])
    assert only_file(writer) == final


def test_a_run_that_was_cut_short_is_replaced_by_the_whole_one(tmp_path):
    documents = analysis_run("raw")
    first = JsonlWriter(tmp_path)
    put(first, documents[:-3])
    first.close()
    second = JsonlWriter(tmp_path)
    put(second, documents)
    (file,) = tmp_path.iterdir()
    assert file == second.path(documents[0][1]["uid"])
    assert essence(read_jsonl(file)) == essence(documents)


def test_an_unfinished_file_under_the_final_name_is_replaced(tmp_path):
    documents, writer = analysis_run("raw"), JsonlWriter(tmp_path)
    file = writer.path(documents[0][1]["uid"])
    file.write_bytes(b"".join(json_line(*document) for document in documents[:-3]))
    put(writer, documents)
    assert list(tmp_path.iterdir()) == [file]
    assert essence(read_jsonl(file)) == essence(documents)


@pytest.mark.parametrize("documents", [analysis_run("raw"), raw_run("a", seq_nums=(1, 2, 2))])
def test_a_document_that_comes_twice_is_written_once(writer, documents):
    put(writer, (document for document in documents[:-1] for _ in range(2)))
    put(writer, [*documents[-1:], *documents[-2:]])
    assert essence(read_jsonl(only_file(writer))) == essence(documents)


def test_a_torn_last_line_is_passed_over_and_told(writer):
    documents = raw_run("a")
    put(writer, documents)
    file = only_file(writer)
    whole = file.read_bytes()
    last = len(whole.splitlines()[-1])
    for cut in range(2, last):
        file.write_bytes(whole[:-cut])
        read = read_jsonl(file)
        assert len(list(read)) == len(documents) - 1
        assert len(read.notes) == 1
        assert f"line {len(documents)} is torn" in read.notes[0]


def test_a_damaged_line_in_the_middle_names_file_and_line(writer):
    put(writer, raw_run("a"))
    file = only_file(writer)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], lines[1][:40] + b"\n", *lines[2:]]))
    with pytest.raises(DataError, match=r"\.jsonl, line 2 is not a document.*mend"):
        list(read_jsonl(file))


@pytest.mark.parametrize("line", ["3", "[]", '["start"]', '{"name": 1, "doc": {}}', "[" * 20_000])
def test_what_is_no_document_is_refused(tmp_path, line):
    file = tmp_path / "a.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(DataError, match="line 1 is not a document"):
        list(read_jsonl(file))


def test_a_line_without_end_is_refused_before_it_fills_memory(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b" " * 5000)
    with pytest.raises(DataError, match="line 1 is longer than 1000 bytes"):
        list(read_jsonl(file, longest_line=1000))


@pytest.mark.parametrize("uid", ["", "../evil", "a/b", ".hidden"])
def test_a_uid_that_is_a_path_is_refused(writer, uid):
    with pytest.raises(StorageError, match="cannot be the name of a file"):
        writer("start", {"uid": uid, "time": 0.0})


def circle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "reason"),
    [(object(), "no place in a document"), (circle(), "Circular reference"), ({(1, 2): 3}, "keys must be")],
    ids=["object", "circle", "key"],
)
def test_a_document_that_cannot_be_written_ends_its_run_and_no_other(writer, value, reason):
    bad, good = raw_run("bad"), raw_run("good")
    put(writer, [*bad[:2], *good[:2]])
    with pytest.raises(StorageError, match=reason):
        writer("event", bad[2][1] | {"data": {"x": value}})
    put(writer, [*bad[2:], *good[2:]])
    assert not writer.path(uid_of("bad")).exists()
    (part,) = writer.path("x").parent.glob(f"{uid_of('bad')}.*.part")
    assert len(list(read_jsonl(part))) == 2
    assert essence(read_jsonl(writer.path(uid_of("good")))) == essence(good)
