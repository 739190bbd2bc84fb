"""X-ray fluorescence maps from HDF5 files of XRF-Maps, versions 8 to 10, row by row or as a whole.

Nobody vouches for these files: only what lies in the file itself is read, and sizes are checked before memory
is asked for.
"""

from __future__ import annotations

import math
import re
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
from skyloop.storage._xrf_counts import StoredCounts, stored_counts
from skyloop.storage._xrf_file import MapsFile, fault, told

__all__ = ["TIMES", "SumSpectrum", "XrfMaps", "is_count", "open_xrf_maps", "read_xrf_maps"]

_CALIBRATION = ("Spectra/Energy_Calibration", "energy_calib")
TIMES = ("Elapsed_Livetime", "Elapsed_Realtime", "Input_Counts", "Output_Counts")
"""Live time, real time and, in spite of their names, the rates of photons that came and were recorded."""
_SCALERS = (("Scalers/Names", "Scalers/Values"), ("scaler_names", "scalers"))

_MOST_BYTES = 2**33  # of a map in memory; more is read row by row


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
            raise fault(str(path), what, "read it row by row with open_xrf_maps")
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
    with told(where):
        file = h5py.File(where, "r")
    with file:
        yield _xrf_maps(MapsFile(where, file))


@dataclass(frozen=True, slots=True, eq=False)
class XrfMaps:
    """An open file of XRF-Maps: what is small is in memory, counts are read when they are asked for."""

    about: Spectra
    """All but the counts, for which an array of no channels stands."""
    _counts: StoredCounts

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
            with told(Path(self.about.source), f"rows from {start} on "):
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


def _xrf_maps(file: MapsFile) -> XrfMaps:
    notes: list[str] = []
    counts = stored_counts(file, notes)
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


def _positions(file: MapsFile, axis: str, pixels: tuple[int, int], notes: list[str]) -> FloatArray:
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


def _calibration(file: MapsFile, notes: list[str]) -> Calibration | None:
    found = file.numbers(*_CALIBRATION, shape=(3,))
    if found is None:
        return None
    offset, slope, quadratic = map(float, found)
    if usable((offset, slope, quadratic)):
        return offset, slope, quadratic
    notes.append(f"the energy calibration {found.tolist()} cannot be one: left out")
    return None


def _times(file: MapsFile, name: str, pixels: tuple[int, int], *, is_sum: bool) -> FloatArray:
    """[y, x, detector]; nothing where the file has nothing, or only NaN, which stands for that."""
    place, shape = ("Spectra/Integrated_Spectra", (1,)) if is_sum else ("Spectra", pixels)
    found = file.numbers(f"{place}/{name}", shape=shape)
    if found is None or np.isnan(found).all():
        return nothing(pixels)
    return found.reshape(*pixels, 1)


def _scalers(file: MapsFile, shape: tuple[int, int], notes: list[str]) -> dict[str, FloatArray]:
    """Scalers by name; a name that comes again, or is empty, gets its number, so that none is lost."""
    maps: dict[str, FloatArray] = {}
    for names_at, values_at in _SCALERS:
        if maps or (file.first(names_at) is None and file.first(values_at) is None):
            continue
        names = file.texts(names_at)
        values = file.numbers(values_at, shape=(len(names), *shape))
        if values is None:
            raise fault(
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
