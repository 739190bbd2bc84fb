from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skyloop.engines.panel import Axis, Band, Curve, Facts, Log, Plot, Trace
from skyloop.engines.reflectometry import Engine, Frame, example, panels
from skyloop.errors import Outcome

EXAMPLE = example()
ENGINE = Engine(replace(EXAMPLE.config, particles=200))
DECISIONS = [
    {
        "decision_raw_seq_num": point,
        "decision_source": source,
        "decision_action": "measure",
        "decision_executed_position": 0.05,
        "decision_executed_count_time": 10.0,
        "decision_gain": 0.3,
        "decision_reason": "",
    }
    for point, source in ((2, "plan"), (5, "policy"))
]


@pytest.fixture(scope="module")
def run():
    state, results = ENGINE.start(0), []
    for frame in EXAMPLE.frames[:8]:
        state, result = ENGINE.step(state, [frame])
        results.append(result)
    return results


def shown(run, **given):
    return panels(EXAMPLE.frames[:8], run[-1], history=run[:-1], **given)


def items(panel, kind):
    return [item for item in panel.items if isinstance(item, kind)]


def test_data_lie_in_their_error_bars_on_the_curve(run):
    plot = shown(run)[0]
    assert isinstance(plot, Plot)
    data, model = items(plot, Curve)
    at = np.interp(data.x, model.x, model.y)
    np.testing.assert_allclose(data.y, at, atol=4.0 * data.y_sigma.max(), rtol=0.1)


def test_the_band_holds_the_model_and_stays_above_zero(run):
    plot = shown(run)[0]
    (band,), model = items(plot, Band), items(plot, Curve)[-1]
    assert (band.low > 0).all()
    assert (band.low <= model.y).all()
    assert (model.y <= band.high).all()


def test_residuals_come_with_the_model(run):
    assert len(shown(run, config=ENGINE.config)) == len(shown(run)) + 1
    (residuals,) = items(shown(run, config=ENGINE.config)[1], Curve)
    assert np.abs(residuals.y).max() < 5.0


def test_the_target_is_traced_and_decisions_of_the_policy_are_marked(run):
    plots = [p for p in shown(run, decisions=DECISIONS) if isinstance(p, Plot)]
    (trace,) = items(plots[1], Trace)
    np.testing.assert_array_equal(trace.x, np.arange(1.0, 9.0))
    np.testing.assert_array_equal(trace.y, [r.target for r in run])
    np.testing.assert_array_equal(trace.y_sigma, [r.target_sigma for r in run])
    np.testing.assert_array_equal(trace.marks, [5.0])


def test_the_uncertainty_is_traced_against_what_is_wanted(run):
    plots = [p for p in shown(run, config=ENGINE.config) if isinstance(p, Plot)]
    assert plots[-1].y.is_log
    (trace,), (wanted,) = items(plots[-1], Trace), items(plots[-1], Curve)
    np.testing.assert_array_equal(trace.y, [r.target_sigma for r in run])
    assert set(wanted.y) == {ENGINE.config.target_sigma}


def test_facts_name_the_free_parameters_with_units(run):
    (facts,) = (p for p in shown(run, config=ENGINE.config) if isinstance(p, Facts))
    told = {row.name: row for row in facts.rows}
    assert set(EXAMPLE.truth) <= set(told)
    assert told["film.thickness"].unit == "angstrom"
    assert told["film.sld"].sigma == run[-1].sld_sigma[0]
    assert facts.outcome == run[-1].outcome


def test_decisions_are_listed(run):
    (log,) = (p for p in shown(run, decisions=DECISIONS) if isinstance(p, Log))
    assert [row[1] for row in log.rows] == ["plan", "policy"]
    assert all(len(row) == len(log.columns) for row in log.rows)
    assert log.columns[0] == "after point"  # the point that it decides on is the next one
    assert [row[0] for row in log.rows] == ["2", "5"]


def test_the_heads_of_the_decisions_name_their_units(run):
    logs = [shown(run, decisions=DECISIONS, **more)[-1] for more in ({}, {"moved": Axis("q", "1/angstrom")})]
    heads = [log.columns[3:6] for log in logs if isinstance(log, Log)]
    assert heads == [
        ("position", "time [s]", "gain [nat]"),
        ("q [1/angstrom]", "time [s]", "gain [nat]"),
    ]


def test_a_truth_that_is_known_is_a_line_behind_the_target(run):
    plots = [p for p in shown(run, truth=271.3) if isinstance(p, Plot)]
    truth, trace = plots[1].items
    assert isinstance(truth, Curve)
    assert isinstance(trace, Trace)
    assert set(truth.y) == {271.3}
    np.testing.assert_array_equal(truth.x, trace.x)
    assert not items(next(p for p in shown(run) if isinstance(p, Plot) and items(p, Trace)), Curve)


def test_a_run_without_points_has_panels():
    empty = ENGINE.finish(ENGINE.start(0))
    facts = [p for p in panels([], empty, config=ENGINE.config) if isinstance(p, Facts)]
    assert facts[0].outcome == Outcome.REJECTED


def test_measured_points_keep_their_error_bars(run):
    frame = Frame.measured([0.05, 0.06], [1e-3, 2e-3], [1e-4, 2e-4])
    data = items(panels([frame], run[-1])[0], Curve)[0]
    np.testing.assert_array_equal(data.y_sigma, [1e-4, 2e-4])


def test_what_a_layer_more_would_do_is_a_row_where_it_was_asked(run):
    asked = replace(run[-1], further_layer_gain=0.9, further_layer_target=262.0)
    silent = replace(run[-1], further_layer_gain=np.nan, further_layer_target=np.nan)
    tables = [panels((), one, config=EXAMPLE.config)[-1] for one in (asked, silent)]
    named = [{r.name: r.value for r in t.rows} for t in tables if isinstance(t, Facts)]
    assert named[0].items() - named[1].items() >= {
        ("target, a layer more", 262.0),
        ("its log likelihood", 0.9),
    }
    assert "target, a layer more" not in named[1]
