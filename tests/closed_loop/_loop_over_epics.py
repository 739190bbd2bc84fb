"""An adaptive plan over EPICS records, in a process whose environment names the IOC."""

from __future__ import annotations

import json
import sys
from typing import Any

from bluesky import RunEngine
from ophyd.signal import EpicsSignalBase

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.plans import adaptive_reflectivity, verify
from skyloop.sim.epics import epics_reflectometer


def main(prefix: str, model: str) -> None:
    EpicsSignalBase.set_defaults(timeout=30.0, connection_timeout=30.0, write_timeout=30.0)
    devices = epics_reflectometer(prefix)
    engine: Any = RunEngine({}, call_returns_result=True)
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
            timeout=30.0,
        )
        found = engine(plan).plan_result
    report = verify(raw, analysed)
    found |= {"decisions_checked": report.decisions, "differences": len(report.differences)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
