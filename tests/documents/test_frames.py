"""Laws of points: every event gives its point once, whatever way its data come, or a reason why not."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import h5py
import numpy as np
import pytest
from bluesky import RunEngine
from event_model import compose_run

from skyloop.documents.external import ExternalData, Roots
from skyloop.documents.frames import Missing, Point, Points
from skyloop.documents.gate import Gate
from skyloop.errors import DocumentError

FRAMES = np.arange(72.0).reshape(6, 3, 4)
IMAGE = {"source": "test", "dtype": "array", "shape": [3, 4], "external": "STREAM:"}
SUM = {"source": "test", "dtype": "number", "shape": [], "external": "STREAM:"}
MOTOR = {"source": "test", "dtype": "number", "shape": []}


def with_motor(motor: bool) -> dict[str, Any]:
    return {"motor": MOTOR} if motor else {}


class Raw:
    """A raw run composed by hand; its frames are in one HDF5 file."""

    def __init__(self, folder: Path, *, rows: int = 6, **keys: Any) -> None:
        self.path = folder / "frames.h5"
        with h5py.File(self.path, "w", libver="latest") as file:
            file.create_dataset("image", data=FRAMES[:rows], chunks=(1, 3, 4), maxshape=(None, 3, 4))
            file["sum"] = FRAMES[:rows].sum(axis=(1, 2))
        self.bundle = compose_run()
        self.start = self.bundle.start_doc
        self.uid = self.start["uid"]
        self.keys = keys
        self.counter = itertools.count()
        self.descriptor = self.describe()

    def describe(self, **config: Any) -> dict[str, Any]:
        object_keys = {"det": list(self.keys)}
        stamps = dict.fromkeys(config, 1.0)
        entries = dict.fromkeys(config, MOTOR)
        configuration = {"det": {"data": config, "timestamps": stamps, "data_keys": entries}}
        made = self.bundle.compose_descriptor(
            name="primary", data_keys=self.keys, object_keys=object_keys, configuration=configuration
        )
        return dict(made.descriptor_doc)

    def resource(self, key: str) -> tuple[str, dict[str, Any]]:
        return "stream_resource", {
            "uid": f"sr-{key}",
            "data_key": key,
            "mimetype": "application/x-hdf5",
            "uri": f"file://localhost{self.path}",
            "parameters": {"dataset": f"/{key}"},
            "run_start": self.uid,
        }

    def frames(
        self, key: str, start: int, stop: int, seq_num: int | None = None
    ) -> tuple[str, dict[str, Any]]:
        first = start + 1 if seq_num is None else seq_num
        return "stream_datum", {
            "uid": f"sr-{key}/{next(self.counter)}",
            "stream_resource": f"sr-{key}",
            "descriptor": self.descriptor["uid"],
            "indices": {"start": start, "stop": stop},
            "seq_nums": {"start": first, "stop": first + stop - start},
        }

    def event(self, seq_num: int, descriptor: Any = None, **data: Any) -> tuple[str, dict[str, Any]]:
        return "event", {
            "uid": f"event-{next(self.counter)}",
            "descriptor": (descriptor or self.descriptor)["uid"],
            "seq_num": seq_num,
            "time": 100.0 + seq_num,
            "data": data,
            "timestamps": dict.fromkeys(data, 1.0),
            "filled": {},
        }

    def head(self, *streams: str) -> list[tuple[str, Any]]:
        return [
            ("start", self.start),
            ("descriptor", self.descriptor),
            *(self.resource(key) for key in streams),
        ]

    def points(self, **options: Any) -> Points:
        return reading(self.path.parent, **options)


def reading(folder: Path, **options: Any) -> Points:
    """Points that read external data below a folder."""
    return Points(ExternalData(Roots({}, [str(folder)])), **options)


def fed(points: Points, docs: list[tuple[str, Any]]) -> list[Point]:
    """Points of documents that go through a gate first; the documents stay as they are."""
    before, gate, out = copy.deepcopy(docs), Gate(), list[Point]()
    for name, doc in docs:
        admission = gate.admit(name, doc, 0.0)
        assert not admission.quarantined, admission.quarantined
        out += [point for item in admission.accepted for point in points.feed(*item)]
    assert repr(docs) == repr(before)
    return out


def numbers(points: list[Point]) -> list[int]:
    return [point.seq_num for point in points]


# ---------------------------------------------------------------------- values in events


def test_events_are_points_at_once_with_their_run_and_configuration(tmp_path: Path):
    raw = Raw(tmp_path, motor=MOTOR)
    raw.descriptor = raw.describe(count_time=0.5)
    points = raw.points()
    (point,) = fed(points, [*raw.head(), raw.event(1, motor=np.float64(3.0))])
    assert (point.run, point.stream, point.seq_num, point.time) == (raw.start, "primary", 1, 101.0)
    assert point.data == {"motor": 3.0}
    assert point.configuration == {"count_time": 0.5}
    assert points.close() == []


def test_arrays_in_events_stay_arrays(tmp_path: Path):
    raw = Raw(tmp_path, spectrum={"source": "test", "dtype": "array", "shape": [4]})
    (point,) = fed(raw.points(), [*raw.head(), raw.event(1, spectrum=np.arange(4))])
    np.testing.assert_array_equal(point.data["spectrum"], np.arange(4))


def test_a_number_measured_again_gives_its_point_again(tmp_path: Path):
    raw = Raw(tmp_path, motor=MOTOR)
    docs = [*raw.head(), raw.event(1, motor=1.0), raw.event(1, motor=2.0), raw.event(2, motor=3.0)]
    points = fed(raw.points(), docs)
    assert [(p.seq_num, p.data["motor"]) for p in points] == [(1, 1.0), (1, 2.0), (2, 3.0)]


def test_a_new_descriptor_of_a_stream_brings_its_configuration(tmp_path: Path):
    raw = Raw(tmp_path, motor=MOTOR)
    first, second = raw.describe(count_time=1.0), raw.describe(count_time=2.0)
    docs = [
        ("start", raw.start),
        ("descriptor", first),
        raw.event(1, first, motor=1.0),
        ("descriptor", second),
        raw.event(2, second, motor=1.0),
    ]
    points = fed(raw.points(), docs)
    assert [(p.stream, p.configuration["count_time"]) for p in points] == [("primary", 1.0), ("primary", 2.0)]


# ---------------------------------------------------------------------- frames in streams


def check(points: list[Point], images: bool = True, sums: bool = False) -> None:
    for point in points:
        frame = FRAMES[point.seq_num - 1]
        if images:
            np.testing.assert_array_equal(point.data["image"], frame)
        if sums:
            assert point.data["sum"] == frame.sum()


def test_step_scan_order_frame_before_its_event(tmp_path: Path):
    raw = Raw(tmp_path, motor=MOTOR, image=IMAGE)
    docs = raw.head("image")
    for n in (1, 2, 3):
        docs += [raw.frames("image", n - 1, n), raw.event(n, motor=float(n))]
    points = fed(raw.points(), docs)
    assert numbers(points) == [1, 2, 3]
    assert [p.data["motor"] for p in points] == [1.0, 2.0, 3.0]
    check(points)


def test_replay_order_all_frames_after_all_events(tmp_path: Path):
    raw = Raw(tmp_path, motor=MOTOR, image=IMAGE, sum=SUM)
    second = raw.describe(count_time=2.0)  # in replay the stream_datum names the first descriptor only
    docs = [*raw.head(), ("descriptor", second)]
    docs += [raw.event(n, second if n > 2 else None, motor=float(n)) for n in (1, 2, 3, 4)]
    docs += [raw.resource("image"), raw.frames("image", 0, 4), raw.resource("sum"), raw.frames("sum", 0, 4)]
    points = fed(raw.points(), docs)
    assert numbers(points) == [1, 2, 3, 4]
    assert [p.configuration for p in points] == [{}, {}, {"count_time": 2.0}, {"count_time": 2.0}]
    check(points, sums=True)


def test_fly_scans_have_points_without_events(tmp_path: Path):
    raw = Raw(tmp_path, image=IMAGE, sum=SUM)
    docs = [*raw.head("image", "sum"), raw.frames("image", 0, 1), raw.frames("sum", 0, 3)]
    docs += [raw.frames("image", 1, 5), raw.frames("sum", 3, 6), raw.frames("image", 5, 6)]
    points = fed(raw.points(), docs)
    assert numbers(points) == [1, 2, 3, 4, 5, 6]
    assert all(math.isnan(point.time) for point in points)
    check(points, sums=True)


def test_events_of_a_stream_of_frames_add_no_points(tmp_path: Path):
    raw = Raw(tmp_path, image=IMAGE)
    docs = raw.head("image")
    for n in (1, 2):
        docs += [raw.frames("image", n - 1, n), raw.event(n)]
    points = raw.points()
    assert numbers(fed(points, docs)) == [1, 2]
    assert points.close() == []


@pytest.mark.parametrize("motor", [True, False])
def test_a_rewound_point_has_the_new_frames_of_all_keys(tmp_path: Path, motor: bool):
    raw = Raw(tmp_path, image=IMAGE, sum=SUM, **with_motor(motor))
    docs = raw.head("image", "sum")
    for index in (0, 1):  # number 1 twice, from index 0 and index 1
        docs += [raw.frames(key, index, index + 1, seq_num=1) for key in ("image", "sum")]
        docs += [raw.event(1, **dict.fromkeys(with_motor(motor), 1.0))]
    points = fed(raw.points(), docs)
    assert [point.data["sum"] for point in points] == [FRAMES[0].sum(), FRAMES[1].sum()]
    np.testing.assert_array_equal(points[1].data["image"], FRAMES[1])


def test_unwanted_keys_are_left_out_and_never_read(tmp_path: Path):
    raw = Raw(tmp_path, motor=MOTOR, image=IMAGE, sum=SUM)
    raw.path.unlink()
    docs = [*raw.head("image", "sum"), raw.frames("image", 0, 1), raw.event(1, motor=1.0)]
    (point,) = fed(raw.points(wanted=lambda descriptor: set()), docs)
    assert point.data == {"motor": 1.0}
    wanted = raw.points(wanted=lambda descriptor: {"sum"})
    assert fed(wanted, docs) == []
    assert [(m.seq_num, m.key) for m in wanted.close()] == [(1, "sum")]


def test_a_wanted_key_of_several_is_enough_for_a_point(tmp_path: Path):
    raw = Raw(tmp_path, image=IMAGE, sum=SUM)
    docs = [*raw.head("image", "sum"), raw.frames("image", 0, 3), raw.frames("sum", 0, 3)]
    points = fed(raw.points(wanted=lambda descriptor: {"sum"}), docs)
    assert [point.data for point in points] == [{"sum": FRAMES[n].sum()} for n in range(3)]


# ---------------------------------------------------------------------- not there yet, never there


def grow(raw: Raw, rows: int) -> None:
    with h5py.File(raw.path, "a", libver="latest") as file:
        dataset: Any = file["image"]
        dataset.resize(rows, axis=0)
        dataset[:rows] = FRAMES[:rows]


@pytest.mark.parametrize("motor", [True, False])
def test_frames_written_late_are_read_by_retry(tmp_path: Path, motor: bool):
    raw = Raw(tmp_path, rows=2, image=IMAGE, **with_motor(motor))
    docs = [*raw.head("image"), raw.frames("image", 0, 5)]
    docs += [raw.event(n, motor=1.0) for n in range(1, 6) if motor]
    points = raw.points()
    assert numbers(fed(points, docs)) == [1, 2]
    assert points.waiting
    assert points.retry() == []
    grow(raw, 4)
    late = points.retry()
    assert numbers(late) == [3, 4]
    check(late)
    assert points.refused() == []
    (missing,) = points.close()
    assert (missing.run_uid, missing.stream, missing.seq_num, missing.key) == (raw.uid, "primary", 5, "image")
    assert "no row 4 yet" in missing.reason
    assert not points.waiting


def test_a_long_stream_is_read_in_bounded_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("skyloop.documents.frames._ROUND_BYTES", 2 * FRAMES[0].nbytes)
    raw = Raw(tmp_path, image=IMAGE)
    points = raw.points()
    rounds = [fed(points, [*raw.head("image"), raw.frames("image", 0, 5)])]
    while points.waiting:
        rounds.append(points.retry())
    assert [numbers(each) for each in rounds] == [[1, 2], [3, 4], [5]]
    check([point for each in rounds for point in each])


def test_what_was_not_asked_for_is_missing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("skyloop.documents.frames._ROUND_BYTES", 1)
    raw = Raw(tmp_path, image=IMAGE)
    points = raw.points()
    assert numbers(fed(points, [*raw.head("image"), raw.frames("image", 0, 2)])) == [1]
    assert [(m.seq_num, m.reason) for m in points.close()] == [
        (2, "it was not read before the run was closed")
    ]


def test_a_refused_file_gives_up_each_point_once(tmp_path: Path):
    raw = Raw(tmp_path, motor=MOTOR, image=IMAGE)
    points = reading(tmp_path / "elsewhere")
    docs = [*raw.head("image"), raw.frames("image", 0, 2), raw.event(1, motor=1.0), raw.event(2, motor=1.0)]
    assert fed(points, docs) == []
    refused = points.refused()
    assert [(m.seq_num, m.key) for m in refused] == [(1, "image"), (2, "image")]
    assert "outside the allowed roots" in refused[0].reason
    assert (points.refused(), points.close()) == ([], [])


@pytest.mark.parametrize("motor", [True, False])
def test_what_is_missing_at_the_end_is_named(tmp_path: Path, motor: bool):
    raw = Raw(tmp_path, image=IMAGE, sum=SUM, **with_motor(motor))
    docs = [*raw.head("image", "sum"), raw.frames("image", 0, 2), raw.frames("sum", 1, 2)]
    docs += [raw.event(1, motor=1.0)] if motor else []
    points = raw.points()
    ready = numbers(fed(points, docs))
    missing = {m.seq_num: (m.key, m.reason) for m in points.close()}
    assert missing[1] == ("sum", "no stream_datum announced it")
    assert sorted([*ready, *missing]) == [1, 2]  # each number is a point or missing, once
    if motor:
        assert missing[2] == ("", "its frames came, its event did not")


def test_points_refuse_documents_that_no_gate_lets_through(tmp_path: Path):
    raw = Raw(tmp_path, motor=MOTOR)
    for name, doc in [("event_page", {}), ("descriptor", raw.descriptor), raw.event(1, motor=1.0)]:
        with pytest.raises(DocumentError, match="Gate"):
            Points().feed(name, doc)
    assert Points().feed("stop", {}) == []


def test_interleaved_runs_do_not_mix(tmp_path: Path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    runs = [Raw(folder, motor=MOTOR) for folder in folders]
    points = Points()
    for step in zip(*(run.head() for run in runs), strict=True):
        for item in step:
            points.feed(*item)
    made = [p for n in (1, 2) for run in runs for p in points.feed(*run.event(n, motor=1.0))]
    assert [(p.run["uid"], p.seq_num) for p in made] == [(run.uid, n) for n in (1, 2) for run in runs]


# ---------------------------------------------------------------------- resource and datum


def test_a_datum_may_come_before_or_after_its_event(tmp_path: Path):
    stored = {"source": "test", "dtype": "array", "shape": [3, 4], "external": "FILESTORE:"}
    raw = Raw(tmp_path, motor=MOTOR, image=stored)
    for n in (0, 1):
        np.save(tmp_path / f"stem_{n}.npy", FRAMES[n])
    resource = {
        "uid": "r", "spec": "NPY_SEQ", "root": str(tmp_path), "resource_path": "stem",
        "resource_kwargs": {}, "run_start": raw.uid,
    }  # fmt: skip
    datums = [
        ("datum", {"resource": "r", "datum_id": f"r/{n}", "datum_kwargs": {"index": n}}) for n in (0, 1, 2)
    ]
    events = [raw.event(n + 1, motor=1.0, image=f"r/{n}") for n in (0, 1, 2, 3)]
    docs = [*raw.head(), ("resource", resource), datums[0], *events, *datums[1:]]
    points = raw.points()
    made = fed(points, docs)
    assert numbers(made) == [1, 2]
    check(made)
    missing = {m.seq_num: m.reason for m in points.close()}
    assert "no file" in missing[3]
    assert missing[4] == "datum 'r/3' did not come"


def test_filled_events_keep_their_values(tmp_path: Path):
    raw = Raw(tmp_path, image={**IMAGE, "external": "FILESTORE:"})
    name, event = raw.event(1, image=FRAMES[0])
    (point,) = fed(raw.points(), [*raw.head(), (name, {**event, "filled": {"image": "r/0"}})])
    check([point])


# ---------------------------------------------------------------------- through a RunEngine


class Seen:
    """Everything a RunEngine emitted, and the points made of it on the way."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.gate, self.points = Gate(), reading(folder, **options)
        self.docs: list[tuple[str, Any]] = []
        self.made: list[Point] = []

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.docs.append((name, copy.deepcopy(doc)))
        admission = self.gate.admit(name, doc, 0.0)
        assert not admission.quarantined, admission.quarantined
        for item in admission.accepted:
            self.made += self.points.feed(*item)

    def finish(self) -> list[Missing]:
        while late := self.points.retry():
            self.made += late
        return self.points.close()


