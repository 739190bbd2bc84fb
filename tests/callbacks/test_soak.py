"""What is remembered of a run is forgotten with it, however many there are."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import toy
from beam import analyzer

from skyloop.callbacks import Analyzer
from skyloop.callbacks._options import Counts
from skyloop.documents.gate import Quarantined

RUNS, EVENTS, WARM = 50, 400, 10
KEPT = 10_000  # results that an inbox keeps


def ours() -> Counter[str]:
    """How many objects of each of our classes there are."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("skyloop"))


def containers(things: tuple[Any, ...]) -> dict[str, int]:
    """Length of every container that these objects hold themselves."""
    held = ((type(t).__name__, name, value) for t in things for name, value in vars(t).items())
    return {f"{owner}.{name}": len(v) for owner, name, v in held if isinstance(v, dict | list | set)}


def play(analysis: Analyzer, number: int) -> None:
    docs = toy.raw_run([float(n) for n in range(EVENTS)], f"run-{number}")
    docs.insert(200, ("event", toy.event(f"run-{number}", 7, 1.0, emission="b")))  # measured again
    docs.insert(100, docs[50])  # delivered twice
    docs.insert(300, ("event", {"uid": "bad"}))  # and no document at all
    for item in docs[: -1 if number % 10 == 5 else None]:  # some never stop
        analysis(*item)


def test_twenty_thousand_events_in_fifty_runs_leave_nothing_behind() -> None:
    heard: Counter[str] = Counter()
    with analyzer("inline", time_to_live=3600.0) as analysis:
        analysis.subscribe(lambda name, doc: heard.update([name]))
        pipeline: Any = analysis._pipeline
        parts = (pipeline, pipeline._newest, pipeline._gate, pipeline._gate._ledger, pipeline.faults)
        parts += (pipeline._no_frames, pipeline.counts, analysis._runner)
        early: tuple[Counter[str], dict[str, int]] | None = None
        for number in range(RUNS):
            play(analysis, number)
            if number % 10 == 9:
                pipeline.expire(1e12)
                assert analysis.flush(60)
            if number == WARM - 1:
                early = ours(), containers(parts)
        assert early is not None
        late = ours(), containers(parts)
        assert pipeline._open_runs == {}
        assert len(analysis.inbox._futures) <= KEPT
    # 10 000 results, 10 000 documents that will not come, and the last 1000 that were put aside
    bounded = {"Analysis", "_Gone", "Gate._gone", "Quarantined"}
    assert {kind: n for kind, n in (late[0] - early[0]).items() if kind not in bounded} == {}
    assert {name: n for name, n in late[1].items() if n > early[1][name] and name not in bounded} == {}
    assert heard["stop"] == RUNS


def test_reasons_that_name_a_run_each_do_not_pile_up_for_ever() -> None:
    counts = Counts()
    aside = [Quarantined("event", "u", f"run {number} began before", "") for number in range(5000)]
    told = [counts.put_aside(document) for document in aside]
    assert sum(counts.reasons.values()) == 5000
    assert len(counts.reasons) == sum(told) < 2000
