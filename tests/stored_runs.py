"""Small runs with every kind of value that a store must keep, and how to compare what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from event_model import pack_event_page

from skyloop.documents.run import AnalysisIdentity, AnalysisRun, ResultSchema, Source
from skyloop.errors import Outcome
from skyloop.quantities import FloatArray, Quantity

Document = tuple[str, dict[str, Any]]
SIZES = {"layer": 2, "grid": 20, "row": 3}
LABELS = ("queue_seconds", "compute_seconds")


@dataclass(frozen=True)
class Config:
    scale: float = 1.0


@dataclass(frozen=True)
class Fitted:
    outcome: Outcome
    reason: str
    n_points: int
    confirmed: bool
    chi2: float
    thickness: Annotated[FloatArray, Quantity("angstrom", ("layer",))]
    thickness_sigma: Annotated[FloatArray, Quantity("angstrom", ("layer",))]
    prediction: Annotated[FloatArray, Quantity("", ("grid",))]
    covariance: Annotated[FloatArray, Quantity("", ("layer", "layer2"))]
    rate: Annotated[float, Quantity("angstrom")]


def fitted(n: int, rng: np.random.Generator) -> Fitted:
    """A result with NaN in scalars and at the ends of arrays."""
    return Fitted(
        Outcome.OK if n > 1 else Outcome.DEGRADED,
        "" if n > 1 else "zu dünn, Å",
        n,
        n > 2,
        float("nan") if n == 1 else 1.0 / 3.0 + n,
        np.array([rng.normal(), np.nan]),
        np.array([rng.normal(), np.nan]),
        rng.normal(size=20),
        rng.normal(size=(2, 3)),
        float(n),
    )


def analysis_run(
    raw: str, *, points: int = 3, seed: int = 1, queue: float = 0.5, first: float = 1.7e9
) -> list[Document]:
    """An analysis run as the analyzer publishes it."""
    rng = np.random.default_rng(seed)
    identity = AnalysisIdentity("toy", "1", Config())
    schema = ResultSchema(Fitted, SIZES | {"layer2": 3}, {"rate": "angstrom/min"}, ("chi2",))
    ticks = count()
    run = AnalysisRun({"uid": raw, "scan_id": 7}, identity, schema, lambda: first + next(ticks) * 0.125)
    events = [run.event(fitted(n, rng), Source("primary", n, queue, 0.25)) for n in range(1, points + 1)]
    final = run.summary(fitted(points, rng), frames=points, not_analysed=0, quarantined=0)
    return [run.start(), *run.descriptors(), *events, final, run.stop("success")]


def raw_run(name: str, *, seq_nums: tuple[int, ...] = (1, 2, 3), **start: Any) -> list[Document]:
    """A raw run with a scalar and an array that tell which emission they are of."""
    uid = uid_of(name)
    keys = {
        "x": {"source": "s", "dtype": "number", "dtype_numpy": "<f8", "shape": []},
        "curve": {"source": "s", "dtype": "array", "dtype_numpy": "<f8", "shape": [4]},
    }
    descriptor = {
        "uid": uid_of(name, "d"),
        "run_start": uid,
        "time": 1.0,
        "name": "primary",
        "data_keys": keys,
        "object_keys": {},
        "configuration": {},
        "hints": {},
    }
    events = [_event(name, row, number) for row, number in enumerate(seq_nums)]
    stop = {"uid": uid_of(name, "stop"), "run_start": uid, "time": 9.0, "exit_status": "success"}
    counted = {"reason": "", "num_events": {"primary": len(set(seq_nums))}}
    begin = {"uid": uid, "time": 0.5, "plan_name": "count", "scan_id": 3} | start
    return [("start", begin), ("descriptor", descriptor), *events, ("stop", stop | counted)]


def _event(name: str, row: int, seq_num: int) -> Document:
    now = 2.0 + row
    return "event", {
        "uid": uid_of(name, f"event {row}"),
        "descriptor": uid_of(name, "d"),
        "time": now,
        "seq_num": seq_num,
        "data": {"x": 10.0 + row, "curve": np.full(4, 10.0 + row)},
        "timestamps": {"x": now, "curve": now},
        "filled": {},
    }


def page_of(documents: list[Document]) -> Document:
    """All events of a run as one page."""
    pack: Any = pack_event_page
    return "event_page", dict(pack(*[doc for name, doc in documents if name == "event"]))


def uid_of(*parts: str) -> str:
    return str(uuid5(NAMESPACE_URL, "/".join(parts)))


def essence(documents: Any) -> list[tuple[str, Any]]:
    """What a store must keep of a run: all but uids of events, order between streams and empty fields."""
    return sorted((_kept(name, doc) for name, doc in documents), key=repr)


def _kept(name: str, doc: dict[str, Any]) -> tuple[str, Any]:
    if name == "event":
        data = {key: _plain(value) for key, value in sorted(doc["data"].items())}
        return name, (doc["descriptor"], doc["seq_num"], doc["time"], data, doc["timestamps"] != {})
    if name == "descriptor":
        declared = {k: (v["dtype"], v["shape"], v.get("units"), v.get("dims")) for k, v in _sorted(doc)}
        return name, (doc["uid"], doc["name"], doc["run_start"], doc["time"], declared)
    return name, sorted((key, _plain(value)) for key, value in doc.items())


def _sorted(doc: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(doc["data_keys"].items())


def _plain(value: Any) -> Any:
    """Exact bits of numbers, with the type of scalars and the shape of arrays."""
    if isinstance(value, (list, np.ndarray)) and np.asarray(value).dtype.kind in "iuf":
        array = np.asarray(value, dtype=np.float64)
        return array.shape, array.tobytes()
    return repr(value)
