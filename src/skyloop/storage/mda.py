"""MDA files of the scan record of EPICS (saveData), versions 1.2 to 1.4: nested scans of rank 1 to 3.

Big-endian XDR: a header, then the outermost scan, which points to the scans inside it. Each scan has its
positioners (float64) and detectors (float32), one number per point, and says how many points were measured.

References:
    saveData of the EPICS module sscan, https://github.com/epics-modules/sscan
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyloop.errors import DataError
from skyloop.storage._xdr import Cursor

__all__ = ["Channel", "Level", "Mda", "ProcessVariable", "is_mda", "read_mda"]

_MAX_BYTES = 2**31  # pointers are signed and have 4 bytes
_MAX_RANK = 3
_SPARE = 2**20
_VERSIONS = (120, 130, 140)
_Indexed = tuple[tuple[int, ...], "_Scan"]
_STRING = 0
_CHARACTERS = 32
_NUMBERS = {29: ">i4", 33: ">i4", 30: ">f4", 34: ">f8"}


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A positioner or a detector and what it read at each point."""

    name: str
    """Process variable that was read."""
    description: str
    """What the control system calls it."""
    unit: str
    """Its unit in the words of the control system."""
    values: NDArray[np.floating[Any]]
    """Readings along the levels from the outermost down to its own; NaN where nothing was measured.

    float64 from positioners, float32 from detectors."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """All scans of one rank."""

    name: str
    """Scan record, such as `2xfm:scan1`."""
    time: str
    """When the first of these scans began, as the file says it."""
    points: int
    """Points that were asked for in each scan."""
    measured: NDArray[np.int64]
    """Points that were measured in each scan, along the levels above."""
    positioners: tuple[Channel, ...]
    """What was moved."""
    detectors: tuple[Channel, ...]
    """What was read."""


@dataclass(frozen=True, slots=True)
class ProcessVariable:
    """An extra value that was saved with the scan."""

    name: str
    """Process variable."""
    description: str
    """What the file says of it."""
    unit: str
    """Its unit in the words of the control system; empty for text."""
    value: str | tuple[int, ...] | tuple[float, ...]
    """Text, or its numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Mda:
    """What an MDA file holds.

    Arrays are as long as the longest scan of each level that was started: of a scan that ended early, the
    rows never begun are not there, and points never measured in those begun are NaN.
    """

    source: str
    """File name."""
    version: float
    """Version of the format."""
    number: int
    """Number of the scan."""
    dims: tuple[int, ...]
    """Points that were asked for, outermost first."""
    levels: tuple[Level, ...]
    """The scans, outermost first."""
    extras: tuple[ProcessVariable, ...]
    """Extra values; none while the scan still runs."""


def is_mda(start: bytes) -> bool:
    r"""Whether a file that starts so is MDA, in the right byte order or the wrong one.

    >>> is_mda(b"\x3f\xa6\x66\x66"), is_mda(b"<<PM")
    (True, False)
    """
    return len(start) >= 4 and bool({_version(start, ">f"), _version(start, "<f")} & set(_VERSIONS))


def read_mda(path: str | Path) -> Mda:
    """Read an MDA file.

    Raises:
        DataError: the file cannot be read, is cut short, or its parts contradict each other; the message
            names the byte.
    """
    content = _bytes_of(Path(path))
    return _Reader(content, str(path)).read()


def _bytes_of(path: Path) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: is no file of at most {_MAX_BYTES} bytes; mend: give an MDA file")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); mend: give an MDA file") from error


def _version(start: bytes, order: str) -> int:
    value = struct.unpack(order, start[:4])[0]
    return round(100 * value) if 0 < value < 100 else 0


