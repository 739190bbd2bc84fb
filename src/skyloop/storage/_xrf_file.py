"""A file of XRF-Maps that nobody vouches for: what lies in it, read at no more cost than it is worth."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from skyloop.documents.hdf5_links import LeadsOutError, NotThereError, dataset_inside
from skyloop.errors import DataError
from skyloop.quantities import FloatArray

_MOST_READ = 2**31  # bytes of one read
_MOST_CHUNKS = 2**28
_MOST_NAMES = 2**12
# What h5py raises for a file that is cut off or damaged.
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError, MemoryError)


@contextmanager
def told(path: Path, what: str = "") -> Generator[None]:
    """What h5py raises for a damaged file, as an error that names the file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        yield
    except _BROKEN as error:
        mend = "copy it again from where it is whole"
        raise fault(str(path), f"{what}cannot be read ({error})", mend) from error


def fault(source: str, what: str, mend: str) -> DataError:
    """An error in one line: where, what and the mend."""
    return DataError(f"{source}: {what}; mend: {mend}".replace("\n", " "))


@dataclass(frozen=True, slots=True)
class MapsFile:
    """Datasets below `/MAPS` that lie in the file itself."""

    path: Path
    """Where it is."""
    file: Any
    """Open, of h5py."""

    def first(self, *names: str) -> Any:
        """The first of these datasets that is there, or None.

        Raises:
            DataError: it leads out of the file, or is no dataset.
        """
        for name in names:
            with told(self.path, f"/MAPS/{name} "):
                if (found := self._own(name)) is not None:
                    return found
        return None

    def numbers(self, *names: str, shape: tuple[int | None, ...]) -> FloatArray | None:
        """All of a small dataset as float64, NaN where it was never written; None: any length of an axis."""
        found = self.first(*names)
        if found is None:
            return None
        self.check(found, shape)
        with told(self.path, f"{found.name} "):
            values = np.asarray(found[()], dtype=np.float64)
            for at in np.argwhere(unwritten(found)):
                corner = zip(at, found.chunks, strict=True)
                values[tuple(slice(i * n, (i + 1) * n) for i, n in corner)] = np.nan
        return values

    def check(self, dataset: Any, shape: tuple[int | None, ...], *, at_once: int | None = None) -> None:
        """That a dataset holds numbers of that shape, and that reading all, or so many, is no great cost."""
        with told(self.path, f"{dataset.name} "):
            found, kind, chunks = dataset.shape or (), dataset.dtype, dataset.chunks or ()
            is_stored = dataset.id.get_storage_size() > 0
        where, number = str(self.path), math.prod(found) if at_once is None else at_once
        fits = len(found) == len(shape) and all(n in (None, m) for n, m in zip(shape, found, strict=True))
        if kind.kind not in "iuf" or kind.itemsize > 8 or not fits or 0 in found:
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            what = f"{dataset.name} is {kind} of shape {found}"
            raise fault(where, what, f"store numbers of shape ({wanted})")
        if 8 * max(number, math.prod(chunks)) > _MOST_READ:
            what = f"one read of {dataset.name}, shape {found}, takes more than {_MOST_READ} bytes"
            raise fault(where, what, "check that its shape is true, or store it in smaller chunks")
        if not is_stored:
            raise fault(where, f"{dataset.name} was never written", "copy the file when it is whole")

    def texts(self, *names: str) -> tuple[str, ...]:
        """Names, whether they are stored as bytes or as text; none where there is no such dataset."""
        found = self.first(*names)
        if found is None:
            return ()
        with told(self.path, f"{found.name} "):
            kind, shape = found.dtype, found.shape or ()
            if h5py.check_string_dtype(kind) and len(shape) == 1 and shape[0] <= _MOST_NAMES:
                return tuple(_text(value) for value in found[()])
        what = f"{found.name} is {kind} of shape {shape}"
        raise fault(str(self.path), what, f"store a list of at most {_MOST_NAMES} names")

    def unit(self, *names: str) -> str:
        """The attribute `units` of a dataset, empty where it has none."""
        found = self.first(*names)
        with told(self.path, f"units of {names} "):
            unit = None if found is None else found.attrs.get("units")
        return _text(unit) if isinstance(unit, (str, bytes)) else ""

    def _own(self, name: str) -> Any:
        """The dataset at a name, or None where there is none."""
        try:
            return dataset_inside(self.file, f"MAPS/{name}")
        except NotThereError:
            return None
        except LeadsOutError as error:
            what = f"/MAPS/{name} is not data of this file: a group, or a link that leads out of it"
            mend = "store the data in the file itself (h5repack, h5copy)"
            raise fault(str(self.path), f"{what} or in circles", mend) from error


def _text(value: Any) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text.split("\0")[0].strip()


def unwritten(dataset: Any) -> NDArray[np.bool_]:
    """Which chunks were never written, along the axes; of size 0 when none is missing."""
    nothing = np.empty((0,) * dataset.ndim, dtype=bool)
    if not dataset.chunks:
        return nothing
    grid = tuple(-(-n // size) for n, size in zip(dataset.shape, dataset.chunks, strict=True))
    if dataset.id.get_num_chunks() == math.prod(grid):
        return nothing
    if math.prod(grid) > _MOST_CHUNKS:
        raise ValueError(f"most of its {math.prod(grid)} chunks were never written")
    missing = np.ones(grid, dtype=bool)

    def mark(chunk: Any) -> None:
        missing[tuple(i // size for i, size in zip(chunk.chunk_offset, dataset.chunks, strict=True))] = False

    dataset.id.chunk_iter(mark)
    return missing
