"""Files that are late, absent or damaged, and readers of one's own: each costs its frames and no more."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import toy
from beam import analyzer
from bluesky import plans as bp
from images import IMAGES
from listener import Listener
from waiting import until

from skyloop.callbacks import _pipeline


@pytest.fixture
def recorded(RE: Any, devices: Any, tmp_path: Path) -> tuple[Listener, Path]:
    """A step scan of three frames as documents, and its file."""
    raw = Listener()
    det, motor = devices
    RE(bp.scan([det], motor, 0, 0.02, 3), raw)
    return raw, next((tmp_path / "data").glob("*.h5"))


def absent(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def rubbish(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(path.stat().st_size))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def elsewhere(path: Path) -> None:
    """The data lie in a file outside the roots, and the file links to them."""
    secret = path.parent.parent / "secret.h5"
    shutil.move(path, secret)
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = h5py.ExternalLink(str(secret), "/entry/data/data")


def stored_outside(path: Path) -> None:
    """The dataset itself takes its bytes from another file."""
    secret = path.parent.parent / "secret.bin"
    secret.write_bytes(b"x" * 240 * 320 * 3)
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "entry/data/data", (3, 240, 320), "u1", external=[(str(secret), 0, 240 * 320 * 3)]
        )


def linked(path: Path) -> None:
    """The path is a link that leads out of the roots."""
    secret = path.parent.parent / "secret.h5"
    shutil.move(path, secret)
    path.symlink_to(secret)


def another_shape(path: Path) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.zeros((3, 10, 10), "u1")


def bomb(path: Path) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", (3, 2**20, 2**20), "f8", chunks=(1, 64, 64))


DAMAGES = [
    absent, empty, truncated, rubbish, folder, elsewhere, stored_outside, linked, another_shape, bomb,
]  # fmt: skip


def written(path: Path, frames: int) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((frames, 240, 320))


def announced(path: Path, frames: int = 2) -> list[tuple[str, dict[str, Any]]]:
    """A run of images alone, all announced at once."""
    start, (_, descriptor), stop = toy.raw_run([])
    image = {"source": "test", "dtype": "array", "shape": [1, 240, 320], "external": "STREAM:"}
    resource = {"uid": "sr", "run_start": "raw-1", "data_key": "det", "mimetype": "application/x-hdf5"}
    resource |= {"uri": f"file://localhost{path}", "parameters": {"dataset": "/data"}}
    datum = {"uid": "sr/0", "stream_resource": "sr", "descriptor": "raw-1-d"}
    datum |= {"indices": {"start": 0, "stop": frames}, "seq_nums": {"start": 1, "stop": frames + 1}}
    described = ("descriptor", descriptor | {"data_keys": {"det": image}, "object_keys": {"det": ["det"]}})
    return [start, described, ("stream_resource", resource), ("stream_datum", datum), stop]


def test_a_file_that_appears_after_the_stop_is_read(tmp_path: Path) -> None:
    heard, path = Listener(), tmp_path / "a.h5"
    with analyzer("thread", IMAGES, allowed_roots=[str(tmp_path)]) as analysis:
        analysis.subscribe(heard)
        for item in announced(path):
            analysis(*item)
        until(lambda: analysis._pipeline.late == 1)
        analysis(*toy.raw_run([], "another")[0])
        until(lambda: "another" in analysis._pipeline._open_runs)  # nothing else waits for it
        assert not analysis.flush(0.0)
        written(path, 2)
        assert analysis.flush(30)
        run = heard.run()
        assert run.spots() == [1, 2]
        assert set(run.outcomes().values()) <= {"ok", "superseded"}
        assert run.stop is not None
        assert run.stop["exit_status"] == "success"


def test_a_run_that_begins_again_ends_the_one_that_waits_for_its_data(tmp_path: Path) -> None:
    heard, docs = Listener(), announced(tmp_path / "a.h5")
    with analyzer("thread", IMAGES, allowed_roots=[str(tmp_path)]) as analysis:
        analysis.subscribe(heard)
        for item in docs:
            analysis(*item)
        until(lambda: analysis._pipeline.late == 1)
        analysis(*docs[0])
        until(lambda: heard.names().count("stop") == 1)
    assert list(heard.run().outcomes().values()) == ["failed", "failed"]


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_each_frame_of_a_file_that_never_came_says_that_it_was_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.setattr(_pipeline, "_FILES_SECONDS", 0.1)
    heard, path = Listener(), tmp_path / "a.h5"
    with analyzer(executor, IMAGES, allowed_roots=[str(tmp_path)]) as analysis:
        analysis.subscribe(heard)
        for item in announced(path, frames=3):
            analysis(*item)
        assert analysis.flush(30)
        run = heard.run()
    assert set(run.reasons().values()) == {f"there is no file {path}"}
    assert run.spots() == [1, 2, 3]


class Reader:
    """A reader of one's own, as event-model's Filler takes it."""

    def __init__(self, path: str, *, factor: float) -> None:
        self.value = float(Path(path).read_text()) * factor

    def __call__(self, *, index: int) -> Any:
        if index == 2:
            raise NotImplementedError("a fault of the reader")
        return np.full((240, 320), self.value * index)


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_reader_of_ones_own_reads_the_files_of_its_spec(tmp_path: Path, executor: str) -> None:
    (tmp_path / "mine.txt").write_text("3")
    start, (_, descriptor), stop = toy.raw_run([])
    image = {"source": "test", "dtype": "array", "shape": [240, 320], "external": "FILESTORE:"}
    resource = {"uid": "r", "run_start": "raw-1", "spec": "MINE", "root": str(tmp_path)}
    resource |= {"resource_path": "mine.txt", "resource_kwargs": {"factor": 2.0}, "path_semantics": "posix"}
    docs: list[Any] = [
        start,
        ("descriptor", descriptor | {"data_keys": {"det": image}}),
        ("resource", resource),
    ]
    for number in (1, 2):
        datum = {"datum_id": f"r/{number}", "resource": "r", "datum_kwargs": {"index": number}}
        event = toy.event("raw-1", number, 0.0) | {"filled": {"det": False}, "timestamps": {"det": 1.0}}
        docs += [("datum", datum), ("event", event | {"data": {"det": f"r/{number}"}})]
    heard = Listener()
    with analyzer(executor, IMAGES, allowed_roots=[str(tmp_path)], handlers={"MINE": Reader}) as analysis:
        analysis.subscribe(heard)
        for item in docs:
            analysis(*item)
        analysis(*stop)
        assert analysis.flush(30)
    run = heard.run()
    assert run.outcomes() == {1: "ok", 2: "failed"}
    assert run.final().mean == 6.0


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_file_that_cannot_be_read_costs_its_frames_and_nothing_else(
    recorded: tuple[Listener, Path], damage: Any, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pipeline, "_FILES_SECONDS", 0.1)
    raw, path = recorded
    damage(path)
    with analyzer(executor, IMAGES, allowed_roots=[str(path.parent)]) as analysis:
        listener = Listener()
        analysis.subscribe(listener)
        for name, doc in raw.docs:
            analysis(name, doc)
        for name, doc in toy.raw_run([1.0], "afterwards"):
            analysis(name, doc)  # another run, of which this technique wants nothing
        assert analysis.flush(60)
        assert analysis.health.faults == ()
    run = listener.run()
    assert sorted(run.spots()) == [1, 2, 3]
    left = {"ok", "superseded", "failed"} if damage is truncated else {"failed"}
    assert set(run.outcomes().values()) <= left
    assert "failed" in run.outcomes().values()
    for number, outcome in run.outcomes().items():
        if outcome == "failed":
            assert run.reasons()[number]
            assert "\n" not in run.reasons()[number]
    assert run.stop is not None
    assert run.stop["num_events"]["primary"] == 3


def test_a_file_that_is_written_later_is_read_later(recorded: tuple[Listener, Path]) -> None:
    raw, path = recorded
    hidden = path.rename(path.with_suffix(".later"))
    with analyzer("thread", IMAGES, allowed_roots=[str(path.parent)]) as analysis:
        listener = Listener()
        analysis.subscribe(listener)
        for name, doc in raw.docs[:-1]:
            analysis(name, doc)
        assert analysis.flush(30)
        key = (raw.of("start")[0]["uid"], "primary", 3)
        future = analysis.inbox.future(key)
        assert not future.done()
        hidden.rename(path)
        assert future.result(30).result.mean > 0
        analysis(*raw.docs[-1])
        assert analysis.flush(30)
    run = listener.run()
    assert sorted(run.spots()) == [1, 2, 3]
    assert set(run.outcomes().values()) <= {"ok", "superseded"}