@dataclass(frozen=True, slots=True)
class _Scan:
    """One scan as it stands in the file."""

    name: str
    time: str
    points: int
    measured: int
    positioners: tuple[tuple[str, str, str], ...]
    detectors: tuple[tuple[str, str, str], ...]
    data: int
    """Byte at which its numbers begin."""
    inner: tuple[_Scan, ...] = ()

    @property
    def started(self) -> int:
        return max(self.measured, len(self.inner))

    def is_like(self, other: _Scan) -> bool:
        """Whether both read the same; descriptions and units are at times missing in some of the scans."""
        if self.points != other.points or len(self.detectors) != len(other.detectors):
            return False
        mine, its = self.positioners + self.detectors, other.positioners + other.detectors
        return len(mine) == len(its) and all(
            a == b and (not u or not v or u == v) for (a, _, u), (b, _, v) in zip(mine, its, strict=True)
        )


_NOTHING = _Scan("", "", 0, 0, (), (), 0)


@dataclass(slots=True)
class _Reader:
    content: bytes
    source: str
    used: int = field(default=0)
    """Bytes that the scans read so far take; more than the file has means that they overlap."""

    def read(self) -> Mda:
        cursor = Cursor(self.content, self.source)
        version, number, dims = self._header(cursor)
        cursor.integer("flag of regular scans")
        extras = cursor.count("pointer to the extra values", size=0)
        levels: list[list[_Indexed]] = [[] for _ in dims]
        self._collect(self._scan(cursor, len(dims)), (), levels)
        shape = self._shape(levels)
        return Mda(
            self.source,
            version,
            number,
            dims,
            tuple(self._level(scans, shape[: i + 1]) for i, scans in enumerate(levels)),
            tuple(_extras(Cursor(self.content, self.source, extras))) if extras else (),
        )

    def _header(self, cursor: Cursor) -> tuple[float, int, tuple[int, ...]]:
        start = self.content[:4].ljust(4, b"\0")
        if _version(start, ">f") not in _VERSIONS:
            swapped = _version(start, "<f") in _VERSIONS
            raise cursor.fault("the byte order is reversed" if swapped else "this is no MDA file")
        version, number = cursor.real("version"), cursor.integer("scan number")
        rank = cursor.count("rank", size=4)
        if not 1 <= rank <= _MAX_RANK:
            raise DataError(
                f"{self.source}, byte 8 of {len(self.content)}: scan of rank {rank}; "
                f"mend: give a file of rank 1 to {_MAX_RANK}"
            )
        dims = tuple(cursor.count("dimension") for _ in range(rank))
        return round(version, 2), number, dims

    def _scan(self, cursor: Cursor, rank: int) -> _Scan:
        start = cursor.at
        if (found := cursor.integer("rank of a scan")) != rank:
            raise cursor.fault(f"a scan of rank {found} where rank {rank} belongs", at=start)
        points, measured = cursor.count("number of points"), cursor.count("current point")
        if measured > points:
            raise cursor.fault(f"{measured} points measured of {points}", at=start)
        lower = cursor.array(">i4", points if rank > 1 else 0, "pointers to inner scans")
        name, time = cursor.string("name of a scan"), cursor.string("time of a scan")
        sizes = [cursor.count(f"number of {what}") for what in ("positioners", "detectors", "triggers")]
        positioners = tuple(_described(cursor, 7) for _ in range(sizes[0]))
        detectors = tuple(_described(cursor, 3) for _ in range(sizes[1]))
        for _ in range(sizes[2]):
            _ = cursor.integer("trigger"), cursor.string("trigger"), cursor.real("trigger")
        data = cursor.skip(points * (8 * sizes[0] + 4 * sizes[1]), "numbers of a scan")
        self.used += cursor.at - start
        if self.used > len(self.content):
            raise cursor.fault("scans overlap", at=start)
        inner = tuple(self._inner(lower, measured, start, rank))
        return _Scan(name, time, points, measured, positioners, detectors, data, inner)

    def _inner(self, lower: NDArray[Any], measured: int, start: int, rank: int) -> Iterator[_Scan]:
        if rank == 1:
            return
        here = Cursor(self.content, self.source, start)
        begun = int(np.argmin(lower != 0)) if (lower == 0).any() else len(lower)
        if begun < measured or lower[begun:].any():
            raise here.fault(f"the pointer to inner scan {begun + 1} is missing")
        for pointer in lower[:begun].tolist():
            if not 0 < pointer < len(self.content):
                raise here.fault(f"a pointer to byte {pointer}, outside the file")
            yield self._scan(Cursor(self.content, self.source, pointer), rank - 1)

    def _collect(self, scan: _Scan, index: tuple[int, ...], levels: list[list[_Indexed]]) -> None:
        """Sort scans by level, and refuse scans of one level that differ."""
        same = levels[len(index)]
        if same and not same[0][1].is_like(scan):
            raise DataError(
                f"{self.source}: scan {scan.name} {tuple(i + 1 for i in index)} has other points, "
                "positioners or detectors than the first; mend: give a file whose scans are alike"
            )
        same.append((index, scan))
        for i, inner in enumerate(scan.inner):
            self._collect(inner, (*index, i), levels)

    def _shape(self, levels: list[list[_Indexed]]) -> tuple[int, ...]:
        shape = tuple(max((scan.started for _, scan in scans), default=0) for scans in levels)
        for i, scans in enumerate(levels):
            channels = scans[0][1] if scans else _NOTHING
            width = max(4, 8 * len(channels.positioners) + 4 * len(channels.detectors))
            size = width * math.prod(shape[: i + 1]) + 8 * math.prod(shape[:i])
            # a raster that ended early is at most twice its data: all else is no scan that was measured
            if size > 16 * len(self.content) + _SPARE:
                raise DataError(
                    f"{self.source}: scans of {shape} points in a file of {len(self.content)} bytes; "
                    "mend: copy the file again, whole"
                )
        return shape

    def _level(self, scans: list[_Indexed], shape: tuple[int, ...]) -> Level:
        first = scans[0][1] if scans else _NOTHING
        positions = np.full((len(first.positioners), *shape), np.nan)
        readings = np.full((len(first.detectors), *shape), np.nan, dtype=np.float32)
        measured = np.zeros(shape[:-1], np.int64)
        for index, scan in scans:
            cursor = Cursor(self.content, self.source, scan.data)
            measured[index] = scan.measured
            for code, block in ((">f8", positions), (">f4", readings)):
                numbers = cursor.array(code, len(block) * scan.points, "numbers of a scan")
                into = block[(slice(None), *index)]
                into[:, : scan.measured] = numbers.reshape(len(block), scan.points)[:, : scan.measured]
        return Level(
            first.name,
            first.time,
            first.points,
            measured,
            tuple(Channel(*words, v) for words, v in zip(first.positioners, positions, strict=True)),
            tuple(Channel(*words, v) for words, v in zip(first.detectors, readings, strict=True)),
        )


