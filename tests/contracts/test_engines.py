"""Laws of every engine: a pure fold whose last word does not depend on the batches, and finds the truth."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from contracts.cases import KEY, SINGLE, Case, fold

from skyloop.documents.schema import encode
from skyloop.engines.panel import Facts
from skyloop.errors import Outcome


def bits(case: Case, result: Any) -> str:
    return repr(encode(result, prefix=case.name))


def test_the_same_state_and_frames_give_the_same_bits(case: Case):
    state, result = case.engine.step(case.states[SINGLE - 1], [case.frames[SINGLE - 1]])
    assert bits(case, result) == bits(case, case.results[SINGLE - 1])
    assert pickle.dumps(state) == pickle.dumps(case.states[SINGLE])


def test_another_engine_of_the_same_configuration_gives_the_same_bits(case: Case):
    _, results = fold(case.technique.engine(case.config), [[frame] for frame in case.frames[:2]])
    assert [bits(case, r) for r in results] == [bits(case, r) for r in case.results[:2]]


def test_a_step_changes_neither_its_state_nor_its_frames(case: Case):
    state, frames = case.states[2], list(case.frames[2:4])
    before = pickle.dumps((state, frames))
    case.engine.step(state, frames)
    assert pickle.dumps((state, frames)) == before


def test_finishing_changes_nothing_and_can_be_repeated(case: Case):
    before = pickle.dumps(case.states[-1])
    assert bits(case, case.engine.finish(case.states[-1])) == bits(case, case.final)
    assert pickle.dumps(case.states[-1]) == before


def test_folding_goes_on_identically_after_a_pickle_round_trip(case: Case):
    restored = pickle.loads(pickle.dumps(case.states[SINGLE]))
    _, result = case.engine.step(restored, case.frames[SINGLE:])
    assert bits(case, result) == bits(case, case.results[SINGLE])


@pytest.mark.parametrize("batches", ["together", "in two", "backwards"])
def test_the_last_word_does_not_depend_on_the_batches(case: Case, batches: str):
    half = len(case.frames) // 2
    split = {
        "together": [case.frames],
        "in two": [case.frames[:half], case.frames[half:]],
        "backwards": [list(reversed(case.frames))],
    }[batches]
    states, _ = fold(case.engine, split)
    assert bits(case, case.engine.finish(states[-1])) == bits(case, case.final)


def test_another_key_gives_another_ensemble_and_the_same_answer(case: Case):
    state, _ = case.engine.step(case.engine.start(KEY + 1), case.frames)
    final = case.engine.finish(state)
    assert abs(final.target - case.final.target) < case.final.target_sigma


def test_the_truth_is_recovered_within_four_sigma(case: Case):
    panels = case.panels(case.frames, case.final)
    told = {row.name: row for panel in panels if isinstance(panel, Facts) for row in panel.rows}
    assert case.truth.keys() <= told.keys()
    off = {name: abs(told[name].value - true) / told[name].sigma for name, true in case.truth.items()}
    assert max(off.values()) < 4.0, off


def test_more_frames_know_more(case: Case):
    first = next(result.target_sigma for result in case.results if not math.isnan(result.target_sigma))
    assert case.final.target_sigma < first


def test_a_run_without_frames_is_rejected_with_a_reason(case: Case):
    empty = case.engine.finish(case.engine.start(KEY))
    assert empty.outcome == Outcome.REJECTED
    assert empty.reason
