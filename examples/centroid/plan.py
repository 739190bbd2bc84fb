"""The plan: scan in passes, stop when the centre is known, go there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bluesky import plan_stubs as bps
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from centroid.engine import Result
from skyloop.errors import Outcome
from skyloop.plans import (
    Action,
    Choice,
    Continue,
    Course,
    Instrument,
    Limits,
    Reason,
    Situation,
    Steering,
    Stop,
    steer,
)

PASSES = 4


@dataclass(frozen=True)
class KnownAfterAPass:
    """Stops at the end of a pass over the whole range; a centroid of half a peak would be wrong."""

    name: ClassVar[str] = "find_peak"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "centroid"

    target_sigma: float
    points_per_pass: int

    def __call__(self, results: Sequence[Result], situation: Situation, /) -> Choice:
        at_the_end = len(situation.measured) % self.points_per_pass == 0
        if not (results and at_the_end):
            return Continue()
        last = results[-1]
        known = last.outcome == Outcome.OK and last.target_sigma <= self.target_sigma
        return Stop(Reason.TARGET_REACHED) if known else Continue()


def find_peak(
    detectors: Sequence[Readable[Any]],
    axis: Movable[float],
    start: float,
    stop: float,
    num: int,
    *,
    analysis: Any,
    target_sigma: float,
) -> MsgGenerator[dict[str, Any]]:
    """Scan up to four passes, until the centre of the peak is known; then move there."""
    step = (stop - start) / (num - 1)
    one_pass = [start + step * i for i in range(num)]
    fixed = tuple(Action(x, 1.0) for _ in range(PASSES) for x in one_pass)
    course = Course(fixed, limits=Limits(position=(start, stop)))
    steering = Steering(policy=KnownAfterAPass(target_sigma, num), course=course, inbox=analysis.inbox)
    found = yield from steer(Instrument(tuple(detectors), axis), steering)
    if found["target"] is not None:
        yield from bps.mv(axis, found["target"])
    return found
