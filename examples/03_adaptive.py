"""Adaptive: let the analysis choose where to measure; first in shadow, then in earnest, then verify it."""

from typing import Any

from beamline import MODEL, simulated
from bluesky import RunEngine

from skyloop.callbacks.reflectometry import reflectometry
from skyloop.documents.run import NamedDocument
from skyloop.plans import adaptive_reflectivity, verify


def measure(mode: str) -> tuple[dict[str, Any], list[NamedDocument], list[NamedDocument]]:
    devices = simulated()
    num = 31 if mode == "shadow" else 122  # the fixed scan, and what is left to do if the analysis fails
    raw: list[NamedDocument] = []
    analysed: list[NamedDocument] = []
    RE: Any = RunEngine(call_returns_result=True)
    RE.subscribe(lambda name, doc: raw.append((name, doc)))
    with reflectometry(MODEL) as analysis:
        RE.subscribe(analysis)
        analysis.subscribe(lambda name, doc: analysed.append((name, doc)))
        plan = adaptive_reflectivity(
            [devices.detector],
            devices.q,
            analysis=analysis,  # what is sought, and how well, stands in sample.yaml
            start=0.008,
            stop=0.25,
            num=num,
            count_time=25.0,
            move_overhead=5.0,
            move_per_unit=100.0,
            timeout=30.0,
            mode=mode,
        )
        found = RE(plan).plan_result
    return found, raw, analysed


def main() -> None:
    for mode in ("shadow", "auto"):
        found, raw, analysed = measure(mode)
        print(f"{mode}: {found}")
        report = verify(raw, analysed)
        print(f"{mode}: {report.decisions} decisions recomputed, {len(report.differences)} differ")
        assert report.verified
    assert found["reason"] == "target_reached"


if __name__ == "__main__":
    main()
