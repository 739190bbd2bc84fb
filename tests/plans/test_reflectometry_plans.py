from __future__ import annotations

import ast
import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from bluesky import plans as bp
from bluesky.protocols import Movable, Readable
from bluesky.utils import Msg, MsgGenerator
from event_model import pack_event_page
from fake_analysis import Axis, EngineAnalysis, FakeAnalysis, FakeResult, det, engine, scalars

import skyloop.plans
from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.engines.reflectometry.config import Config, load
from skyloop.engines.reflectometry.engine import Engine
from skyloop.engines.reflectometry.frame import Frame
from skyloop.engines.reflectometry.result import Result
from skyloop.errors import ConfigError, Outcome, RefusedError
from skyloop.plans import adaptive_reflectivity, stop_when_known
from skyloop.plans._course import Action, Continue, Pace, Proposal, Reason, Situation, Stop
from skyloop.plans._verify import verify
from skyloop.plans.reflectometry import GainPerSecond, StopWhenKnown
from skyloop.quantities import blank
from skyloop.runtime.sinks import Sink
from skyloop.sim.detector import Fault
from skyloop.sim.reflectometer import reflectometer as simulated
from skyloop.sim.sample import TrueSample, known
from skyloop.storage.sources import open_source
from skyloop.storage.tiled import TiledSink, embedded_tiled

OFFERED = [getattr(skyloop.plans, name) for name in skyloop.plans.__all__]
PLANS = [thing for thing in OFFERED if inspect.isgeneratorfunction(thing)]

CONFIG = load("""
sample:
  layers: [{name: film, thickness: [100, 500], roughness: [2, 15], sld: [1, 6.5]}]
  backing: {name: Si, sld: 2.07, roughness: 4}
background: 1.0e-6
target: film.thickness
target_sigma: 1.0
q_grid: {start: 0.008, stop: 0.2, num: 41}
particles: 300
""")
TRUTH = {"film.thickness": 300.0, "film.roughness": 5.0, "film.sld": 5.0}
SCAN: dict[str, Any] = {"start": 0.008, "stop": 0.2, "num": 41, "count_time": 20.0}
MOVES: dict[str, Any] = {"move_overhead": 5.0, "move_per_unit": 100.0}


