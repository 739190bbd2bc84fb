"""Code that lies in the folder where a person stands is not run by the processes that are started there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import toy

from skyloop.documents.external import NotYet
from skyloop.runtime.external_reader import Reader
from skyloop.runtime.guarded import Broken
from skyloop.runtime.worker import WorkerRunner
from skyloop.sim.ioc import running_ioc

SHADOW = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\nraise ImportError\n"


def start_an_engine(_: Path) -> None:
    worker = WorkerRunner(toy.Engine(toy.Config()))
    try:
        assert not isinstance(worker.step("run", [[1.0]]), Broken)
    finally:
        worker.close()


def start_a_reader(folder: Path) -> None:
    reader = Reader({}, [str(folder)])
    document = {"uid": "r", "mimetype": "application/x-hdf5", "parameters": {"dataset": "d"}}
    entry = {"source": "test", "dtype": "number", "shape": []}
    try:
        answer = reader.frame(document | {"uri": f"file://localhost{folder}/none.h5"}, 0, entry)
        assert isinstance(answer, NotYet)
    finally:
        reader.close()


def start_a_simulation(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"none\.yaml"), running_ioc(folder / "none.yaml"):
        pass


@pytest.mark.parametrize("start", [start_an_engine, start_a_reader, start_a_simulation])
def test_a_module_in_the_current_folder_is_not_run(
    start: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "h5py", "caproto", "pickle"):
        (tmp_path / f"{name}.py").write_text(SHADOW)
    # as where skyloop is installed: nothing relative is searched
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, sys.path)))
    monkeypatch.chdir(tmp_path)
    start(tmp_path)
    assert not list(tmp_path.glob("*.ran"))
