"""An operator who steps in exactly between two messages of a point."""

from __future__ import annotations

from typing import Any

import pytest
from bluesky.utils import RunEngineInterrupted
from fake_analysis import POLICIES, Axis, FakeAnalysis, FakeResult, Wander, det, engine

from skyloop.plans import Action, Course, Instrument, Limits, Steering, steer
from skyloop.plans._verify import verify

FIXED = tuple(Action(round(0.1 * k, 1), 1.0) for k in range(4))
MESSAGES = ["set", "wait", "trigger", "trigger", "wait", "create", "read", "read", "save", "checkpoint"]
"""What a point after the first consists of."""
POINT = range(len(MESSAGES))


class Loop:
    """One run that is paused while a message of its second point is carried out."""

    def __init__(self, at: int, axis: Any = None) -> None:
        self.axis: Any = axis or Axis((0.0, 1.0))
        self.analysis = FakeAnalysis(lambda n: FakeResult(target_sigma=10.0 / n))
        self.engine = engine(self.analysis)
        self._at, self._sets = at, 0
        self.seen: list[str] = []

    def _hook(self, message: Any) -> None:
        self._sets += message.command == "set"
        if self._sets == 2 and len(self.seen) <= self._at:
            self.seen.append(message.command)
            if len(self.seen) == self._at + 1:
                self._pause()

    def _pause(self) -> None:
        # in the loop's own thread, so that not one more message is carried out
        request = self.engine._request_pause_coro(False)
        with pytest.raises(StopIteration):
            request.send(None)

    def pause(self) -> None:
        self.engine.msg_hook = self._hook
        steering = Steering(
            policy=Wander(points=3),
            course=Course(FIXED, limits=Limits(position=None)),
            inbox=self.analysis.inbox,
        )
        with pytest.raises(RunEngineInterrupted):
            self.engine(steer(Instrument((det,), self.axis), steering))

    def differences(self) -> tuple[Any, ...]:
        return verify(self.analysis.raw, self.analysis.documents, policies=POLICIES).differences


def paused(at: int, axis: Any = None) -> Loop:
    loop = Loop(at, axis)
    loop.pause()
    assert loop.seen == MESSAGES[: at + 1]
    return loop


@pytest.mark.parametrize("at", POINT)
@pytest.mark.parametrize(("end", "status"), [("stop", "success"), ("abort", "abort")])
def test_a_run_that_is_ended_within_a_point_ends_as_was_asked(at: int, end: str, status: str) -> None:
    loop = paused(at)
    getattr(loop.engine, end)()
    assert loop.analysis.stop["exit_status"] == status
    assert loop.analysis.decisions()[-1]["reason"] == "operator"
    assert loop.differences() == ()


@pytest.mark.parametrize("at", POINT)
def test_a_point_that_is_resumed_is_measured_once(at: int) -> None:
    loop = paused(at)
    result = loop.engine.resume().plan_result
    assert loop.analysis.stop["num_events"]["primary"] == result["points"] == 3
    assert loop.differences() == ()


@pytest.mark.parametrize("at", POINT[:-1])
@pytest.mark.parametrize("limits", [(0.0, 0.0), (0.0, 0.05)])
def test_a_point_that_limits_forbid_after_a_pause_is_refused_and_not_counted(
    at: int, limits: tuple[float, float]
) -> None:
    loop = paused(at)
    sent = len(loop.axis.sent)
    loop.axis.limits = limits
    result = loop.engine.resume().plan_result
    assert all(0.0 <= place <= limits[1] for place in loop.axis.sent[sent:])
    assert loop.analysis.stop["exit_status"] == "success"
    assert loop.analysis.stop["num_events"]["primary"] == result["points"]
    assert "refused" in [decision["fault"] for decision in loop.analysis.decisions()]
    assert loop.differences() == ()


class Asked(Axis):
    """Refuses in a coroutine what is above `most`, as devices of ophyd-async do."""

    most = 1.0

    async def check_value(self, value: float, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if value > self.most:
            raise ValueError(f"{value} is above {self.most}")


@pytest.mark.parametrize("at", POINT[:-1])
def test_a_point_that_its_device_forbids_in_a_coroutine_after_a_pause_is_not_sent(at: int) -> None:
    loop = paused(at, Asked((0.0, 1.0)))
    sent = len(loop.axis.sent)
    loop.axis.most = -1.0
    result = loop.engine.resume().plan_result
    assert loop.axis.sent[sent:] == []
    assert loop.analysis.stop["num_events"]["primary"] == result["points"] == 1
    assert result["reason"] == "guard"
    assert loop.differences() == ()


@pytest.mark.parametrize("at", POINT)
def test_a_halt_within_a_point_leaves_what_was_measured(at: int) -> None:
    loop = paused(at)
    loop.engine.halt()
    assert len(loop.analysis.events("primary")) == (2 if at >= MESSAGES.index("save") else 1)
