from __future__ import annotations

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from benchmarks._adaptive import X_RAYS, adaptive, truth  # pyright: ignore[reportMissingImports]
from skyloop.engines.reflectometry import Config, Engine, Frame, Result, example
from skyloop.engines.reflectometry import engine as reflectometry_engine
from skyloop.engines.reflectometry.belief import Curves
from skyloop.engines.reflectometry.config import Layer, Medium, QGrid, Repeat, Sample
from skyloop.engines.reflectometry.frame import join
from skyloop.engines.reflectometry.state import State
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.numerics.smc import Ensemble
from skyloop.quantities import quantities, shape_of

EXAMPLE = example()
ENGINE = Engine(EXAMPLE.config)


def folded(frames, key=1, engine=ENGINE):
    state, results = engine.start(key), []
    for frame in frames:
        state, result = engine.step(state, [frame])
        results.append(result)
    return state, results


def assert_same(first, second):
    for field in fields(Result):
        np.testing.assert_array_equal(
            getattr(first, field.name), getattr(second, field.name), err_msg=field.name
        )


@pytest.fixture(scope="module")
def run():
    return folded(EXAMPLE.frames[:24])


def test_the_truth_is_recovered_within_three_sigma(run):
    last = run[1][-1]
    told = {
        "film.thickness": (last.thickness[0], last.thickness_sigma[0]),
        "film.roughness": (last.roughness[0], last.roughness_sigma[0]),
        "film.sld": (last.sld[0], last.sld_sigma[0]),
        "silicon.roughness": (last.backing_roughness, last.backing_roughness_sigma),
        "background": (last.background, last.background_sigma),
    }
    for name, (value, sigma) in told.items():
        assert abs(value - EXAMPLE.truth[name]) < 3.0 * sigma, name


def test_known_parameters_are_told_as_given_with_no_uncertainty(run):
    last = run[1][-1]
    assert (last.backing_sld, last.backing_sld_sigma) == (2.07, 0.0)
    assert (last.scale, last.scale_sigma) == (1.0, 0.0)
    assert (last.isld[0], last.isld_sigma[0]) == (0.0, 0.0)


def test_the_target_is_the_parameter_of_that_name(run):
    last = run[1][-1]
    assert last.target == pytest.approx(last.thickness[0])
    assert last.target_sigma == pytest.approx(last.thickness_sigma[0])
    assert ENGINE.units["target"] == "angstrom"


def test_uncertainty_falls_and_is_confirmed_at_the_target(run):
    results = run[1]
    assert results[-1].target_sigma < 0.1 * results[0].target_sigma
    assert not results[0].confirmed
    assert np.isnan(results[0].confirmation_z)
    known = [r for r in results if r.target_sigma <= EXAMPLE.config.target_sigma]
    assert known
    assert all(r.confirmed and abs(r.confirmation_z) < 3.0 for r in known)
    assert all(r.outcome == Outcome.OK for r in known)


def test_every_field_has_the_shape_of_the_sizes(run):
    for field, (_, quantity) in quantities(Result).items():
        value = getattr(run[1][-1], field)
        assert np.shape(value) == shape_of(quantity, ENGINE.sizes), field


def test_the_spent_exposure_is_that_of_the_points(run):
    last = run[1][-1]
    exposure = sum(frame.exposure[0] for frame in EXAMPLE.frames[:24])
    assert last.exposure_grid.sum() == pytest.approx(exposure)
    assert np.count_nonzero(last.exposure_grid) == 24


def test_step_changes_nothing_in_place():
    state, _ = folded(EXAMPLE.frames[:6])
    before = pickle.dumps(state)
    first = ENGINE.step(state, [EXAMPLE.frames[6]])[1]
    assert pickle.dumps(state) == before
    assert_same(first, ENGINE.step(state, [EXAMPLE.frames[6]])[1])


def test_a_state_that_travelled_gives_the_same_bits():
    state, _ = folded(EXAMPLE.frames[:20])
    travelled = pickle.loads(pickle.dumps(state))
    assert_same(
        ENGINE.step(state, [EXAMPLE.frames[20]])[1],
        Engine(EXAMPLE.config).step(travelled, [EXAMPLE.frames[20]])[1],
    )


