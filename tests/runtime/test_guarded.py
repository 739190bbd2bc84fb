from __future__ import annotations

from threading import Thread
from typing import Any

import pytest

from skyloop.runtime.guarded import Broken, guarded


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_on_the_main_thread_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        guarded(interrupt)


def test_on_another_thread_nothing_passes() -> None:
    got: list[Any] = []
    thread = Thread(target=lambda: got.append(guarded(interrupt)))
    thread.start()
    thread.join()
    assert isinstance(got[0], Broken)


@pytest.mark.parametrize("error", [ValueError("a"), SystemExit(1), ReferenceError("b"), MemoryError()])
def test_what_was_raised_is_told(error: BaseException) -> None:
    def fail() -> None:
        raise error

    broken = guarded(fail)
    assert isinstance(broken, Broken)
    assert type(error).__name__ in broken.reason
    assert guarded(len, [1, 2]) == 2


def test_an_exception_that_breaks_when_it_is_asked_what_it_is_has_its_type_as_reason() -> None:
    class BadError(Exception):
        def __str__(self) -> str:
            raise AttributeError("missing")

    def call() -> None:
        raise BadError

    found = guarded(call)
    assert isinstance(found, Broken)
    assert found.reason == "BadError"
