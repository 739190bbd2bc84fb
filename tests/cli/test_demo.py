"""What the demo shows of what it measured; `.ci/run` runs the whole of it."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from skyloop.cli import _demo
from skyloop.cli._beamline import model
from skyloop.documents.schema import encode
from skyloop.engines.panel import Axis
from skyloop.engines.reflectometry import Engine, Result
from skyloop.errors import Outcome
from skyloop.quantities import blank

FOUND = {"beam_time": 500.0, "reason": "target_reached"}


def result(target: float, *, confirmed: bool = True, points: int = 3) -> Result:
    nothing = blank(Result, Engine(model()).sizes, outcome=Outcome.OK, reason="", n_points=points)
    return replace(nothing, target=target, target_sigma=0.5, confirmed=confirmed)


def stored(*results: Result) -> list[tuple[str, dict[str, Any]]]:
    return [("event", {"data": encode(one, prefix="reflectometry")}) for one in results]


def table(shown: Result, uniform: _demo.Uniform | None) -> str:
    screen = StringIO()
    _demo._print_table(Console(file=screen, width=80), _demo.Loop(FOUND, "uid"), shown, uniform, 23)
    return screen.getvalue()


def test_a_summary_that_is_not_confirmed_is_shown_and_told():
    unsure = replace(result(272.0, confirmed=False), reason="two answers [each]")
    told = "not confirmed by a second inference over the whole prior: two answers [each]"
    assert "272.00 ± 0.50 Å" in table(unsure, None)
    assert told in table(unsure, None).splitlines()
    assert "not confirmed" not in table(result(272.0), None)


@pytest.mark.parametrize("confirmed", [True, False])
def test_the_summary_has_the_last_word_in_the_figure(
    confirmed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown: list[Any] = []

    def panels(_: object, final: Result, *, history: list[Result], **more: Any) -> tuple[()]:
        shown.extend((final.target, [one.target for one in history]))
        assert (more["truth"], more["moved"]) == (271.3, Axis("q", "1/angstrom"))
        return ()

    monkeypatch.setattr(_demo, "panels", panels)
    documents = stored(result(270.0), result(271.0), result(272.0, confirmed=confirmed))
    last = _demo._last_word(documents)
    _demo._figure([], documents, last, tmp_path)
    assert shown == [272.0, [270.0, 271.0]]
    assert "272.00 ± 0.50 Å" in table(last, None)


def test_the_uniform_scan_is_shown_as_it_was_measured():
    text = table(result(272.0), _demo.Uniform(result(271.5), 1750.0))
    assert "│ uniform scan  │ 271.50 ± 0.50 Å │ 1750 s    │ 122    │" in text
    assert "3.5 times less beam time than the uniform scan" in text


def test_a_uniform_scan_that_does_not_know_is_not_made_up():
    text = table(result(272.0), None)
    assert "│ uniform scan  │ not reached" in text
    assert "nan" not in text
    assert "no uniform scan that was tried knows the thickness to 0.5 Å" in " ".join(text.split())


def test_the_progress_counts_points_and_not_the_summary():
    told: list[str] = []
    show = _demo._progress_of(lambda note, done: told.append(note))
    for number, (name, doc) in enumerate(stored(result(270.0), result(271.0)), start=1):
        show(name, {"data": doc["data"] | {"raw_seq_num": number}})
    show(*stored(result(272.0))[0])
    assert told == ["point 1, 270.00 ± 0.50 Å", "point 2, 271.00 ± 0.50 Å"]
