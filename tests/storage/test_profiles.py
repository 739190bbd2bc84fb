"""A catalog by its name, a Tiled profile: runs lie at its top or, as in databroker's, one level down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from stored_runs import analysis_run, essence, raw_run, uid_of
from tiled import profiles

from skyloop.storage.sources import open_source
from skyloop.storage.tiled import TiledSink, embedded_tiled

RAW, ANALYSIS = raw_run("named"), analysis_run(uid_of("named"))


@pytest.fixture(params=["flat", "raw"])
def named(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with embedded_tiled(tmp_path / "catalog") as server:
        at = server.client.create_container("raw") if request.param == "raw" else server.client
        sink = TiledSink(at)
        for name, doc in [*RAW, *ANALYSIS]:
            sink(name, doc)
        folder = tmp_path / "profiles"
        folder.mkdir()
        (folder / "p.yml").write_text(yaml.safe_dump({"beamline-9": {"uri": server.uri}}))
        monkeypatch.setattr(profiles, "paths", [folder])
        profiles.load_profiles.cache_clear()
        yield "beamline-9"
    profiles.load_profiles.cache_clear()


def test_a_catalog_is_opened_by_its_name_and_gives_its_runs(named: str) -> None:
    with open_source(named) as source:
        (run,) = source
        assert essence(run.documents()) == essence(RAW)
        (analysis,) = source.analyses_of(run.uid)
        assert essence(analysis.documents()) == essence(ANALYSIS)
