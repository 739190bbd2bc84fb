"""Measured X-ray reflectivity of growing films as raw runs, one run per scan, for replay and closed loops.

The curves are those of the groups `DIP_1`, `DIP_2` and `PEN_1` of the organic films data set (Zenodo
10.5281/zenodo.6497438). They have no error bars and no times, so two things are assumed and written into each
start document: a relative error of the reflectivity, and one scan per minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import h5py
import numpy as np

Document = tuple[str, dict[str, Any]]

RELATIVE_SIGMA = 0.05
"""Assumed error of a reflectivity over the reflectivity."""
RELATIVE_RESOLUTION = 0.0
"""Assumed standard deviation of q over q: the data set states none."""
SCAN_SECONDS = 60.0
FIRST_TIME = 1.6e9

_UNITS = {"q": "1/angstrom", "reflectivity": "", "reflectivity_sigma": "", "q_sigma": "1/angstrom"}


def growth_runs(
    h5path: Path, group: str, *, every: int = 1, q_max: float = float("inf")
) -> Iterator[list[Document]]:
    """Documents of one raw run per scan, thin film first; the same uids each time.

    Args:
        h5path: `organic_films_on_silicon.h5`.
        group: `"DIP_1"`, `"DIP_2"` or `"PEN_1"`.
        every: take every n-th scan.
        q_max: leave out what is above, in 1/angstrom.
    """
    with h5py.File(h5path, "r") as file:
        stored: Any = file[group]
        q = np.asarray(stored["experiment/q"], dtype=np.float64)
        curves = np.asarray(stored["experiment/data"], dtype=np.float64)
        material = stored["metadata/Layer_material"][()].decode()
    kept = q <= q_max
    for scan in range(0, len(curves), every):
        yield _run(group, scan, material, _columns(q[kept], curves[scan, kept]))


def published_thickness(h5path: Path, group: str) -> np.ndarray:
    """Film thickness of each scan in angstrom, as published; good to 5 to 10 %."""
    with h5py.File(h5path, "r") as file:
        stored: Any = file[group]
        return np.asarray(stored["fit/Film_thickness"], dtype=np.float64)


def _columns(q: np.ndarray, reflectivity: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "q": q,
        "reflectivity": reflectivity,
        "reflectivity_sigma": RELATIVE_SIGMA * reflectivity,
        "q_sigma": RELATIVE_RESOLUTION * q,
    }


def _run(group: str, scan: int, material: str, columns: dict[str, np.ndarray]) -> list[Document]:
    uid = _uid(group, scan)
    time = FIRST_TIME + scan * SCAN_SECONDS
    points = len(columns["q"])
    events = [_event(uid, n, time, {k: float(v[n]) for k, v in columns.items()}) for n in range(points)]
    stop = {"exit_status": "success", "reason": "", "num_events": {"primary": points}}
    start = {
        "uid": uid,
        "time": time,
        "scan_id": scan + 1,
        "plan_name": "growth",
        "sample_name": f"{material} on Si, {group}",
        "scan_number": scan,
        "assumed": {"relative_sigma": RELATIVE_SIGMA, "scan_seconds": SCAN_SECONDS},
        "hints": {"dimensions": [[["q"], "primary"]]},
    }
    end = ("stop", {"uid": _uid(uid, "stop"), "run_start": uid, "time": time + points, **stop})
    return [("start", start), ("descriptor", _descriptor(uid, time)), *events, end]


def _descriptor(run: str, time: float) -> dict[str, Any]:
    keys = {
        name: {"source": "data set", "dtype": "number", "dtype_numpy": "<f8", "shape": [], "units": unit}
        for name, unit in _UNITS.items()
    }
    return {
        "uid": _uid(run, "primary"),
        "run_start": run,
        "time": time,
        "name": "primary",
        "data_keys": keys,
        "object_keys": {"curve": list(keys)},
        "configuration": {},
        "hints": {"curve": {"fields": ["reflectivity"]}},
    }


def _event(run: str, index: int, time: float, data: dict[str, float]) -> Document:
    now = time + 1.0 + index * SCAN_SECONDS / 100.0
    return "event", {
        "uid": _uid(run, index),
        "descriptor": _uid(run, "primary"),
        "time": now,
        "seq_num": index + 1,
        "data": data,
        "timestamps": dict.fromkeys(data, now),
        "filled": {},
    }


def _uid(*parts: object) -> str:
    return str(uuid5(NAMESPACE_URL, "/".join(["growth-series", *map(str, parts)])))
