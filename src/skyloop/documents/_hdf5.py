"""Rows of HDF5 datasets, read while a detector writes them, from files that nobody vouches for."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
from h5py._objects import phil  # the lock under which all of h5py calls HDF5

from skyloop.documents._loaded import MOST_BYTES, Loaded, NotYet, Unreadable
from skyloop.documents.hdf5_links import LeadsOutError, NoGroupError, dataset_inside

__all__ = ["Hdf5Files", "Span"]

Span = Callable[[tuple[int, ...]], "tuple[int, int] | Unreadable"]
"""First and last+1 row to read of a dataset, from the shape that the dataset has."""

_MOST_FILES = 16
_ATTEMPTS = 16  # of reading metadata: about a millisecond in all
_MOST_SEARCHES = 16  # for one chunk each, through the list of all chunks; for more, one walk costs less
# What h5py raises for a file that is cut off, damaged, or caught in the middle of a change.
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError)


@dataclass
class _Open:
    file: Any
    datasets: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class _Behind:
    """What was found missing in this round: rows of a dataset of this shape, from this row on."""

    row: int
    shape: tuple[int, ...] | None
    answer: NotYet

    def covers(self, span: Span) -> bool:
        rows = span(self.shape) if self.shape is not None else (self.row, self.row + 1)
        return not isinstance(rows, Unreadable) and rows[0] >= self.row


class Hdf5Files:
    """Files kept open for reading while they are written (SWMR), the 16 last used ones.

    Only data that lie in the file itself are read; see `dataset_inside`.
    Rows are not there yet while a chunk (tile) that holds part of them is not in the file. HDF5 does not tell
    more: in a chunk that holds several rows, or that is written in parts, what the writer has not written yet
    is read as the fill value once the rest of the chunk is there. So whoever announces rows must have written
    them.
    """

    def __init__(self) -> None:
        self._files: dict[Path, _Open] = {}
        self._behind: dict[tuple[Path, str], _Behind] = {}

    def rows(self, path: Path, dataset: str, span: Span) -> Loaded:
        """Rows of a dataset as an array, along its first axis.

        Args:
            path: the file; already checked to be an allowed one.
            dataset: where in the file.
            span: which rows.
        """
        known = self._behind.get((path, dataset))
        if known and known.covers(span):
            return known.answer
        try:
            found = self._dataset(path, dataset)
            read = self._read(path, dataset, found, span) if isinstance(found, h5py.Dataset) else found
        except _BROKEN as error:
            return self._later(path, dataset, f"cannot be read: {error}")
        return Unreadable(f"{dataset} in {path}: {read.reason}") if isinstance(read, Unreadable) else read

    def new_round(self) -> None:
        """Ask again for rows that were not there; until then they are known to be missing."""
        self._behind.clear()

    def close(self) -> None:
        """Close all files."""
        for path in list(self._files):
            self._drop(path)
        self._behind.clear()

    def _read(self, path: Path, name: str, dataset: Any, span: Span) -> Loaded:
        dataset.refresh()  # or chunks, and what they hold, stay as this handle saw them first
        rows = span(dataset.shape)
        if isinstance(rows, Unreadable):
            return rows
        start, stop = rows
        if fault := _size_fault(dataset, stop - start):
            return Unreadable(fault)
        if not _written(dataset, path, start, stop):
            return self._later(path, name, f"has no row {stop - 1} yet", start, dataset.shape)
        return dataset[start:stop]

    def _later(
        self, path: Path, name: str, reason: str, row: int = 0, shape: tuple[int, ...] | None = None
    ) -> NotYet:
        """Not there yet; the file is opened anew next time, for what this handle cannot see."""
        self._drop(path)
        answer = NotYet(f"{name} in {path} {reason}".replace("\n", " "))
        self._behind[path, name] = _Behind(row, shape, answer)
        return answer

    def _dataset(self, path: Path, name: str) -> Any:
        entry = self._opened(path)
        if name not in entry.datasets:
            found = _guarded(entry.file, name)
            if isinstance(found, Unreadable):
                return found
            entry.datasets[name] = found
        return entry.datasets[name]

    def _opened(self, path: Path) -> _Open:
        entry = self._files.pop(path, None) or _Open(_opened(path))
        self._files[path] = entry  # last: most recently used
        if len(self._files) > _MOST_FILES:
            self._drop(next(iter(self._files)))
        return entry

    def _drop(self, path: Path) -> None:
        entry = self._files.pop(path, None)
        if entry is not None:
            entry.datasets.clear()
            entry.file.close()


def _opened(path: Path) -> Any:
    """The file, open for reading while it may be written.

    In this mode HDF5 reads metadata with a wrong checksum again, in case the writer is changing them: 100
    times, with a pause that doubles from a nanosecond on. A file that is cut off or damaged would hold the
    process, and the scan in it, for hours. h5py has no call for the number of attempts, so HDF5 itself is
    asked.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
    with phil:
        _attempts_setter()(access.id, _ATTEMPTS)
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


