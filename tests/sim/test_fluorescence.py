"""Laws of the simulated fluorescence beamline: documents, rows and points, beam time, limits, stops."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans
import numpy as np
import pytest
from bluesky.protocols import Checkable, Movable, Pausable, Readable, Stoppable, Triggerable
from bluesky.utils import FailedStatus, RunEngineInterrupted
from bluesky_queueserver.manager.profile_ops import existing_plans_and_devices_from_nspace
from event_model import DocumentNames, schema_validators
from ophyd.utils import LimitError

from skyloop.documents.frames import Point, Points
from skyloop.documents.gate import Gate
from skyloop.sim.element_map import ElementMap, ElementSample
from skyloop.sim.element_map_cells import tissue
from skyloop.sim.fluorescence import FluorescenceBeamline, FluorescenceProbe, Sensor, fluorescence_beamline
from skyloop.sim.fluorescence_path import Row
from skyloop.sim.fluorescence_spectra import expected_rates

bp: Any = bluesky.plans  # its annotations refuse motors and positions
Documents = list[tuple[str, dict[str, Any]]]

SMALL = FluorescenceProbe(channels=1400, dead_time=5e-7)
FOUR = replace(SMALL, sensors=(Sensor(), Sensor(0.0101), Sensor(offset=0.02), Sensor(share=0.7)))
KEYS = {
    "fluo_counts": "count",
    "fluo_live_time": "s",
    "fluo_real_time": "s",
    "fluo_input_counts": "count",
    "fluo_output_counts": "count",
    "i0": "count",
}


@pytest.fixture
def beamline() -> FluorescenceBeamline:
    return fluorescence_beamline(tissue(1), seed=2, probe=SMALL)


def set_row(b: FluorescenceBeamline, *, start: float, stop: float, pixels: int, seconds: float = 0.1) -> Any:
    row = b.row
    yield from bps.mv(row.x_start, start, row.x_stop, stop, row.pixels, pixels, row.count_time, seconds)


def of(documents: Documents, name: str) -> list[dict[str, Any]]:
    return [doc for each, doc in documents if each == name]


def data_of(documents: Documents) -> list[dict[str, Any]]:
    return [doc["data"] for doc in of(documents, "event")]


def validate(documents: Documents) -> None:
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)


def points_of(documents: Documents) -> list[Point]:
    gate, points = Gate(), Points()
    made: list[Point] = []
    for name, doc in documents:
        admission = gate.admit(name, doc, 0.0)
        assert not admission.quarantined
        for item in admission.accepted:
            made += points.feed(*item)
    assert points.close() == []
    return made


def reached(condition: Callable[[], bool]) -> None:
    deadline, tick = time.monotonic() + 10, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        tick.wait(0.001)


# devices --------------------------------------------------------------------------------------------


def test_devices_are_what_bluesky_takes_them_for(beamline: FluorescenceBeamline) -> None:
    b = beamline
    for device in (b.x, b.y, b.detector.count_time, b.row.count_time, b.row.pixels):
        assert isinstance(device, Movable)
        assert isinstance(device, Readable)
        assert isinstance(device, Checkable)
    for device in (b.detector, b.row):
        assert isinstance(device, Readable)
        assert isinstance(device, Triggerable)
        assert isinstance(device, Stoppable)
        assert isinstance(device, Pausable)
    assert [d.name for d in (b.x, b.y, b.detector, b.row)] == ["x", "y", "detector", "row"]
    assert (b.x.egu, b.x.limits, b.x.velocity) == ("mm", SMALL.limits, SMALL.velocity)


def test_queueserver_finds_the_devices_of_a_startup_module(beamline: FluorescenceBeamline) -> None:
    space = {d.name: d for d in (beamline.x, beamline.y, beamline.detector, beamline.row)}
    found = existing_plans_and_devices_from_nspace(nspace=space)[1]
    assert {name: (d["is_readable"], d["is_movable"]) for name, d in found.items()} == {
        "x": (True, True),
        "y": (True, True),
        "detector": (True, False),
        "row": (True, False),
    }
    assert found["row"]["components"]["pixels"]["is_movable"]


def test_columns_and_rows_tile_the_field(beamline: FluorescenceBeamline) -> None:
    assert beamline.columns(4).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert beamline.rows(2).tolist() == [0.25, 0.75]


# documents ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [SMALL, FOUR], ids=["one", "four"])
@pytest.mark.parametrize("kind", ["point", "row"])
def test_documents_are_valid_and_hold_what_they_describe(
    RE: Any, documents: Documents, probe: FluorescenceProbe, kind: str
) -> None:
    b = fluorescence_beamline(tissue(1), seed=2, probe=probe)
    if kind == "point":
        RE(bp.grid_scan([b.detector], b.y, 0.1, 0.9, 2, b.x, 0.2, 0.8, 3, snake_axes=True))
    else:
        RE(set_row(b, start=0.2, stop=0.8, pixels=3))
        RE(bp.list_scan([b.row], b.y, [0.1, 0.9]))
    validate(documents)
    (descriptor,) = of(documents, "descriptor")
    keys = descriptor["data_keys"]
    pixel, several = ["pixel"] * (kind == "row"), ["detector"] * (len(probe.sensors) > 1)
    assert {key: keys[key]["units"] for key in KEYS} == KEYS
    assert {keys[key]["units"] for key in ("x", "y")} == {"mm"}
    assert keys["fluo_counts"]["dims"] == [*pixel, *several, "channel"]
    assert keys["fluo_live_time"]["dims"] == [*pixel, *several]
    assert keys["i0"]["dims"] == pixel
    assert len(data_of(documents)) == (6 if kind == "point" else 2)
    for data in data_of(documents):
        assert set(data) == set(keys) == {*KEYS, "x", "y"}
        for key, entry in keys.items():
            assert list(np.shape(data[key])) == entry["shape"]
            assert isinstance(data[key], np.ndarray) == (entry["dtype"] == "array")
            if entry["dtype"] == "array":
                assert data[key].dtype.str == entry["dtype_numpy"]


def test_a_gate_lets_points_and_rows_through_as_they_are(
    RE: Any, documents: Documents, beamline: FluorescenceBeamline
) -> None:
    RE(set_row(beamline, start=0.2, stop=0.8, pixels=3))
    for plan in (
        bp.list_scan([beamline.row], beamline.y, [0.1, 0.9]),
        bp.scan([beamline.detector], beamline.x, 0, 1, 2),
    ):
        documents.clear()
        RE(plan)
        points = points_of(documents)
        assert [point.seq_num for point in points] == [1, 2]
        for point, data in zip(points, data_of(documents), strict=True):
            assert {k: np.asarray(v).tolist() for k, v in point.data.items()} == {
                k: np.asarray(v).tolist() for k, v in data.items()
            }
            times = [v for k, v in point.configuration.items() if k.endswith("count_time")]
            assert times == [0.1 if "row_pixels" in point.configuration else 1.0]


def test_rows_of_another_length_have_a_stream_of_their_own(
    RE: Any, documents: Documents, beamline: FluorescenceBeamline
) -> None:
    b = beamline

    def plan() -> Any:
        yield from bps.open_run()
        for stream, pixels in (("coarse", 3), ("fine", 5)):
            yield from set_row(b, start=0.2, stop=0.8, pixels=pixels)
            yield from bps.trigger_and_read([b.row, b.y], name=stream)
        yield from bps.close_run()

    RE(plan())
    shapes = {d["name"]: d["data_keys"]["fluo_counts"]["shape"] for d in of(documents, "descriptor")}
    assert shapes == {"coarse": [3, 1400], "fine": [5, 1400]}
    assert [data["fluo_counts"].shape for data in data_of(documents)] == [(3, 1400), (5, 1400)]


# points and rows ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_map_and_another_seed_another(RE: Any) -> None:
    def run(seed: int) -> list[Any]:
        b, seen = fluorescence_beamline(tissue(1), seed=seed, probe=SMALL), []
        RE(set_row(b, start=0.2, stop=0.8, pixels=3))
        for plan in (bp.list_scan([b.row], b.y, [0.1, 0.9]), bp.scan([b.detector], b.x, 0, 1, 2)):
            RE(
                plan,
                lambda name, doc: (
                    seen.append(doc["data"]["fluo_counts"].tolist()) if name == "event" else None
                ),
            )
        return seen

    assert run(4) == run(4)
    first, other = run(4), run(5)
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("probe", [SMALL, FOUR], ids=["one", "four"])
def test_rows_and_points_give_the_spectra_of_the_same_places(
    RE: Any, documents: Documents, probe: FluorescenceProbe
) -> None:
    b = fluorescence_beamline(tissue(1), seed=2, probe=probe)
    places, repeats = np.linspace(0.1, 0.9, 5), 20
    RE(bps.mv(b.detector.count_time, 0.5))
    RE(bp.list_grid_scan([b.detector], b.y, [0.4] * repeats, b.x, list(places)))
    points = data_of(documents)
    documents.clear()
    RE(set_row(b, start=0.1, stop=0.9, pixels=5, seconds=0.5))
    RE(bp.list_scan([b.row], b.y, [0.4] * repeats))
    rows = data_of(documents)
    shape = len(probe.sensors), probe.channels
    by_points = np.zeros((5, *shape))
    time_by_points = np.zeros((5, len(probe.sensors)))
    for data in points:
        i = int(np.abs(places - data["x"]).argmin())
        by_points[i] += data["fluo_counts"].reshape(shape)
        time_by_points[i] += data["fluo_live_time"]
    by_rows = np.sum([data["fluo_counts"].reshape(5, *shape) for data in rows], axis=0, dtype=float)
    time_by_rows = np.sum([data["fluo_live_time"].reshape(5, -1) for data in rows], axis=0)
    assert all(np.array_equal(data["x"], places) for data in rows)
    rates = np.array([expected_rates(b.sample, b.probe, x, 0.4) for x in places])
    for counts, seconds in ((by_points, time_by_points), (by_rows, time_by_rows)):
        mean = rates * seconds[..., None]
        chi2 = ((counts - mean) ** 2 / mean)[mean > 1]
        assert chi2.mean() == pytest.approx(1.0, abs=5 * math.sqrt(2 / chi2.size))
    assert not np.array_equal(by_points, by_rows)


def test_a_snake_flies_every_second_row_backwards(RE: Any, documents: Documents) -> None:
    b = fluorescence_beamline(tissue(1), seed=2, probe=replace(SMALL, settling=0.0))
    RE(set_row(b, start=0.2, stop=0.8, pixels=4))
    RE(bps.mv(b.row.snake, True, b.x, 0.0))
    RE(bp.list_scan([b.row], b.y, [0.1, 0.2, 0.3]))
    forth = np.linspace(0.2, 0.8, 4)
    for data, expected in zip(data_of(documents), (forth, forth[::-1], forth), strict=True):
        np.testing.assert_allclose(data["x"], expected)
    # after the first row only the way up is left: a row ends where the next one begins
    assert b.clock.spent("moving") == pytest.approx((0.5 + 0.1 + 0.6 + 0.2) / SMALL.velocity)


def test_a_gain_that_drifts_is_seen_along_the_row(RE: Any, documents: Documents) -> None:
    probe = replace(SMALL, jump=0.05, jump_time=200.0, dead_time=0.0)
    sample = ElementSample({"Fe": ElementMap(uniform=5000.0)})
    b = fluorescence_beamline(sample, seed=2, probe=probe)
    RE(bps.mv(b.x, -0.125, b.y, 0.5))
    b.clock.spend("waiting", 150.0)
    RE(set_row(b, start=0.0, stop=1.0, pixels=5, seconds=(200 - b.clock.time) / 2.5))
    RE(bp.count([b.row]))
    (data,) = data_of(documents)
    tops = data["fluo_counts"].argmax(1)
    assert tops[:2] == pytest.approx([640, 640], abs=4)
    assert tops[3:] == pytest.approx([640 / 1.05] * 2, abs=4)


# beam time ------------------------------------------------------------------------------------------


def test_beam_time_of_a_step_scan_is_moves_plus_counting(RE: Any, beamline: FluorescenceBeamline) -> None:
    b = beamline
    RE(bps.mv(b.detector.count_time, 0.25))
    RE(bp.list_scan([b.detector], b.x, [0.0, 0.5, 0.5, 1.0]))
    assert b.clock.spent("counting") == 4 * 0.25
    assert b.clock.spent("moving") == pytest.approx((0.5 + 0.5 + 0.5) / SMALL.velocity + 3 * SMALL.settling)


def test_beam_time_of_a_row_is_the_way_to_it_and_the_flight(RE: Any, beamline: FluorescenceBeamline) -> None:
    b = beamline
    RE(set_row(b, start=0.2, stop=0.8, pixels=4, seconds=0.5))
    RE(bp.count([b.row]))
    assert b.clock.spent("counting") == 4 * 0.5
    assert b.clock.spent("moving") == pytest.approx((0.1 + 0.5) / SMALL.velocity + SMALL.settling)
    assert b.x.position == pytest.approx(0.9)


def test_beam_time_does_not_depend_on_the_speed_of_the_simulation(RE: Any) -> None:
    def spent(speed: float) -> tuple[float, float]:
        b = fluorescence_beamline(tissue(1), seed=1, probe=SMALL)
        b.clock.speed = speed
        RE(set_row(b, start=0.2, stop=0.8, pixels=4))
        RE(bp.list_scan([b.row], b.y, [0.1, 0.2]))
        return b.clock.spent("moving"), b.clock.spent("counting")

    assert spent(math.inf) == spent(200.0)


# limits and stops -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.6, 10.6])
def test_the_stage_refuses_what_is_outside_its_limits_or_no_number(
    RE: Any, beamline: FluorescenceBeamline, value: float
) -> None:
    with pytest.raises(LimitError, match="mm"):
        RE(bps.mv(beamline.x, value))
    assert beamline.x.position == beamline.x.limits[0]


def test_a_row_that_cannot_be_flown_is_refused_before_anything_moves(beamline: FluorescenceBeamline) -> None:
    b = beamline
    b.row.pixels.put(3)
    for start, stop, seconds, told in (
        (0.0, 20.0, 10.0, "is not within"),
        (math.nan, 1.0, 0.1, "mend: one at least, finite ends"),
        (0.0, 1.0, 0.05, "0.5 mm in 0.05 s is faster than 5 mm/s"),
    ):
        b.row.x_start.put(start)
        b.row.x_stop.put(stop)
        b.row.count_time.put(seconds)
        with pytest.raises(ValueError, match=told):
            b.row.trigger()
    assert (b.clock.time, b.row.exposures, b.x.position) == (0.0, 0, b.x.limits[0])


@pytest.mark.parametrize("pixels", [0, 2.5, math.nan, math.inf, -3])
def test_what_is_no_number_of_pixels_is_refused(beamline: FluorescenceBeamline, pixels: float) -> None:
    with pytest.raises(LimitError, match="no number of pixels"):
        beamline.row.pixels.set(pixels)
    with pytest.raises(LimitError, match="no time to count"):
        beamline.row.count_time.set(0.0)


def test_a_row_may_be_one_pixel_or_fly_at_the_highest_velocity() -> None:
    assert Row(0.3, 0.7, 1, 0.1, velocity=1.0).ends == (0.3, 0.3)
    assert Row(0.0, 0.3, 4, 0.1, velocity=1.0).seconds == pytest.approx(0.4)
    assert Row(0.3, 0.0, 4, 0.1, velocity=1.0).reached(0.2) == pytest.approx(0.15)


def test_a_detector_that_has_not_counted_says_so(beamline: FluorescenceBeamline) -> None:
    reading = beamline.detector.read()
    assert not reading["fluo_counts"]["value"].any()
    assert all(math.isnan(reading[key]["value"]) for key in ("fluo_live_time", "fluo_real_time", "i0"))
    with pytest.raises(RuntimeError, match="no row was measured yet"):
        beamline.row.read()


def test_a_row_that_is_stopped_fails_and_leaves_the_reading_as_it_was(beamline: FluorescenceBeamline) -> None:
    b = beamline
    b.row.pixels.put(3)
    b.row.trigger().wait(timeout=10)
    before = b.row.read()
    b.clock.speed = 1e-3
    status = b.row.trigger()  # on its way back to the beginning
    b.row.stop()
    with pytest.raises(RuntimeError, match="row was stopped"):
        status.wait(timeout=10)
    b.clock.speed = math.inf
    b.x.set(b.row.planned().ends[0]).wait(timeout=10)
    b.clock.speed, spent = 1e-3, b.clock.spent("counting")
    status = b.row.trigger()  # in flight
    reached(lambda: b.row.exposures == 6)
    with pytest.raises(RuntimeError, match="still flying"):
        b.row.trigger()
    b.row.stop()
    with pytest.raises(RuntimeError, match="row was stopped"):
        status.wait(timeout=10)
    assert b.clock.spent("counting") - spent < b.row.planned().seconds
    assert b.row.read()["fluo_counts"]["value"] is before["fluo_counts"]["value"]


def test_an_exposure_that_is_stopped_fails_and_leaves_the_reading_as_it_was(
    RE: Any, beamline: FluorescenceBeamline
) -> None:
    b = beamline
    b.detector.trigger().wait(timeout=10)
    before = b.detector.read()["fluo_input_counts"]
    b.clock.speed = 1e-3

    def plan() -> Any:
        yield from bps.trigger(b.detector, group="count")
        yield from bps.stop(b.detector)
        yield from bps.wait("count")

    with pytest.raises(FailedStatus):
        RE(plan())
    assert b.detector.read()["fluo_input_counts"] == before
    b.clock.speed = math.inf
    b.detector.trigger().wait(timeout=10)
    assert b.detector.read()["fluo_input_counts"] != before


@pytest.mark.parametrize("kind", ["point", "row"])
def test_what_is_paused_is_given_up_and_measured_again(
    RE: Any, beamline: FluorescenceBeamline, kind: str
) -> None:
    b = beamline
    b.row.pixels.put(3)
    b.x.set(b.row.planned().ends[0]).wait(timeout=10)
    b.clock.speed = 0.01
    device: Any = b.detector if kind == "point" else b.row

    def plan() -> Any:
        yield from bps.checkpoint()
        yield from bps.trigger(device, group="count")
        yield from bps.pause()
        yield from bps.wait("count")
        return (yield from bps.read(device))

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    b.clock.speed = math.inf
    reading = RE.resume().plan_result
    assert np.asarray(reading["fluo_counts"]["value"]).any()
    whole = b.detector.count_time.get() if kind == "point" else b.row.planned().seconds
    assert whole <= b.clock.spent("counting") < 2 * whole


# extras ---------------------------------------------------------------------------------------------


def test_the_truth_and_the_factory_of_files_need_no_extra() -> None:
    modules = "element_map_cells fluorescence_counting fluorescence_file fluorescence_path fluorescence_async"
    code = "import sys; sys.modules.update(ophyd=None, ophyd_async=None)\n" + "\n".join(
        f"import skyloop.sim.{name}" for name in modules.split()
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
