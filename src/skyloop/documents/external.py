"""Data that documents refer to and do not hold: frames in HDF5 and NPY files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from skyloop.documents._hdf5 import Hdf5Files, Span
from skyloop.documents._loaded import MOST_BYTES, Loaded, NotYet, Unreadable
from skyloop.documents._roots import Roots

__all__ = ["MOST_BYTES", "External", "ExternalData", "Handler", "Loaded", "NotYet", "Roots", "Unreadable"]

Handler = Callable[..., Callable[..., Any]]
"""Reader of a spec, as event-model's Filler uses it: `handler(path, **resource_kwargs)(**datum_kwargs)`."""

_HDF5_SPECS = frozenset(("AD_HDF5", "AD_HDF5_SWMR"))
_AD_DATASET = "/entry/data/data"
# What a handler of someone else raises for data it cannot read; a bug of ours is not among them.
_HANDLER_FAULTS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class External(Protocol):
    """Where points get their external data from; failures are values."""

    def frame(self, resource: Mapping[str, Any], index: int, entry: Mapping[str, Any], /) -> Loaded:
        """One frame of a stream."""
        ...

    def datum(
        self, resource: Mapping[str, Any], datum: Mapping[str, Any], entry: Mapping[str, Any], /
    ) -> Loaded:
        """What a `datum` document refers to."""
        ...

    def new_round(self) -> None:
        """Look again for what was not there."""
        ...

    def forget(self, resources: Iterable[str], /) -> None:
        """Close all files, and forget what is known of these resources: their run has ended."""
        ...


