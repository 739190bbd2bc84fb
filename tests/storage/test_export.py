"""Results as tables and datasets: every value, unit and dimension of the result type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from stored_runs import Fitted, analysis_run, raw_run

from skyloop.documents.schema import decode
from skyloop.errors import DataError
from skyloop.quantities import quantities
from skyloop.storage.export import results, table
from skyloop.storage.jsonl import JsonlWriter, read_jsonl


@pytest.fixture
def documents():
    return analysis_run("raw", points=4)


def decoded(documents):
    events = [doc for name, doc in documents if name == "event" and "raw_seq_num" in doc["data"]]
    return [decode(Fitted, event["data"], prefix="toy") for event in events]


def test_a_dataset_holds_every_field_of_every_result(documents):
    data = results(documents, Fitted)
    assert set(data.data_vars) == set(quantities(Fitted))
    for index, result in enumerate(decoded(documents)):
        for name, (_, quantity) in quantities(Fitted).items():
            assert data[name].dims == ("event", *quantity.dims)
            np.testing.assert_array_equal(data[name].values[index], getattr(result, name))


def test_a_dataset_says_its_units_and_which_run_it_is(documents):
    data = results(documents, Fitted)
    assert data["thickness"].attrs["units"] == data["thickness_sigma"].attrs["units"] == "angstrom"
    assert data["rate"].attrs["units"] == "angstrom/min"  # from the run: the type says angstrom
    assert data.attrs["original_run_uid"] == "raw"
    assert list(data["raw_seq_num"].values) == [1, 2, 3, 4]


def test_a_table_holds_the_scalars_with_their_units(documents):
    frame = table(documents, Fitted)
    rows = decoded(documents)
    assert list(frame.columns[:6]) == ["outcome", "reason", "n_points", "confirmed", "chi2", "rate"]
    assert list(frame.index) == [1, 2, 3, 4]
    np.testing.assert_array_equal(frame["chi2"], [row.chi2 for row in rows])
    assert list(frame["reason"]) == [row.reason for row in rows]
    assert frame.attrs["units"] == {"rate": "angstrom/min"}
    assert list(frame["queue_seconds"]) == [0.5] * 4


def test_the_final_word_is_one_row(documents):
    assert len(table(documents, Fitted, stream="summary")) == 1
    assert results(documents, Fitted, stream="summary").sizes["event"] == 1


def test_a_file_gives_the_same_dataset(documents, tmp_path):
    writer = JsonlWriter(tmp_path)
    for name, doc in documents:
        writer(name, doc)
    read = results(read_jsonl(writer.path(documents[0][1]["uid"])), Fitted)
    assert read.identical(results(documents, Fitted))


@dataclass(frozen=True)
class Newer:
    chi2: float
    evidence: float


def test_what_is_no_analysis_or_of_another_type_is_refused(documents):
    with pytest.raises(DataError, match="is not an analysis; mend"):
        table(raw_run("a"), Fitted)
    with pytest.raises(DataError, match="have no evidence: another version of Newer"):
        table(documents, Newer)
    with pytest.raises(DataError, match="no stream 'nothing'"):
        table(documents, Fitted, stream="nothing")
    with pytest.raises(DataError, match="no stream 'primary'"):
        table([], Fitted)
