"""What a plan is given is looked at before anything moves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import toy
from fake_analysis import Axis, FakeAnalysis, det, engine
from film import CONFIG, SCAN, Beamline, grid
from listener import Listener

from skyloop.callbacks import Analyzer, Options
from skyloop.documents.inbox import Inbox
from skyloop.errors import ConfigError, RefusedError
from skyloop.plans import adaptive_reflectivity, stop_when_known
from skyloop.plans._arguments import inbox_of, target_sigma_of


def test_an_analysis_that_was_closed_is_refused() -> None:
    analysis = Analyzer(toy.TECHNIQUE, toy.Config(), Options(executor="thread"), name="film")
    assert inbox_of(analysis) is inbox_of("film")
    analysis.close()
    for given in (analysis, analysis.inbox, "film"):
        with pytest.raises(ConfigError, match="it was closed"):
            inbox_of(given)


def test_an_analysis_tells_plans_the_configuration_that_is_in_its_start_document() -> None:
    listener = Listener()
    with Analyzer(toy.TECHNIQUE, toy.Config(), Options(executor="inline")) as analysis:
        analysis.subscribe(listener)
        for name, doc in toy.raw_run([1.0]):
            analysis(name, doc)
    (start,) = listener.of("start")
    assert start["analysis"]["config"]
    assert analysis.inbox.config == start["analysis"]["config"]


def test_the_target_sigma_of_a_plan_may_only_be_stricter_than_that_of_the_analysis() -> None:
    inbox = Inbox(config={"target_sigma": 0.5})
    assert target_sigma_of(None, inbox) == 0.5
    assert target_sigma_of(0.5, inbox) == 0.5
    assert target_sigma_of(0.1, inbox) == 0.1
    assert target_sigma_of(7, Inbox()) == 7.0
    with pytest.raises(ConfigError, match=r"found 0\.6, but the analysis takes a target for known at 0\.5"):
        target_sigma_of(0.6, inbox)
    with pytest.raises(ConfigError, match="tells no target_sigma"):
        target_sigma_of(None, Inbox())


def test_what_has_no_inbox_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no inbox"):
        inbox_of(42)
    assert isinstance(inbox_of(Inbox()), Inbox)


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
    *(
        (
            stop_when_known,
            {"mode": "confirm", "approval": none},
            "^confirm mode has no approval gate; mend: make",
        )
        for none in ("", None)
    ),
    (stop_when_known, {"mode": "confirm", "approval": "desk"}, r"make it .*: gate = ApprovalGate\('desk'\)"),
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
    for plan in (adaptive_reflectivity, stop_when_known):
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
