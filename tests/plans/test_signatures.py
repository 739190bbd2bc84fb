"""What a queue needs of a plan: literal defaults, and annotations that are objects."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from bluesky.protocols import Movable, Readable
from bluesky.utils import Msg, MsgGenerator

import skyloop.plans

OFFERED = [getattr(skyloop.plans, name) for name in skyloop.plans.__all__]
PLANS = [thing for thing in OFFERED if inspect.isgeneratorfunction(thing)]


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