@pytest.fixture(name="RE")
def run_engine() -> Any:
    return RunEngine({}, call_returns_result=True)


@pytest.fixture
def detector(RE: Any, tmp_path: Path):
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
    from ophyd_async.sim import PatternGenerator, SimBlobDetector, SimMotor

    paths = StaticPathProvider(UUIDFilenameProvider(), tmp_path)
    with init_devices():
        det = SimBlobDetector(paths, pattern_generator=PatternGenerator())
        motor = SimMotor()
    return det, motor


def assert_frames_are_those_of_the_file(seen: Seen, count: int) -> None:
    assert numbers(seen.made) == list(range(1, count + 1))
    uri = next(doc["uri"] for name, doc in seen.docs if name == "stream_resource")
    with h5py.File(uri.removeprefix("file://localhost"), "r") as file:
        images: Any = file["entry/data/data"]
        sums: Any = file["entry/sum"]
        for point in seen.made:
            np.testing.assert_array_equal(point.data["det"][0], images[point.seq_num - 1])
            assert point.data["det"].shape == (1, 240, 320)
            assert point.data["det-sum"] == sums[point.seq_num - 1]


def test_ophyd_async_step_scan(RE: Any, detector: Any, tmp_path: Path):
    det, motor = detector
    seen = Seen(tmp_path)
    RE(bp.scan([det], motor, 0.0, 0.02, 3), seen)
    assert seen.finish() == []
    assert_frames_are_those_of_the_file(seen, 3)
    assert [p.data["motor"] for p in seen.made] == pytest.approx([0.0, 0.01, 0.02], abs=1e-6)


