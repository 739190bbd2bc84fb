"""Writes documents.md from the dataclasses: `python docs/reference/generate.py`; a test keeps it in step."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from skyloop.callbacks import techniques
from skyloop.documents.run import AnalysisIdentity, AnalysisRun, ResultSchema, Source
from skyloop.documents.schema import data_keys
from skyloop.errors import Outcome
from skyloop.plans import Reason
from skyloop.plans._decision import DecisionRecord, Decisions
from skyloop.quantities import blank

PAGE = Path(__file__).with_name("documents.md")

_HEAD = """# The documents

What skyloop publishes, key by key. This page is written by [generate.py](generate.py) from the dataclasses
themselves; do not edit it.

Conventions: a number that is not known is NaN, an absent text is empty, a count that says nothing is 0.
`x_sigma` is one standard deviation of `x`; that of a known parameter is 0. Arrays have a fixed shape and are
padded with NaN. Uids of an analysis follow from the raw run, the engine, the configuration and the keys, so
repeating it repeats them.
"""

_START = {
    "uid": "from raw run uid, technique, engine version, configuration, keys and weights (uuid5)",
    "time": "when the analysis began [s]",
    "purpose": "`analysis`: by it, raw runs and analyses are told apart",
    "technique": "prefix of all data keys",
    "parent_uids": "list with the uid of the raw run",
    "original_run_uid": "the same uid as a text, for searches",
    "plan_name": "`analysis:<technique>`",
    "plan_type": "`analysis`",
    "scan_id": "of the raw run",
    "analysis": "engine, version, config, config_sha256, keys (what the data are called), weights_sha256, "
    "device, software",
    "tiled_specs": "`AnalysisRun`",
    "hints": "dimension of tables and plots: `raw_seq_num`",
}
_STOP = {
    "uid": "of this document",
    "run_start": "uid of the start document",
    "time": "when the last result was out [s]",
    "exit_status": "that of the raw run; `fail` when the analysis was given up",
    "reason": "that of the raw run, or why the analysis was given up",
    "num_events": "events of each stream",
}
_BESIDE = {
    "raw_stream": "stream of the raw event that the result belongs to",
    "raw_seq_num": "number of that event; a lower one than before came late, or was measured again",
    "queue_seconds": "from the arrival of the event to the start of the computation",
    "compute_seconds": "what the computation took",
    "frames": "frames of the raw run",
    "not_analysed": "those that were rejected, failed or timed out",
    "quarantined": "documents of the run that were put aside",
}


def page() -> str:
    """The whole page."""
    parts = [_HEAD, "## Outcomes\n", *_members(Outcome), *_analysis(), *_decisions()]
    parts += ["## Why a measurement ended\n", "`reason` of the last decision.\n", *_members(Reason)]
    return "\n".join(parts)


def _members(enum: Any) -> list[str]:
    told = _docstrings(enum)
    return _table(("value", "meaning"), ((f"`{m.value}`", told[m.name]) for m in enum))


def _analysis() -> list[str]:
    parts = ["## The analysis run\n", "One per raw run and technique, published by the callback itself.\n"]
    for name, technique in sorted(techniques().items()):
        example = import_module(f"skyloop.engines.{name}.example").example()
        engine = technique.engine(example.config)
        schema = ResultSchema(engine.result_type, engine.sizes, engine.units, technique.hints)
        run = AnalysisRun({"uid": "raw"}, AnalysisIdentity(name, engine.version, engine.config), schema)
        parts += _run_documents(run) if "### Start" not in parts else []
        parts += _results(name, engine)
        parts += _beside(run, blank(engine.result_type, engine.sizes, outcome=Outcome.OK))
    return parts


def _run_documents(run: AnalysisRun) -> list[str]:
    start, stop = run.start()[1], run.stop("success")[1]
    return [
        "### Start\n",
        *_table(("key", "meaning"), _told(start, _START)),
        "### Stop\n",
        *_table(("key", "meaning"), _told(stop, _STOP)),
    ]


def _told(document: Mapping[str, Any], meanings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if document.keys() != meanings.keys():
        raise ValueError(f"keys and meanings differ: {sorted(document.keys() ^ meanings.keys())}")
    return ((f"`{key}`", meanings[key]) for key in document)


def _results(name: str, engine: Any) -> list[str]:
    told = _docstrings(engine.result_type)
    keys = data_keys(engine.result_type, engine.sizes, prefix=name, units=engine.units)
    rows = [
        (f"`{key}`", _kind(described), described["units"], _meaning(key.removeprefix(f"{name}_"), told))
        for key, described in keys.items()
    ]
    varying = ", ".join(f"`{name}_{field}`" for field in engine.units)
    note = f"The unit of {varying} is that of what was asked for, here a thickness.\n" if varying else ""
    head = f"### {name.capitalize()}: keys of every result\n"
    return [head, note, *_table(("key", "type", "unit", "meaning"), rows)]


def _meaning(field: str, told: Mapping[str, str]) -> str:
    if told.get(field):
        return told[field]
    if field.endswith("_sigma"):
        return f"standard deviation of `{field.removesuffix('_sigma')}`"
    return field.replace("_", " ")


def _kind(described: Mapping[str, Any]) -> str:
    return f"array ({', '.join(described['dims'])})" if described["shape"] else described["dtype"]


def _beside(run: AnalysisRun, result: Any) -> list[str]:
    parts: list[str] = []
    documents = {
        "primary": ("one event per frame", run.event(result, Source("primary", 1))),
        "summary": ("one event, the last word", run.summary(result, frames=1, not_analysed=0, quarantined=0)),
    }
    for stream, (what, (_, doc)) in documents.items():
        beside = [key for key in doc["data"] if key in _BESIDE]
        parts += [f"### Stream `{stream}`: {what}\n", "All keys of a result, and:\n"]
        parts += _table(("key", "meaning"), ((f"`{key}`", _BESIDE[key]) for key in beside))
    return parts


def _decisions() -> list[str]:
    told, described = _docstrings(DecisionRecord), Decisions().describe()
    rows = [
        (f"`decision_{f.name}`", key["dtype"], str(key.get("units", "")), told[f.name])
        for f, key in ((f, described[f"decision_{f.name}"]) for f in fields(DecisionRecord))
    ]
    note = "A stream of the raw run, written by the plan: event n leads to event n of `primary`.\n"
    return ["## The stream `decision`\n", note, *_table(("key", "type", "unit", "meaning"), rows)]


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return ["\n".join(lines) + "\n"]


def _docstrings(cls: type) -> dict[str, str]:
    """The text under each field of a class."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef))
    told: dict[str, str] = {}
    name = ""
    for node in body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            name = ast.unparse(target)
            told[name] = ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            told[name] = " ".join(str(node.value.value).split())
            name = ""
        else:
            name = ""
    return told


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
