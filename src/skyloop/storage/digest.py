"""Content of a run as one hash: equal for the same results, whenever and wherever they were stored.

Times, uids of events, and how long an analysis waited and computed are labels and do not enter. Numbers enter
by value as float64, since a store may return an integer as a float or a list as an array. Data that lie in
files of a detector do not enter, only those in the events.

The word of an analysis run is its summary: the events before it depend on the batches in which the frames
came, so two analyses of the same frames in other batches count as equal, and nothing else does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError
from skyloop.storage._routing import singles

__all__ = ["RunDigest", "digest", "first_difference"]

_IDENTITY = ("uid", "purpose", "technique", "plan_name", "original_run_uid")
_LABELS = frozenset({"queue_seconds", "compute_seconds"})
_SUMMARY = "summary"


class RunDigest:
    """Folds the documents of one run; memory does not grow with the events."""

    def __init__(self) -> None:
        self._identity: dict[str, Any] = {}
        self._exit_status = ""
        self._streams: dict[str, Any] = {}
        self._of_descriptor: dict[str, tuple[str, frozenset[str]]] = {}

    @property
    def complete(self) -> bool:
        """Whether the stop document has come."""
        return bool(self._exit_status)

    def add(self, name: str, doc: dict[str, Any]) -> None:
        """Fold one document in; events in the order of their stream."""
        for single_name, single in singles(name, doc):
            if single_name == "start":
                self._identity = {key: single[key] for key in _IDENTITY if key in single}
            elif single_name == "descriptor":
                self._descriptor(single)
            elif single_name == "event":
                self._event(single)
            elif single_name == "stop":
                self._exit_status = str(single.get("exit_status", "unknown"))

    def hexdigest(self) -> str:
        """The hash of what has come so far."""
        names = sorted(self._streams)
        if self._identity.get("purpose") == "analysis" and _SUMMARY in names:
            names = [_SUMMARY]
        whole = hashlib.sha256(_canonical([self._identity, self._exit_status]))
        for name in names:
            whole.update(name.encode() + self._streams[name].digest())
        return whole.hexdigest()

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        external = (key for key, entry in doc["data_keys"].items() if "external" in entry)
        self._of_descriptor[doc["uid"]] = (doc["name"], _LABELS.union(external))

    def _event(self, doc: Mapping[str, Any]) -> None:
        if doc["descriptor"] not in self._of_descriptor:
            raise DataError(
                f"event {doc.get('uid')} refers to descriptor {doc['descriptor']}, which did not "
                "come before it; mend: read the run from another store"
            )
        stream, skipped = self._of_descriptor[doc["descriptor"]]
        data = {key: value for key, value in doc["data"].items() if key not in skipped}
        if data:
            known = self._streams.setdefault(stream, hashlib.sha256())
            known.update(_canonical([doc["seq_num"], data]))


def digest(documents: Iterable[NamedDocument]) -> RunDigest:
    """The digest of a whole run.

    Raises:
        DataError: an event refers to a descriptor that did not come.

    >>> a = [("start", {"uid": "r", "time": 1.0})]
    >>> b = [("start", {"uid": "r", "time": 2.0})]
    >>> digest(a).hexdigest() == digest(b).hexdigest()
    True
    """
    folded = RunDigest()
    for name, doc in documents:
        folded.add(name, doc)
    return folded


def first_difference(
    documents: Iterable[NamedDocument], others: Iterable[NamedDocument]
) -> tuple[str, Any, Any] | None:
    """The first key whose value differs in the last words of two analysis runs, with both values.

    The last word is the summary, and how the run ended; of an array the first element that differs is named.
    None when they say the same.

    >>> a, b = ([("event", {"data": {"x": 1.0, "y": [2.0, y]}})] for y in (3.0, 4.0))
    >>> first_difference(a, b)
    ('y[1]', 3.0, 4.0)
    """
    one, other = _last_word(documents), _last_word(others)
    for key in dict.fromkeys([*one, *other]):
        value, another = one.get(key, "nothing"), other.get(key, "nothing")
        if _canonical(value) != _canonical(another):
            return _narrowed(key, value, another)
    return None


def _last_word(documents: Iterable[NamedDocument]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    ended = "no stop document"
    for name, doc in (single for document in documents for single in singles(*document)):
        if name == "event":
            said = {key: value for key, value in doc["data"].items() if key not in _LABELS}
        elif name == "stop":
            ended = str(doc.get("exit_status", "unknown"))
    return said | {"exit_status": ended}


def _narrowed(key: str, value: Any, another: Any) -> tuple[str, Any, Any]:
    """The first element that differs, where both are arrays of one shape."""
    one, other = np.asarray(value), np.asarray(another)
    if not one.ndim or one.shape != other.shape:
        return key, value, another
    for at, pair in enumerate(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)):
        if _canonical(pair[0]) != _canonical(pair[1]):
            return f"{key}[{at}]", *pair
    return key, value, another


def _canonical(value: Any) -> bytes:
    """Unambiguous bytes of a value: a letter for its kind, its length, its content."""
    if isinstance(value, Mapping):
        parts = [_canonical(str(key)) + _canonical(value[key]) for key in sorted(value, key=str)]
        return b"m%d:" % len(parts) + b"".join(parts)
    if isinstance(value, str):
        text = value.encode()
        return b"s%d:" % len(text) + text
    array = np.asarray(value)
    if array.dtype.kind in "biuf":
        return _numbers(array)
    if isinstance(value, (list, tuple, np.ndarray)):
        parts = [_canonical(item) for item in value]
        return b"l%d:" % len(parts) + b"".join(parts)
    return _canonical(repr(value))


def _numbers(array: np.ndarray[Any, Any]) -> bytes:
    flat = np.array(array, dtype="<f8", order="C")
    flat[np.isnan(flat)] = np.nan  # one bit pattern for all of them
    return b"n%s:" % repr(array.shape).encode() + flat.tobytes()
