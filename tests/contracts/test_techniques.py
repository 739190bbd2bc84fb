"""Laws of the rooms around an engine: configuration, callback, pictures and plans of every technique."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from contracts.cases import Case

import skyloop.plans
from skyloop.callbacks import Analyzer, Options, techniques
from skyloop.documents.run import AnalysisIdentity
from skyloop.documents.schema import decode, encode
from skyloop.engines.panel import Facts, Plot
from skyloop.figures.pen import draw, save
from skyloop.figures.words import unit_text


def same(a: Any, b: Any) -> bool:
    """Whether two panels show the same, NaN being equal to NaN."""
    if is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    return a == b or (a != a and b != b)


def shown(case: Case, results: list[Any]) -> tuple[Any, ...]:
    return case.panels(case.frames, results[-1], history=results[:-1])


# ---------------------------------------------------------------- configuration and callback


def test_the_configuration_comes_back_from_an_analysis_run(case: Case):
    identity = AnalysisIdentity(case.name, case.engine.version, case.config)
    stored = yaml.safe_dump(identity.config_plain)
    assert case.technique.load(stored) == case.config
    again = AnalysisIdentity(case.name, case.engine.version, case.technique.load(stored))
    assert again.config_sha256 == identity.config_sha256


def test_the_configuration_is_read_from_a_file_too(case: Case, tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(AnalysisIdentity("", "", case.config).config_plain))
    assert case.technique.load(file) == case.config


def test_the_keys_come_back_from_an_analysis_run(case: Case):
    stored = json.loads(json.dumps(case.technique.keys))
    assert case.technique.called(stored).keys == case.technique.keys == stored


def test_the_callback_module_exposes_the_technique_and_a_function_of_its_name(case: Case):
    module = import_module(f"skyloop.callbacks.{case.name}")
    assert module.TECHNIQUE is techniques()[case.name]
    assert {"TECHNIQUE", case.name} <= set(module.__all__)
    with getattr(module, case.name)(case.config, options=Options(executor="inline"), name="") as analysis:
        assert isinstance(analysis, Analyzer)
        assert analysis.config == case.config


# ---------------------------------------------------------------- pictures


def test_live_and_stored_results_give_the_same_panels(case: Case):
    live = [*case.results, case.final]
    kind, name = case.engine.result_type, case.name
    stored = [decode(kind, encode(r, prefix=name), prefix=name) for r in live]
    assert same(shown(case, live), shown(case, stored))


def test_panels_are_drawn_with_their_units(case: Case, tmp_path: Path):
    panels = shown(case, [*case.results, case.final])
    figure = draw(panels)
    assert save(figure, tmp_path / "figure.png").stat().st_size > 1000
    plots = [panel for panel in panels if isinstance(panel, Plot)]
    assert len(plots) >= 1
    for axes, plot in zip(figure.axes, plots, strict=False):
        for label, axis in ((axes.get_xlabel(), plot.x), (axes.get_ylabel(), plot.y)):
            assert label == (f"{axis.label} [{unit_text(axis.unit)}]" if axis.unit else axis.label)


def test_what_is_believed_is_told_with_units(case: Case):
    (facts,) = (panel for panel in shown(case, [case.final]) if isinstance(panel, Facts))
    assert (facts.outcome, facts.reason) == (case.final.outcome, case.final.reason)
    assert all(row.unit for row in facts.rows if row.name in case.truth and "." in row.name)


def test_a_result_without_numbers_can_be_drawn(case: Case, tmp_path: Path):
    empty = case.engine.finish(case.engine.start(0))
    panels = case.panels([], empty)
    assert save(draw(panels), tmp_path / "empty.png").is_file()


# ---------------------------------------------------------------- plans


def test_each_policy_has_a_plan_of_its_name_that_a_queue_finds(case: Case):
    policies = import_module(f"skyloop.plans.{case.name}").POLICIES
    assert policies.result_type is case.engine.result_type
    assert policies.classes
    for policy in policies.classes:
        assert policy.technique == case.name
        assert policy.version
        plan = getattr(skyloop.plans, policy.name)
        assert inspect.isgeneratorfunction(plan)
        assert policy.name in skyloop.plans.__all__


def test_every_plan_of_a_technique_module_is_listed(case: Case):
    module = import_module(f"skyloop.plans.{case.name}")
    plans = {
        name
        for name, value in vars(module).items()
        if inspect.isgeneratorfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }
    assert plans
    assert plans <= set(skyloop.plans.__all__)


def test_policies_are_frozen_values_of_plain_numbers(case: Case):
    classes = import_module(f"skyloop.plans.{case.name}").POLICIES.classes
    assert classes
    for policy in classes:
        assert is_dataclass(policy)
        assert policy.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
        assert {f.type for f in fields(policy)} <= {float, int, str, bool}
