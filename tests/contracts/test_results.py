"""Laws of every result: what is declared is what is stored, and what is stored comes back."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from contracts.cases import Case

from skyloop.documents.schema import data_keys, decode, encode
from skyloop.errors import Outcome
from skyloop.quantities import blank, quantities

SCALARS = {"string": str, "boolean": bool, "integer": int, "number": float}


def told(case: Case) -> list[Any]:
    nothing = blank(case.engine.result_type, case.engine.sizes, outcome=Outcome.FAILED, reason="a fault")
    return [*case.results, case.final, nothing]


def test_a_result_is_a_frozen_dataclass_with_outcome_and_reason(case: Case):
    kind = case.engine.result_type
    assert is_dataclass(kind)
    assert {"outcome", "reason"} <= {f.name for f in fields(kind)}
    assert all(type(result) is kind for result in told(case))
    with pytest.raises((AttributeError, TypeError)):
        case.final.reason = "changed"


def test_encoded_values_have_the_declared_dtype_and_shape(case: Case):
    keys = data_keys(case.engine.result_type, case.engine.sizes, prefix=case.name, units=case.engine.units)
    for result in told(case):
        data = encode(result, prefix=case.name)
        assert data.keys() == keys.keys()
        for name, key in keys.items():
            if key["shape"]:
                assert np.shape(data[name]) == tuple(key["shape"]), name
            else:
                assert type(data[name]) is SCALARS[key["dtype"]], name


def test_decoding_gives_back_what_was_encoded(case: Case):
    for result in told(case):
        data = encode(result, prefix=case.name)
        again = decode(case.engine.result_type, json.loads(json.dumps(data)), prefix=case.name)
        # bit for bit: NaN is equal to nothing, but its words are
        assert repr(encode(again, prefix=case.name)) == repr(data)


def test_each_uncertainty_is_of_a_field_with_its_shape_and_unit(case: Case):
    known = quantities(case.engine.result_type)
    units = case.engine.units
    for name in (name for name in known if name.endswith("_sigma")):
        value = name.removesuffix("_sigma")
        assert value in known, f"{name} is the uncertainty of nothing"
        assert known[name] == known[value]
        assert units.get(name) == units.get(value)


def test_uncertainties_are_positive_zero_or_not_known(case: Case):
    for result in told(case):
        for name in (f.name for f in fields(result) if f.name.endswith("_sigma")):
            sigma = np.asarray(getattr(result, name))
            assert (np.isnan(sigma) | (sigma >= 0.0)).all(), name


def test_a_result_that_is_not_ok_says_why(case: Case):
    for result in told(case):
        assert (result.outcome == Outcome.OK) == (result.reason == "")


def test_units_of_the_configuration_are_those_of_fields(case: Case):
    assert set(case.engine.units) <= set(quantities(case.engine.result_type))


def test_hints_are_one_to_four_scalars(case: Case):
    known = quantities(case.engine.result_type)
    hints = case.technique.hints
    assert 1 <= len(hints) <= 4
    assert all(known[hint][0] in (float, int, bool) and not known[hint][1].dims for hint in hints)


def test_plans_find_target_and_uncertainty(case: Case):
    for result in case.results:
        assert math.isfinite(result.target) == math.isfinite(result.target_sigma)
    assert math.isfinite(case.final.target)
