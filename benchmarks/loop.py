"""The loop itself: what it costs the scan, how soon it acts, how fast it replays.

Hung engines, dead stores and an aborted run are part of it: what the log says of them is meant to be there.
"""

from __future__ import annotations

from benchmarks import _isolation, _latency, _replay
from benchmarks._command import run

if __name__ == "__main__":
    run(__doc__ or "", [_latency.measure, _isolation.measure, _replay.measure])