class Beamline:
    """A simulated instrument with a live analysis on it."""

    def __init__(self, truth: Config | None = None, *, silent: bool = False) -> None:
        self.devices = simulated(TrueSample(truth or known(CONFIG, TRUTH)), seed=3)
        self.analysis: Any = (
            FakeAnalysis(lambda _: None, config=CONFIG)
            if silent
            else EngineAnalysis(Engine(CONFIG), "reflectometry", self.frame, name="film")
        )
        self.engine = engine(self.analysis)

    @staticmethod
    def frame(data: dict[str, Any]) -> Frame:
        return Frame.counted(data["q"], data["counts"], data["exposure"], data["q_sigma"])

    def adaptive(self, **given: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {"analysis": self.analysis} | SCAN | MOVES | given
        plan = adaptive_reflectivity([self.devices.detector], self.devices.q, **arguments)
        return self.engine(plan).plan_result

    def stopping(self, positions: Sequence[float], **given: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {"analysis": self.analysis, "count_time": 20.0} | MOVES | given
        plan = stop_when_known([self.devices.detector], self.devices.q, list(positions), **arguments)
        return self.engine(plan).plan_result

    @property
    def positions(self) -> list[float]:
        return self.analysis.positions("q")


def grid() -> list[float]:
    return [float(q) for q in np.linspace(SCAN["start"], SCAN["stop"], SCAN["num"])]


# the closed loop ------------------------------------------------------------------------------------


def test_the_target_is_found_in_less_beam_time_than_the_fixed_scan_takes() -> None:
    beamline = Beamline()
    result = beamline.adaptive()
    assert result["reason"] == "target_reached"
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
    assert {int(np.argmin(np.abs(positions - q))) for q in beamline.positions} == set(range(20))
    assert result["beam_time"] <= Pace(5.0, 100.0).total([Action(q, 20.0) for q in positions]) * 1.0001


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


def test_without_an_analysis_the_adaptive_plan_is_the_fixed_scan_in_no_more_time() -> None:
    beamline = Beamline(silent=True)
    result = beamline.adaptive(timeout=0.01)
    assert beamline.positions[0] == grid()[0]
    assert set(grid()) == set(beamline.positions)
    assert result["beam_time"] <= Pace(5.0, 100.0).total([Action(q, 20.0) for q in grid()]) * 1.0001
    counted = [event["data"]["count_time"] for event in beamline.analysis.events("primary")]
    assert max(counted) <= 20.0


# policies -------------------------------------------------------------------------------------------

KNOWN = FakeResult(target_sigma=0.5, confirmed=True)


@pytest.mark.parametrize(
    ("result", "stops"),
    [
        (KNOWN, True),
        (replace(KNOWN, target_sigma=1.0), True),
        (replace(KNOWN, target_sigma=1.1), False),
        (replace(KNOWN, target_sigma=math.nan), False),
        (replace(KNOWN, confirmed=False), False),
        (replace(KNOWN, outcome=Outcome.DEGRADED), False),
        (replace(KNOWN, p_value=1e-4), False),
    ],
)
def test_a_small_uncertainty_counts_only_when_it_is_confirmed(result: Any, stops: bool) -> None:
    choice = StopWhenKnown(1.0)([result], Situation((), 0.0, 0))
    assert choice == (Stop(Reason.TARGET_REACHED) if stops else Continue())


POLICY = GainPerSecond(
    target_sigma=0.1,
    start=0.01,
    stop=0.2,
    shortest=1.0,
    longest=100.0,
    budget=1e6,
    move_overhead=1.0,
    move_per_unit=10.0,
    systematic=0.01,
    exploration=0.1,
)
GRID = np.linspace(0.005, 0.25, 50)
SEEDS = tuple(Action(float(q), 1.0) for q in np.linspace(0.01, 0.2, 8))


def result(**given: Any) -> Result:
    arrays = {
        "q_grid": GRID,
        "prediction": np.full(50, 1e-3),
        "prediction_sigma": np.full(50, 1e-4),
        "target_correlation": np.exp(-(((GRID - 0.1) / 0.02) ** 2)),
        "exposure_grid": np.full(50, 1e4),
    }
    plain = {"outcome": Outcome.OK, "target_sigma": 2.0, "p_value": 0.5, "chi2": 1.0}
    return blank(Result, {"layer": 1, "grid": 50}, **(plain | arrays | given))


def situation(extra: int = 0, seed: int = 0, spent: float = 20.0) -> Situation:
    return Situation((*SEEDS, *[Action(0.1, 1.0)] * extra), spent, seed)


def exploring(found: Any) -> bool:
    return isinstance(found, Proposal) and math.isnan(found.gain)


def test_it_begins_with_evenly_spaced_points() -> None:
    chosen = [POLICY((), Situation(SEEDS[:n], 0.0, 0)) for n in range(8)]
    assert chosen == [Proposal(action) for action in SEEDS]


def test_it_goes_where_the_target_is_told_most() -> None:
    found = replace(POLICY, exploration=0.0)([result()], situation())
    assert isinstance(found, Proposal)
    assert abs(found.action.position - 0.1) < 0.01
    assert found.gain > 0


def test_it_never_leaves_its_range_although_the_analysis_offers_more() -> None:
    high = result(target_correlation=np.where(GRID > 0.2, 0.99, 0.5))
    for n in range(200):
        found = POLICY([high], situation(n))
        assert isinstance(found, Proposal)
        assert 0.01 <= found.action.position <= 0.2
        assert 1.0 <= found.action.count_time <= 100.0 * (1 + 1e-12)


def test_the_share_of_exploration_is_what_was_asked_for() -> None:
    explored = [exploring(POLICY([result()], situation(n, seed))) for n in range(50) for seed in range(40)]
    expected, deviation = 0.1, math.sqrt(0.1 * 0.9 / len(explored))
    assert abs(np.mean(explored) - expected) < 4 * deviation


def test_exploration_goes_to_the_widest_gap() -> None:
    measured = tuple(a for a in SEEDS if not 0.05 < a.position < 0.14)
    found = replace(POLICY, exploration=1.0, seeds=4)([result()], Situation(measured, 20.0, 0))
    assert isinstance(found, Proposal)
    low = max(a.position for a in measured if a.position < 0.1)
    high = min(a.position for a in measured if a.position > 0.1)
    assert abs(found.action.position - (low + high) / 2) <= GRID[1] - GRID[0]


def test_a_choice_depends_on_nothing_but_its_arguments() -> None:
    assert POLICY([result()], situation(3, seed=5)) == POLICY([result()], situation(3, seed=5))


def test_it_stops_at_the_floor_when_no_point_tells_anything() -> None:
    nothing = result(target_correlation=np.zeros(50))
    assert replace(POLICY, exploration=0.0)([nothing], situation()) == Stop(Reason.FLOOR_REACHED)


def test_a_misfit_hands_over_to_the_fixed_scan() -> None:
    assert POLICY([result(p_value=1e-4)], situation()) == Continue(Reason.MODEL_MISFIT)


@pytest.mark.parametrize("exploration", [0.0, 1.0])
def test_no_proposal_exceeds_the_budget_and_the_rest_is_a_stop(exploration: float) -> None:
    pace, policy = Pace(1.0, 10.0), replace(POLICY, exploration=exploration, budget=100.0)
    for spent in np.linspace(20.0, 100.0, 81):
        where = situation(spent=float(spent))
        found = policy([result()], where)
        if isinstance(found, Proposal):
            assert where.spent + pace.cost(where.position, found.action) <= 100.0
        else:
            assert found == Stop(Reason.BUDGET)
            assert spent > 90.0


def test_candidates_out_of_range_and_unknown_exposures_leave_the_choice_to_the_fixed_scan() -> None:
    policy = replace(POLICY, exploration=0.0)
    assert isinstance(policy([result(q_grid=GRID + 1)], situation()), Continue)
    assert isinstance(policy([result(exposure_grid=np.zeros(50))], situation()), Continue)


# arguments ------------------------------------------------------------------------------------------

GOOD_STOP = {"positions": [0.1, 0.2]}
GOOD_ADAPTIVE = SCAN | {"num": 5}
STEP = (0.2 - 0.008) / 40
NO_CONFIG = FakeAnalysis(lambda _: None)
BAD: list[tuple[Any, dict[str, Any], str]] = [
    (stop_when_known, {"detectors": "det"}, "detectors: found 'det'"),
    (stop_when_known, {"detectors": ["det"]}, r"detectors\[0\]: 'det' \(str\) cannot be read"),
    (stop_when_known, {"detectors": []}, "detectors: found"),
    (stop_when_known, {"axis": "x"}, r"axis: 'x' \(str\) cannot be moved"),
    (stop_when_known, {"axis": det}, "axis: .*SynGauss.* cannot be moved"),
    (stop_when_known, {"positions": []}, "positions"),
    (stop_when_known, {"positions": [0.1, math.nan]}, "positions"),
    (stop_when_known, {"target_sigma": 0.0}, "target_sigma"),
    (stop_when_known, {"target_sigma": math.nan}, "target_sigma"),
    (stop_when_known, {"target_sigma": 1.1}, r"target_sigma: found 1\.1, .* at 1 and not before; mend: "),
    (stop_when_known, {"analysis": NO_CONFIG}, "analysis: it tells no target_sigma; mend: "),
    (adaptive_reflectivity, {"target_sigma": 1.1}, r"target_sigma: found 1\.1"),
    (adaptive_reflectivity, {"analysis": NO_CONFIG}, "analysis: it tells no q_grid"),
    (adaptive_reflectivity, {"start": 0.008 - 0.51 * STEP}, r"start: found 0\.005\d*, outside the q_grid"),
    (
        adaptive_reflectivity,
        {"stop": 0.2 + 0.51 * STEP},
        r"stop: found 0\.202\d*, outside .* \[0\.008, 0\.2\]",
    ),
    (stop_when_known, {"count_time": -1.0}, "count_time"),
    (stop_when_known, {"timeout": math.inf}, "timeout"),
    (stop_when_known, {"mode": "wild"}, "mode: found 'wild'; mend: one of shadow, advise, confirm, auto"),
    (stop_when_known, {"mode": "confirm"}, "no approval gate is named ''"),
    (stop_when_known, {"mode": "confirm", "approval": 3}, "approval"),
    (stop_when_known, {"analysis": "nobody"}, "no analysis is named 'nobody'"),
    (stop_when_known, {"analysis": 3}, "analysis: 3"),
    (stop_when_known, {"limits": [1.0, 0.0]}, "limits"),
    (stop_when_known, {"limits": [0.0]}, "limits"),
    (stop_when_known, {"move_overhead": -1.0}, "move_overhead"),
    *(
        (stop_when_known, {name: 5}, f"{name}: found 5; mend: give a list of finite numbers")
        for name in ("positions", "limits")
    ),
    (adaptive_reflectivity, {"count_times": 5}, "count_times: found 5; mend: give a list of finite numbers"),
    *(
        (adaptive_reflectivity, {"num": value}, f"^num: found {value!r}; mend: give a whole number from 2 to")
        for value in (1, "10", 10.5, True, None)
    ),
    *(
        (adaptive_reflectivity, {"seed": value}, f"^seed: found {value!r}; mend: give a whole number from 0")
        for value in ("1", 1.5, True, 2**63)
    ),
    (adaptive_reflectivity, {"stop": 0.0}, "start and stop"),
    (adaptive_reflectivity, {"count_times": [30.0, 40.0]}, "count_times"),
    (adaptive_reflectivity, {"budget": 0.0}, "budget"),
    (adaptive_reflectivity, {"exploration": 1.5}, "exploration"),
    (adaptive_reflectivity, {"seed": -1}, "seed"),
    (adaptive_reflectivity, {"max_step": 0.0}, "max_step"),
]


def call(plan: Any, motor: Axis, **given: Any) -> Any:
    good = GOOD_STOP if plan is stop_when_known else GOOD_ADAPTIVE
    analysis = FakeAnalysis(lambda _: None, config=CONFIG)
    return plan(**({"detectors": [det], "axis": motor, "analysis": analysis} | good | given))


@pytest.mark.parametrize(("plan", "given", "message"), BAD)
def test_bad_arguments_are_refused_readably_before_anything_moves(
    plan: Any, given: dict[str, Any], message: str
) -> None:
    axis, documents = Axis((0.0, 1.0)), []
    with pytest.raises(ConfigError, match=message):
        engine(lambda *pair: documents.append(pair))(call(plan, axis, **given))
    assert axis.sent == []
    assert documents == []


def test_a_scan_that_leaves_its_limits_is_refused_before_anything_moves() -> None:
    for plan in PLANS:
        for given in ({"limits": [0.15, 0.3]}, {}):
            axis = Axis((0.0, 0.0))
            with pytest.raises(RefusedError, match="user_limits" if given else "device_limits_unknown"):
                engine()(call(plan, axis, **given))
            assert axis.sent == []


def test_half_a_step_beyond_the_grid_is_still_explored() -> None:
    beamline = Beamline(silent=True)
    low, high = 0.008 - 0.5 * STEP, 0.2 + 0.5 * STEP
    beamline.adaptive(start=low, stop=high, num=3, timeout=0.01)
    assert (min(beamline.positions), max(beamline.positions)) == (low, high)


@pytest.mark.parametrize(("given", "expected"), [({}, 1.0), ({"target_sigma": 0.5}, 0.5)])
def test_target_and_floor_are_those_of_the_analysis_and_are_recorded(
    given: dict[str, Any], expected: float
) -> None:
    for measure in (Beamline.adaptive, lambda beamline, **more: beamline.stopping([0.1], **more)):
        beamline = Beamline(silent=True)
        measure(beamline, timeout=0.01, **given)
        told = beamline.analysis.raw[0][1]["adaptive"]
        assert told["parameters"]["target_sigma"] == expected
        assert told["parameters"].get("systematic", CONFIG.systematic) == CONFIG.systematic


def test_an_analysis_is_found_by_its_name() -> None:
    beamline = Beamline()
    assert beamline.stopping(grid()[:3], analysis="film")["points"] == 3


# what a queue needs ---------------------------------------------------------------------------------


def test_what_a_plan_server_takes_for_plans_are_the_two_of_them() -> None:
    assert [plan.__name__ for plan in PLANS] == ["adaptive_reflectivity", "stop_when_known"]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
def test_every_parameter_is_annotated_and_has_a_literal_default(plan: Any) -> None:
    hints = get_type_hints(plan)
    for name, parameter in inspect.signature(plan).parameters.items():
        assert name in hints
        assert not isinstance(parameter.annotation, str), "annotations are objects, not text"
        if parameter.default is not inspect.Parameter.empty:
            assert ast.literal_eval(repr(parameter.default)) == parameter.default
    returned = hints["return"]
    assert get_origin(returned) is get_origin(MsgGenerator)
    assert get_args(returned)[0] is Msg
    assert hints["detectors"] == Sequence[Readable]
    assert hints["axis"] is Movable
    assert get_origin(hints["mode"]) is Literal


def test_no_module_of_plans_imports_annotations_from_the_future() -> None:
    files = sorted(Path(skyloop.plans.__path__[0]).glob("**/*.py"))
    assert len(files) > 8
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.module == "__future__"), file.name
