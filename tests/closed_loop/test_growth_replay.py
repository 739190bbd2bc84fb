"""Measured scans of a growing film, replayed like a live run, give the thickness that was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from examples.growth_series import growth_runs, published_thickness

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.storage.replay import replay

FILE = Path("reflectometry/xrr/organic_films_on_silicon.h5")
MODEL = Path(__file__).parents[2] / "examples" / "growth.yaml"
GROUP, EVERY, Q_MAX = "DIP_2", 30, 0.15


@pytest.fixture(scope="module")
def analysed(shared_data: Path) -> list[tuple[int, dict[str, Any], list[tuple[str, dict[str, Any]]]]]:
    """Scan number, last word and analysis run of the scans 30 and 60."""
    found: list[tuple[int, dict[str, Any], list[tuple[str, dict[str, Any]]]]] = []
    for documents in list(growth_runs(shared_data / FILE, GROUP, every=EVERY, q_max=Q_MAX))[1:]:
        analysis_run: list[tuple[str, dict[str, Any]]] = []
        with reflectometry(MODEL, options=Options(executor="thread"), name="") as analysis:
            analysis.subscribe(lambda name, doc, to=analysis_run: to.append((name, doc)))
            replay(documents, [analysis])
        last = [doc["data"] for name, doc in analysis_run if name == "event"][-1]
        found.append((documents[0][1]["scan_number"], last, analysis_run))
    return found


def test_thickness_is_that_published_within_ten_percent(shared_data: Path, analysed: Any):
    published = published_thickness(shared_data / FILE, GROUP)
    assert [scan for scan, *_ in analysed] == [30, 60]
    for scan, last, _ in analysed:
        assert last["reflectometry_target"] == pytest.approx(published[scan], rel=0.1)
        assert last["reflectometry_outcome"] == "ok"
        assert 0.0 < last["reflectometry_target_sigma"] < 5.0


def test_the_film_grows_by_what_was_published(shared_data: Path, analysed: Any):
    published = published_thickness(shared_data / FILE, GROUP)
    (first, before, _), (last, after, _) = analysed
    grown = after["reflectometry_target"] - before["reflectometry_target"]
    assert grown == pytest.approx(published[last] - published[first], rel=0.1)


def test_every_point_leaves_one_result_although_they_are_folded_together(analysed: Any):
    for _, last, documents in analysed:
        points = [doc for name, doc in documents if name == "event" and "raw_seq_num" in doc["data"]]
        numbers = [doc["data"]["raw_seq_num"] for doc in points]
        assert numbers == list(range(1, len(points) + 1))
        assert last["frames"] == last["reflectometry_n_points"] == len(points)
        assert documents[-1][0] == "stop"
