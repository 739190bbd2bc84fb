"""Detectors that write files: each frame is analysed once, or ends as a result that says why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import toy
from beam import analyzer
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from fake_analysis import engine
from images import IMAGES
from listener import AnalysisOf, Listener

from skyloop.callbacks import Analyzer
from skyloop.documents.frames import Point


@pytest.fixture(params=["inline", "thread"])
def analysis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Analyzer]:
    with analyzer(request.param, IMAGES, allowed_roots=[str(tmp_path)]) as made:
        yield made


def analysed(analysis: Analyzer, act: Callable[[Listener], Any]) -> tuple[Listener, AnalysisOf]:
    raw, listener = Listener(), Listener()
    analysis.subscribe(listener)
    act(raw)
    assert analysis.flush(60)
    assert analysis.health.faults == ()
    return raw, listener.run()


def means(raw: Listener) -> list[float]:
    uri = raw.of("stream_resource")[0]["uri"]
    with h5py.File(uri.removeprefix("file://localhost"), "r") as file:
        images: Any = file["entry/data/data"]
        return [float(np.asarray(image, dtype=float).mean()) for image in images]


def fly(det: Any, frames: int) -> Any:
    from ophyd_async.core import TriggerInfo

    yield from bps.open_run()
    yield from bps.stage(det, wait=True)
    info = TriggerInfo(number_of_events=frames, livetime=0.01, deadtime=0.001)
    yield from bps.prepare(det, info, wait=True)
    yield from bps.declare_stream(det, name="main", collect=True)
    yield from bps.kickoff_all(det, wait=True)
    yield from bps.collect_while_completing([det], [det], flush_period=0.02, stream_name="main")
    yield from bps.unstage(det, wait=True)
    yield from bps.close_run()


def test_a_step_scan_is_analysed_frame_by_frame(RE: Any, devices: Any, analysis: Analyzer) -> None:
    det, motor = devices
    raw, run = analysed(analysis, lambda raw: RE(bp.scan([det], motor, 0, 0.02, 3), [analysis, raw]))
    assert run.spots() == [1, 2, 3]
    assert set(run.outcomes().values()) <= {"ok", "superseded"}
    assert run.final().mean == pytest.approx(np.mean(means(raw)), rel=1e-12)


def test_a_fly_scan_without_any_event_is_analysed_frame_by_frame(
    RE: Any, devices: Any, analysis: Analyzer
) -> None:
    raw, run = analysed(analysis, lambda raw: RE(fly(devices[0], 6), [analysis, raw]))
    assert raw.of("event") == []
    assert run.spots() == [1, 2, 3, 4, 5, 6]
    assert {event["data"]["raw_stream"] for event in run.stream("primary")} == {"main"}
    assert run.final().mean == pytest.approx(np.mean(means(raw)), rel=1e-12)


@pytest.mark.parametrize("plan", ["step", "fly"])
def test_without_allowed_roots_each_frame_fails_and_says_how_to_allow_it(
    RE: Any, devices: Any, plan: str
) -> None:
    det, motor = devices
    docs = bp.scan([det], motor, 0, 0.02, 2) if plan == "step" else fly(det, 2)
    with analyzer("thread", IMAGES) as analysis:
        _, run = analysed(analysis, lambda raw: RE(docs, [analysis, raw]))
    assert run.spots() == [1, 2]
    assert set(run.outcomes().values()) == {"failed"}
    assert all("mend: allowed_roots" in reason for reason in run.reasons().values())
    assert run.final().outcome == "failed"
    assert run.stream("summary")[0]["data"]["not_analysed"] == 2


def test_a_technique_that_wants_no_images_needs_no_roots(RE: Any, devices: Any) -> None:
    det, motor = devices

    def frame_of(point: Point) -> float | None:
        return float(point.data["motor"]) + 2.0 if "motor" in point.data else None

    technique = replace(toy.TECHNIQUE, frame_of=frame_of, wanted=lambda descriptor: set())
    with analyzer("thread", technique) as analysis:
        _, run = analysed(analysis, lambda raw: RE(bp.scan([det], motor, 0, 0.02, 3), [analysis, raw]))
    assert run.spots() == [1, 2, 3]
    assert set(run.outcomes().values()) <= {"ok", "superseded"}


def test_a_frame_measured_again_is_analysed_again(RE: Any, devices: Any, analysis: Analyzer) -> None:
    from bluesky.utils import RunEngineInterrupted

    det, motor = devices
    paused: list[bool] = []

    def plan() -> Any:
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

    def act(raw: Listener) -> None:
        with pytest.raises(RunEngineInterrupted):
            RE(plan(), [analysis, raw])
        RE.resume()

    _, run = analysed(analysis, act)
    assert run.spots() == [1, 1, 2]
    assert run.final().values == 2


def test_classic_ophyd_files_are_analysed(tmp_path: Path) -> None:
    from ophyd.sim import SynAxis, SynSignalWithRegistry

    rng = np.random.default_rng(1)
    taken: list[Any] = []

    def image() -> Any:
        taken.append(rng.normal(size=(240, 320)) + 5.0)
        return taken[-1]

    img: Any = SynSignalWithRegistry(func=image, name="det", labels={"detectors"}, save_path=str(tmp_path))
    taken.clear()
    with analyzer("thread", IMAGES, allowed_roots=[str(tmp_path)]) as analysis:
        _, run = analysed(
            analysis,
            lambda raw: engine(analysis, raw)(bp.scan([img], SynAxis(name="motor"), -1, 1, 3)),
        )
    assert run.spots() == [1, 2, 3]
    assert run.final().mean == pytest.approx(np.mean([t.mean() for t in taken]), rel=1e-12)