def test_the_last_word_does_not_depend_on_batches_or_order():
    frames = EXAMPLE.frames[:12]
    one_by_one, _ = folded(frames)
    order = np.random.default_rng(0).permutation(12)
    shuffled = [frames[i] for i in order]
    state, _ = ENGINE.step(ENGINE.start(1), shuffled[:7])
    batched, _ = ENGINE.step(state, [join(shuffled[7:])])
    assert_same(ENGINE.finish(one_by_one), ENGINE.finish(batched))


def measured(n, seed=4):
    curves, q = Curves.of(EXAMPLE.config), np.linspace(0.01, 0.2, n)
    u = np.array([[0.35, 0.3, 0.6, 0.4, 0.5]])
    exact = curves(u, q, 0.02 * q)[0]
    sigma = 0.03 * exact + 1e-8
    noise = np.random.default_rng(seed).standard_normal(n)
    return Frame.measured(q, exact + sigma * noise, sigma, 0.02 * q), curves.target(u)[0]


def test_the_last_word_on_a_whole_curve_is_that_on_its_halves():
    frame, _ = measured(70)
    halves = [cut(frame, slice(0, 40)), cut(frame, slice(40, 70))]
    whole, halved = folded([frame])[0], folded(halves)[0]
    assert whole.final is not None
    assert halved.final is None
    assert_same(ENGINE.finish(whole), ENGINE.finish(halved))
    assert_same(ENGINE.finish(whole), ENGINE.finish(replace(whole, final=None)))


def cut(frame, rows):
    return Frame(**{field.name: getattr(frame, field.name)[rows] for field in fields(Frame)})


def test_results_do_not_depend_on_the_threads():
    curve = [join(EXAMPLE.frames[:20])]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = ENGINE.step(ENGINE.start(1), curve)[1]
    finally:
        torch.set_num_threads(before)
    one = ENGINE.step(ENGINE.start(1), curve)[1]
    assert one.confirmed
    assert_same(one, two)


def test_another_run_draws_other_particles():
    first, second = (folded(EXAMPLE.frames[:3], key=key)[1][-1] for key in (1, 2))
    assert first.target != second.target


def test_no_points_are_rejected_and_change_nothing():
    state, _ = folded(EXAMPLE.frames[:2])
    same, result = ENGINE.step(state, [])
    assert same is state
    assert result.outcome == Outcome.REJECTED
    assert "no points" in result.reason
    assert ENGINE.finish(ENGINE.start(0)).outcome == Outcome.REJECTED


def test_a_wrong_mode_is_left_when_it_seems_known():
    state, _ = folded(EXAMPLE.frames[:20])
    true = state.ensemble
    assert true is not None
    wrong = true.points.copy()
    wrong[:, 0] = 0.9 + 1e-4 * (wrong[:, 0] - wrong[:, 0].mean())  # 460 angstrom, very sure of it
    stuck = replace(state, ensemble=Ensemble(wrong, true.log_weight, true.log_evidence - 100.0), z=np.nan)
    recovered, result = ENGINE.step(stuck, [EXAMPLE.frames[20]])
    assert result.outcome == Outcome.DEGRADED
    assert "two independent inferences" in result.reason
    assert not result.confirmed
    assert abs(result.target - 240.0) < 3.0
    following = ENGINE.step(recovered, [EXAMPLE.frames[21]])[1]
    assert following.outcome == Outcome.OK
    assert following.confirmed


def test_a_run_that_steers_by_the_whole_curve_does_not_stop_in_a_wrong_mode():
    # A naive sequential ensemble stopped this sample at 458.4 +- 0.2 angstrom; the truth is 308.6.
    sample = truth(X_RAYS, 0)
    assert sample.target == pytest.approx(308.6, abs=0.1)
    run = adaptive(X_RAYS, sample, whole_curve=True)
    assert run.known
    assert abs(run.z) < 3.0


def test_a_model_that_misses_a_layer_is_not_confirmed():
    film = EXAMPLE.config.sample.layers[0]
    hidden = Layer(thickness=(59.0, 61.0), sld=(5.9, 6.1), roughness=3.0, name="hidden")
    true = replace(EXAMPLE.config, sample=replace(EXAMPLE.config.sample, layers=(film, hidden)))
    curves, q = Curves.of(true), np.linspace(0.01, 0.2, 60)
    r = curves(np.full((1, len(curves.parameters)), 0.4), q, np.zeros_like(q))[0]
    counts = np.random.default_rng(2).poisson(1e7 * r)
    result = ENGINE.step(ENGINE.start(0), [Frame.counted(q, counts, 1e7)])[1]
    assert result.outcome == Outcome.DEGRADED
    assert "does not describe the data" in result.reason
    assert not result.confirmed


