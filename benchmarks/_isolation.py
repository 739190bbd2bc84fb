"""What the callback adds to a RunEngine event while its engine hangs, and while its store is down."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._figures import Figure
from benchmarks._noop import HANGING, NOOP, Config, raw_run
from skyloop.callbacks import Analyzer, Options, Technique
from skyloop.errors import UnavailableError
from skyloop.runtime.sinks import Sink
from skyloop.storage.tiled import TiledSink, embedded_tiled

__all__ = ["measure"]

NAN = float("nan")
_PACE = 0.002  # a fast scan: an event every 2 ms


def measure(quick: bool) -> list[Figure]:
    """99th percentile of the time that the RunEngine's thread spends in the callback, per event."""
    events = 500 if quick else 3000
    hung = _percentile(HANGING, events, lambda analysis: None)
    down = _store_down(events)
    dead_sink = _percentile(NOOP, events, lambda analysis: analysis.subscribe(_unavailable))
    return [
        Figure("loop.added_latency.engine_hung", 1e3 * hung, "ms", "", "", NAN, 1.0, False),
        Figure("loop.added_latency.tiled_stopped", 1e3 * down, "ms", "", "", NAN, 1.0, False),
        Figure("loop.added_latency.sink_dead", 1e3 * dead_sink, "ms", "", "", NAN, 1.0, False),
    ]


def _unavailable(name: str, doc: dict[str, Any]) -> None:
    raise UnavailableError("it is down")


def _store_down(events: int) -> float:
    with tempfile.TemporaryDirectory() as folder, embedded_tiled(Path(folder)) as server:
        sink = Sink(TiledSink(server.uri))
        server.close()
        latency = _percentile(NOOP, events, lambda analysis: analysis.subscribe(sink), raw_sink=sink)
        sink.close(0.1)
    return latency


def _percentile(
    technique: Technique, events: int, prepare: Callable[[Analyzer], object], raw_sink: Sink | None = None
) -> float:
    """Seconds, 99th percentile."""
    analysis = Analyzer(technique, Config(), Options(executor="process", deadline=600.0))
    prepare(analysis)
    taken: list[float] = []
    for name, doc in raw_run(events):
        began = time.perf_counter()
        analysis(name, doc)
        if raw_sink is not None:
            raw_sink(name, doc)
        taken.append(time.perf_counter() - began)
        time.sleep(_PACE)
    _abandon(analysis)
    return float(np.percentile(taken, 99))


def _abandon(analysis: Analyzer) -> None:
    # the engine hangs on purpose: ending its process is the only way out
    analysis._runner.close()  # noqa: SLF001 - a benchmark may look inside  # pyright: ignore[reportPrivateUsage]
    analysis.close(0.5)
