"""When two inferences are one, and what is told when they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skyloop.engines.reflectometry.assess import Assessment
from skyloop.engines.reflectometry.verdict import agree, settled
from skyloop.errors import Outcome

FOUND = Assessment(
    target=1246.3,
    target_sigma=0.5,
    other_mass=0.0,
    other_target=np.nan,
    chi2=1.0,
    p_value=0.5,
    cost=0.0,
    log_evidence=6407.0,
    edge="",
)


def test_inferences_of_one_posterior_agree():
    other = replace(FOUND, target=1246.9, log_evidence=6406.0)
    assert agree(FOUND, other)
    assert settled(FOUND, (FOUND, other)).confirmed


@pytest.mark.parametrize(
    "other",
    [
        replace(FOUND, target=1250.0),
        # a wide target that holds the other one; its evidence tells that it missed the best samples
        replace(FOUND, target=1234.0, target_sigma=7.2, log_evidence=6400.3),
    ],
)
def test_an_inference_that_missed_something_is_told(other: Assessment):
    verdict = settled(FOUND, (FOUND, other))
    assert not agree(FOUND, other)
    assert not agree(other, FOUND)
    assert verdict.outcome is Outcome.DEGRADED
    assert not verdict.confirmed
    assert f"1246.3 and {other.target:g}" in verdict.reason
