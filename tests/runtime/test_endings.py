from __future__ import annotations

from weakref import WeakKeyDictionary

import pytest
import toy

from skyloop.runtime import endings
from skyloop.runtime._child import _answer
from skyloop.runtime.guarded import Broken
from skyloop.runtime.runners import LocalRunner


class Work:
    def __init__(self, *, breaks: bool = False) -> None:
        self.breaks, self.closed = breaks, False

    def close(self, timeout: float = 10.0, /) -> bool:
        self.closed = True
        if self.breaks:
            raise OSError("no space left")
        endings.ended(self)
        return True


def test_one_that_cannot_be_closed_at_the_end_leaves_none_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endings, "_open", WeakKeyDictionary())
    works = [Work(), Work(breaks=True), Work()]
    owner = Work()
    for work in works:
        endings.ends_with(owner, work)
    endings._close_all()
    endings.ended(works[1])
    assert all(work.closed for work in works)
    assert "could not be closed at the end: OSError: no space left" in caplog.text


def test_a_call_that_the_child_does_not_know_is_not_answered_as_if_it_did() -> None:
    runner = LocalRunner(toy.Engine(toy.Config()))
    answer = _answer(runner, "stepp", "raw-1", [])
    assert isinstance(answer, Broken)
    assert answer.reason == "no call is named 'stepp'"
    assert _answer(runner, "ready", "", []) == "ready"
