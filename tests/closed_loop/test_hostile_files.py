"""Files that hang, lie or explode, in a live scan: the scan goes on, each frame says why, closing returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import toy
from beam import count
from explosive import explosive
from fake_analysis import engine
from leases import held
from listener import AnalysisOf, Listener

from skyloop.callbacks import Analyzer, Options, _pipeline
from skyloop.runtime import _reading_process

Documents = list[tuple[str, dict[str, Any]]]

IMAGES = replace(
    toy.TECHNIQUE,
    frame_of=lambda point: float(np.mean(point.data["det"])),
    wanted=lambda descriptor: {"det"},
)


def image_analysis(folder: Path, executor: str = "thread", deadline: float = 20.0) -> Analyzer:
    options = Options(executor=executor, allowed_roots=[str(folder)], deadline=deadline)  # type: ignore[arg-type]
    return Analyzer(IMAGES, toy.Config(), options)


def announced(path: Path, frames: int = 2, uid: str = "raw-1") -> Documents:
    """A run of images alone, all announced at once."""
    start, (_, descriptor), stop = toy.raw_run([], uid)
    image = {"source": "test", "dtype": "array", "shape": [3, 4], "external": "STREAM:"}
    source = {"uid": f"sr-{uid}", "run_start": uid, "data_key": "det", "mimetype": "application/x-hdf5"}
    source |= {"uri": f"file://localhost{path}", "parameters": {"dataset": "/data"}}
    datum = {"uid": f"sr-{uid}/0", "stream_resource": f"sr-{uid}", "descriptor": descriptor["uid"]}
    datum |= {"indices": {"start": 0, "stop": frames}, "seq_nums": {"start": 1, "stop": frames + 1}}
    described = descriptor | {"data_keys": {"det": image}, "object_keys": {"det": ["det"]}}
    return [start, ("descriptor", described), ("stream_resource", source), ("stream_datum", datum), stop]


def written(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((2, 3, 4))


def analysed(analysis: Analyzer, docs: Documents) -> AnalysisOf:
    heard = Listener()
    analysis.subscribe(heard)
    for item in docs:
        analysis(*item)
    assert analysis.flush(60)
    assert analysis.health.faults == ()
    return heard.run()


# what lies ---------------------------------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def virtual(path: Path) -> None:
    written(path.parent.parent / "secret.h5")
    layout = h5py.VirtualLayout((2, 3, 4), "f8")
    layout[...] = h5py.VirtualSource(path.parent.parent / "secret.h5", "data", (2, 3, 4))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)


def absurd(path: Path) -> None:
    """A dataset of 10^12 rows, of which none is written."""
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (10**12, 3, 4), "f8", chunks=(2**26, 3, 4))


@pytest.mark.parametrize("executor", ["inline", "thread"])
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (pipe, "not a regular file"),
        (virtual, "virtual dataset"),
        (absurd, "bytes, more than"),
        (explosive, "cannot be read"),
    ],
)
def test_a_file_that_lies_costs_its_frames_which_say_why(
    make: Callable[[Path], None], word: str, executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pipeline, "_FILES_SECONDS", 0.1)
    monkeypatch.setattr(_reading_process, "_MOST_MEMORY", 400 * 2**20)
    (tmp_path / "data").mkdir()
    make(tmp_path / "data" / "a.h5")
    with image_analysis(tmp_path / "data", executor) as analysis:
        run = analysed(analysis, announced(tmp_path / "data" / "a.h5"))
    assert run.outcomes() == {1: "failed", 2: "failed"}
    assert all(word in reason for reason in run.reasons().values())


# what hangs --------------------------------------------------------------------------------------------


def test_a_scan_goes_on_while_a_file_cannot_be_opened_and_each_frame_says_so(tmp_path: Path) -> None:
    path, heard, raw = tmp_path / "a.h5", Listener(), Listener()
    written(path)
    docs = announced(path, frames=5)
    with image_analysis(tmp_path, deadline=0.3) as analysis:
        analysis.subscribe(heard)
        with held(path):
            for item in docs[:-1]:
                analysis(*item)
            assert engine(raw)(count([1.0, 2.0])).exit_status == "success"  # in the process that would hang
            analysis(*docs[-1])
            assert analysis.flush(30)
            run = heard.run()
    assert run.spots() == [1, 2, 3, 4, 5]
    assert set(run.outcomes().values()) == {"failed"}
    reasons = [run.reasons()[number] for number in run.spots()]
    assert reasons[:3] == ["its data could not be read within 0.3 s"] * 3
    assert all("left alone after 3 " in reason and reason.endswith(reasons[0]) for reason in reasons[3:])
    assert raw.names() == ["start", "descriptor", "event", "event", "stop"]


def test_another_run_is_analysed_after_one_whose_file_hung(tmp_path: Path) -> None:
    heard = Listener()
    for name in ("a.h5", "b.h5"):
        written(tmp_path / name)
    with image_analysis(tmp_path, deadline=2.0) as analysis:
        analysis.subscribe(heard)
        with held(tmp_path / "a.h5"):
            for item in (*announced(tmp_path / "a.h5", 1, "a"), *announced(tmp_path / "b.h5", 2, "b")):
                analysis(*item)
            assert analysis.flush(60)
    hung, other = sorted(heard.runs(), key=lambda run: run.raw_uid)
    assert hung.outcomes() == {1: "failed"}
    assert set(other.outcomes().values()) <= {"ok", "superseded"}


def test_a_file_that_is_left_alone_stays_so_when_another_run_ends(tmp_path: Path) -> None:
    heard = Listener()
    for name in ("a.h5", "b.h5"):
        written(tmp_path / name)
    *hangs, stop = announced(tmp_path / "a.h5", 3, "a")
    name, datum = hangs[-1]
    more = {"indices": {"start": 3, "stop": 5}, "seq_nums": {"start": 4, "stop": 6}, "uid": "more"}
    other = announced(tmp_path / "b.h5", 2, "b")
    with image_analysis(tmp_path, deadline=2.0) as analysis:
        analysis.subscribe(heard)
        with held(tmp_path / "a.h5"):
            for docs in ([*hangs, *other], [(name, datum | more), stop]):
                for item in docs:
                    analysis(*item)
                assert analysis.flush(60)
    hung, good = sorted(heard.runs(), key=lambda run: run.raw_uid)
    assert set(good.outcomes().values()) <= {"ok", "superseded"}
    reasons = [hung.reasons()[number] for number in hung.spots()]
    assert ["left alone" in reason for reason in reasons] == [False] * 3 + [True] * 2


def test_closing_does_not_wait_for_a_file_that_cannot_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, heard = tmp_path / "a.h5", Listener()
    written(path)
    analysis = image_analysis(tmp_path, deadline=1000.0)
    analysis.subscribe(heard)
    with held(path):
        for item in announced(path, frames=50)[:-1]:
            analysis(*item)
        assert not analysis.close(0.5)
        run = heard.run()
    assert run.outcomes() == dict.fromkeys(range(1, 51), "failed")
    assert len(caplog.records) <= 3
    assert set(run.reasons().values()) == {"the analysis was closed before its data were read"}
    assert analysis._pipeline.reader.pid == 0