class ExternalData:
    """Reads what `stream_datum` and `datum` documents refer to; failures are values.

    Args:
        roots: which files may be read.
        handlers: readers of further specs of `resource` documents. They get a path under an allowed root;
            what they open from there is theirs to answer for.
    """

    def __init__(self, roots: Roots, handlers: Mapping[str, Handler] | None = None) -> None:
        self._roots = roots
        self._handlers = handlers or {}
        self._made: dict[str, Callable[..., Any]] = {}
        self._hdf5 = Hdf5Files()

    def new_round(self) -> None:
        """Look again for what was not there."""
        self._hdf5.new_round()

    def forget(self, resources: Iterable[str]) -> None:
        """Close all files, and drop the readers of these resources.

        Files of other runs are opened again when they are asked for, so that one which was replaced at its
        path is not read as it was.
        """
        self._hdf5.close()
        for uid in resources:
            self._made.pop(uid, None)

    def frame(self, resource: Mapping[str, Any], index: int, entry: Mapping[str, Any]) -> Loaded:
        """One frame of a stream.

        Args:
            resource: the `stream_resource` document.
            index: number of the frame in the stream, from 0.
            entry: what the descriptor says of the data key; the frame gets its shape.
        """
        if resource["mimetype"] != "application/x-hdf5":
            return Unreadable(f"no reader for mimetype '{resource['mimetype']}'; known: application/x-hdf5")
        name = self._roots.of_uri(resource["uri"])
        path = self._roots.file(name) if isinstance(name, str) else name
        if not isinstance(path, Path):
            return path
        dataset, multiplier = _layout(resource["parameters"])
        if isinstance(dataset, Unreadable):
            return dataset
        span = _frame_span(index, _frame_shape(entry["shape"], multiplier))
        return _declared(self._hdf5.rows(path, dataset, span), entry)

    def datum(
        self, resource: Mapping[str, Any], datum: Mapping[str, Any], entry: Mapping[str, Any]
    ) -> Loaded:
        """What a `datum` document of a `resource` document refers to, in the shape that `entry` declares."""
        name, spec = self._roots.of_resource(resource), resource["spec"]
        if spec in self._handlers:
            return _declared(self._handled(name, resource, datum), entry)
        if spec in _HDF5_SPECS:
            return _declared(self._ad_hdf5(name, resource, datum), entry)
        if spec == "NPY_SEQ":
            return _declared(self._npy(name, datum["datum_kwargs"].get("index")), entry)
        known = ", ".join(sorted({*_HDF5_SPECS, "NPY_SEQ", *self._handlers}))
        return Unreadable(f"no reader for spec '{spec}'; known: {known}; mend: handlers={{'{spec}': ...}}")

    def _ad_hdf5(self, name: str, resource: Mapping[str, Any], datum: Mapping[str, Any]) -> Loaded:
        path = self._roots.file(name)
        if not isinstance(path, Path):
            return path
        point = datum["datum_kwargs"].get("point_number")
        frames = resource["resource_kwargs"].get("frame_per_point", 1)
        if not (_is_count(point) and _is_count(frames)):
            return Unreadable("point_number of the datum or frame_per_point of its resource is no count")
        return self._hdf5.rows(path, _AD_DATASET, lambda _: (point * frames, (point + 1) * frames))

    def _npy(self, stem: str, index: Any) -> Loaded:
        if not _is_count(index):
            return Unreadable(f"index of the datum is no count but a {type(index).__name__}")
        path = self._roots.file(f"{stem}_{index}.npy")
        if not isinstance(path, Path):
            return path
        try:
            stored = np.lib.format.open_memmap(path, mode="r")
            if stored.nbytes > MOST_BYTES:
                return Unreadable(f"{path} holds {stored.nbytes} bytes, more than {MOST_BYTES}")
            return np.array(stored)
        except (OSError, ValueError, EOFError) as error:
            return NotYet(f"{path} cannot be read: {error}")

    def _handled(self, name: str, resource: Mapping[str, Any], datum: Mapping[str, Any]) -> Loaded:
        path = self._roots.stem(name)
        if isinstance(path, Unreadable):
            return path
        uid, spec = resource["uid"], resource["spec"]
        try:
            if uid not in self._made:
                self._made[uid] = self._handlers[spec](str(path), **resource["resource_kwargs"])
            return np.asarray(self._made[uid](**datum["datum_kwargs"]))
        except OSError as error:  # the file may come; event-model's Filler asks again, too
            return NotYet(f"handler of '{spec}' cannot read {path}: {error}")
        except _HANDLER_FAULTS as error:
            return Unreadable(f"handler of '{spec}' failed on {path}: {type(error).__name__}: {error}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**31


def _layout(parameters: Mapping[str, Any]) -> tuple[str | Unreadable, int | None]:
    """Dataset and frames per point that the parameters of a stream_resource name."""
    dataset, multiplier = parameters.get("dataset"), parameters.get("multiplier")
    for key in ("slice", "squeeze"):
        if parameters.get(key) not in (None, False, ""):
            return Unreadable(f"parameter '{key}' of the stream_resource is not supported"), None
    if isinstance(dataset, (list, tuple)):  # tiled gives the steps of the path
        dataset = "/".join(map(str, cast("list[Any]", dataset)))
    if not isinstance(dataset, str):
        return Unreadable("the stream_resource names no dataset"), None
    if multiplier is not None and not _is_count(multiplier):
        return Unreadable(f"multiplier of the stream_resource is a {type(multiplier).__name__}"), None
    return dataset, multiplier


def _frame_shape(shape: Sequence[int | None], multiplier: Any) -> tuple[int | None, ...]:
    """Shape of one frame in the file; older documents declare it without their frames per point."""
    declared = tuple(shape)
    if not multiplier or (declared and declared[0] == multiplier):
        return declared
    return (multiplier, *(declared[1:] if declared and declared[0] == 1 else declared))


def _frame_span(index: int, shape: tuple[int | None, ...]) -> Span:
    """Rows of a frame: one row each (stacked), or as many as its first axis is long (concatenated).

    The number of axes of the dataset tells which, so `join_method` of the stream_resource, which most
    writers leave out, is not needed.
    """

    def span(stored: tuple[int, ...]) -> tuple[int, int] | Unreadable:
        stacked = len(stored) == len(shape) + 1
        rows, rest = (1, shape) if stacked else (shape[0] if shape else None, shape[1:])
        fits = len(stored) == len(rest) + 1 and all(
            want in (None, have) for want, have in zip(rest, stored[1:], strict=True)
        )
        if not fits or not _is_count(rows) or not rows:
            return Unreadable(f"it has shape {stored}, which is no series of frames of shape {shape}")
        return index * rows, (index + 1) * rows

    return span


def _declared(reading: Loaded, entry: Mapping[str, Any]) -> Loaded:
    """The value in the shape that the descriptor declares, where it holds as many numbers."""
    if not isinstance(reading, np.ndarray):
        return reading
    value = cast("np.ndarray[Any, Any]", reading)
    if entry["dtype"] != "array" and value.size == 1:
        return value.item()
    shape: list[int | None] = list(entry["shape"])
    known = [axis for axis in shape if axis is not None]
    if len(known) == len(shape) and math.prod(known) == value.size and min(known, default=0) >= 0:
        return value.reshape(known)
    # a stacked frame of variable shape still has the row axis
    return value[0] if value.ndim == len(shape) + 1 and value.shape[0] == 1 else value
