"""A client of the soft IOC, in a process whose environment names it; prints what it saw as JSON."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans
from bluesky import RunEngine
from bluesky.utils import FailedStatus
from ophyd.signal import EpicsSignalBase
from ophyd.utils import LimitError

from skyloop.sim.epics import epics_reflectometer

bp: Any = bluesky.plans  # its annotations refuse motors and positions


def refused(RE: RunEngine, device: Any, value: float) -> bool:
    try:
        RE(bps.mv(device, value))
    except LimitError:
        return True
    except FailedStatus as failure:
        return isinstance(failure.__cause__, LimitError)
    return False


def main(prefix: str) -> None:
    # A busy machine answers late; the defaults are a second or two.
    EpicsSignalBase.set_defaults(timeout=30.0, connection_timeout=30.0, write_timeout=30.0)
    r = epics_reflectometer(prefix)
    RE = RunEngine({})
    documents: list[tuple[str, Any]] = []

    def plan() -> Any:
        yield from bps.mv(r.detector.count_time, 20.0)
        yield from bp.scan([r.detector], r.q, 0.02, 0.1, 5)

    start = r.q.position
    RE(plan(), lambda name, doc: documents.append((name, doc)))
    descriptor = next(doc for name, doc in documents if name == "descriptor")
    seen = {
        "start": start,
        "limits": list(r.q.limits),
        "hints": descriptor["hints"],
        "units": {name: key.get("units") for name, key in descriptor["data_keys"].items()},
        "events": [doc["data"] for name, doc in documents if name == "event"],
        "refused": [refused(RE, r.q, value) for value in (math.nan, 0.0, 0.5, math.inf)],
        "time_refused": [refused(RE, r.detector.count_time, value) for value in (math.nan, -1.0)],
        "position": r.q.position,
    }
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
