"""Msgpack with arrays: exact round trips, and nothing hostile is run or believed."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from stored_runs import analysis_run, essence, raw_run

from skyloop.errors import DataError
from skyloop.storage.packed import encode, pack, read_packed, unpack

ARRAYS = {
    "strided": np.arange(12.0)[::3],
    "two axes, Fortran order": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "no axis": np.array(1.5),
    "empty": np.empty((0, 3)),
    "big-endian": np.arange(3, dtype=">u2"),
    "text": np.array(["a", "Å"]),
    "bytes": np.array([b"ab", b"c"]),
    "not a number": np.array([np.nan, np.inf, -0.0]),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
}


packb: Any = msgpack.packb


def foreign(array):
    """An array as msgpack_numpy lays it out."""
    return {
        b"nd": True,
        b"type": array.dtype.str,
        b"kind": b"",
        b"shape": array.shape,
        b"data": array.tobytes(),
    }


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_an_array_comes_back_exactly(array):
    assert same(unpack(pack({"x": array}))["x"], array)


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_an_array_in_the_layout_of_msgpack_numpy_is_read_exactly(array):
    assert same(unpack(packb(foreign(array))), array)


def test_scalars_of_msgpack_numpy_are_read():
    scalar = {b"nd": False, b"type": "<f4", b"data": np.float32(1.5).tobytes()}
    assert unpack(packb(scalar)) == 1.5
    assert unpack(packb({b"complex": True, b"data": "(1+2j)"})) == 1 + 2j


def test_a_received_array_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        unpack(pack(np.arange(3)))[0] = 1


def test_the_pickle_message_runs_nothing(tmp_path):
    mark = tmp_path / "ran"
    pickled = b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    hostile = {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": pickled}
    with pytest.raises(ValueError, match="refused"):
        unpack(packb(hostile))
    assert not mark.exists()


HOSTILE = {
    "objects under another kind": foreign(np.arange(1)) | {b"type": "|O"},
    "objects in our layout": {"__nd__": ["|O", [1], b"\0" * 8]},
    "a structure": foreign(np.arange(1)) | {b"type": "i4,i4"},
    "a subarray": {"__nd__": ["3f8", [1], b"\0" * 24]},
    "times": {"__nd__": ["<M8[s]", [1], b"\0" * 8]},
    "no dtype": {"__nd__": ["nonsense", [1], b"\0" * 8]},
    "too few bytes": {"__nd__": ["<f8", [2], b"\0" * 8]},
    "too many bytes": {"__nd__": ["<f8", [2], b"\0" * 24]},
    "a negative size": {"__nd__": ["<f8", [-1], b"\0" * 8]},
    "two negative sizes": {"__nd__": ["<f8", [-1, -1], b"\0" * 8]},
    "elements of no size": {"__nd__": ["<U0", [1 << 40], b""]},
    "a shape beyond memory": {"__nd__": ["<f8", [1 << 62, 4], b""]},
    "shape is no list": {"__nd__": ["<f8", "2", b"\0" * 16]},
    "sizes are no numbers": {"__nd__": ["<f8", ["a"], b"\0" * 8]},
    "code points that are no text": {"__nd__": ["<U1", [1], b"\xff" * 4]},
    "parts missing": {"__nd__": ["<f8"]},
    "nothing but the mark": {b"nd": True},
    "data as text": {"__nd__": ["<f8", [1], "abcdefgh"]},
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_array_is_refused(message):
    with pytest.raises(ValueError, match=r"refused|not|needs|is \["):
        unpack(packb({"x": message}))


@pytest.mark.parametrize("value", [np.array([object()]), np.zeros(1, "i4,i4"), object()])
def test_what_is_no_plain_array_is_not_sent(value):
    with pytest.raises(TypeError, match="no place"):
        encode(value)


def test_a_file_of_suitcase_msgpack_is_read(tmp_path):
    documents = raw_run("a")
    file = tmp_path / "a.msgpack"
    file.write_bytes(b"".join(packb(d, default=foreign) for d in documents))
    assert essence(read_packed(file)) == essence(documents)


def test_a_packed_run_comes_back_with_every_bit(tmp_path):
    documents = analysis_run("raw")
    file = tmp_path / "a.msgpack"
    file.write_bytes(b"".join(pack(list(document)) for document in documents))
    assert essence(read_packed(file)) == essence(documents)


def test_a_file_cut_anywhere_gives_the_documents_before_the_cut(tmp_path):
    packed = [pack(list(document)) for document in raw_run("a")]
    whole, file = b"".join(packed), tmp_path / "a.msgpack"
    ends = np.cumsum([len(part) for part in packed])
    for cut in range(0, len(whole), 7):
        file.write_bytes(whole[:cut])
        assert len(list(read_packed(file))) == int((ends <= cut).sum())


@pytest.mark.parametrize("content", [b"\xc1\xc1", pack(3), pack(["start", 3]), pack(HOSTILE["times"])])
def test_a_file_that_holds_no_documents_says_so(tmp_path, content):
    file = tmp_path / "a.msgpack"
    file.write_bytes(pack(["start", {"uid": "r"}]) + content)
    with pytest.raises(DataError, match=r"a\.msgpack after 1 documents|a\.msgpack after 2 documents"):
        list(read_packed(file))


def test_random_damage_is_an_error_or_a_document_and_never_a_crash(tmp_path):
    rng = np.random.default_rng(3)
    whole = np.frombuffer(b"".join(pack(list(d)) for d in raw_run("a")), np.uint8)
    file = tmp_path / "a.msgpack"
    refused = 0
    for _ in range(1000):
        damaged = whole.copy()
        damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
        file.write_bytes(damaged.tobytes())
        try:
            assert all(isinstance(name, str) for name, _ in read_packed(file))
        except DataError:
            refused += 1
    assert refused > 0
