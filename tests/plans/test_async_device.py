"""Devices that check themselves in a coroutine, as those of ophyd-async do."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from bluesky.utils import RunEngineInterrupted
from fake_analysis import PATIENT, POLICIES, Axis, FakeAnalysis, FakeResult, Wander, det, engine, thread

from skyloop.errors import RefusedError
from skyloop.plans import Action, Course, Instrument, Limits, Steering, _async_checks, steer
from skyloop.plans._verify import verify

FIXED = tuple(Action(round(0.1 * k, 1), 1.0) for k in range(5))


class Async(Axis):
    """Refuses in a coroutine what is above `most`, although its limits are wider."""

    most = 0.45

    async def check_value(self, value: float, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if value > self.most:
            raise ValueError(f"{value} is above {self.most}")


class Narrowing(FakeAnalysis):
    """Makes the device refuse more once a decision is written, before its move is made."""

    axis: Any
    at = 0

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        super().__call__(name, doc)
        if name == "event" and doc["data"].get("decision_seq") == self.at:
            self.axis.most = -1.0


def run(axis: Any, at: int = 0) -> tuple[Any, dict[str, Any]]:
    analysis = Narrowing(lambda n: FakeResult(target_sigma=10.0 / n))
    analysis.axis, analysis.at = axis, at
    steering = Steering(Wander(points=6), Course(FIXED, limits=Limits()), analysis.inbox)
    result = engine(analysis)(steer(Instrument((det,), axis), steering)).plan_result
    assert verify(analysis.raw, analysis.documents, policies=POLICIES).differences == ()
    return analysis, result


def test_what_the_device_refuses_is_recorded_and_the_fixed_scan_goes_on() -> None:
    axis: Any = Async((0.0, 1.0))
    analysis, result = run(axis)
    refused = [d for d in analysis.decisions() if d["guard_rule"] == "device"]
    assert refused
    assert all("is above 0.45" in d["guard_message"] and d["proposed_position"] > 0.45 for d in refused)
    assert max(axis.sent) <= 0.45
    assert result["points"] == len(analysis.events("primary"))
    assert analysis.stop["exit_status"] == "success"


def test_what_the_device_refuses_at_the_last_moment_is_not_sent() -> None:
    axis: Any = Async((0.0, 1.0))
    analysis, result = run(axis, at=3)
    assert len(axis.sent) == result["points"] == 2
    assert [d["fault"] for d in analysis.decisions()[3:]] == ["refused", "refused again"]
    assert result["reason"] == "guard"


def test_a_scan_that_the_device_refuses_does_not_begin() -> None:
    axis: Any = Async((0.0, 1.0))
    axis.most = 0.35
    with pytest.raises(RefusedError, match=r"device: x refuses 0\.4: 0\.4 is above 0\.35"):
        run(axis)
    assert axis.sent == []


class Later(Async):
    """Its check is a coroutine behind a plain function, which takes a while and may never answer."""

    def __init__(self) -> None:
        super().__init__((0.0, 1.0))
        self.begun = threading.Event()
        self.release = asyncio.Event()
        self.slow_from = 0
        self._asked = 0

    def check_value(self, value: float, **given: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._check(value)

    async def _check(self, value: float) -> None:
        self._asked += 1
        if 0 < self.slow_from <= self._asked:
            self.begun.set()
            await self.release.wait()
        if value > self.most:
            raise ValueError(f"{value} is above {self.most}")


def test_a_coroutine_behind_a_plain_function_is_waited_for_too() -> None:
    axis: Any = Later()
    analysis, _ = run(axis)
    assert [d for d in analysis.decisions() if d["guard_rule"] == "device"]
    assert max(axis.sent) <= 0.45


@pytest.mark.parametrize("slow_from", [3, len(FIXED) + 1, len(FIXED) + 2])
def test_a_pause_while_a_device_is_asked_asks_it_again(slow_from: int) -> None:
    axis: Any = Later()
    axis.slow_from = slow_from
    analysis = FakeAnalysis(lambda n: FakeResult(target_sigma=10.0 / n))
    run_engine = engine(analysis)
    steering = Steering(Wander(points=2), Course(FIXED, limits=Limits()), analysis.inbox)

    def pause() -> None:
        assert axis.begun.wait(PATIENT)
        run_engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        run_engine(steer(Instrument((det,), axis), steering))
    run_engine.loop.call_soon_threadsafe(axis.release.set)
    assert run_engine.resume().plan_result["points"] == 2
    assert analysis.stop["exit_status"] == "success"
    assert verify(analysis.raw, analysis.documents, policies=POLICIES).differences == ()


def test_a_device_that_does_not_answer_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_async_checks, "_LONGEST", 0.01)
    axis: Any = Later()
    axis.slow_from = 1
    with pytest.raises(RefusedError, match=r"device: x refuses 0: no answer within 0\.01 s"):
        run(axis)
    assert axis.sent == []


class Cancelling(Async):
    """Breaks off its own check."""

    async def check_value(self, value: float, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise asyncio.CancelledError


def test_a_check_that_is_broken_off_refuses() -> None:
    with pytest.raises(RefusedError, match="device: x refuses 0: its check was cancelled"):
        run(Cancelling((0.0, 1.0)))
