"""One analysis run: the start, descriptors, events and stop that carry the results of one raw run."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from skyloop.documents.schema import data_keys, encode
from skyloop.quantities import Sizes

__all__ = [
    "AnalysisIdentity",
    "AnalysisRun",
    "NamedDocument",
    "ResultSchema",
    "Source",
    "analysis_uid",
]

NamedDocument = tuple[str, dict[str, Any]]

_NAMESPACE = uuid5(NAMESPACE_URL, "skyloop:analysis")


@dataclass(frozen=True)
class AnalysisIdentity:
    """What makes two analyses of the same raw run the same analysis."""

    technique: str
    """Technique word, such as `"reflectometry"`."""
    version: str
    """Version of the engine."""
    config: Any
    """Configuration of the engine: a frozen dataclass."""
    keys: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the data are called, and other words of a beamline, as JSON values."""
    weights_sha256: str = ""
    """Hash of trained weights; empty for an engine without."""

    @property
    def config_plain(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return json.loads(json.dumps(asdict(self.config)))

    @property
    def config_sha256(self) -> str:
        """Hash of the configuration, independent of the order of its keys."""
        return _sha256(self.config_plain)


def _sha256(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def analysis_uid(raw_uid: str, identity: AnalysisIdentity) -> str:
    """Uid of the analysis run: the same raw run, engine, configuration and keys give the same uid."""
    parts = (
        raw_uid,
        identity.technique,
        identity.version,
        identity.config_sha256,
        _sha256(identity.keys),
        identity.weights_sha256,
    )
    return str(uuid5(_NAMESPACE, "|".join(parts)))


@dataclass(frozen=True)
class ResultSchema:
    """Type of the results of an analysis run, and what its descriptors say of them."""

    result_type: type
    """Dataclass with `Quantity` annotations."""
    sizes: Sizes
    """Length of each named dimension."""
    units: Mapping[str, str] = field(default_factory=dict[str, str])
    """Units of those fields that depend on the configuration."""
    hints: Sequence[str] = ()
    """One to four scalar fields that a table or a plot should show."""


@dataclass(frozen=True, slots=True)
class Source:
    """The raw event that a result belongs to, and what its analysis took."""

    stream: str
    """Name of the raw stream."""
    seq_num: int
    """Number of the raw event in that stream."""
    queue_seconds: float = 0.0
    """Time between arrival and the start of the computation."""
    compute_seconds: float = 0.0
    """Time of the computation that produced the result."""


_EVENT_KEYS: dict[str, dict[str, Any]] = {
    "raw_stream": {"source": "skyloop", "dtype": "string", "shape": []},
    "raw_seq_num": {"source": "skyloop", "dtype": "integer", "dtype_numpy": "<i8", "shape": []},
    "queue_seconds": {
        "source": "skyloop",
        "dtype": "number",
        "dtype_numpy": "<f8",
        "shape": [],
        "units": "s",
    },
    "compute_seconds": {
        "source": "skyloop",
        "dtype": "number",
        "dtype_numpy": "<f8",
        "shape": [],
        "units": "s",
    },
}

_SUMMARY_KEYS: dict[str, dict[str, Any]] = {
    name: {"source": "skyloop", "dtype": "integer", "dtype_numpy": "<i8", "shape": []}
    for name in ("frames", "not_analysed", "quarantined")
}


class AnalysisRun:
    """Composes the documents of one analysis run, with uids that repeat when the analysis is repeated.

    Args:
        raw_start: start document of the raw run.
        identity: engine, configuration and keys.
        schema: type of the results.
        clock: where document times come from; times are labels and enter no uid.
    """

    def __init__(
        self,
        raw_start: Mapping[str, Any],
        identity: AnalysisIdentity,
        schema: ResultSchema,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._raw = raw_start
        self._identity = identity
        self._schema = schema
        self._clock = clock
        self.uid = analysis_uid(raw_start["uid"], identity)
        self._counts = {"primary": 0, "summary": 0}

    def start(self) -> NamedDocument:
        """The start document: what was analysed, by what, and how to find the raw run."""
        who, raw = self._identity, self._raw
        return "start", {
            "uid": self.uid,
            "time": self._clock(),
            "purpose": "analysis",
            "technique": who.technique,
            "parent_uids": [raw["uid"]],
            "original_run_uid": raw["uid"],
            "plan_name": f"analysis:{who.technique}",
            "plan_type": "analysis",
            "scan_id": raw.get("scan_id", 0),
            "analysis": {
                "engine": who.technique,
                "version": who.version,
                "config": who.config_plain,
                "config_sha256": who.config_sha256,
                "keys": dict(who.keys),
                "weights_sha256": who.weights_sha256,
                "device": "cpu",
                "software": _software(),
            },
            "tiled_specs": ["AnalysisRun"],
            "hints": {"dimensions": [[["raw_seq_num"], "primary"]]},
        }

    def descriptors(self) -> list[NamedDocument]:
        """Descriptors of the streams `primary` (one event per frame) and `summary` (one, at the end)."""
        return [
            self._descriptor("primary", _EVENT_KEYS),
            self._descriptor("summary", _SUMMARY_KEYS),
        ]

    def _descriptor(self, stream: str, extra: dict[str, dict[str, Any]]) -> NamedDocument:
        schema, technique = self._schema, self._identity.technique
        keys = data_keys(schema.result_type, schema.sizes, prefix=technique, units=schema.units)
        # a copy for each document: who reads one may change it, and the next run must not see that
        keys |= {name: dict(key) for name, key in extra.items()}
        return "descriptor", {
            "uid": self._uid_of(stream),
            "run_start": self.uid,
            "time": self._clock(),
            "name": stream,
            "data_keys": keys,
            "object_keys": {technique: list(keys)},
            "configuration": {technique: {"data": {}, "timestamps": {}, "data_keys": {}}},
            "hints": {technique: {"fields": [f"{technique}_{name}" for name in schema.hints]}},
        }

    def event(self, result: Any, source: Source) -> NamedDocument:
        """The result of one frame."""
        extra = {
            "raw_stream": source.stream,
            "raw_seq_num": source.seq_num,
            "queue_seconds": source.queue_seconds,
            "compute_seconds": source.compute_seconds,
        }
        return self._event("primary", result, extra)

    def summary(self, result: Any, *, frames: int, not_analysed: int, quarantined: int) -> NamedDocument:
        """The final word on the run, with how many frames it stands on."""
        extra = {"frames": frames, "not_analysed": not_analysed, "quarantined": quarantined}
        return self._event("summary", result, extra)

    def _event(self, stream: str, result: Any, extra: dict[str, Any]) -> NamedDocument:
        self._counts[stream] += 1
        number, now = self._counts[stream], self._clock()
        data = encode(result, prefix=self._identity.technique) | extra
        return "event", {
            "uid": self._uid_of(f"{stream}/{number}"),
            "descriptor": self._uid_of(stream),
            "time": now,
            "seq_num": number,
            "data": data,
            "timestamps": dict.fromkeys(data, now),
            "filled": {},
        }

    def stop(self, exit_status: str, reason: str = "") -> NamedDocument:
        """The stop document; `exit_status` and `reason` mirror the raw run or say what failed."""
        return "stop", {
            "uid": self._uid_of("stop"),
            "run_start": self.uid,
            "time": self._clock(),
            "exit_status": exit_status,
            "reason": reason,
            "num_events": dict(self._counts),
        }

    def _uid_of(self, what: str) -> str:
        return str(uuid5(UUID(self.uid), what))


def _software() -> dict[str, str]:
    packages = ("skyloop", "numpy", "scipy", "torch", "event-model")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
