"""Several writers of one run: each has a file of its own, and what is settled at the stop loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Thread
from typing import IO, Any, cast

import numpy as np
import pytest
from part_files import OTHER, RUN, UID, holds, parts, put
from stored_runs import analysis_run, essence, raw_run

from skyloop.errors import StorageError
from skyloop.storage.jsonl import JsonlWriter, read_jsonl
from skyloop.storage.sources import open_source

CHILD = """
import sys
from pathlib import Path
from stored_runs import analysis_run
from skyloop.storage.jsonl import JsonlWriter

writer, documents = JsonlWriter(Path(sys.argv[1])), iter(analysis_run("raw"))
for line in sys.stdin:
    for _ in range(int(line)):
        writer(*next(documents))
    print("written", flush=True)
"""


@pytest.mark.parametrize("cut", range(1, len(RUN)))
def test_two_writers_of_equal_runs_both_succeed_and_leave_one_file(tmp_path: Path, cut: int) -> None:
    early, late = JsonlWriter(tmp_path), JsonlWriter(tmp_path)
    put(early, RUN[:cut])
    put(late, RUN)
    assert len(list(read_jsonl(*parts(tmp_path)))) == cut
    put(early, RUN[cut:])
    assert list(tmp_path.iterdir()) == [early.path(UID)]
    assert holds(early.path(UID), RUN)


@pytest.mark.parametrize("cut", range(1, len(RUN)))
def test_of_two_writers_of_differing_runs_the_later_is_told_where_its_data_are(
    tmp_path: Path, cut: int
) -> None:
    early, late = JsonlWriter(tmp_path), JsonlWriter(tmp_path)
    put(early, RUN[:cut])
    put(late, OTHER)
    with pytest.raises(
        StorageError, match=rf"{UID}\.jsonl: the file holds this run with other.*mend"
    ) as told:
        put(early, RUN[cut:])
    (part,) = parts(tmp_path)
    assert part.name in str(told.value)
    assert holds(part, RUN)
    assert holds(late.path(UID), OTHER)


def test_writers_that_end_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    together = Barrier(2)
    refused: list[str] = []

    def write(seed: int) -> None:
        writer = JsonlWriter(tmp_path)
        for number in range(30):
            *documents, stop = analysis_run(f"raw {number}", seed=seed)
            put(writer, documents)
            together.wait(30)
            try:
                put(writer, [stop])
            except StorageError:
                refused.append(documents[0][1]["uid"])

    threads = [Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(refused) == len(set(refused)) == 30
    for number in range(30):
        runs = [analysis_run(f"raw {number}", seed=seed) for seed in (1, 2)]
        files = [path for path in tmp_path.iterdir() if path.name.startswith(runs[0][0][1]["uid"])]
        assert sorted(path.suffix for path in files) == [".jsonl", ".part"]
        assert all(any(holds(file, run) for file in files) for run in runs)


class Met(np.ndarray[Any, Any]):
    """An array that waits, while it is written, for another one that is written."""

    together = Barrier(2)

    def tolist(self) -> Any:
        with suppress(BrokenBarrierError):
            self.together.wait(0.5)
        return super().tolist()


def test_one_writer_on_two_threads_takes_one_document_at_a_time(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    runs = [raw_run(name) for name in "ab"]
    for documents in runs:
        documents[2][1]["data"]["curve"] = documents[2][1]["data"]["curve"].view(Met)
    threads = [Thread(target=put, args=(writer, documents)) for documents in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Met.together.broken
    for documents in runs:
        assert holds(writer.path(documents[0][1]["uid"]), documents)


@contextmanager
def another_process(folder: Path) -> Generator[Any]:
    """`go(n)` writes n more documents there; `go(0)` kills it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, str(folder)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        stdin, stdout = cast("tuple[IO[str], IO[str]]", (process.stdin, process.stdout))

        def go(number: int) -> None:
            if not number:
                process.kill()
                process.wait(30)
                return
            stdin.write(f"{number}\n")
            stdin.flush()
            assert stdout.readline() == "written\n"

        yield go
        stdin.close()


def test_two_processes_write_one_run_side_by_side(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    put(writer, RUN[:2])
    with another_process(tmp_path) as go:
        go(3)
        put(writer, RUN[2:])
        assert holds(writer.path(UID), RUN)
        assert len(parts(tmp_path)) == 1
        go(len(RUN) - 3)
    assert list(tmp_path.iterdir()) == [writer.path(UID)]


def test_what_a_killed_process_wrote_is_read_until_the_whole_run_is_there(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    with another_process(tmp_path) as go:
        go(4)
        put(writer, RUN)
        (part,) = parts(tmp_path)  # it is still being written
        go(0)
    with open_source(str(part)) as source:
        (run,) = source.all_runs()
        assert essence(run.documents()) == essence(RUN[:4])
    put(writer, RUN)
    assert list(tmp_path.iterdir()) == [writer.path(UID)]
