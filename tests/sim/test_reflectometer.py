"""Laws of the simulated reflectometer: counts, dead time, beam time, limits, faults."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
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

from skyloop.quantities import FloatArray
from skyloop.sim.clock import BeamClock
from skyloop.sim.counting import Counting, detected
from skyloop.sim.probe import NEUTRON, XRAY, Flux, Probe
from skyloop.sim.reflectometer import Fault, reflectometer

bp: Any = bluesky.plans  # its annotations refuse motors and positions
KEYS = {"counts", "exposure", "count_time", "monitor", "transmission", "q_sigma"}


@dataclass(frozen=True)
class Flat:
    """Reflects the same share at every q, plus what has grown."""

    value: float = 0.1
    rate: float = 0.0

    def reflectivity(self, q: FloatArray, q_sigma: FloatArray, time: float) -> FloatArray:
        return np.full_like(q, self.value + self.rate * time)


def wait_for(status: Any) -> None:
    status.wait(timeout=10)


def events(documents: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [doc["data"] for name, doc in documents if name == "event"]


# counting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [NEUTRON, XRAY], ids=["neutron", "xray"])
@pytest.mark.parametrize("q", [0.02, 0.1])
def test_mean_counts_are_flux_times_reflectivity_times_time(probe: Probe, q: float) -> None:
    counting = Counting(Flat(1e-3), replace(probe, dead_time=0.0), seed=3)
    taken = [counting.expose(q, 2.0, number=n, time=0.0) for n in range(400)]
    counts = np.array([e.counts for e in taken])
    expected = probe.flux(q) * 1e-3 * 2.0
    assert abs(counts.mean() - expected) < 4 * math.sqrt(expected / len(counts))
    assert abs(counts.var() / expected - 1) < 4 * math.sqrt(2 / len(counts))
    assert {e.exposure for e in taken} == {probe.flux(q) * 2.0}


def test_counts_over_exposure_estimate_the_reflectivity_behind_any_attenuator() -> None:
    counting = Counting(Flat(0.5), XRAY, seed=4)
    for transmission in XRAY.transmissions:
        taken = [
            counting.expose(0.05, 5.0, number=n, time=0.0, transmission=transmission) for n in range(100)
        ]
        counts, exposure = sum(e.counts for e in taken), sum(e.exposure for e in taken)
        assert counts / exposure == pytest.approx(0.5, abs=5 * math.sqrt(0.5 / exposure))


def test_background_counts_without_any_beam() -> None:
    counting = Counting(Flat(0.0), replace(NEUTRON, background=20.0), seed=1)
    counts = [counting.expose(0.1, 10.0, number=n, time=0.0).counts for n in range(200)]
    assert np.mean(counts) == pytest.approx(200.0, abs=4 * math.sqrt(200 / 200))


@pytest.mark.parametrize("load", [0.01, 0.1, 0.5, 0.9])
def test_dead_time_correction_is_unbiased(load: float) -> None:
    dead_time, rate = 1e-6, load / 1e-6
    counting = Counting(Flat(1.0), Probe(Flux(rate), (0, 1), 1, 0, dead_time=dead_time), seed=7)
    taken = [counting.expose(0.1, 0.05, number=n, time=0.0) for n in range(500)]
    corrected = np.array([e.counts for e in taken])
    observed = np.mean([e.observed for e in taken])
    expected = rate * 0.05 / (1 + load)
    assert abs(observed - expected) < 4 * math.sqrt(expected / 500) / (1 + load)
    # The correction inflates the variance of a Poisson law by 1 + rate * dead_time.
    sigma = math.sqrt(rate * 0.05 * (1 + load))
    assert abs(corrected.mean() - rate * 0.05) < 4 * sigma / math.sqrt(500)
    assert corrected.std() == pytest.approx(sigma, rel=4 / math.sqrt(2 * 500))


def test_detected_counts_follow_the_law_of_a_blind_interval_after_each_count() -> None:
    rate, dead_time, count_time = 40.0, 0.02, 1.0
    random = np.random.default_rng(11)
    waits = random.exponential(1 / rate, size=(20000, 120))
    waits[:, 1:] += dead_time
    counted = (waits.cumsum(axis=1) <= count_time).sum(axis=1)
    drawn = np.array([detected(u, rate, count_time, dead_time) for u in random.random(20000)])
    bins = np.arange(10, 36)
    first, second = np.histogram(counted, bins)[0], np.histogram(drawn, bins)[0]
    filled = first + second > 10
    chi2 = ((first - second) ** 2 / (first + second).clip(1))[filled].sum()
    assert chi2 < filled.sum() + 4 * math.sqrt(2 * filled.sum())


def test_an_exposure_of_a_blind_detector_is_not_a_number_but_says_what_was_observed() -> None:
    counting = Counting(Flat(1.0), replace(XRAY, dead_time=2e-6), seed=1)
    taken = counting.expose(0.1, 1.0, number=0, time=0.0)
    assert math.isnan(taken.counts)
    assert taken.observed == pytest.approx(1e6 / 3, rel=0.01)


def test_a_truth_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="count rate of nan"):
        Counting(Flat(math.nan), NEUTRON, seed=1).expose(0.1, 1.0, number=0, time=0.0)


def test_the_systematic_error_is_fixed_by_seed_and_place_and_as_large_as_told() -> None:
    probe = replace(XRAY, systematic=0.05)
    places = np.linspace(0.01, 0.6, 800)
    ratio = np.array([Counting(Flat(), probe, seed=2).rate(q, 0.0) for q in places]) / 1e5
    again = np.array([Counting(Flat(), probe, seed=2).rate(q, 9.0) for q in places]) / 1e5
    other = np.array([Counting(Flat(), probe, seed=3).rate(q, 0.0) for q in places]) / 1e5
    assert np.array_equal(ratio, again)
    assert abs(np.corrcoef(ratio, other)[0, 1]) < 4 / math.sqrt(800)
    assert ratio.mean() == pytest.approx(1.0, abs=4 * 0.05 / math.sqrt(800))
    assert ratio.std() == pytest.approx(0.05, rel=4 / math.sqrt(2 * 800))


def test_the_same_seed_gives_the_same_counts_and_another_seed_others() -> None:
    def scan(seed: int) -> list[float]:
        counting = Counting(Flat(), NEUTRON, seed=seed)
        return [counting.expose(0.05, 3.0, number=n, time=0.0).counts for n in range(20)]

    assert scan(5) == scan(5)
    assert scan(5) != scan(6)
    assert len(set(scan(5))) > 10


def test_a_growing_sample_is_seen_as_it_is_half_way_through_the_exposure() -> None:
    counting = Counting(Flat(0.0, rate=1e-3), replace(XRAY, dead_time=0.0), seed=1)
    taken = counting.expose(0.1, 100.0, number=0, time=50.0)
    assert taken.counts / taken.exposure == pytest.approx(0.1, rel=0.01)


# devices --------------------------------------------------------------------------------------------


def test_devices_are_what_bluesky_takes_them_for() -> None:
    r = reflectometer(Flat(), seed=1)
    for device in (r.q, r.theta, r.attenuator, r.detector.count_time):
        assert isinstance(device, Readable)
        assert isinstance(device, Movable)
        assert isinstance(device, Checkable)
    for device in (r.q, r.theta, r.detector):
        assert isinstance(device, Stoppable)
    assert isinstance(r.detector, Triggerable)
    assert isinstance(r.detector, Readable)
    assert isinstance(r.detector, Pausable)
    assert [d.name for d in (r.q, r.theta, r.attenuator, r.detector)] == [
        "q",
        "theta",
        "attenuator",
        "detector",
    ]


def test_queueserver_finds_the_devices_of_a_startup_module() -> None:
    r = reflectometer(Flat(), seed=1)
    space = {d.name: d for d in (r.q, r.theta, r.attenuator, r.detector)}
    found = existing_plans_and_devices_from_nspace(nspace=space)[1]
    assert {name: (d["is_readable"], d["is_movable"]) for name, d in found.items()} == {
        "q": (True, True),
        "theta": (True, True),
        "attenuator": (True, True),
        "detector": (True, False),
    }
    assert found["detector"]["components"]["count_time"]["is_movable"]


def test_a_scan_gives_valid_documents_with_the_keys_of_the_contract(
    RE: Any, documents: list[tuple[str, dict[str, Any]]]
) -> None:
    r = reflectometer(Flat(), seed=1)
    RE(bp.scan([r.detector], r.q, 0.01, 0.1, 5))
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)
    assert [set(e) for e in events(documents)] == [KEYS | {"q"}] * 5
    assert [e["q"] for e in events(documents)] == pytest.approx(np.linspace(0.01, 0.1, 5))
    descriptor = next(doc for name, doc in documents if name == "descriptor")
    units = {key: value["units"] for key, value in descriptor["data_keys"].items()}
    assert units == {
        "q": "1/angstrom",
        "counts": "count",
        "exposure": "count",
        "count_time": "s",
        "monitor": "count",
        "transmission": "",
        "q_sigma": "1/angstrom",
    }
    assert descriptor["hints"] == {"q": {"fields": ["q"]}, "detector": {"fields": ["counts"]}}


def test_a_list_scan_counts_as_long_as_it_is_told_at_each_point(
    RE: Any, documents: list[tuple[str, dict[str, Any]]]
) -> None:
    r = reflectometer(Flat(), seed=1)

    def plan() -> Any:
        yield from bps.open_run()
        for q, count_time in [(0.02, 1.0), (0.05, 30.0), (0.05, 7.5)]:
            yield from bps.mv(r.q, q, r.detector.count_time, count_time)
            yield from bps.trigger_and_read([r.detector, r.q])
        yield from bps.close_run()

    RE(plan())
    assert [e["count_time"] for e in events(documents)] == [1.0, 30.0, 7.5]


def test_beam_time_is_moves_plus_counting(RE: Any) -> None:
    r = reflectometer(Flat(), seed=1)
    places = [0.02, 0.05, 0.05, 0.01, 0.3]
    RE(bps.mv(r.detector.count_time, 12.5))
    RE(bp.list_scan([r.detector], r.q, places))
    steps = np.diff([0.005, *places])
    moving = math.fsum(abs(d) / 0.01 + 5.0 for d in steps if d)
    assert r.clock.spent("counting") == 5 * 12.5
    assert r.clock.spent("moving") == pytest.approx(moving, rel=1e-14)
    assert r.clock.time == pytest.approx(moving + 5 * 12.5, rel=1e-14)


def test_beam_time_does_not_depend_on_the_speed_of_the_simulation(RE: Any) -> None:
    def spent(speed: float) -> tuple[float, float]:
        r = reflectometer(Flat(), seed=1, probe="xray", speed=speed)
        RE(bp.scan([r.detector], r.q, 0.02, 0.1, 4))
        return r.clock.spent("moving"), r.clock.spent("counting")

    assert spent(math.inf) == spent(200.0)


def test_a_reading_belongs_to_the_last_exposure_that_ended() -> None:
    r = reflectometer(Flat(), seed=1, speed=1e-3)
    assert math.isnan(r.detector.read()["counts"]["value"])
    r.detector.trigger()
    assert math.isnan(r.detector.read()["counts"]["value"])
    r.detector.stop(success=True)
    assert math.isnan(r.detector.read()["counts"]["value"])


def test_a_setting_changes_the_next_exposure_and_not_the_last_reading() -> None:
    r = reflectometer(Flat(), seed=1)
    wait_for(r.detector.trigger())
    before = r.detector.read()
    wait_for(r.detector.count_time.set(99.0))
    wait_for(r.attenuator.set(0.01))
    assert r.detector.read() == before
    wait_for(r.detector.trigger())
    assert r.detector.read()["count_time"]["value"] == 99.0
    assert r.detector.read()["transmission"]["value"] == 0.01


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.01, 0.31])
def test_the_axis_refuses_what_is_outside_its_limits_or_no_number(RE: Any, value: float) -> None:
    r = reflectometer(Flat(), seed=1)
    with pytest.raises(LimitError):
        r.q.check_value(value)
    with pytest.raises(LimitError):
        RE(bps.mv(r.q, value))
    assert r.q.position == r.q.limits[0]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_count_time_that_is_no_time_is_refused(value: float) -> None:
    with pytest.raises(LimitError):
        reflectometer(Flat(), seed=1).detector.count_time.set(value)


def test_a_transmission_that_no_absorber_has_is_refused() -> None:
    with pytest.raises(LimitError, match=r"no transmission 0\.5"):
        reflectometer(Flat(), seed=1).attenuator.set(0.5)


def test_angles_and_q_are_the_same_place() -> None:
    r = reflectometer(Flat(), seed=1, probe="xray")
    wait_for(r.theta.set(1.0))
    assert r.q.position == pytest.approx(4 * math.pi * math.sin(math.pi / 180) / 1.54056)
    reading = r.theta.read()
    assert reading["theta"]["value"] == pytest.approx(1.0)
    assert reading["two_theta"]["value"] == pytest.approx(2.0)
    assert set(r.theta.describe()) == set(reading)
    with pytest.raises(LimitError):
        r.theta.set(r.theta.limits[1] + 0.01)


def test_a_stop_leaves_the_axis_on_its_way_and_charges_what_has_passed() -> None:
    r = reflectometer(Flat(), seed=1, probe="xray", speed=0.01)
    status = r.q.set(0.7)
    r.q.stop()
    with pytest.raises(RuntimeError, match="stopped on its way"):
        wait_for(status)
    travelled = r.q.position - 0.005
    assert 0 < travelled < 0.695
    assert r.clock.spent("moving") == pytest.approx(travelled / 0.2)
    assert not r.q.moving


def test_a_second_move_is_refused_while_the_axis_moves() -> None:
    r = reflectometer(Flat(), seed=1, speed=1e-3)
    status = r.q.set(0.2)
    with pytest.raises(RuntimeError, match="still moving"):
        r.q.set(0.1)
    r.q.stop(success=True)
    wait_for(status)


def test_moves_and_exposures_leave_no_threads(RE: Any) -> None:
    r = reflectometer(Flat(), seed=1, probe="xray", speed=100.0)
    before = set(threading.enumerate())
    RE(bp.scan([r.detector], r.q, 0.02, 0.1, 3))
    r.q.set(0.5)
    r.detector.trigger()
    r.q.stop(success=True)
    r.detector.stop(success=True)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive()


# the RunEngine interrupts ---------------------------------------------------------------------------


def test_a_pause_stops_the_axis_and_resume_finishes_the_move(RE: Any) -> None:
    r = reflectometer(Flat(), seed=1, probe="xray", speed=0.01)

    def plan() -> Any:
        yield from bps.checkpoint()
        yield from bps.abs_set(r.q, 0.7, group="move")
        yield from bps.pause()
        yield from bps.wait("move")

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    assert not r.q.moving
    assert r.q.position < 0.7
    r.clock.speed = math.inf
    assert RE.resume().exit_status == "success"
    assert r.q.position == 0.7
    # Stopped far from its target: the way is paid once in two parts, and settling at its end.
    assert r.clock.spent("moving") == pytest.approx(0.695 / 0.2 + 0.2)


def test_a_paused_exposure_is_given_up_and_taken_again(
    RE: Any, documents: list[tuple[str, dict[str, Any]]]
) -> None:
    r = reflectometer(Flat(), seed=1, probe="xray", speed=0.01)

    def plan() -> Any:
        yield from bps.mv(r.detector.count_time, 5.0)
        yield from bps.open_run()
        yield from bps.checkpoint()
        yield from bps.trigger(r.detector, group="count")
        yield from bps.pause()
        yield from bps.wait("count")
        yield from bps.create()
        yield from bps.read(r.detector)
        yield from bps.save()
        yield from bps.close_run()

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    assert math.isnan(r.detector.last.counts)
    r.clock.speed = math.inf
    assert RE.resume().exit_status == "success"
    assert [e["count_time"] for e in events(documents)] == [5.0]
    assert r.detector.exposures == 2
    assert 5.0 < r.clock.spent("counting") < 10.0


def test_an_abort_ends_what_moves_and_what_counts(RE: Any) -> None:
    r = reflectometer(Flat(), seed=1, probe="xray", faults={1: Fault.HANG})

    def plan() -> Any:
        yield from bps.stage(r.detector)
        yield from bps.open_run()
        yield from bps.mv(r.q, 0.1)
        yield from bps.trigger_and_read([r.detector, r.q])
        yield from bps.trigger(r.detector, group="hung")
        r.clock.speed = 0.01
        yield from bps.abs_set(r.q, 0.7)
        yield from bps.pause()
        yield from bps.wait("hung")

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    result = RE.abort()
    assert result.exit_status == "abort"
    assert not r.q.moving
    assert r.q.position < 0.7


# faults ---------------------------------------------------------------------------------------------


def test_a_fault_strikes_its_exposure_and_no_other() -> None:
    r = reflectometer(Flat(), seed=1, faults={1: Fault.NAN, 2: Fault.SATURATED})
    counts: list[float] = []
    for _ in range(4):
        wait_for(r.detector.trigger())
        counts.append(r.detector.last.counts)
    assert [math.isnan(c) for c in counts] == [False, True, True, False]


def test_a_saturated_detector_observes_all_that_it_can() -> None:
    r = reflectometer(Flat(), seed=1, faults={0: Fault.SATURATED})
    wait_for(r.detector.trigger())
    assert math.isnan(r.detector.last.counts)
    assert r.detector.last.observed == pytest.approx(1.0 / NEUTRON.dead_time, rel=2e-3)


def test_a_detector_that_refuses_fails_the_run_and_counts_again_afterwards(RE: Any) -> None:
    r = reflectometer(Flat(), seed=1, faults={1: Fault.RAISE})
    with pytest.raises(RuntimeError, match="refuses exposure 1"):
        RE(bp.count([r.detector], 3))
    assert RE(bp.count([r.detector], 3)).exit_status == "success"


def test_a_hung_exposure_can_be_given_up() -> None:
    r = reflectometer(Flat(), seed=1, faults={0: Fault.HANG})
    status = r.detector.trigger()
    assert not status.done
    r.detector.unstage()
    wait_for(status)
    wait_for(r.detector.trigger())
    assert r.detector.last.counts > 0


def test_a_stopped_exposure_fails_the_run(RE: Any) -> None:
    r = reflectometer(Flat(), seed=1, faults={0: Fault.HANG})

    def plan() -> Any:
        yield from bps.trigger(r.detector, group="count")
        r.detector.stop()
        yield from bps.wait("count")

    with pytest.raises(FailedStatus):
        RE(plan())


def test_an_overlapping_exposure_is_refused() -> None:
    r = reflectometer(Flat(), seed=1, faults={0: Fault.HANG})
    status = r.detector.trigger()
    with pytest.raises(RuntimeError, match="still counting"):
        r.detector.trigger()
    r.detector.stop(success=True)
    wait_for(status)


# clock ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_clock_that_does_not_run_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        BeamClock(speed=speed)
