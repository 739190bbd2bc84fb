"""The process that reads external data: the same values, and no file can hang, end or fill this one."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import h5py
import numpy as np
import pytest
from explosive import explosive
from leases import held

from skyloop.documents.external import ExternalData, NotYet, Roots, Unreadable
from skyloop.errors import ConfigError
from skyloop.runtime import _messages, _reading_process, external_reader
from skyloop.runtime.external_reader import Reader

ENTRY = {"source": "test", "dtype": "array", "shape": [3, 4], "external": "STREAM:"}
FRAMES = np.arange(60.0).reshape(5, 3, 4)


def resource(path: Path, dataset: str = "data") -> dict[str, Any]:
    return {
        "uid": f"of {path.name} {dataset}",
        "data_key": "det",
        "mimetype": "application/x-hdf5",
        "uri": f"file://localhost{path}",
        "parameters": {"dataset": dataset},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = FRAMES
    return tmp_path / "a.h5"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader({}, [str(tmp_path)], deadline=20.0)
    yield made
    made.close()


def until(condition: Any) -> bool:
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        os.sched_yield()
    return bool(condition())


def reason(answer: Any) -> str:
    assert isinstance(answer, Unreadable)
    return answer.reason


@pytest.mark.parametrize("kind", ["u1", ">u2", "<i4", "f4", ">f8", "c16", "?"])
def test_values_are_those_that_are_read_here(tmp_path: Path, reader: Reader, kind: str) -> None:
    stored = (np.random.default_rng(1).random((3, 3, 4)) * 200).astype(kind)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"], file["sum"] = stored, np.asfortranarray(stored[:, :, 0])
    here = ExternalData(Roots({}, [str(tmp_path)]))
    for dataset, shape in (("data", [3, 4]), ("sum", [3])):
        given = resource(tmp_path / "b.h5", dataset), 1, {**ENTRY, "shape": shape}
        ours, theirs = (read.frame(*given) for read in (here, reader))
        assert isinstance(ours, np.ndarray)
        assert isinstance(theirs, np.ndarray)
        assert theirs.dtype == ours.dtype
        np.testing.assert_array_equal(theirs, ours)
    here.forget([])


def test_numbers_and_what_is_not_there_come_as_they_are(tmp_path: Path, path: Path, reader: Reader) -> None:
    with h5py.File(path, "a") as file:
        file["sum"] = np.arange(5.0)
    assert reader.frame(resource(path, "sum"), 3, {"dtype": "number", "shape": []}) == 3.0
    assert isinstance(reader.frame(resource(path), 5, ENTRY), NotYet)
    assert isinstance(reader.frame(resource(tmp_path / "none.h5"), 0, ENTRY), NotYet)
    assert "outside" in reason(reader.frame(resource(Path("/etc/hostname")), 0, ENTRY))


def test_numbers_of_numpy_in_documents_and_complex_ones_in_files_travel_as_they_are(
    tmp_path: Path, reader: Reader
) -> None:
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["entry/data/data"] = FRAMES
        file["phase"] = np.array([1 + 2j, 3 - 1j])
    spec = {"uid": "r", "spec": "AD_HDF5", "root": str(tmp_path), "resource_path": "b.h5"}
    spec |= {"resource_kwargs": {"frame_per_point": np.int64(1)}}
    entry = ENTRY | {"shape": np.array([3, 4])}
    image = reader.datum(spec, {"datum_kwargs": {"point_number": np.int32(3)}}, entry)
    np.testing.assert_array_equal(image, FRAMES[3])
    number = {"dtype": "number", "shape": []}
    assert reader.frame(resource(tmp_path / "b.h5", "phase"), 1, number) == 3 - 1j


def test_a_file_that_grows_is_looked_at_again_in_the_next_round(tmp_path: Path, reader: Reader) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        data = file.create_dataset("data", (1, 3, 4), "f8", maxshape=(None, 3, 4), chunks=(1, 3, 4))
        data[0] = FRAMES[0]
        file.swmr_mode = True
        assert isinstance(reader.frame(resource(tmp_path / "a.h5"), 1, ENTRY), NotYet)
        data.resize(2, axis=0)
        data[1] = FRAMES[1]
        data.flush()
        assert isinstance(reader.frame(resource(tmp_path / "a.h5"), 1, ENTRY), NotYet)
        reader.new_round()
        np.testing.assert_array_equal(reader.frame(resource(tmp_path / "a.h5"), 1, ENTRY), FRAMES[1])


@pytest.mark.parametrize("filtered", [{}, {"compression": "gzip"}], ids=["plain", "gzip"])
def test_a_chunk_that_was_read_before_is_read_as_it_is_now(
    tmp_path: Path, reader: Reader, filtered: dict[str, Any]
) -> None:
    given, number = resource(tmp_path / "a.h5"), {"dtype": "number", "shape": []}
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        data = file.create_dataset("data", (4,), "f8", maxshape=(None,), chunks=(4,), **filtered)
        data[0] = 7.0
        file.swmr_mode = True
        assert reader.frame(given, 0, number) == 7.0
        # HDF5 does not tell which rows of a chunk are written: whoever announces one must have written it
        assert reader.frame(given, 1, number) == 0.0
        data[1] = 8.0
        data.flush()
        assert reader.frame(given, 1, number) == 8.0


def test_stored_values_of_other_types_are_no_numbers(tmp_path: Path, reader: Reader) -> None:
    np.save(tmp_path / "a_0.npy", np.array(["word"]))
    np.save(tmp_path / "a_1.npy", np.array(3.0))
    spec = {"uid": "r", "spec": "NPY_SEQ", "root": str(tmp_path), "resource_path": "a", "resource_kwargs": {}}
    entry = {"dtype": "array", "shape": [1]}
    assert "no numbers" in reason(reader.datum(spec, {"datum_kwargs": {"index": 0}}, entry))
    assert "no numbers" in reason(reader.datum(spec, {"datum_kwargs": {"index": 0}}, {"dtype": "string"}))
    assert reader.datum(spec, {"datum_kwargs": {"index": 1}}, {"dtype": "number", "shape": []}) == 3.0


def test_no_file_is_opened_in_this_process(
    path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("opened here")

    monkeypatch.setattr(h5py.h5f, "open", refuse)
    np.testing.assert_array_equal(reader.frame(resource(path), 1, ENTRY), FRAMES[1])


def test_without_an_allowed_folder_no_process_is_started(path: Path) -> None:
    reader = Reader()
    assert "mend: allowed_roots" in reason(reader.frame(resource(path), 0, ENTRY))
    assert reader.pid == 0
    with pytest.raises(ConfigError, match="absolute"):
        Reader({}, ["data"])


class Handler:
    def __init__(self, path: str) -> None:
        self.pid = os.getpid()

    def __call__(self) -> list[float]:
        return [float(self.pid)]


def test_a_reader_of_ones_own_works_here(tmp_path: Path) -> None:
    reader = Reader({}, [str(tmp_path)], {"MINE": Handler})
    spec = {"uid": "r", "spec": "MINE", "root": str(tmp_path), "resource_path": "a", "resource_kwargs": {}}
    value = reader.datum(spec, {"datum_kwargs": {}}, {"dtype": "number", "shape": []})
    assert value == float(os.getpid())
    reader.close()


# what hangs, lies and explodes ------------------------------------------------------------------------


def test_a_file_that_cannot_be_opened_costs_its_deadline_and_is_read_when_it_can(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader({}, [str(tmp_path)], deadline=0.3)
    with held(path):
        assert reason(reader.frame(resource(path), 0, ENTRY)) == "its data could not be read within 0.3 s"
    assert "of a.h5 data" in caplog.text
    assert until(lambda: isinstance(reader.frame(resource(path), 0, ENTRY), np.ndarray))
    reader.close()


def test_a_resource_that_is_read_in_vain_three_times_is_left_alone_until_its_run_is_forgotten(
    path: Path, tmp_path: Path
) -> None:
    reader = Reader({}, [str(tmp_path)], deadline=0.3)
    with held(path):
        for _ in range(3):
            assert "within 0.3 s" in reason(reader.frame(resource(path), 0, ENTRY))
        pid = reader.pid
        assert "left alone after 3" in reason(reader.frame(resource(path), 0, ENTRY))
        assert reader.pid == pid == 0
        reader.forget(["of another run"])
        assert "left alone after 3" in reason(reader.frame(resource(path), 0, ENTRY))
    reader.forget([resource(path)["uid"]])
    assert until(lambda: isinstance(reader.frame(resource(path), 0, ENTRY), np.ndarray))
    reader.close()


class Clock:
    """Stands for the module `time` of the reader; stands still unless a test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(external_reader, "time", made)
    return made


