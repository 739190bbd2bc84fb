"""The adaptive plan of a test over any devices; run as a script, over the EPICS records of a soft IOC."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any, cast

from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from ophyd.signal import EpicsSignalBase

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.plans import adaptive_reflectivity, verify
from skyloop.sim.epics import epics_reflectometer

LIMITS = [0.005, 0.25]


def measure(engine: Any, devices: Any, model: str, run: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Result of the plan, how its run ended, its points, and what verifying it found.

    Args:
        engine: a RunEngine that returns results of plans.
        devices: an axis "q" and a detector.
        model: of the sample.
        run: carries the plan out and gives what the engine returned; by default the engine does.
    """
    raw: list[Any] = []
    analysed: list[Any] = []
    engine.subscribe(lambda name, doc: raw.append((name, doc)))
    with reflectometry(model, options=Options(executor="thread")) as analysis:
        engine.subscribe(analysis)
        analysis.subscribe(lambda name, doc: analysed.append((name, doc)))
        plan = adaptive_reflectivity(
            [devices.detector],
            devices.q,
            analysis=analysis,
            start=0.01,
            stop=0.2,
            num=40,
            count_time=100.0,
            limits=LIMITS,
            timeout=30.0,
        )
        result = (run or engine)(plan)
    report = verify(raw, analysed)
    measured = [doc for name, doc in raw if name == "event" and "q" in doc["data"]]
    return {
        **result.plan_result,
        "exit_status": raw[-1][1]["exit_status"],
        "measured": [(event["seq_num"], event["data"]["q"]) for event in measured],
        "decisions_checked": report.decisions,
        "differences": len(report.differences),
    }


class PausedMove:
    """Carries out a plan that is paused in the middle of one of its moves, and resumed when the axis stands.

    Args:
        engine: a RunEngine.
        axis: an `ophyd.EpicsMotor`.
        move: number of the move, from 1.
    """

    def __init__(self, engine: Any, axis: Any, move: int) -> None:
        self._engine, self._axis, self._move = engine, axis, move
        self._under_way, self._halted = Event(), Event()
        self._start = axis.position
        self._sent: list[float] = []
        self._seen: list[float] = []

    def __call__(self, plan: Any) -> Any:
        fast = self._axis.velocity.get()
        self._axis.user_readback.subscribe(self._moved)
        self._axis.motor_done_move.subscribe(self._done)  # heard after the axis itself has heard it
        self._engine.msg_hook = self._before
        operator = Thread(target=self._pause, daemon=True)
        operator.start()
        with suppress(RunEngineInterrupted):
            self._engine(plan)
        operator.join(30.0)
        # resumed before that, any plan fails: ophyd takes the move that was stopped for one that failed
        assert self._halted.wait(30.0)
        self._stood = self._axis.user_readback.get(use_monitor=False)
        self._wanted = self._axis.user_setpoint.get(use_monitor=False)
        self._axis.velocity.put(fast, wait=True)
        return self._engine.resume()

    def _before(self, message: Any) -> None:
        if message.command != "set" or message.obj.name != self._axis.name:
            return
        self._sent.append(message.args[0])
        if (
            len(self._sent) == self._move
        ):  # a way of half a minute, of which only the first moment is waited for
            self._start = self._axis.position
            self._axis.velocity.put(abs(message.args[0] - self._start) / 30.0, wait=True)

    def _moved(self, value: float, **_: Any) -> None:
        self._seen.append(value)
        if len(self._sent) == self._move and abs(value - self._start) > 1e-6:
            self._under_way.set()

    def _done(self, value: int, **_: Any) -> None:
        if value == 1 and self._under_way.is_set():
            self._halted.set()

    def _pause(self) -> None:
        assert self._under_way.wait(30.0)
        self._engine.request_pause()

    def told(self) -> dict[str, Any]:
        """Where the axis was sent and seen, and how it stood in the pause."""
        return {
            "start": self._start,
            "stood": self._stood,
            "wanted": self._wanted,
            "sent": self._sent,
            "seen": [min(self._seen), max(self._seen)],
        }


def main(prefix: str, model: str) -> None:
    EpicsSignalBase.set_defaults(timeout=30.0, connection_timeout=30.0, write_timeout=30.0)
    devices = epics_reflectometer(prefix)
    engine, interrupted = (cast(Any, RunEngine({}, call_returns_result=True)) for _ in range(2))
    plain = measure(engine, devices, model)
    move = PausedMove(interrupted, devices.q, 4)
    paused = measure(interrupted, devices, model, move) | move.told()
    # after what the RunEngine says of the pause
    sys.stdout.write("\n" + json.dumps({"plain": plain, "paused": paused}))


if __name__ == "__main__":
    main(*sys.argv[1:])
