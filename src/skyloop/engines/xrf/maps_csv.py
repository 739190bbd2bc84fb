"""The line library of MAPS (`xrf_library.csv`, version 1.2) as a line table, from the user's own file.

For comparison with fits made by MAPS: its ratios do not depend on the incident energy, and its Kβ of light
elements are up to a factor of two low. `line_table()` is the better choice for everything else.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from skyloop.engines.xrf.families import Family
from skyloop.engines.xrf.lines import LineTable, line_table
from skyloop.errors import DataError
from skyloop.quantities import FloatArray

__all__ = ["maps_csv_table"]

_VERSION = "1.2"
_EDGES = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
"""Shells in the order of the file's binding energies, from column 1s on."""
_LINES = {
    **{"Ka1": "K", "Ka2": "K", "Kb1": "K", "Kb2": "K"},
    **{"La1": "L3", "La2": "L3", "Lb1": "L2", "Lb2": "L3", "Lb3": "L1", "Lb4": "L1", "Lg1": "L2"},
    **{"Lg2": "L1", "Lg3": "L1", "Lg4": "L1", "Ll": "L3", "Ln": "L2"},
    **{"Ma1": "M5", "Ma2": "M5", "Mb": "M4", "Mg": "M3"},
}
"""Lines in the order of the file's columns, and the shell whose vacancy emits each."""
_LABELS = tuple(_LINES)
_SHELL = tuple(_EDGES.index(shell) for shell in _LINES.values())
_FAMILIES = {"": "K", "_L": "L", "_M": "M"}
_MEND = "mend: use xrf_library.csv version 1.2 as MAPS ships it, unchanged"

_Row = tuple[int, list[str]]
"""Line number and cells."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the blocks of the file start."""

    energy: int
    """Line energies in keV."""
    absolute_yield: int
    """Photons per photo-ionisation, same order of lines."""
    edge: int
    """Binding energies in keV."""

    @property
    def stop(self) -> int:
        return max(self.absolute_yield + len(_LABELS), self.edge + len(_EDGES))


def maps_csv_table(path: str | Path) -> LineTable:
    """Line table from a MAPS csv line library: ratio_l = yield_l / yield_main, at every incident energy.

    Cross sections are NaN, for the file has none; `attenuation` is that of `line_table()`. A line is in the
    table if the file gives its energy, its absolute yield and the binding energy of its shell (zero is the
    file's word for unknown); a component, if this holds for its main line.

    Raises:
        DataError: the file cannot be read or is not a line library of version 1.2.
    """
    file = Path(path)
    rows = _read(file)
    _check_version(file, rows)
    columns, body = _header(file, rows)
    families: dict[str, Family] = {}
    for number, cells in body:
        found = dict(_families(f"{file}, line {number}", cells, columns))
        if twice := sorted(found.keys() & families.keys()):
            raise DataError(f"{file}, line {number}: {', '.join(twice)} again; {_MEND}")
        families |= found
    if not families:
        raise DataError(f"{file}: no element with a line in it; {_MEND}")
    return LineTable(
        families=MappingProxyType(families),
        totals=line_table().totals,
        incident=(0.0, math.inf),
        provenance=f"MAPS line library {file.name} {_VERSION}; attenuation: {line_table().provenance}",
    )


def _read(file: Path) -> list[_Row]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            return [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a csv file ({error}); {_MEND}") from error


def _check_version(file: Path, rows: Sequence[_Row]) -> None:
    first = rows[0][1][:2] if rows else []
    if first != ["version:", _VERSION]:
        raise DataError(
            f"{file}, line 1: starts with {','.join(first)!r}, not 'version:,{_VERSION}'; {_MEND}"
        )


def _header(file: Path, rows: Sequence[_Row]) -> tuple[_Columns, list[_Row]]:
    """Columns, and the rows of elements: those below the header that are not empty."""
    for i, (number, cells) in enumerate(rows):
        if cells[:2] == ["Z", "Symbol"]:
            return _columns(f"{file}, line {number}", cells), [row for row in rows[i + 1 :] if any(row[1])]
    raise DataError(f"{file}: no line starts with 'Z,Symbol'; {_MEND}")


def _columns(where: str, header: Sequence[str]) -> _Columns:
    blocks = [i for i, name in enumerate(header) if name == _LABELS[0]]
    if len(blocks) != 2 or "1s" not in header:
        raise DataError(f"{where}: no two columns Ka1 (energy, yield) and a column 1s; {_MEND}")
    for start in blocks:
        names = [*header[start:], *_LABELS]
        wrong = [label for label, name in zip(_LABELS, names, strict=False) if not name.startswith(label)]
        if wrong:
            raise DataError(f"{where}: column {wrong[0]} is not in its place; {_MEND}")
    return _Columns(*blocks, edge=header.index("1s"))


def _families(where: str, cells: Sequence[str], columns: _Columns) -> Iterator[tuple[str, Family]]:
    """The families of one element whose main line is known."""
    if not cells[0].isdecimal() or len(cells) < columns.stop or not cells[1]:
        raise DataError(f"{where}: not an atomic number, a symbol and {columns.stop - 2} numbers; {_MEND}")
    energy = _numbers(where, cells, columns.energy, len(_LABELS))
    share = _numbers(where, cells, columns.absolute_yield, len(_LABELS))
    edges = _numbers(where, cells, columns.edge, len(_EDGES))
    shell = np.array(_SHELL)
    edge = edges[shell]
    there = (energy > 0.0) & (share > 0.0) & (edge > 0.0)
    for suffix, letter in _FAMILIES.items():
        line = [i for i, label in enumerate(_LABELS) if label.startswith(letter)]
        kept = [i for i in line if there[i]]
        if there[line[0]]:
            labels = tuple(_LABELS[i] for i in kept)
            yield cells[1] + suffix, Family(labels, energy[kept], edge[kept], share[kept], shell[kept], None)


def _numbers(where: str, cells: Sequence[str], start: int, count: int) -> FloatArray:
    return np.array([_number(where, cells, i) for i in range(start, start + count)])


def _number(where: str, cells: Sequence[str], column: int) -> float:
    try:
        value = float(cells[column])
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise DataError(
            f"{where}, column {column + 1}: {cells[column]!r} is not a number from zero up; {_MEND}"
        )
    return value