def look(reader: Reader, path: Path, clock: Clock, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a reading gives whose answer takes so long."""

    def hear(*given: Any) -> Any:
        answer = _messages.hear(*given)
        clock.seconds += seconds if answer != "ready" else 0.0
        return answer

    monkeypatch.setattr(_reading_process, "hear", hear)
    return reader.frame(resource(path), 0, ENTRY)


def test_long_readings_in_vain_with_a_quick_one_in_between_are_not_in_a_row(
    tmp_path: Path, reader: Reader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds in (2.0, 2.0, 0.0, 2.0, 2.0, 0.0):
        reader.new_round()
        assert isinstance(look(reader, tmp_path / "late.h5", clock, seconds, monkeypatch), NotYet)


def test_a_quick_answer_without_a_look_at_the_file_does_not_part_long_readings(
    tmp_path: Path, reader: Reader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        reader.new_round()
        for seconds in (2.0, 0.0):  # the second of a round is answered from the first
            look(reader, tmp_path / "slow.h5", clock, seconds, monkeypatch)
    assert "left alone after 3" in reason(look(reader, tmp_path / "slow.h5", clock, 0.0, monkeypatch))


def test_the_start_of_the_process_is_no_part_of_a_reading(
    tmp_path: Path, reader: Reader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hear(*given: Any) -> Any:
        answer = _messages.hear(*given)
        clock.seconds += 2.0 if answer == "ready" else 0.0
        return answer

    monkeypatch.setattr(_reading_process, "hear", hear)
    for _ in range(4):
        assert isinstance(reader.frame(resource(tmp_path / "late.h5"), 0, ENTRY), NotYet)
        os.kill(reader.pid, signal.SIGKILL)


def test_a_machine_that_gives_less_memory_than_the_limit_is_enough(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = subprocess.Popen

    def limited(command: list[str], **options: Any) -> Any:
        return started(["sh", "-c", 'ulimit -d 3000000 && exec "$@"', "sh", *command], **options)

    monkeypatch.setattr(subprocess, "Popen", limited)
    reader = Reader({}, [str(tmp_path)])
    np.testing.assert_array_equal(reader.frame(resource(path), 1, ENTRY), FRAMES[1])
    reader.close()


def test_a_chunk_that_explodes_takes_no_more_than_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reading_process, "_MOST_MEMORY", 400 * 2**20)
    monkeypatch.setattr(external_reader, "_SLOW_SECONDS", 0.0)
    explosive(tmp_path / "b.h5")
    assert (tmp_path / "b.h5").stat().st_size < 8 * 2**20
    reader = Reader({}, [str(tmp_path)])
    for index in range(3):
        answer = reader.frame(resource(tmp_path / "b.h5"), index, ENTRY)
        assert isinstance(answer, NotYet | Unreadable)
        reader.new_round()
    assert "left alone" in reason(reader.frame(resource(tmp_path / "b.h5"), 3, ENTRY))
    reader.close()


def test_a_process_that_was_killed_is_replaced_and_the_frame_is_read(path: Path, reader: Reader) -> None:
    first = reader.frame(resource(path), 0, ENTRY)
    pid = reader.pid
    os.kill(pid, signal.SIGKILL)
    np.testing.assert_array_equal(reader.frame(resource(path), 0, ENTRY), first)
    assert reader.pid not in (0, pid)


def test_what_ends_each_process_is_given_up(
    path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reading_process, "_MOST_MEMORY", 2**20)  # none can even begin
    reader.frame(resource(path), 0, ENTRY)
    os.kill(reader.pid, signal.SIGKILL)
    assert "ended, and so did the next" in reason(reader.frame(resource(path), 0, ENTRY))


def test_a_system_without_processes_costs_the_frame(
    path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> Any:
        raise OSError("Resource temporarily unavailable")

    reader.frame(resource(path), 0, ENTRY)
    os.kill(reader.pid, signal.SIGKILL)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", gone)
        assert reason(reader.frame(resource(path), 0, ENTRY)) == (
            "no process can be started to read it: OSError: Resource temporarily unavailable"
        )
    np.testing.assert_array_equal(reader.frame(resource(path), 0, ENTRY), FRAMES[0])


def test_a_document_that_cannot_travel_costs_its_frame_alone(path: Path, reader: Reader) -> None:
    given = resource(path) | {"parameters": {"dataset": "data", "odd": lambda: 0}}
    assert "a function is nothing that a document can hold" in reason(reader.frame(given, 0, ENTRY))
    np.testing.assert_array_equal(reader.frame(resource(path), 0, ENTRY), FRAMES[0])


def test_ending_it_ends_a_reading_that_hangs(path: Path, reader: Reader) -> None:
    answers: list[Any] = []
    reader.frame(resource(path), 0, ENTRY)
    reader.forget([])  # the file is open no more
    with held(path):
        thread = Thread(target=lambda: answers.append(reader.frame(resource(path), 0, ENTRY)))
        thread.start()
        reader.close()
        thread.join(15)
        assert not thread.is_alive()
    closed = "the analysis was closed before its data were read"
    assert reason(answers[0]) == closed
    assert reason(reader.frame(resource(path), 0, ENTRY)) == closed
    assert reader.pid == 0


def test_a_reader_that_nobody_holds_takes_its_process_with_it(tmp_path: Path) -> None:
    reader = Reader({}, [str(tmp_path)])
    pid = reader.pid
    assert pid
    del reader
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


ASKS = """
import sys
from pathlib import Path
from skyloop.runtime.external_reader import Reader
from test_external_reader import ENTRY, resource
path = Path(sys.argv[1])
reader = Reader({}, [str(path.parent)], deadline=2.0)
reader.frame(resource(path, "none"), 0, ENTRY)
reader.forget([])
print(reader.pid, flush=True)
sys.stdin.readline()
reader.frame(resource(path), 0, ENTRY)
"""


def test_a_reading_that_hangs_outlives_the_program_that_asked_by_twice_its_deadline_at_most(
    path: Path,
) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command, pipe = [sys.executable, "-c", ASKS, str(path)], subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as asking:
        assert asking.stdout is not None
        assert asking.stdin is not None
        child = Path("/proc", asking.stdout.readline().strip())
        with held(path):
            asking.stdin.write("go\n")
            asking.stdin.flush()
            assert until(lambda: "BREAKING" in Path("/proc/locks").read_text())
            asking.kill()
            assert until(lambda: not (child / "exe").exists())  # gone, or nothing but its number is left
