"""The ophyd-async reflectometer is the classic one in another make."""

from __future__ import annotations

import asyncio
import math
import os
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans
import pytest
from bluesky.protocols import Movable, Pausable, Readable, Stoppable, Triggerable
from bluesky.utils import RunEngineInterrupted
from event_model import DocumentNames, schema_validators

from skyloop.engines.reflectometry.config import load
from skyloop.errors import MissingExtraError
from skyloop.sim import reflectometer_async as module
from skyloop.sim.reflectometer import reflectometer
from skyloop.sim.reflectometer_async import reflectometer_async
from skyloop.sim.sample import TrueSample

if not os.environ.get("CI"):
    pytest.importorskip("ophyd_async", reason="the extra 'async' is not installed")

bp: Any = bluesky.plans  # its annotations refuse motors and positions
Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def sample() -> TrueSample:
    return TrueSample(load("sample:\n  layers: [{thickness: 150, sld: 3.47}]\n  backing: {sld: 2.07}\n"))


def scan(RE: Any, r: Any) -> list[dict[str, Any]]:
    documents: Documents = []

    def plan() -> Any:
        yield from bps.mv(r.detector.count_time, 2.5)
        yield from bp.scan([r.detector], r.q, 0.01, 0.1, 5)
        yield from bps.mv(r.attenuator, 0.1)
        yield from bp.list_scan([r.detector], r.q, [0.02, 0.02])

    RE(plan(), lambda name, doc: documents.append((name, doc)))
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)
    return [doc for _, doc in documents]


def data_of(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [doc["data"] for doc in documents if "seq_num" in doc]


def test_both_makes_measure_the_same_numbers_in_the_same_beam_time(RE: Any, sample: TrueSample) -> None:
    new, classic = reflectometer_async(sample, seed=1), reflectometer(sample, seed=1)
    measured, expected = data_of(scan(RE, new)), data_of(scan(RE, classic))
    assert measured == expected
    assert len(measured) == 7
    assert new.clock.spent("moving") == classic.clock.spent("moving")
    assert new.clock.spent("counting") == classic.clock.spent("counting") == 7 * 2.5


def test_both_makes_describe_the_same_keys(RE: Any, sample: TrueSample) -> None:
    def keys(r: Any) -> dict[str, tuple[Any, ...]]:
        descriptor = next(doc for doc in scan(RE, r) if "data_keys" in doc)
        assert descriptor["hints"] == {"q": {"fields": ["q"]}, "detector": {"fields": ["counts"]}}
        what = ("dtype", "shape", "dtype_numpy", "units", "precision")
        return {
            name: tuple(key.get(w) or None for w in what) for name, key in descriptor["data_keys"].items()
        }

    assert keys(reflectometer_async(sample, seed=1)) == keys(reflectometer(sample, seed=1))


def test_devices_are_what_bluesky_takes_them_for(RE: Any, sample: TrueSample) -> None:
    r = reflectometer_async(sample, seed=1)
    for device in (r.q, r.attenuator):
        assert isinstance(device, Movable)
        assert isinstance(device, Stoppable)
        assert isinstance(device, Readable)
    assert isinstance(r.detector, Triggerable)
    assert isinstance(r.detector, Readable)
    assert isinstance(r.detector, Pausable)
    assert (r.q.name, r.attenuator.name, r.detector.name) == ("q", "attenuator", "detector")


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, 0.31])
def test_the_axis_refuses_what_is_outside_its_limits_or_no_number(
    RE: Any, sample: TrueSample, value: float
) -> None:
    r = reflectometer_async(sample, seed=1)
    with pytest.raises(Exception, match="is not within") as caught:
        RE(bps.mv(r.q, value))
    assert isinstance(caught.value.__cause__ or caught.value, ValueError)
    assert RE(bps.rd(r.q)).plan_result == r.q.limits[0]


def test_a_time_or_a_transmission_that_does_not_exist_is_refused(RE: Any, sample: TrueSample) -> None:
    r = reflectometer_async(sample, seed=1)
    with pytest.raises(Exception, match="no time to count"):
        RE(bps.mv(r.detector.count_time, -1.0))
    with pytest.raises(Exception, match=r"no transmission 0\.5"):
        RE(bps.mv(r.attenuator, 0.5))


def test_a_pause_stops_the_axis_and_resume_finishes_the_move(RE: Any, sample: TrueSample) -> None:
    from ophyd_async.core import wait_for_value

    r = reflectometer_async(sample, seed=1, probe="xray", speed=0.01)

    def plan() -> Any:
        yield from bps.checkpoint()
        yield from bps.abs_set(r.q, 0.7, group="move")
        yield from bps.wait_for([lambda: wait_for_value(r.q.setpoint, 0.7, timeout=10)])
        yield from bps.pause()
        yield from bps.wait("move")
        return (yield from bps.rd(r.q))

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    r.clock.speed = math.inf
    assert RE.resume().plan_result == 0.7
    # Stopped far from its target: the way is paid once in two parts, and settling at its end.
    assert r.clock.spent("moving") == pytest.approx(0.695 / 0.2 + 0.2)


def test_a_paused_exposure_is_given_up_and_taken_again(RE: Any, sample: TrueSample) -> None:
    r = reflectometer_async(sample, seed=1, speed=0.01)

    async def counting() -> None:
        async with asyncio.timeout(10):
            while r.detector.exposures == 0:
                await asyncio.sleep(0.001)  # and then some: the exposure has begun to pass

    def plan() -> Any:
        yield from bps.checkpoint()
        yield from bps.trigger(r.detector, group="count")
        yield from bps.wait_for([counting])
        yield from bps.pause()
        yield from bps.wait("count")
        return (yield from bps.rd(r.detector))

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    r.clock.speed = math.inf
    assert RE.resume().plan_result > 0
    assert r.detector.exposures == 2
    assert 1.0 <= r.clock.spent("counting") < 2.0


def test_a_missing_extra_is_told_when_the_devices_are_wanted(
    sample: TrueSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        return None

    monkeypatch.setattr(module, "find_spec", missing)
    with pytest.raises(MissingExtraError, match=r"skyloop\[async\]"):
        reflectometer_async(sample, seed=1)
