"""What a file could make of the process that reads it: nothing that this says runs here, or fills memory."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skyloop.documents.external import Unreadable
from skyloop.runtime.external_reader import Reader

ENTRY = {"source": "test", "dtype": "array", "shape": [3, 4], "external": "STREAM:"}
RESOURCE = {"uid": "r", "data_key": "det", "mimetype": "application/x-hdf5", "uri": "file:///a.h5"}
SAYS = """
import os, sys, time
pipe, said = int(sys.argv[1]), [bytes.fromhex(each) for each in sys.argv[2:]]
for each in said:
    os.read(pipe, 2**20)
    os.write(pipe, each)
os.read(pipe, 2**20)
"""
"""A child that answers each message with the bytes that it was given."""


def framed(said: bytes) -> bytes:
    return len(said).to_bytes(4, "big") + said


READY = framed(b'"ready"')


class MakesFolder:
    """What a pickle can do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def answer_of_child(
    said: list[bytes], folder: Path, monkeypatch: pytest.MonkeyPatch, deadline: float = 20.0
) -> Any:
    """What is read from a child that answers with these bytes."""
    started = subprocess.Popen

    def hostile(command: list[str], **options: Any) -> Any:
        return started([sys.executable, "-c", SAYS, command[-1], *(each.hex() for each in said)], **options)

    monkeypatch.setattr(subprocess, "Popen", hostile)
    reader = Reader({}, [str(folder)], deadline=deadline)
    try:
        return reader.frame(RESOURCE, 0, ENTRY)
    finally:
        reader.close()


@pytest.mark.parametrize("first", [[], [READY]], ids=["as its first word", "as its answer"])
def test_a_pickle_that_the_child_says_runs_nothing(
    first: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [*first, framed(pickle.dumps(MakesFolder(tmp_path / "made")))]
    answer = answer_of_child(said, tmp_path, monkeypatch)
    assert not (tmp_path / "made").exists()
    assert isinstance(answer, Unreadable)
    assert "cannot be read" in answer.reason


def array(dtype: Any = "<f8", shape: Any = (3, 4), single: Any = False) -> bytes:
    return framed(json.dumps({"kind": "array", "dtype": dtype, "shape": shape, "single": single}).encode())


@pytest.mark.parametrize(
    "said",
    [
        framed(b"no JSON"),
        framed(b"[" * 30_000),
        framed(b"[1, 2]"),
        framed(b'{"kind": "other"}'),
        framed(b'{"kind": "unreadable"}'),
        array("|O"),
        array("<f8,O"),
        array("<f9"),
        array(7),
        array(shape=[-1, 4]),
        array(shape=["3", 4]),
        array(shape=[2**40]),
        array(shape=3),
        array(shape=[2], single=True) + bytes(16),
        (2**31).to_bytes(4, "big"),
    ],
)
def test_what_is_no_answer_costs_its_frame_and_no_memory(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "empty", within(2**20, np.empty))
    answer = answer_of_child([READY, said], tmp_path, monkeypatch)
    assert isinstance(answer, Unreadable)
    assert "cannot be read" in answer.reason


def within(most: int, made: Callable[..., Any]) -> Callable[..., Any]:
    def checked(shape: Any, dtype: Any) -> Any:
        assert np.prod(shape, dtype=float) * np.dtype(dtype).itemsize <= most
        return made(shape, dtype)

    return checked


@pytest.mark.parametrize("said", [b"\x00\x00", framed(b'"ready"')[:-1], array()], ids=len)
def test_an_answer_that_breaks_off_is_waited_for_until_the_deadline(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = answer_of_child([READY, said], tmp_path, monkeypatch, deadline=0.3)
    assert answer == Unreadable("its data could not be read within 0.3 s")