def test_a_target_outside_its_range_is_told():
    film = EXAMPLE.config.sample.layers[0]
    narrow = replace(film, thickness=(250.0, 400.0))
    config = replace(EXAMPLE.config, sample=replace(EXAMPLE.config.sample, layers=(narrow,)))
    result = Engine(config).step(State(key=0), [join(EXAMPLE.frames[:12])])[1]
    assert result.outcome == Outcome.DEGRADED
    assert "does not describe" in result.reason or "lower end of its range" in result.reason


def test_a_whole_measured_curve_with_resolution_is_known_at_once():
    frame, true = measured(150, seed=0)
    result = ENGINE.step(ENGINE.start(0), [frame])[1]
    assert result.confirmed
    assert abs(result.target - true) < 3.0 * result.target_sigma
    assert 0.5 < result.chi2 < 1.5


def test_repeated_layers_are_told_once():
    pair = (Layer((10, 40), (0, 6), 3.0, name="a"), Layer(20.0, 5.0, 3.0, name="b"))
    config = Config(
        Sample(Medium(2.07), layers=(Repeat(4, pair),)), q_grid=QGrid(0.01, 0.2, 30), particles=200
    )
    engine = Engine(config)
    curves, q = Curves.of(config), np.linspace(0.01, 0.2, 30)
    counts = np.random.default_rng(0).poisson(1e6 * curves(np.array([[0.5, 0.5]]), q, 0 * q)[0])
    result = engine.step(engine.start(0), [Frame.counted(q, counts, 1e6)])[1]
    assert engine.sizes["layer"] == 2
    assert result.thickness == pytest.approx([25.0, 20.0], abs=0.5)


def test_nothing_free_is_refused_with_a_mend():
    with pytest.raises(ConfigError, match="mend: give one parameter a range"):
        Engine(Config(Sample(Medium(2.07))))


def test_a_wild_count_is_a_misfit_and_no_endless_work():
    engine = Engine(replace(example().config, particles=200))
    state, _ = engine.step(engine.start(0), list(example().frames[:12]))
    _, result = engine.step(state, [Frame.counted(0.051, 1e18, 3e6)])
    assert result.outcome == Outcome.DEGRADED
    assert "does not describe the data" in result.reason
    assert not result.confirmed


LIMITS = {
    "q": Frame.counted(10.0, 5, 1e5),
    "q_sigma": Frame.counted(0.1, 5, 1e5, q_sigma=10.0),
    "counts": Frame.counted(0.1, 1e18, 1e-30),
    "exposure": Frame.counted(0.1, 0.0, 1e18),
    "reflectivity": Frame.measured(0.1, 1e12, 1e-30),
    "negative": Frame.measured(0.1, -1e12, 1e-30),
    "sigma": Frame.measured(0.1, 1e12, 1e12),
}


@pytest.mark.parametrize("odd", LIMITS.values(), ids=LIMITS.keys())
def test_the_oddest_point_that_a_frame_may_hold_is_analysed(odd):
    engine = Engine(replace(EXAMPLE.config, particles=100))
    state, results = folded([*EXAMPLE.frames[:3], odd, EXAMPLE.frames[3]], engine=engine)
    for result in (*results, engine.finish(state)):
        assert result.outcome in (Outcome.OK, Outcome.DEGRADED)
        assert np.isfinite([result.target, result.target_sigma]).all()


def test_a_fit_that_is_none_rejects_the_frame_and_the_run_goes_on(monkeypatch):
    def none(*_, **__):
        raise DataError("no finite likelihood")

    curve = join(EXAMPLE.frames[:12])
    q = np.linspace(0.03, 0.2, 100)
    state, _ = ENGINE.step(ENGINE.start(1), [curve])
    with monkeypatch.context() as broken:
        broken.setattr(reflectometry_engine, "fit_data", none)
        after, result = ENGINE.step(state, [Frame.counted(q, 5.0, 1e6)])
        last = ENGINE.finish(state)
    for told in (result, last):
        assert (told.outcome, told.reason) == (Outcome.REJECTED, "no finite likelihood")
        assert told.n_points == len(curve)
    assert (after.points, after.n_frames) == (state.points, state.n_frames + 1)
    assert_same(ENGINE.finish(after), ENGINE.finish(state))
