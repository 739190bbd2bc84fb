"""The ophyd-async fluorescence beamline is the classic one in another make, and writes what it measures."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans
import h5py
import numpy as np
import pytest
from bluesky.protocols import Collectable, Flyable, Movable, Readable, Stoppable, Triggerable
from bluesky.utils import FailedStatus
from event_model import DocumentNames, schema_validators

from skyloop.documents.external import ExternalData, Roots
from skyloop.documents.frames import Point, Points
from skyloop.documents.gate import Gate
from skyloop.errors import MissingExtraError
from skyloop.sim import fluorescence_async as module
from skyloop.sim.element_map_cells import tissue
from skyloop.sim.fluorescence import FluorescenceProbe, Sensor, fluorescence_beamline
from skyloop.sim.fluorescence_async import AsyncFluorescenceBeamline, fluorescence_beamline_async

if not os.environ.get("CI"):
    pytest.importorskip("ophyd_async", reason="the extra 'async' is not installed")

bp: Any = bluesky.plans  # its annotations refuse motors and positions

ONE = FluorescenceProbe(channels=1400, dead_time=5e-7)
PROBES = pytest.mark.parametrize(
    "probe", [ONE, replace(ONE, sensors=(Sensor(), Sensor(0.0101)))], ids=["one", "two"]
)


class Seen:
    """What a RunEngine emits, validated, and the points made of it while it is emitted."""

    def __init__(self, folder: Path) -> None:
        self.gate, self.points = Gate(), Points(ExternalData(Roots({}, [str(folder)])))
        self.docs: list[tuple[str, Any]] = []
        self.made: list[Point] = []

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        schema_validators[DocumentNames[name]].validate(doc)
        self.docs.append((name, doc))
        admission = self.gate.admit(name, doc, 0.0)
        assert not admission.quarantined
        for item in admission.accepted:
            self.made += self.points.feed(*item)

    def of(self, name: str) -> list[Any]:
        return [doc for each, doc in self.docs if each == name]

    def data(self) -> list[dict[str, Any]]:
        """Of each point; all of them were there when they were announced."""
        assert self.points.close() == []
        return [dict(point.data) for point in self.made]


def plain(data: dict[str, Any]) -> dict[str, Any]:
    return {key: np.asarray(value).tolist() for key, value in data.items()}


def fly(
    b: AsyncFluorescenceBeamline, places: list[float], *, pixels: int, seconds: float, info: Any = None
) -> Any:
    """One row after the other, each an event of one stream."""
    from ophyd_async.core import TriggerInfo

    given: dict[str, Any] = {"number_of_events": 1, "collections_per_event": pixels, "livetime": seconds}
    told = TriggerInfo(**{**given, **(info or {})})
    yield from bps.mv(b.row.x_start, 0.2, b.row.x_stop, 0.8, b.row.pixels, pixels)
    yield from bps.open_run()
    yield from bps.stage(b.row, wait=True)
    for n, y in enumerate(places):
        yield from bps.mv(b.y, y)
        yield from bps.prepare(b.row, told, wait=True)
        if n == 0:
            yield from bps.declare_stream(b.row, name="primary", collect=True)
        yield from bps.kickoff_all(b.row, wait=True)
        yield from bps.collect_while_completing([b.row], [b.row], flush_period=0.02, stream_name="primary")
    yield from bps.unstage(b.row, wait=True)
    yield from bps.close_run()


@PROBES
def test_both_makes_measure_the_same_points_in_the_same_beam_time(
    RE: Any, tmp_path: Path, probe: FluorescenceProbe
) -> None:
    def plan(b: Any) -> Any:
        yield from bps.mv(b.detector.count_time, 0.25)
        yield from bp.grid_scan([b.detector], b.y, 0.1, 0.9, 2, b.x, 0.2, 0.8, 3)

    new, seen = fluorescence_beamline_async(tissue(1), tmp_path, seed=3, probe=probe), Seen(tmp_path)
    RE(plan(new), seen)
    classic, expected = fluorescence_beamline(tissue(1), seed=3, probe=probe), []
    RE(plan(classic), lambda name, doc: expected.append(doc["data"]) if name == "event" else None)
    measured = seen.data()
    assert len(measured) == len(expected) == 6
    for new_data, data in zip(measured, expected, strict=True):
        # a file has an axis of exposures in front of what it holds
        rest = {k: np.asarray(v)[0] if k not in ("x", "y") else v for k, v in new_data.items()}
        assert plain(rest) == plain(data)
    for kind in ("moving", "counting"):
        assert new.clock.spent(kind) == pytest.approx(classic.clock.spent(kind), rel=1e-12)


@PROBES
def test_both_makes_measure_the_same_rows_in_the_same_beam_time(
    RE: Any, tmp_path: Path, probe: FluorescenceProbe
) -> None:
    places = [0.1, 0.4, 0.9]
    new, seen = fluorescence_beamline_async(tissue(1), tmp_path, seed=3, probe=probe), Seen(tmp_path)
    RE(fly(new, places, pixels=4, seconds=0.25), seen)
    b, expected = fluorescence_beamline(tissue(1), seed=3, probe=probe), []
    RE(bps.mv(b.row.x_start, 0.2, b.row.x_stop, 0.8, b.row.pixels, 4, b.row.count_time, 0.25))
    RE(
        bp.list_scan([b.row], b.y, places),
        lambda name, doc: expected.append(doc["data"]) if name == "event" else None,
    )
    measured = seen.data()
    assert len(measured) == len(expected) == 3
    for new_data, data in zip(measured, expected, strict=True):
        assert plain(new_data) == plain({**data, "y": np.full(4, data["y"])})
    for kind in ("moving", "counting"):
        assert new.clock.spent(kind) == pytest.approx(b.clock.spent(kind), rel=1e-12)


@PROBES
def test_the_file_holds_what_the_documents_announce(
    RE: Any, tmp_path: Path, probe: FluorescenceProbe
) -> None:
    b, seen = fluorescence_beamline_async(tissue(1), tmp_path, seed=3, probe=probe), Seen(tmp_path)
    RE(fly(b, [0.1, 0.4], pixels=4, seconds=0.25), seen)
    rows = seen.data()
    (path,) = tmp_path.iterdir()
    keys = seen.of("descriptor")[0]["data_keys"]
    resources = seen.of("stream_resource")
    assert seen.of("event") == []
    assert {doc["data_key"] for doc in resources} == set(keys)
    with h5py.File(path, "r") as file:
        for doc in resources:
            key, stored = doc["data_key"], np.asarray(file[doc["parameters"]["dataset"]])
            assert doc["uri"] == f"file://localhost{path}"
            assert keys[key]["shape"] == [4, *stored.shape[1:]]
            assert (keys[key]["dtype"], keys[key]["dtype_numpy"]) == ("array", stored.dtype.str)
            assert tuple(doc["parameters"]["chunk_shape"]) == file[doc["parameters"]["dataset"]].chunks  # pyright: ignore
            np.testing.assert_array_equal(stored, np.concatenate([row[key] for row in rows]))
    units = {key: entry["units"] for key, entry in keys.items()}
    assert (units["fluo_counts"], units["fluo_live_time"], units["x"], units["y"]) == (
        "count",
        "s",
        "mm",
        "mm",
    )


def test_each_staging_writes_a_file_of_its_own(RE: Any, tmp_path: Path) -> None:
    b = fluorescence_beamline_async(tissue(1), tmp_path, seed=3, probe=ONE)
    for _ in range(2):
        RE(bp.count([b.detector], 2))
    lengths = []
    for path in tmp_path.iterdir():
        with h5py.File(path, "r") as file:
            lengths.append(np.asarray(file["entry/i0"]).shape)
    assert lengths == [(2,), (2,)]


def test_devices_are_what_bluesky_takes_them_for(RE: Any, tmp_path: Path) -> None:
    b = fluorescence_beamline_async(tissue(1), tmp_path, seed=3)
    for axis in (b.x, b.y):
        assert isinstance(axis, Movable)
        assert isinstance(axis, Readable)
        assert isinstance(axis, Stoppable)
    for detector in (b.detector, b.row):
        assert isinstance(detector, Triggerable)
        assert isinstance(detector, Flyable)
        assert isinstance(detector, Collectable)
    assert [d.name for d in (b.x, b.y, b.detector, b.row)] == ["x", "y", "detector", "row"]
    assert b.columns(2).tolist() == b.rows(2).tolist() == [0.25, 0.75]


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.6, 10.6])
def test_the_stage_refuses_what_is_outside_its_limits_or_no_number(
    RE: Any, tmp_path: Path, value: float
) -> None:
    b = fluorescence_beamline_async(tissue(1), tmp_path, seed=3)
    with pytest.raises(Exception, match=r"x: .* is not within"):
        RE(bps.mv(b.x, value))
    assert RE(bps.rd(b.x)).plan_result == b.x.limits[0]


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({"collections_per_event": 3}, "3 exposures are no rows of 4 pixels"),
        ({"deadtime": 0.1}, "deadtime: found 0.1 s"),
        ({"livetime": 0.01}, "is faster than 5 mm/s"),
    ],
)
def test_a_row_that_cannot_be_flown_is_refused(
    RE: Any, tmp_path: Path, info: dict[str, Any], told: str
) -> None:
    b = fluorescence_beamline_async(tissue(1), tmp_path, seed=3, probe=ONE)
    with pytest.raises(FailedStatus) as caught:
        RE(fly(b, [0.1], pixels=4, seconds=0.25, info=info))
    causes: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert any(told in cause for cause in causes), causes
    assert b.clock.spent("counting") == 0


def test_a_missing_extra_is_told_when_the_devices_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        return None

    monkeypatch.setattr(module, "find_spec", missing)
    with pytest.raises(MissingExtraError, match=r"skyloop\[async\]"):
        fluorescence_beamline_async(tissue(1), tmp_path, seed=1)