def _described(cursor: Cursor, strings: int) -> tuple[str, str, str]:
    """Name, description and unit of a detector (3 strings), or of a positioner (7, the step mode third)."""
    cursor.integer("number of a positioner or detector")
    words = [cursor.string("description") for _ in range(strings)]
    return words[0], words[1], words[3 if strings == 7 else 2]


def _extras(cursor: Cursor) -> Iterator[ProcessVariable]:
    for _ in range(cursor.count("number of extra values", size=16)):
        name, description = cursor.string("extra value"), cursor.string("extra value")
        start, kind = cursor.at, cursor.integer("type of an extra value")
        if kind == _STRING:
            yield ProcessVariable(name, description, "", cursor.string("extra value"))
            continue
        number, unit = cursor.count("length of an extra value"), cursor.string("unit of an extra value")
        if kind == _CHARACTERS:
            codes = cursor.array(">i4", number, "extra value").astype(np.uint8).tobytes()
            yield ProcessVariable(name, description, unit, codes.split(b"\0")[0].decode("latin-1"))
        elif kind in _NUMBERS:
            values = cursor.array(_NUMBERS[kind], number, "extra value").tolist()
            yield ProcessVariable(name, description, unit, tuple(values))
        else:
            raise cursor.fault(f"extra value {name!r:.60} of unknown type {kind}", at=start)
