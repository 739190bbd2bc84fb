"""What a queue needs of a plan: literal defaults, and annotations that are objects."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import bluesky.protocols
import pytest
from bluesky.protocols import Movable, Readable
from bluesky.utils import Msg, MsgGenerator
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

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


# ---------------------------------------------------------------- blueapi, without it: it pins another Tiled

DEVICES: dict[Any, Any] = {Sequence[str]: ["det"], str: "x"}
VALUES = DEVICES | {Any: "film", list[float]: [0.1, 0.2], float: 2.0, int: 41}


def named(kind: Any) -> Any:
    """A kind of parameter with devices replaced by their names, as they come from the network."""
    if getattr(kind, "__module__", "") == bluesky.protocols.__name__:
        return str
    before: Any = get_args(kind)
    after = tuple(named(each) for each in before)
    origin: Any = get_origin(kind)
    return kind if after == before else origin[after]


def form_of(plan: Any) -> type[BaseModel]:
    """What blueapi makes of a plan: a model to be filled from JSON; stricter, it lets nothing else in."""
    hints, fields = get_type_hints(plan), dict[str, Any]()
    for name, parameter in inspect.signature(plan).parameters.items():
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY), name
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (named(hints[name]), default)
    strict = ConfigDict(extra="forbid", validate_default=True)
    return create_model(plan.__name__, __config__=strict, **fields)


def test_blueapi_finds_the_same_plans_by_what_they_return() -> None:
    functions = [thing for thing in OFFERED if inspect.isfunction(thing)]
    kinds = {thing.__name__: get_type_hints(thing).get("return") for thing in functions}
    found = {name for name, kind in kinds.items() if get_origin(kind) is Generator and Msg in get_args(kind)}
    assert found == {plan.__name__ for plan in PLANS}


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
def test_every_parameter_can_be_filled_in_by_json(plan: Any) -> None:
    form = form_of(plan)
    fields = form.model_fields
    given = {name: VALUES[field.annotation] for name, field in fields.items() if field.is_required()}
    filled = form.model_validate_json(json.dumps(given))
    assert filled.model_dump(include=set(given)) == given
    defaults = {name: field.default for name, field in fields.items() if name not in given}
    assert filled.model_dump(exclude=set(given)) == defaults
    assert set(form.model_json_schema()["properties"]) == {*given, *defaults}
    for wrong in ({"mode": "automatic"}, {"detectors": "det"}, {"count_time": "long"}, {"colour": "red"}):
        with pytest.raises(ValidationError):
            form.model_validate_json(json.dumps(given | wrong))
