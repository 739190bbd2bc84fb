"""What a document must be beyond its schema, which admits empty uids, seq_num -5 and times of NaN."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

__all__ = ["MOST_FRAMES", "Declared", "declared", "event_fault", "field_fault", "plain", "same"]

MOST_FRAMES = 1_000_000
"""Most frames that one stream_datum may announce."""
_LONGEST_UID = 256
_LAST_SECOND = 1e11  # year 5138: what is later is not a time in seconds
_LAST_NUMBER = 2**63
_DEEPEST = 50
_MOST_ENTRIES = 2_000_000

# Uids become file names and keys of stores. These two kinds are written "<parent>/<number>".
_SLASHED = frozenset({"datum_id", "stream_resource"})
_UIDS: Mapping[str, tuple[str, ...]] = {
    "start": ("uid",),
    "descriptor": ("uid", "run_start"),
    "event": ("uid", "descriptor"),
    "resource": ("uid", "run_start"),
    "datum": ("datum_id", "resource"),
    "stream_resource": ("uid", "run_start"),
    "stream_datum": ("uid", "descriptor", "stream_resource"),
    "stop": ("uid", "run_start"),
}


@dataclass(frozen=True, slots=True)
class Declared:
    """What a descriptor promises of its events."""

    run_uid: str
    """Run that it belongs to."""
    keys: frozenset[str]
    """All its data keys."""
    inline: frozenset[str]
    """Data keys that every event must hold: those that are not stored elsewhere."""
    ranks: tuple[tuple[str, int, int], ...]
    """Data key, least and greatest number of axes; for the keys whose number of axes is stated."""


def declared(descriptor: Mapping[str, Any]) -> Declared:
    """What a valid descriptor promises of its events."""
    keys: Mapping[str, Any] = descriptor["data_keys"]
    inline = frozenset(key for key, entry in keys.items() if not entry.get("external"))
    ranks = tuple((key, *_ranks(keys[key])) for key in keys if key in inline)
    stated = tuple(rank for rank in ranks if rank[2] >= 0)
    return Declared(descriptor["run_start"], frozenset(keys), inline, stated)


def _ranks(entry: Mapping[str, Any]) -> tuple[int, int]:
    axes = len(entry["shape"])
    if entry["dtype"] == "array":
        return (axes, axes) if axes else (0, -1)  # an array of unknown shape promises nothing
    # ophyd-async declares a number with shape [1]; it arrives bare or as a list of one
    return (0, axes)


def field_fault(name: str, doc: Mapping[str, Any]) -> str:
    """What is wrong with the uids, times, numbers and ranges of a document of valid schema."""
    for field in _UIDS[name]:
        slashes = field in _SLASHED or (field == "uid" and name.startswith("stream_"))
        if field in doc and (fault := _uid_fault(doc[field], slashes=slashes)):
            return f"'{field}' {fault}"
    if "time" in doc and not _is_time(doc["time"]):
        return f"'time' is not a time in seconds: {_brief(doc['time'])}"
    if name == "event":
        return _seq_num_fault(doc["seq_num"])
    if name == "stream_datum":
        return _range_fault(doc["indices"], doc["seq_nums"])
    return "" if name == "datum" else _depth_fault(doc)


def _uid_fault(uid: str, *, slashes: bool) -> str:
    if not uid:
        return "is empty"
    if len(uid) > _LONGEST_UID:
        return f"has {len(uid)} characters, more than {_LONGEST_UID}"
    if uid[0] in "./" or ".." in uid or "\\" in uid or not uid.isprintable():
        return "holds characters of a path or of a terminal"
    return "holds a slash" if "/" in uid and not slashes else ""


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < _LAST_SECOND


def _seq_num_fault(value: Any) -> str:
    if isinstance(value, int) and 1 <= value < _LAST_NUMBER:
        return ""
    return f"'seq_num' is not a whole number from 1: {_brief(value)}"


def _brief(value: Any) -> str:
    """A number as text of bounded length; Python refuses to print integers of more than 4300 digits."""
    large = isinstance(value, int) and abs(value) >= _LAST_NUMBER
    return "an integer above 2**63" if large else f"{value!r:.40}"


def _range_fault(indices: Mapping[str, Any], seq_nums: Mapping[str, Any]) -> str:
    ends = (indices["start"], indices["stop"], seq_nums["start"], seq_nums["stop"])
    if not all(isinstance(end, int) and 0 <= end < _LAST_NUMBER for end in ends):
        return "'indices' or 'seq_nums' are not whole numbers from 0"
    count = ends[1] - ends[0]
    if count < 0 or ends[3] - ends[2] != count:
        return f"'indices' {ends[0]}:{ends[1]} do not match 'seq_nums' {ends[2]}:{ends[3]}"
    if count > MOST_FRAMES:
        return f"it announces {count} frames, more than {MOST_FRAMES}"
    return "'seq_nums' start at 0; they count from 1" if ends[2] < 1 and count else ""


def _depth_fault(doc: Mapping[str, Any]) -> str:
    """Finds documents that hold themselves, before a sink tries to write them."""
    pending: list[tuple[Any, int]] = [(doc, 0)]
    entries = 0
    while pending:
        value, depth = pending.pop()
        held: Any = value.values() if isinstance(value, dict) else value
        entries += len(value)
        if depth > _DEEPEST or entries > _MOST_ENTRIES:
            return f"it is nested deeper than {_DEEPEST} levels, holds itself, or is very large"
        pending.extend((item, depth + 1) for item in held if isinstance(item, (dict, list, tuple)))
    return ""


def event_fault(event: Mapping[str, Any], promise: Declared) -> str:
    """What in an event is not as its descriptor declares it."""
    data: Mapping[str, Any] = event["data"]
    if cast("object", data.keys()) != promise.inline:
        if missing := promise.inline - data.keys():
            return f"'data' lacks {sorted(missing)[:5]}, which the descriptor declares"
        if unknown := data.keys() - promise.keys:
            return f"'data' has {sorted(map(str, unknown))[:5]}, which the descriptor does not declare"
    if event["timestamps"].keys() != data.keys():
        return "'timestamps' and 'data' do not have the same keys"
    for key, least, most in promise.ranks:
        value = data[key]
        if type(value) in (float, int):
            rank = 0
        elif (rank := _rank(value)) < 0:
            continue
        if not least <= rank <= most:
            return f"data['{key}'] has {rank} axes, its descriptor declares {most}"
    return ""


def _rank(value: Any) -> int:
    """Number of axes of a value; -1 when it cannot be told without trusting foreign code."""
    depth = 0
    while isinstance(value, (list, tuple)) and depth < _DEEPEST:
        if not value:
            return -1 if depth else 1
        value, depth = cast("list[Any]", value)[0], depth + 1
    if isinstance(value, np.ndarray):
        return depth + value.ndim
    scalar = value is None or isinstance(value, (str, bytes, int, float, complex, np.generic))
    return depth if scalar else -1


def plain(event: dict[str, Any]) -> dict[str, Any]:
    """The event with Python numbers for `seq_num` and `time`; the same object where it has them already.

    Rows of tables and packed messages carry numpy numbers. The number is right, only its box is not what the
    schema knows, and a frame is not lost for that.
    """
    seq_num, time = event.get("seq_num"), event.get("time")
    boxed = {
        **({"seq_num": operator.index(seq_num)} if isinstance(seq_num, np.integer) else {}),
        **({"time": time.item()} if isinstance(time, (np.integer, np.floating)) else {}),
    }
    return {**event, **boxed} if boxed else event


def same(a: Any, b: Any, depth: int = 0) -> bool:
    """Whether two documents say the same; NaN equals NaN, and objects of unknown types only themselves."""
    if a is b:
        return True
    if depth > _DEEPEST:
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return _same_dicts(cast("dict[Any, Any]", a), cast("dict[Any, Any]", b), depth)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        left, right = cast("list[Any]", a), cast("list[Any]", b)
        return len(left) == len(right) and all(
            same(x, y, depth + 1) for x, y in zip(left, right, strict=True)
        )
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return _same_arrays(a, b)
    known = (str, bytes, int, float, complex, np.generic)
    return isinstance(a, known) and isinstance(b, known) and bool(a == b or (a != a and b != b))


def _same_dicts(a: dict[Any, Any], b: dict[Any, Any], depth: int) -> bool:
    return a.keys() == b.keys() and all(same(a[key], b[key], depth + 1) for key in a)


def _same_arrays(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape or a.dtype.kind == "O":
        return False
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
