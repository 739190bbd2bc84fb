"""Reflectometry plans and their analysis in a closed loop, over simulated devices."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import plans as bp
from event_model import pack_event_page
from fake_analysis import engine, scalars
from film import CONFIG, MOVES, SCAN, TRUTH, Beamline, grid

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.errors import RefusedError
from skyloop.plans import Action, Pace, adaptive_reflectivity, stop_when_known, verify
from skyloop.runtime.sinks import Sink
from skyloop.sim.detector import Fault
from skyloop.sim.reflectometer import reflectometer as simulated
from skyloop.sim.sample import TrueSample, known
from skyloop.storage.sources import open_source
from skyloop.storage.tiled import TiledSink, embedded_tiled


def test_the_target_is_found_in_less_beam_time_than_the_fixed_scan_takes() -> None:
    beamline = Beamline()
    result = beamline.adaptive()
    assert result["reason"] == "target_reached"
    assert (result["outcome"], result["analysis_reason"], result["confirmed"]) == ("ok", "", True)
    assert abs(result["target"] - TRUTH["film.thickness"]) < 4 * result["target_sigma"]
    assert result["target_sigma"] <= 1.0
    fixed = Pace(5.0, 100.0).total([Action(q, 20.0) for q in grid()])
    assert result["beam_time"] < 0.75 * fixed
    # the beam time that the plan counts is the one that passes, but for the way to the first point
    assert beamline.devices.clock.time <= result["beam_time"] + 1.0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_run_verifies_from_events_and_from_event_pages() -> None:
    beamline = Beamline()
    result = beamline.adaptive()
    raw, analysis = json.loads(json.dumps([beamline.analysis.raw, beamline.analysis.documents]))
    report = verify(raw, analysis)
    assert report.differences == ()
    assert report.decisions == result["decisions"]
    assert verify(_paged(raw), _paged(analysis)) == report
    event = [doc for name, doc in raw if name == "event" and "decision_gain" in doc["data"]][-2]
    event["data"]["decision_executed_position"] += 1e-9
    assert not verify(raw, analysis).verified


def _paged(documents: list[Any]) -> Any:
    return [
        ("event_page", pack_event_page(doc)) if name == "event" else (name, doc) for name, doc in documents
    ]


def test_a_run_verifies_after_a_catalog_has_stored_it(tmp_path: Path) -> None:
    beamline = Beamline()
    result = beamline.adaptive()
    beamline.analysis.finish()
    with embedded_tiled(tmp_path / "catalog") as server:
        store = Sink(TiledSink(server.client))
        for name, doc in (*beamline.analysis.raw, *beamline.analysis.documents):
            store(name, doc)
        assert store.close()
        assert store.failed == 0, store.last_failure
        with open_source(server.uri, run=result["run_uid"]) as source:
            raw = list(next(iter(source)).documents())
            analysis = list(next(source.analyses_of(result["run_uid"])).documents())
    report = verify(raw, analysis)
    assert report.differences == ()
    assert report.decisions == result["decisions"]


def test_the_live_analysis_steers_and_its_documents_verify() -> None:
    raw: list[Any] = []
    analysed: list[Any] = []
    with reflectometry(CONFIG, options=Options(executor="thread"), name="live") as analysis:
        analysis.subscribe(lambda name, doc: analysed.append((name, doc)))
        beamline = Beamline(silent=True)
        run_engine = engine(analysis, lambda name, doc: raw.append((name, doc)))
        arguments: dict[str, Any] = {"analysis": "live"} | SCAN | MOVES
        plan = adaptive_reflectivity([beamline.devices.detector], beamline.devices.q, **arguments)
        result = run_engine(plan).plan_result
        assert analysis.flush(60)
        assert analysis.health.faults == ()
    assert result["reason"] == "target_reached"
    report = verify(raw, analysed)
    assert report.differences == ()
    assert report.decisions == result["decisions"]


def test_the_same_seed_gives_the_same_measurement() -> None:
    def measured(seed: int) -> list[dict[str, Any]]:
        beamline = Beamline()
        beamline.adaptive(seed=seed, exploration=0.5)  # the seed says when to explore
        return [scalars(decision) for decision in beamline.analysis.decisions()]

    assert measured(1) == measured(1)
    assert measured(1) != measured(2)


def test_a_fixed_scan_ends_when_the_target_is_known() -> None:
    beamline = Beamline()
    positions = [q for _ in range(6) for q in grid()]  # six repetitions
    result = beamline.stopping(positions, count_time=20.0)
    assert result["reason"] == "target_reached"
    assert result["points"] < len(positions)
    assert beamline.positions == positions[: result["points"]]
    assert abs(result["target"] - TRUTH["film.thickness"]) < 4 * result["target_sigma"]


@pytest.mark.parametrize("mode", ["shadow", "advise"])
def test_shadow_measures_what_a_plain_scan_measures(mode: str) -> None:
    plain: list[float] = []
    positions = [float(q) for q in np.linspace(SCAN["start"], SCAN["stop"], 12)]
    beamline = Beamline(silent=True)
    beamline.engine.subscribe(lambda name, doc: plain.append(doc["data"]["q"]) if name == "event" else None)
    scan: Any = bp.list_scan
    beamline.engine(scan([beamline.devices.detector], beamline.devices.q, positions))
    shadowed = Beamline()
    result = shadowed.adaptive(mode=mode, num=12)
    assert shadowed.positions == plain
    assert result["reason"] == "scan_complete"
    assert "measure" in {decision["choice"] for decision in shadowed.analysis.decisions()}


def test_a_model_that_does_not_fit_is_answered_by_the_fixed_scan_within_its_time() -> None:
    oxide = replace(CONFIG.sample.layers[0], name="oxide", thickness=80.0, roughness=4.0, sld=-1.0)
    truth = known(CONFIG, TRUTH)
    sample = replace(truth.sample, layers=(*truth.sample.layers, oxide))
    beamline = Beamline(replace(truth, sample=sample))
    result = beamline.adaptive(num=20)
    positions = np.linspace(SCAN["start"], SCAN["stop"], 20)
    assert result["reason"] == "model_misfit"
    assert (result["outcome"], result["confirmed"]) == ("degraded", False)
    assert "does not describe the data" in result["analysis_reason"]
    assert {int(np.argmin(np.abs(positions - q))) for q in beamline.positions} == set(range(20))
    assert result["beam_time"] <= Pace(5.0, 100.0).total([Action(q, 20.0) for q in positions]) * 1.0001


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(("limit", "most"), [("budget", 150.0), ("max_dose", 60.0)])
def test_less_than_the_fixed_scan_takes_is_a_budget_too(limit: str, most: float, silent: bool) -> None:
    beamline = Beamline(silent=silent)
    result = beamline.adaptive(**{limit: most}, timeout=0.01 if silent else 5.0)
    counted = [event["data"]["count_time"] for event in beamline.analysis.events("primary")]
    assert (result["beam_time"] if limit == "budget" else sum(counted)) <= most * 1.0001
    assert result["reason"] == "budget"
    assert result["points"] > 1


def test_what_a_budget_cuts_off_must_be_within_the_limits_too() -> None:
    beamline = Beamline()
    with pytest.raises(RefusedError, match="user_limits: the position"):
        beamline.adaptive(budget=150.0, limits=[0.0, 0.15])
    assert beamline.positions == []


def test_a_budget_below_the_first_point_is_refused_before_anything_moves() -> None:
    beamline = Beamline()
    with pytest.raises(RefusedError, match="the beam time in s would be 25, more than the limit 1"):
        beamline.adaptive(budget=1.0)
    assert beamline.positions == []


def test_a_point_that_cannot_be_used_is_counted_among_the_points_and_not_among_those_used() -> None:
    truth, reading = TrueSample(known(CONFIG, TRUTH)), {1: Fault.NAN, 3: Fault.NAN}
    devices = simulated(truth, seed=3, faults=reading)
    with reflectometry(CONFIG, options=Options(executor="thread"), name="") as analysis:
        slow: dict[str, Any] = {"count_time": 200.0, "timeout": 60.0}
        plan = stop_when_known([devices.detector], devices.q, grid()[:6], analysis=analysis, **slow)
        result = engine(analysis)(plan).plan_result
    assert (result["points"], result["points_used"]) == (6, 4)


# when the analysis is gone --------------------------------------------------------------------------


def test_without_an_analysis_every_point_of_the_scan_is_measured() -> None:
    beamline = Beamline(silent=True)
    result = beamline.stopping(grid(), timeout=0.01)
    assert beamline.positions == grid()
    assert result["reason"] == "analysis_lost"
    assert (result["target"], result["target_sigma"]) == (None, None)
    assert (result["outcome"], result["confirmed"]) == ("", None)


def test_without_an_analysis_the_adaptive_plan_is_the_fixed_scan_in_no_more_time() -> None:
    beamline = Beamline(silent=True)
    result = beamline.adaptive(timeout=0.01)
    assert beamline.positions[0] == grid()[0]
    assert set(grid()) == set(beamline.positions)
    assert result["beam_time"] <= Pace(5.0, 100.0).total([Action(q, 20.0) for q in grid()]) * 1.0001
    counted = [event["data"]["count_time"] for event in beamline.analysis.events("primary")]
    assert max(counted) <= 20.0
