"""X-ray fluorescence maps from HDF5 files of XRF-Maps, versions 8 to 10, row by row or as a whole.

Nobody vouches for these files: only what lies in the file itself is read, and sizes are checked before memory
is asked for.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from skyloop.errors import DataError
from skyloop.quantities import FloatArray, Quantity
from skyloop.storage._spectra import Calibration, Counts, Spectra, doubts, nothing, usable

__all__ = ["TIMES", "SumSpectrum", "XrfMaps", "is_count", "open_xrf_maps", "read_xrf_maps"]

_COUNTS = ("Spectra/mca_arr", "mca_arr")
_SUM = ("Spectra/Integrated_Spectra/Spectra", "int_spec")
_ENERGY = ("Spectra/Energy", "energy")
_CALIBRATION = ("Spectra/Energy_Calibration", "energy_calib")
TIMES = ("Elapsed_Livetime", "Elapsed_Realtime", "Input_Counts", "Output_Counts")
"""Live time, real time and, in spite of their names, the rates of photons that came and were recorded."""
_SCALERS = (("Scalers/Names", "Scalers/Values"), ("scaler_names", "scalers"))

_MOST_BYTES = 2**33  # of a map in memory; more is read row by row
_MOST_READ = 2**31  # bytes of one read
_MOST_PIXELS = 2**26
_MOST_CHUNKS = 2**28
_MOST_NAMES = 2**12
_BLOCK = 2**26  # bytes that one read brings, where one row is not more,
_BLOCK_OF_CHUNKS = 2**30  # or where rows that are packed together would have to be unpacked again and again
_MOST_LINKS = 16
# What h5py raises for a file that is cut off or damaged.
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError, MemoryError)


@dataclass(frozen=True, slots=True, eq=False)
class SumSpectrum:
    """The sum over all pixels whose counts are counts."""

    counts: Annotated[FloatArray, Quantity("count", ("detector", "channel"))]
    """Sum; pixels with NaN, infinite or negative counts are left out."""
    n_pixels: int
    """How many pixels it holds."""
    n_left_out: int
    """How many it does not."""


def is_count(counts: Counts) -> NDArray[np.bool_]:
    """Whether each spectrum (last axis) holds finite counts of zero or more only.

    >>> is_count(np.array([[0.0, 2.0], [np.nan, 1.0], [-1.0, 3.0]])).tolist()
    [True, False, False]
    """
    good = np.isfinite(counts) & (counts >= 0)
    return np.asarray(good.all(axis=-1))


def read_xrf_maps(path: str | Path) -> Spectra:
    """Read all spectra of a file of XRF-Maps; see `open_xrf_maps` for what is understood.

    Pixels with NaN or negative counts stay as they are; the notes say how many there are.

    Raises:
        DataError: names the file, what is wrong in it, and the mend.
    """
    with open_xrf_maps(path) as file:
        if (needed := file.dtype.itemsize * math.prod(file.shape)) > _MOST_BYTES:
            what = f"holds {needed} bytes of counts"
            raise _fault(str(path), what, "read it row by row with open_xrf_maps")
        counts = np.empty(file.shape, file.dtype)
        for i, row in enumerate(file.rows()):
            counts[i] = row
    notes = [*file.about.notes, *doubts(counts)]
    if unknown := int(np.isnan(counts).any(axis=(2, 3)).sum()):
        notes.append(f"{unknown} pixels hold NaN counts: kept as they are")
    return replace(file.about, counts=counts, notes=tuple(notes))


@contextmanager
def open_xrf_maps(path: str | Path) -> Generator[XrfMaps]:
    """A file of XRF-Maps, open for reading row by row.

    Counts are `/MAPS/Spectra/mca_arr` or `/MAPS/mca_arr` [channel, y, x]; those of mapstorch,
    [y, x, channel], are known by the length of their summed spectrum. A file that holds the summed spectrum
    only is a map of one pixel. Chunks that were never written (a scan that was cut off) are NaN, not zero.
    What was not as it should be, but could be read, is in the notes.

    Raises:
        DataError: names the file, what is wrong in it, and the mend.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with h5py.File(f"{folder}/a.h5", "w") as file:
    ...         file["MAPS/Spectra/mca_arr"] = np.ones((8, 2, 3))
    ...     with open_xrf_maps(f"{folder}/a.h5") as maps:
    ...         maps.shape, maps.sum_spectrum().counts
    ((2, 3, 1, 8), array([[6., 6., 6., 6., 6., 6., 6., 6.]]))
    """
    where = Path(path)
    if not where.is_file():
        raise DataError(f"{where}: there is no such file; mend: give an HDF5 file of XRF-Maps")
    with _told(where):
        file = h5py.File(where, "r")
    with file:
        yield _xrf_maps(_Guarded(where, file))


@contextmanager
def _told(path: Path, what: str = "") -> Generator[None]:
    try:
        yield
    except _BROKEN as error:
        mend = "copy it again from where it is whole"
        raise _fault(str(path), f"{what}cannot be read ({error})", mend) from error


def _fault(source: str, what: str, mend: str) -> DataError:
    return DataError(f"{source}: {what}; mend: {mend}".replace("\n", " "))


@dataclass(frozen=True, slots=True)
class _Guarded:
    """Datasets below `/MAPS` that lie in the file itself."""

    path: Path
    file: Any

    def first(self, *names: str) -> Any:
        """The first of these datasets that is there, or None.

        Raises:
            DataError: it leads out of the file, or is no dataset.
        """
        for name in names:
            with _told(self.path, f"/MAPS/{name} "):
                if (found := self._walk(name)) is not None:
                    return found
        return None

    def numbers(self, *names: str, shape: tuple[int | None, ...]) -> FloatArray | None:
        """All of a small dataset as float64, NaN where it was never written; None: any length of an axis."""
        found = self.first(*names)
        if found is None:
            return None
        self.check(found, shape)
        with _told(self.path, f"{found.name} "):
            values = np.asarray(found[()], dtype=np.float64)
            for at in np.argwhere(_unwritten(found)):
                corner = zip(at, found.chunks, strict=True)
                values[tuple(slice(i * n, (i + 1) * n) for i, n in corner)] = np.nan
        return values

    def check(self, dataset: Any, shape: tuple[int | None, ...], *, at_once: int | None = None) -> None:
        """That a dataset holds numbers of that shape, and that reading all, or so many, is no great cost."""
        with _told(self.path, f"{dataset.name} "):
            found, kind, chunks = dataset.shape or (), dataset.dtype, dataset.chunks or ()
            is_stored = dataset.id.get_storage_size() > 0
        where, number = str(self.path), math.prod(found) if at_once is None else at_once
        fits = len(found) == len(shape) and all(n in (None, m) for n, m in zip(shape, found, strict=True))
        if kind.kind not in "iuf" or kind.itemsize > 8 or not fits or 0 in found:
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            what = f"{dataset.name} is {kind} of shape {found}"
            raise _fault(where, what, f"store numbers of shape ({wanted})")
        if 8 * max(number, math.prod(chunks)) > _MOST_READ:
            what = f"one read of {dataset.name}, shape {found}, takes more than {_MOST_READ} bytes"
            raise _fault(where, what, "check that its shape is true, or store it in smaller chunks")
        if not is_stored:
            raise _fault(where, f"{dataset.name} was never written", "copy the file when it is whole")

    def texts(self, *names: str) -> tuple[str, ...]:
        """Names, whether they are stored as bytes or as text; none where there is no such dataset."""
        found = self.first(*names)
        if found is None:
            return ()
        with _told(self.path, f"{found.name} "):
            kind, shape = found.dtype, found.shape or ()
            if h5py.check_string_dtype(kind) and len(shape) == 1 and shape[0] <= _MOST_NAMES:
                return tuple(_text(value) for value in found[()])
        what = f"{found.name} is {kind} of shape {shape}"
        raise _fault(str(self.path), what, f"store a list of at most {_MOST_NAMES} names")

    def unit(self, *names: str) -> str:
        """The attribute `units` of a dataset, empty where it has none."""
        found = self.first(*names)
        with _told(self.path, f"units of {names} "):
            unit = None if found is None else found.attrs.get("units")
        return _text(unit) if isinstance(unit, (str, bytes)) else ""

    def _walk(self, name: str) -> Any:
        """What is at a name, when each step to it stays in the file."""
        node: Any = self.file
        steps, links = deque(["MAPS", *name.split("/")]), 0
        while steps:
            is_group = isinstance(node, h5py.Group)
            link = node.get(steps[0], getlink=True) if is_group else None
            if link is None:
                return None
            if isinstance(link, h5py.HardLink):
                node = node[steps.popleft()]
            elif isinstance(link, h5py.SoftLink) and (links := links + 1) <= _MOST_LINKS:
                node = self.file if link.path.startswith("/") else node
                steps.popleft()
                steps.extendleft(reversed([s for s in link.path.split("/") if s not in ("", ".")]))
            else:
                raise self._leads_out(name)
        if not isinstance(node, h5py.Dataset) or node.is_virtual or node.external:
            raise self._leads_out(name)
        return node

    def _leads_out(self, name: str) -> DataError:
        what = f"/MAPS/{name} is not data of this file: a group, or a link that leads out of it or in circles"
        return _fault(str(self.path), what, "store the data in the file itself (h5repack, h5copy)")


def _text(value: Any) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text.split("\0")[0].strip()


@dataclass(frozen=True, slots=True, eq=False)
class XrfMaps:
    """An open file of XRF-Maps: what is small is in memory, counts are read when they are asked for."""

    about: Spectra
    """All but the counts, for which an array of no channels stands."""
    _counts: _Counts

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[y, x, detector, channel]; there is one detector in a file."""
        n_y, n_x, n_c = self._counts.shape
        return n_y, n_x, 1, n_c

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """Of the counts: float32 where it holds each number of the file, float64 else."""
        return self._counts.dtype

    def rows(self) -> Iterator[Counts]:
        """Rows [x, detector, channel] in the order of y, read in blocks of rows that are stored together.

        Raises:
            DataError: the file is damaged there.
        """
        n_y, step = self.shape[0], self._counts.rows_at_once()
        for start in range(0, n_y, step):
            with _told(Path(self.about.source), f"rows from {start} on "):
                block = self._counts.rows(start, min(start + step, n_y))
            yield from block[:, :, None]

    def sum_spectrum(self) -> SumSpectrum:
        """The sum over all pixels that hold counts, read in blocks.

        Raises:
            DataError: the file is damaged.
        """
        total, n_pixels = np.zeros(self.shape[2:]), 0
        for row in self.rows():
            good = is_count(row).all(axis=-1)
            total += row[good].sum(axis=0, dtype=np.float64)
            n_pixels += int(good.sum())
        return SumSpectrum(total, n_pixels, math.prod(self.shape[:2]) - n_pixels)


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """The dataset with the counts, in the order of its axes."""

    dataset: Any
    axes: str
    """`cyx`, `yxc`, or `c` where there is only a sum."""
    lost: NDArray[np.bool_]
    """[y, x]: pixels of which a part was never written; of size 0 when there are none."""

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """See `XrfMaps.dtype`."""
        return np.result_type(self.dataset.dtype, np.float32)

    @property
    def shape(self) -> tuple[int, int, int]:
        """[y, x, channel]."""
        n = dict(zip(self.axes, self.dataset.shape, strict=True))
        return n.get("y", 1), n.get("x", 1), n["c"]

    def rows_at_once(self) -> int:
        """As many rows as fit into a block, whole chunks of them where possible."""
        n_y, n_x, n_c = self.shape
        row = self.dtype.itemsize * n_x * n_c
        most = max(1, _BLOCK // row)
        together = dict(zip(self.axes, self.dataset.chunks or (), strict=False)).get("y", 1)
        if most < together <= _BLOCK_OF_CHUNKS // row:
            return together
        return min(n_y, most - most % together or most)

    def rows(self, start: int, stop: int) -> Counts:
        """[row, x, channel]."""
        if self.axes == "cyx":
            stored = np.moveaxis(self.dataset[:, start:stop], 0, -1)
        elif self.axes == "yxc":
            stored = self.dataset[start:stop]
        else:
            stored = self.dataset[()][None, None]
        values = np.ascontiguousarray(stored, dtype=self.dtype)
        if self.lost.size:
            values[self.lost[start:stop]] = np.nan
        return values


def _xrf_maps(file: _Guarded) -> XrfMaps:
    notes: list[str] = []
    counts = _counts(file, notes)
    pixels, is_sum = counts.shape[:2], counts.axes == "c"
    unknown = np.full(pixels, np.nan)
    live, real, incoming, outgoing = (_times(file, name, pixels, is_sum=is_sum) for name in TIMES)
    about = Spectra(
        counts=np.empty((*pixels, 1, 0)),
        x=unknown if is_sum else _positions(file, "x", pixels, notes),
        y=unknown if is_sum else _positions(file, "y", pixels, notes),
        detectors=(_detector(file.path),),
        source=str(file.path),
        live_time=live,
        real_time=real,
        input_rate=incoming,
        output_rate=outgoing,
        scalers={} if is_sum else _scalers(file, pixels, notes),
        calibration=_calibration(file, notes),
        x_unit=file.unit("Scan/x_axis", "x_axis"),
        y_unit=file.unit("Scan/y_axis", "y_axis"),
        notes=tuple(notes),
    )
    return XrfMaps(about, counts)


def _counts(file: _Guarded, notes: list[str]) -> _Counts:
    found = file.first(*_COUNTS)
    if found is None:
        return _only_sum(file, notes)
    file.check(found, (None, None, None), at_once=0)
    axes = _axes(file, found.shape, notes)
    n = dict(zip(axes, found.shape, strict=True))
    if n["y"] * n["x"] > _MOST_PIXELS:
        raise _fault(
            str(file.path), f"{found.name} has {n['y']} x {n['x']} pixels", "check that its shape is true"
        )
    file.check(found, (None, None, None), at_once=n["x"] * n["c"])
    with _told(file.path, f"{found.name} "):
        missing = _unwritten(found).any(axis=axes.index("c"))
    if not missing.any():
        return _Counts(found, axes, np.empty(0, dtype=bool))
    sizes = dict(zip(axes, found.chunks, strict=True))
    lost = missing.repeat(sizes["y"], axis=0).repeat(sizes["x"], axis=1)[: n["y"], : n["x"]]
    notes.append(f"{int(lost.sum())} pixels of {lost.size} were never written: they are NaN")
    return _Counts(found, axes, lost)


def _only_sum(file: _Guarded, notes: list[str]) -> _Counts:
    found = file.first(*_SUM)
    if found is None:
        tried = ", ".join(f"/MAPS/{name}" for name in (*_COUNTS, *_SUM))
        raise _fault(str(file.path), f"holds none of {tried}", "give a file of XRF-Maps that holds spectra")
    file.check(found, (None,))
    notes.append("only the summed spectrum is stored: a map of one pixel")
    return _Counts(found, "c", np.empty(0, dtype=bool))


def _axes(file: _Guarded, shape: tuple[int, ...], notes: list[str]) -> str:
    """Which axis of the counts is which, told by the length of what has channels only."""
    known = [spectrum for name in (*_SUM, *_ENERGY) if (spectrum := file.first(name)) is not None]
    n = known[0].size if known else shape[0]
    if n not in (shape[0], shape[2]):
        what = f"counts of shape {shape} have no axis of {n} channels, the length of {known[0].name}"
        raise _fault(str(file.path), what, "store counts along [channel, y, x]")
    if not known or shape[0] == shape[2]:
        notes.append(f"counts of shape {shape} are taken as [channel, y, x]; nothing in the file tells")
    if n == shape[0]:
        return "cyx"
    notes.append("counts are stored along [y, x, channel], not [channel, y, x]")
    return "yxc"


def _unwritten(dataset: Any) -> NDArray[np.bool_]:
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


def _positions(file: _Guarded, axis: str, pixels: tuple[int, int], notes: list[str]) -> FloatArray:
    """[y, x]: of each pixel where the file has them, else those of the columns or rows."""
    exact = file.numbers(f"Scan/{axis}_positions", shape=pixels)
    if exact is not None:
        return exact
    found = file.numbers(f"Scan/{axis}_axis", f"{axis}_axis", shape=(None,))
    number = pixels["yx".index(axis)]
    if found is not None and len(found) == number:
        return np.array(np.broadcast_to(found if axis == "x" else found[:, None], pixels))
    what = "is missing" if found is None else f"has {len(found)} values for {number} pixels"
    notes.append(f"{axis}_axis {what}: positions are unknown")
    return np.full(pixels, np.nan)


def _calibration(file: _Guarded, notes: list[str]) -> Calibration | None:
    found = file.numbers(*_CALIBRATION, shape=(3,))
    if found is None:
        return None
    offset, slope, quadratic = map(float, found)
    if usable((offset, slope, quadratic)):
        return offset, slope, quadratic
    notes.append(f"the energy calibration {found.tolist()} cannot be one: left out")
    return None


def _times(file: _Guarded, name: str, pixels: tuple[int, int], *, is_sum: bool) -> FloatArray:
    """[y, x, detector]; nothing where the file has nothing, or only NaN, which stands for that."""
    place, shape = ("Spectra/Integrated_Spectra", (1,)) if is_sum else ("Spectra", pixels)
    found = file.numbers(f"{place}/{name}", shape=shape)
    if found is None or np.isnan(found).all():
        return nothing(pixels)
    return found.reshape(*pixels, 1)


def _scalers(file: _Guarded, shape: tuple[int, int], notes: list[str]) -> dict[str, FloatArray]:
    """Scalers by name; a name that comes again, or is empty, gets its number, so that none is lost."""
    maps: dict[str, FloatArray] = {}
    for names_at, values_at in _SCALERS:
        if maps or (file.first(names_at) is None and file.first(values_at) is None):
            continue
        names = file.texts(names_at)
        values = file.numbers(values_at, shape=(len(names), *shape))
        if values is None:
            raise _fault(
                str(file.path), f"/MAPS/{names_at} names what is not there", f"store /MAPS/{values_at}"
            )
        for i, (name, value) in enumerate(zip(names, values, strict=True)):
            unique = name if name and name not in maps else f"{name}#{i}"
            if unique != name:
                notes.append(f"scaler {i} is called {unique!r}: its name {name!r} is empty or taken")
            maps[unique] = value
    return maps


def _detector(path: Path) -> str:
    """XRF-Maps writes detector k into `*.h5k`, and the sum of all into `*.h5`."""
    number = re.fullmatch(r"\.h5(\d+)", path.suffix)
    return f"mca{int(number[1]) + 1}" if number else "mca"
