"""Tiny stand-ins for an analysis and for devices, so that plans can be tested without an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import ophyd.sim
from bluesky import RunEngine

from skyloop.documents.inbox import Analysis, Inbox
from skyloop.documents.run import AnalysisIdentity, AnalysisRun, ResultSchema, Source
from skyloop.errors import Outcome
from skyloop.plans._course import Action, Choice, Proposal, Reason, Situation, Stop
from skyloop.plans._verify import Policies
from skyloop.quantities import Quantity

_sim: Any = ophyd.sim
det = _sim.det
"""A detector."""

Document = tuple[str, dict[str, Any]]
PATIENT = 20.0
"""Seconds after which a test gives up on something that should have happened."""


@dataclass(frozen=True)
class FakeConfig:
    """Configuration of the stand-in."""

    target: str = "film.thickness"


FAKE_CONFIG = FakeConfig()


@dataclass(frozen=True)
class FakeResult:
    """What the plans read of a result."""

    outcome: Outcome = Outcome.OK
    reason: str = ""
    target: Annotated[float, Quantity("angstrom")] = 300.0
    target_sigma: Annotated[float, Quantity("angstrom")] = 10.0
    confirmed: bool = False
    p_value: float = 0.5
    chi2: float = 1.0


@dataclass(frozen=True)
class Wander:
    """A policy: proposes positions from a seed, and stops when the target is known."""

    name: ClassVar[str] = "wander"
    version: ClassVar[str] = "1"
    technique: ClassVar[str] = "fake"

    points: int
    sigma: float = 0.0

    def __call__(self, results: Sequence[FakeResult], situation: Situation, /) -> Choice:
        count = len(situation.measured)
        if results and results[-1].target_sigma <= self.sigma:
            return Stop(Reason.TARGET_REACHED)
        if count >= self.points:
            return Stop(Reason.BUDGET)
        random = np.random.Generator(np.random.Philox(key=situation.seed, counter=count))
        return Proposal(Action(float(random.uniform(0, 1)), 1.0), gain=0.1)


POLICIES = Policies(FakeResult, (Wander,))


class WatchedInbox(Inbox):
    """An inbox that tells when somebody waits for a key."""

    def __init__(self, name: str = "", config: Mapping[str, Any] | None = None) -> None:
        super().__init__(name, config=config)
        self._asked: dict[int, threading.Event] = {}

    def asked(self, seq_num: int) -> threading.Event:
        """Set when the result of this point was asked for."""
        return self._asked.setdefault(seq_num, threading.Event())

    def future(self, key: Any) -> Any:
        found = super().future(key)
        self.asked(key[2]).set()
        return found


class FakeAnalysis:
    """Subscribe it to a RunEngine: it puts a result for each point and keeps the documents of its run.

    Args:
        result_of: result of a point by its number; None keeps it back until `deliver`.
        config: what it tells plans of itself.
    """

    schema = ResultSchema(FakeResult, {})

    def __init__(self, result_of: Callable[[int], Any], name: str = "", config: Any = FAKE_CONFIG) -> None:
        self.identity = AnalysisIdentity("fake", "1", config)
        self.inbox = WatchedInbox(name, self.identity.config_plain)
        self.documents: list[Document] = []
        self.raw: list[Document] = []
        self._result_of = result_of
        self._streams: dict[str, str] = {}
        self._run: AnalysisRun | None = None
        self.run_uid = ""

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.raw.append((name, doc))
        if name == "start":
            self._begin(doc)
        elif name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
        elif name == "event" and self._streams[doc["descriptor"]] == "primary":
            result = self.analyse(doc)
            if result is not None:
                self.deliver(doc["seq_num"], result)

    def analyse(self, event: dict[str, Any]) -> Any:
        """Result of a raw event, or None to keep it back."""
        return self._result_of(event["seq_num"])

    def _begin(self, doc: dict[str, Any]) -> None:
        self.run_uid = doc["uid"]
        self.raw, self.documents, self._streams = [("start", doc)], [], {}
        self._run = AnalysisRun(doc, self.identity, self.schema)
        self.documents += [self._run.start(), *self._run.descriptors()]

    def deliver(self, seq_num: int, result: Any) -> None:
        """Publish and put a result."""
        assert self._run is not None
        name, event = self._run.event(result, Source("primary", seq_num))
        self.documents.append((name, event))
        key = (self.run_uid, "primary", seq_num)
        self.inbox.put(key, Analysis(result, event["uid"], event["seq_num"]))

    def finish(self) -> None:
        """Close the analysis run."""
        assert self._run is not None
        self.documents.append(self._run.stop("success"))

    def events(self, stream: str) -> list[dict[str, Any]]:
        """Raw events of a stream as they came, repeated ones included."""
        return [
            doc for name, doc in self.raw if name == "event" and self._streams[doc["descriptor"]] == stream
        ]

    def positions(self, axis: str = "x") -> list[float]:
        """Where was measured."""
        return [event["data"][axis] for event in self.events("primary")]

    def decisions(self) -> list[dict[str, Any]]:
        """Decision events without the prefix of their keys."""
        return [
            {key.removeprefix("decision_"): value for key, value in event["data"].items()}
            for event in self.events("decision")
        ]

    @property
    def stop(self) -> dict[str, Any]:
        """The raw stop document."""
        return next(doc for name, doc in self.raw if name == "stop")


class EngineAnalysis(FakeAnalysis):
    """The same around a real engine, in the thread of the RunEngine: nothing is ever late.

    Args:
        engine: analyses frames.
        technique: word for documents.
        frame_of: frame of the data of a raw event.
    """

    def __init__(
        self, engine: Any, technique: str, frame_of: Callable[[dict[str, Any]], Any], name: str = ""
    ) -> None:
        super().__init__(lambda _: None, name, engine.config)
        self.identity = AnalysisIdentity(technique, engine.version, engine.config)
        self.schema = ResultSchema(engine.result_type, engine.sizes, engine.units)
        self._engine, self._frame_of = engine, frame_of
        self._state = engine.start(0)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            self._state = self._engine.start(doc.get("scan_id", 0))
        super().__call__(name, doc)

    def analyse(self, event: dict[str, Any]) -> Any:
        self._state, result = self._engine.step(self._state, [self._frame_of(event["data"])])
        return result


class Axis(ophyd.sim.SynAxis):
    """A simulated motor with limits that remembers where it was sent."""

    def __init__(self, limits: tuple[float, float] = (-10.0, 10.0), name: str = "x") -> None:
        super().__init__(name=name)
        self.limits = limits
        self.sent: list[float] = []

    def set(self, value: float) -> Any:
        self.sent.append(value)
        return super().set(value)


_engines: list[Any] = []


def end_engines() -> None:
    """End the threads and loops of all engines made so far."""
    while _engines:
        run_engine = _engines.pop()
        run_engine.loop.call_soon_threadsafe(run_engine.loop.stop)
        run_engine._th.join(PATIENT)
        run_engine.loop.close()


def engine(*callbacks: Any) -> Any:
    """A RunEngine that returns results of plans, with callbacks subscribed."""
    run_engine = RunEngine({}, call_returns_result=True, context_managers=[])
    _engines.append(run_engine)
    for callback in callbacks:
        run_engine.subscribe(callback)
    return run_engine


@contextmanager
def thread(work: Callable[[], Any]) -> Generator[None, None, None]:
    """Work beside the block; an error in it fails the test."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  raised again in the test's own thread
            errors.append(error)

    worker = threading.Thread(target=guarded, daemon=True)
    worker.start()
    yield
    worker.join(PATIENT)
    assert not worker.is_alive(), "the thread beside the plan did not end"
    if errors:
        raise errors[0]


def scalars(decision: Mapping[str, Any]) -> dict[str, Any]:
    """A decision without what differs from run to run: uids, hashes and times."""
    skipped = ("uid", "parent_uid", "chain_sha256", "analysis_event_uid", "answer_seconds")
    return {
        key: repr(value) for key, value in decision.items() if key not in skipped and not key.startswith("t_")
    }
