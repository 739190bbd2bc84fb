"""What examples/05_growth_series.py says and draws of a scan that is not to be trusted."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PUBLISHED = np.linspace(4.0, 160.0, 70)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(EXAMPLES)
    return runpy.run_path(str(EXAMPLES / "05_growth_series.py"))


def result(scan: int, reason: str = "") -> dict[str, Any]:
    sigma = 8.0 if PUBLISHED[scan] < 20 else 1.0
    told = {"target": PUBLISHED[scan] + 1.0, "target_sigma": sigma, "chi2": 1.5}
    told |= {"outcome": "degraded" if reason else "ok", "reason": reason}
    return {"scan": scan} | {f"reflectometry_{key}": value for key, value in told.items()}


RESULTS = [result(0), result(18, "a layer may lack"), result(24), result(66)]


def test_a_scan_that_is_not_to_be_trusted_is_marked_in_its_line(example: dict[str, Any]):
    lines = [example["line"](one, PUBLISHED[one["scan"]]) for one in RESULTS]
    assert [" ? " in line for line in lines] == [False, True, False, False]
    assert lines[1].endswith(" degraded: a layer may lack")
    assert lines[2].endswith(" ok")


def test_a_scan_that_is_not_to_be_trusted_is_an_open_marker_with_a_legend(example: dict[str, Any]):
    for axes in example["figure"](RESULTS, PUBLISHED).axes:
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines["not to be trusted"].get_xdata()) == [18]
        assert lines["not to be trusted"].get_markerfacecolor() == "white"
        assert list(lines["skyloop"].get_xdata()) == [0, 24, 66]
        assert "not to be trusted" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_difference_of_two_angstrom_is_seen(example: dict[str, Any]):
    low, high = example["figure"](RESULTS, PUBLISHED).axes[1].get_ylim()
    assert 0.1 * (high - low) < 2.0
    for one in RESULTS[1:]:
        assert low < 1.0 - 2 * one["reflectometry_target_sigma"]
        assert 1.0 + 2 * one["reflectometry_target_sigma"] < high