def test_ophyd_async_fly_scan(RE: Any, detector: Any, tmp_path: Path):
    from ophyd_async.core import TriggerInfo

    det, _ = detector
    seen = Seen(tmp_path)

    def fly():
        yield from bps.open_run()
        yield from bps.stage(det, wait=True)
        info = TriggerInfo(number_of_events=4, livetime=0.01, deadtime=0.001)
        yield from bps.prepare(det, info, wait=True)
        yield from bps.declare_stream(det, name="main", collect=True)
        yield from bps.kickoff_all(det, wait=True)
        yield from bps.collect_while_completing([det], [det], flush_period=0.02, stream_name="main")
        yield from bps.unstage(det, wait=True)
        yield from bps.close_run()

    RE(fly(), seen)
    assert seen.finish() == []
    assert_frames_are_those_of_the_file(seen, 4)
    assert {point.stream for point in seen.made} == {"main"}


def test_a_live_scan_and_its_replay_give_the_same_points(RE: Any, detector: Any, tmp_path: Path):
    det, motor = detector
    seen = Seen(tmp_path)
    RE(bp.scan([det], motor, 0.0, 0.02, 3), seen)
    seen.finish()
    # the order and the ranges that tiled gives back: all events, then one stream_datum per data key
    head = [d for d in seen.docs if d[0] in ("start", "descriptor", "event")]
    tail = [d for d in seen.docs if d[0] == "stream_resource"]
    for _, resource in tail[:]:
        mine = [
            doc
            for name, doc in seen.docs
            if name == "stream_datum" and doc["stream_resource"] == resource["uid"]
        ]
        whole = {"indices": {"start": 0, "stop": 3}, "seq_nums": {"start": 1, "stop": 4}}
        tail.append(("stream_datum", {**mine[0], **whole}))
    replay = Seen(tmp_path)
    for name, doc in [*head, *tail, seen.docs[-1]]:
        replay(name, doc)
    assert replay.finish() == []
    assert numbers(replay.made) == numbers(seen.made)
    for live, stored in zip(seen.made, replay.made, strict=True):
        assert (live.time, live.data["motor"]) == (stored.time, stored.data["motor"])
        np.testing.assert_array_equal(live.data["det"], stored.data["det"])


