"""Replay gives callbacks what was measured; measured growth series make raw runs for it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from event_model import DocumentNames, schema_validators
from examples.growth_series import growth_runs
from stored_runs import analysis_run, essence, page_of, raw_run

from skyloop.storage.digest import digest
from skyloop.storage.jsonl import JsonlWriter, read_jsonl
from skyloop.storage.replay import ReplayReport, replay

GROWTH = "reflectometry/xrr/organic_films_on_silicon.h5"
SHAPES = {"DIP_1": (79, 52), "DIP_2": (69, 63), "PEN_1": (20, 45)}


def test_every_callback_gets_every_document_in_order():
    documents = raw_run("a")
    first, second = [], []
    report = replay(documents, [lambda *d: first.append(d), lambda *d: second.append(d)])
    assert first == second == documents
    assert report == ReplayReport(documents=6, events=3)


def test_events_in_pages_are_counted_one_by_one():
    documents = raw_run("a")
    assert replay([page_of(documents)], []) == ReplayReport(documents=1, events=3)


def test_what_a_callback_raises_goes_to_the_caller():
    def broken(name, doc):
        raise RuntimeError(name)

    with pytest.raises(RuntimeError, match="start"):
        replay(raw_run("a"), [broken])


def test_the_digest_tells_results_apart_and_nothing_else():
    same = digest(analysis_run("raw", queue=3.0, first=1.9e9)).hexdigest()
    assert digest(analysis_run("raw")).hexdigest() == same
    others = [analysis_run("raw", seed=2), analysis_run("other"), analysis_run("raw", points=4)]
    assert len({same, *(digest(other).hexdigest() for other in others)}) == 4


def test_the_digest_of_an_analysis_does_not_depend_on_its_batches():
    documents = analysis_run("raw")
    fewer = [d for d in documents if not (d[0] == "event" and d[1]["data"].get("raw_seq_num") == 2)]
    assert digest(fewer).hexdigest() == digest(documents).hexdigest()
    raw = raw_run("a")
    assert digest([*raw[:3], *raw[4:]]).hexdigest() != digest(raw).hexdigest()


def listed(event):
    return event | {"data": {key: np.asarray(value).tolist() for key, value in event["data"].items()}}


def test_the_digest_does_not_depend_on_how_numbers_are_kept():
    raw = raw_run("a")
    lists = [(name, listed(doc) if name == "event" else doc) for name, doc in raw]
    paged = [*raw[:2], page_of(raw), raw[-1]]
    assert digest(lists).hexdigest() == digest(raw).hexdigest() == digest(paged).hexdigest()


@pytest.mark.parametrize("group", SHAPES)
def test_growth_series_become_valid_raw_runs_with_the_measured_values(shared_data, group):
    runs = list(growth_runs(shared_data / GROWTH, group))
    with h5py.File(shared_data / GROWTH) as file:
        q, curves = (np.array(file[f"{group}/experiment/{name}"]) for name in ("q", "data"))
    assert (len(runs), len(runs[0]) - 3) == curves.shape == SHAPES[group]
    assert len({documents[0][1]["uid"] for documents in runs}) == len(runs)
    for documents, curve in zip(runs, curves, strict=True):
        data = [doc["data"] for name, doc in documents if name == "event"]
        np.testing.assert_array_equal([row["reflectivity"] for row in data], curve)
        np.testing.assert_array_equal([row["q"] for row in data], q)
    for name, doc in runs[-1]:
        schema_validators[DocumentNames[name]].validate(doc)


def test_a_growth_series_survives_the_way_through_files(shared_data, tmp_path):
    writer = JsonlWriter(tmp_path)
    for documents in growth_runs(shared_data / GROWTH, "PEN_1"):
        replay(documents, [writer])
        uid = documents[0][1]["uid"]
        assert essence(read_jsonl(writer.path(uid))) == essence(documents)
