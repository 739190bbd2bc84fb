"""Adaptive plans: analysis results in, the next point out, every decision recorded.

Plans for a queue are `adaptive_reflectivity` and `stop_when_known`. A plan of your own is a policy, a frozen
dataclass that chooses from results, given to `steer`.

No module here may import annotations from the future: bluesky-queueserver 0.0.25 lists such plans and then
refuses every submission.
"""

from skyloop.plans._approval import ApprovalGate
from skyloop.plans._course import (
    Action,
    Choice,
    Continue,
    Course,
    Limits,
    Pace,
    Policy,
    Proposal,
    Reason,
    Situation,
    Stop,
)

# not in __all__, where a plan server takes every generator function for a plan that can be queued
from skyloop.plans._steer import steer as steer
from skyloop.plans._steering import Instrument, Steering
from skyloop.plans._terminal import answer_from_terminal
from skyloop.plans._verify import Difference, Policies, VerifyReport, verify
from skyloop.plans.reflectometry import adaptive_reflectivity, stop_when_known

__all__ = [
    "Action",
    "ApprovalGate",
    "Choice",
    "Continue",
    "Course",
    "Difference",
    "Instrument",
    "Limits",
    "Pace",
    "Policies",
    "Policy",
    "Proposal",
    "Reason",
    "Situation",
    "Steering",
    "Stop",
    "VerifyReport",
    "adaptive_reflectivity",
    "answer_from_terminal",
    "stop_when_known",
    "verify",
]