def test_ophyd_npy_sequences(RE: Any, tmp_path: Path):
    from ophyd.sim import SynAxis, SynSignalWithRegistry

    motor: Any = SynAxis(name="motor")

    rng = np.random.default_rng(1)
    taken: list[Any] = []

    def image() -> Any:
        taken.append(rng.normal(size=(5, 7)))
        return taken[-1]

    img: Any = SynSignalWithRegistry(func=image, name="img", labels={"detectors"}, save_path=str(tmp_path))
    taken.clear()
    seen = Seen(tmp_path)
    RE(bp.scan([img], motor, -1.0, 1.0, 3), seen)
    assert seen.finish() == []
    assert numbers(seen.made) == [1, 2, 3]
    assert [p.data["motor"] for p in seen.made] == [-1.0, 0.0, 1.0]
    for point, want in zip(seen.made, taken, strict=True):
        np.testing.assert_array_equal(point.data["img"], want)


def test_a_pause_without_checkpoint_gives_the_point_again(RE: Any, detector: Any, tmp_path: Path):
    det, motor = detector
    seen = Seen(tmp_path)
    paused: list[bool] = []

    def plan():
        yield from bps.open_run()
        yield from bps.stage(det, wait=True)
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([det, motor])
        if not paused:
            paused.append(True)
            yield from bps.pause()
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([det, motor])
        yield from bps.unstage(det, wait=True)
        yield from bps.close_run()

    from bluesky.utils import RunEngineInterrupted

    with pytest.raises(RunEngineInterrupted):
        RE(plan(), seen)
    RE.resume()
    assert seen.finish() == []
    assert numbers(seen.made) == [1, 1, 2]
    with h5py.File(next(tmp_path.glob("*.h5")), "r") as file:
        sums: Any = file["entry/sum"]
        assert [p.data["det-sum"] for p in seen.made] == sums[:].tolist()