@functools.cache
def _attempts_setter() -> Callable[[int, int], int]:
    """H5Pset_metadata_read_attempts of the HDF5 library that h5py has loaded."""
    setter = ctypes.PyDLL(h5py.h5p.__file__).H5Pset_metadata_read_attempts
    setter.argtypes, setter.restype = (ctypes.c_int64, ctypes.c_uint), ctypes.c_int
    return setter


def _guarded(file: Any, path: str) -> Any:
    """The dataset at a path, when it lies in the file itself and has rows of numbers.

    Raises:
        KeyError: there is nothing at that path (yet).
    """
    try:
        node = dataset_inside(file, path)
    except (LeadsOutError, NoGroupError) as error:
        return Unreadable(str(error.args[0]))
    if node.dtype.kind not in "biufc":
        return Unreadable(f"its data are no numbers ({node.dtype})")
    return node if node.ndim else Unreadable("it has no rows")


def _size_fault(dataset: Any, rows: int) -> str:
    """What one read would cost; a file of a kilobyte can declare terabytes."""
    row = math.prod(dataset.shape[1:])
    chunk = math.prod(dataset.chunks or (1,))
    if row == 0 or rows < 1:
        return f"rows of shape {dataset.shape[1:]} hold nothing"
    needed = max(row * rows, chunk) * dataset.dtype.itemsize
    return f"one read takes {needed} bytes, more than {MOST_BYTES}" if needed > MOST_BYTES else ""


def _written(dataset: Any, path: Path, start: int, stop: int) -> bool:
    """Whether all that these rows lie in is stored, not only declared.

    HDF5 gives the fill value for chunks that were never written, and zeros for those beyond the end of a file
    that was cut off.
    """
    if dataset.shape[0] < stop:
        return False
    size = path.stat().st_size
    if dataset.chunks is None:
        offset, row = dataset.id.get_offset(), dataset.nbytes // dataset.shape[0]
        if offset is None:  # compact: in the header, or nowhere
            return dataset.id.get_storage_size() > 0
        return offset + stop * row <= size
    begins = [range(start - start % dataset.chunks[0], stop, dataset.chunks[0])]
    begins += list(map(range, itertools.repeat(0), dataset.shape[1:], dataset.chunks[1:]))
    if (number := math.prod(map(len, begins))) > _MOST_SEARCHES:
        return _all_stored(dataset, begins[0], number, size)
    find = dataset.id.get_chunk_info_by_coord
    return all(_stored(find(begin), size) for begin in itertools.product(*begins))


def _all_stored(dataset: Any, rows: range, number: int, size: int) -> bool:
    """Whether so many chunks that begin at these rows are stored."""
    left = number

    def count(chunk: Any) -> bool | None:
        nonlocal left
        left -= chunk.chunk_offset[0] in rows and _stored(chunk, size)
        return None if left else True  # True: walk no further

    dataset.id.chunk_iter(count)
    return left == 0


def _stored(chunk: Any, size: int) -> bool:
    return chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= size
