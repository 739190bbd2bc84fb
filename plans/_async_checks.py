"""Devices whose own check is a coroutine, as in ophyd-async: a plan must wait for what they say."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bluesky.utils import Msg, MsgGenerator

from skyloop.plans._course import Action, Situation
from skyloop.plans._guard import ACCEPTED, Guard, Verdict, refused_by
from skyloop.runtime.guarded import guarded

__all__ = ["AsyncChecks"]

_LONGEST = 10.0
"""Seconds after which a device that does not answer refuses."""

_Question = tuple[Any, Callable[[float], Awaitable[Any]], float]


class AsyncChecks:
    """The guard for plans, which waits for devices besides.

    The RunEngine repeats the wait when it rewinds after a pause, without telling the plan: so the answer is
    kept here, where the devices' own `set` looks for it.

    Args:
        guard: what is asked first.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.verdict = ACCEPTED
        """What the devices said last."""

    def ask(self, action: Action, situation: Situation) -> MsgGenerator[Verdict]:
        """The verdict of the guard and of all devices on a point."""
        verdict = self._guard.check(action, situation)
        return (yield from self.wait(action)) if verdict.accepted else verdict

    def wait(self, action: Action) -> MsgGenerator[Verdict]:
        """What the devices alone say of a point that the guard accepts."""
        self.verdict = ACCEPTED
        questions = _questions(self._guard.values(action))
        if not questions:
            return ACCEPTED

        async def answer() -> None:
            self.verdict = await _first_refusal(questions)

        yield Msg("wait_for", None, [answer])
        return self.verdict


def _questions(values: Sequence[tuple[Any, float]]) -> list[_Question]:
    """Devices that answer their check with something to wait for, whatever kind of function it is."""
    found: list[_Question] = []
    for device, value in values:
        check: Any = getattr(device, "check_value", _nothing)
        said: Any = guarded(check, value)
        if inspect.isawaitable(said):
            _forget(said)
            found.append((device, check, value))
    return found


def _nothing(_: float) -> None:
    """The check of a device that has none."""


def _forget(awaitable: Any) -> None:
    if inspect.iscoroutine(awaitable):
        awaitable.close()


async def _first_refusal(questions: Sequence[_Question]) -> Verdict:
    for device, check, value in questions:
        task = asyncio.ensure_future(check(value))
        await asyncio.wait([task], timeout=_LONGEST)
        if not task.done():
            task.cancel()
            return refused_by(device, value, f"no answer within {_LONGEST:g} s")
        if task.cancelled():
            return refused_by(device, value, "its check was cancelled")
        if task.exception() is not None:
            return refused_by(device, value, task.exception())
    return ACCEPTED
