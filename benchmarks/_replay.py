"""Events per second through gate, frames and documents, with an engine that computes nothing."""

from __future__ import annotations

import statistics
import time

from benchmarks._figures import Figure
from benchmarks._noop import NOOP, Config, raw_run
from skyloop.callbacks import Analyzer, Options
from skyloop.storage.digest import digest

__all__ = ["measure"]

NAN = float("nan")


def measure(quick: bool) -> list[Figure]:
    """Replay speed, and whether a second replay gives the same uids and values."""
    docs = raw_run(1000 if quick else 5000)
    runs = [_replayed(docs) for _ in range(3 if quick else 7)]
    rate = statistics.median(len(docs) / seconds for seconds, _ in runs)
    differing = len({content for _, content in runs}) - 1
    return [
        Figure("loop.replay.rate", rate, "event/s", "", "", NAN, 1000.0, True),
        Figure("loop.replay.differing", float(differing), "replays", "", "", NAN, 0.0, False),
    ]


def _replayed(docs: list[tuple[str, dict[str, object]]]) -> tuple[float, str]:
    kept: list[tuple[str, dict[str, object]]] = []
    analysis = Analyzer(NOOP, Config(), Options(executor="inline"))
    analysis.subscribe(lambda name, doc: kept.append((name, doc)))
    began = time.perf_counter()
    for name, doc in docs:
        analysis(name, doc)
    seconds = time.perf_counter() - began
    analysis.close()
    uids = "".join(str(doc["uid"]) for _, doc in kept)
    return seconds, uids + digest(kept).hexdigest()
