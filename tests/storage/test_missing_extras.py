"""A part that is not installed is named with the words that install it, wherever it is first needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from stored_runs import Fitted, analysis_run

from skyloop.errors import SkyloopError
from skyloop.storage.databroker import read_back
from skyloop.storage.export import results
from skyloop.storage.sources import open_source
from skyloop.storage.tiled import TiledSink, connect, embedded_tiled


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if these packages were not installed; what of them is imported already is hidden too."""
    for name in [n for n in sys.modules if n.split(".")[0] in packages]:
        monkeypatch.delitem(sys.modules, name)
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(
    ("packages", "use", "extra"),
    [
        (["bluesky_tiled_plugins"], lambda path: embedded_tiled(path / "c"), "tiled"),
        (["tiled"], lambda path: connect("http://127.0.0.1:1"), "tiled"),
        (["tiled"], lambda path: TiledSink(object()), "tiled"),
        (["tiled"], lambda path: open_source("http://127.0.0.1:1"), "tiled"),
        (["tiled"], lambda path: open_source("somewhere"), "tiled"),
        (["databroker"], lambda path: read_back(object(), "uid"), "databroker"),
        (["xarray"], lambda path: results(analysis_run("raw"), Fitted), "tiled"),
    ],
)
def test_what_is_missing_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, packages: list[str], use: Any, extra: str
) -> None:
    without(monkeypatch, *packages)
    with pytest.raises(SkyloopError, match=rf"pip install 'skyloop\[{extra}\]'"):
        use(tmp_path)


def test_the_simulated_beamline_without_ophyd_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from skyloop.cli._beamline import beamline

    without(monkeypatch, "ophyd")
    for name in [n for n in sys.modules if n.startswith("skyloop.sim.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SkyloopError, match=r"pip install 'skyloop\[sim\]'"):
        beamline(1)
