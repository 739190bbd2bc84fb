"""Writers that died and disks that are full: nothing is lost, and nothing torn passes for a finished run."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from part_files import OTHER, RUN, UID, fails, holds, killed, parts, put

from skyloop.errors import StorageError
from skyloop.storage import _parts
from skyloop.storage.jsonl import JsonlWriter, json_line, read_jsonl


def test_what_was_left_unfinished_stays_until_the_run_is_whole(tmp_path: Path) -> None:
    left = [killed(tmp_path, RUN[:4]), killed(tmp_path, RUN[:2])]
    writer = JsonlWriter(tmp_path)
    for document in RUN[:-1]:
        writer(*document)
        assert [len(list(read_jsonl(path))) for path in left] == [4, 2]
    writer(*RUN[-1])
    assert list(tmp_path.iterdir()) == [writer.path(UID)]


def test_what_was_refused_stays_and_is_kept_once(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    put(writer, RUN)
    for _ in range(3):
        with pytest.raises(StorageError, match="other content"):
            put(writer, OTHER)
    put(writer, RUN)
    (part,) = parts(tmp_path)
    assert holds(part, OTHER)


def test_a_part_that_cannot_be_read_stays_for_a_person_to_look_at(tmp_path: Path) -> None:
    left = killed(tmp_path, RUN[:4])
    left.write_bytes(b"not json\n" + left.read_bytes())
    put(JsonlWriter(tmp_path), RUN)
    assert parts(tmp_path) == [left]


def test_parts_of_other_runs_and_copies_are_left_alone(tmp_path: Path) -> None:
    uids = ["a.b", "a", "a.b.1-1", "axb", "a.bc", "a.b[1]", "A.b"]
    mine, *others = [killed(tmp_path, [("start", {"uid": uid, "time": 1.0})]) for uid in uids]
    copy = mine.with_name(f"{mine.name}~")
    copy.write_bytes(mine.read_bytes())
    stop = {"uid": "s", "run_start": "a.b", "time": 2.0, "exit_status": "success"}
    writer = JsonlWriter(tmp_path)
    put(writer, [("start", {"uid": "a.b", "time": 1.0}), ("stop", stop)])
    assert set(tmp_path.iterdir()) == {*others, copy, writer.path("a.b")}


def test_a_part_that_was_removed_meanwhile_is_told(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    put(writer, RUN[:-1])
    parts(tmp_path)[0].unlink()
    with pytest.raises(StorageError, match=r"\.part was removed while it was written; mend: write the run"):
        writer(*RUN[-1])
    assert list(tmp_path.iterdir()) == []


def test_a_part_taken_for_left_over_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = _parts._locked, []

    def locked_late(file: Any, *, wait: bool) -> bool:
        if wait and not taken:
            taken.append(Path(file.name))
            taken[0].unlink()
        return lock(file, wait=wait)

    monkeypatch.setattr(_parts, "_locked", locked_late)
    put(JsonlWriter(tmp_path), RUN)
    assert taken
    (file,) = tmp_path.iterdir()
    assert holds(file, RUN)


def test_where_there_are_no_hard_links_the_same_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", fails(errno.EPERM))
    writer = JsonlWriter(tmp_path)
    put(writer, RUN)
    put(writer, RUN)
    assert list(tmp_path.iterdir()) == [writer.path(UID)]
    with pytest.raises(StorageError, match="other content"):
        put(writer, OTHER)
    assert holds(writer.path(UID), RUN)
    assert holds(parts(tmp_path)[0], OTHER)


def test_where_there_are_no_locks_no_part_is_taken_for_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", fails(errno.ENOLCK))
    left, writer = killed(tmp_path, RUN[:4]), JsonlWriter(tmp_path)
    put(writer, RUN)
    assert holds(writer.path(UID), RUN)
    assert parts(tmp_path) == [left]


def test_a_folder_that_cannot_be_listed_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JsonlWriter(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", fails(errno.EACCES))
        put(writer, RUN)
    assert holds(writer.path(UID), RUN)


@contextmanager
def room_for(size: int) -> Generator[None]:
    """No file of this process can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


LINES = [json_line(*document) for document in RUN]
SIZE = sum(map(len, LINES))


@pytest.mark.parametrize(
    "room", [sum(map(len, LINES[:n])) + more for n in range(len(RUN)) for more in (0, 1, 40)] + [SIZE - 2]
)
def test_a_disk_that_fills_up_leaves_no_finished_run_and_what_was_there_before(
    tmp_path: Path, room: int
) -> None:
    left, writer = killed(tmp_path, RUN[:4]), JsonlWriter(tmp_path)
    refused: list[str] = []
    with room_for(room):
        for document in RUN:
            try:
                writer(*document)
            except StorageError as error:
                refused.append(str(error))
    assert len(refused) == 1
    assert f"{writer.path(UID)}: [Errno {errno.EFBIG}] File too large" in refused[0]
    assert not writer.path(UID).exists()
    assert len(list(read_jsonl(left))) == 4
    assert all("stop" not in [name for name, _ in read_jsonl(part)] for part in parts(tmp_path))
    put(writer, RUN)
    assert list(tmp_path.iterdir()) == [writer.path(UID)]
    assert holds(writer.path(UID), RUN)


def test_a_disk_that_tells_only_at_the_end_that_it_is_full_gives_no_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JsonlWriter(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails(errno.ENOSPC))
        with pytest.raises(StorageError, match=rf"{UID}\.jsonl: \[Errno 28\] No space left"):
            put(writer, RUN)
    assert not writer.path(UID).exists()
    assert len(parts(tmp_path)) == 1
