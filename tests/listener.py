"""A sink that keeps what it hears, and says whether it is well formed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import toy
from event_model import DocumentNames, schema_validators

from skyloop.documents.schema import decode

Document = tuple[str, dict[str, Any]]


@dataclass
class AnalysisOf:
    """One analysis run, apart from the others."""

    start: dict[str, Any]
    descriptors: dict[str, str] = field(default_factory=dict[str, str])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    stop: dict[str, Any] | None = None

    @property
    def raw_uid(self) -> str:
        return self.start["original_run_uid"]

    @property
    def prefix(self) -> str:
        return self.start["technique"]

    def stream(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if self.descriptors[event["descriptor"]] == name]

    def results(self, stream: str = "primary", kind: type = toy.Result) -> list[Any]:
        return [decode(kind, event["data"], prefix=self.prefix) for event in self.stream(stream)]

    def spots(self) -> list[int]:
        return [event["data"]["raw_seq_num"] for event in self.stream("primary")]

    def by_spot(self, kind: type = toy.Result) -> dict[int, Any]:
        return dict(zip(self.spots(), self.results(kind=kind), strict=True))

    def outcomes(self) -> dict[int, str]:
        outcomes = [event["data"][f"{self.prefix}_outcome"] for event in self.stream("primary")]
        return dict(zip(self.spots(), outcomes, strict=True))

    def reasons(self) -> dict[int, str]:
        reasons = [event["data"][f"{self.prefix}_reason"] for event in self.stream("primary")]
        return dict(zip(self.spots(), reasons, strict=True))

    def final(self, kind: type = toy.Result) -> Any:
        (result,) = self.results("summary", kind)
        return result


class Listener:
    """Subscribe it anywhere; `runs` sorts and checks what came."""

    def __init__(self) -> None:
        self.docs: list[Document] = []

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self.docs.append((name, doc))

    def names(self) -> list[str]:
        return [name for name, _ in self.docs]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [doc for found, doc in self.docs if found == name]

    def run(self) -> AnalysisOf:
        """The only analysis run."""
        (run,) = self.runs()
        return run

    def runs(self, *, open_runs: bool = False) -> list[AnalysisOf]:
        """All analysis runs; each is well formed, and stopped unless open ones are allowed."""
        runs: dict[str, AnalysisOf] = {}
        owner: dict[str, AnalysisOf] = {}
        for name, doc in self.docs:
            schema_validators[DocumentNames[name]].validate(doc)
            match name:
                case "start":
                    assert doc["uid"] not in runs, "the same start twice"
                    runs[doc["uid"]] = AnalysisOf(doc)
                case "descriptor":
                    run = owner[doc["uid"]] = runs[doc["run_start"]]
                    assert run.stop is None
                    run.descriptors[doc["uid"]] = doc["name"]
                case "event":
                    run = owner[doc["descriptor"]]
                    assert run.stop is None, "an event after the stop"
                    run.events.append(doc)
                case "stop":
                    assert runs[doc["run_start"]].stop is None, "two stops"
                    runs[doc["run_start"]].stop = doc
                case _:
                    raise AssertionError(f"an analysis publishes no {name}")
        for run in runs.values():
            _check(run, open_runs)
        return list(runs.values())


def _check(run: AnalysisOf, open_runs: bool) -> None:
    assert sorted(run.descriptors.values()) == ["primary", "summary"]
    assert len({event["uid"] for event in run.events}) == len(run.events)
    counts: Counter[str] = Counter()
    for event in run.events:
        stream = run.descriptors[event["descriptor"]]
        counts[stream] += 1
        assert event["seq_num"] == counts[stream]
    if run.stop is None:
        assert open_runs, "the analysis run has no stop"
        return
    assert run.stop["num_events"] == {"primary": counts["primary"], "summary": 1}
    assert run.events[-1]["seq_num"] == 1 == counts["summary"], "the summary is the last word"
