"""Reflectivity curves from files: ORSO text (`.ort`) and plain columns."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from orsopy import fileio

from skyloop.errors import DataError
from skyloop.quantities import FloatArray, Quantity

__all__ = ["Curve", "CurveFile", "read_curve"]

_FWHM = 2 * math.sqrt(2 * math.log(2))
_ORSO = re.compile(r"^\s*# *# ORSO reflectivity data file", re.MULTILINE)
_PER_ANGSTROM = {"1/angstrom": 1.0, "1/nm": 0.1}
_Columns = dict[str, tuple[Any, FloatArray]]
_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eEdD][-+]?\d+)?")


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One stored curve; its fields are named like the keys of a stored run."""

    q: Annotated[FloatArray, Quantity("1/angstrom", ("point",))]
    """Wavevector transfer."""
    reflectivity: Annotated[FloatArray, Quantity("", ("point",))]
    """Normalised reflectivity; may be negative after subtraction of a background."""
    reflectivity_sigma: Annotated[FloatArray, Quantity("", ("point",))]
    """Standard deviation of the reflectivity; NaN when the file has none."""
    q_sigma: Annotated[FloatArray, Quantity("1/angstrom", ("point",))]
    """Resolution as one standard deviation; 0 when the file has none."""

    def __len__(self) -> int:
        return len(self.q)


def read_curve(path: str | Path, *, dataset: int = 1, fwhm: bool = False) -> Curve:
    """Read one curve: ORSO text, or 2 to 4 columns q, R, sigma of R, resolution in q.

    ORSO files say whether their resolution is a standard deviation or a full width at half maximum. Of
    plain columns it is taken as a standard deviation unless `fwhm` says otherwise. Lines with `#` are
    skipped, and so are headings, lines above the first numbers that do not begin with a number. Datasets
    of an ORSO file count from 1; columns are one.

    Raises:
        DataError: names the file, the line where there is one, and the mend.
    """
    return CurveFile.read(Path(path)).curve(dataset=dataset, fwhm=fwhm)


@dataclass(frozen=True, slots=True)
class CurveFile:
    """A file with curves, read once."""

    path: Path
    """Where it is."""
    text: str
    """What it says."""
    sha256: str
    """Hash of its bytes."""
    modified: float
    """When it was last changed [s since the epoch]."""
    orso: tuple[fileio.OrsoDataset, ...]
    """Its datasets when it is an ORSO file; none for any other text."""

    @staticmethod
    def read(path: Path) -> CurveFile:
        """Read a file.

        Raises:
            DataError: the file cannot be read, or is ORSO text with a fault.
        """
        try:
            content, modified = path.read_bytes(), path.stat().st_mtime
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error}); mend: give a text file") from error
        text = _decoded(path, content)
        orso = _orso(path, text) if _ORSO.search(text) else ()
        return CurveFile(path, text, hashlib.sha256(content).hexdigest(), modified, tuple(orso))

    def curve(self, *, dataset: int = 1, fwhm: bool = False) -> Curve:
        """One of its curves; see `read_curve`.

        Raises:
            DataError: there is no such dataset, or its columns cannot be used.
        """
        count = len(self.orso) or 1
        if not 1 <= dataset <= count:
            raise DataError(
                f"{self.path}: holds {count} datasets, not number {dataset}; "
                f"mend: give a dataset from 1 to {count} (--dataset)"
            )
        if self.orso:
            return _from_orso(self.path, self.orso[dataset - 1])
        return _from_columns(self.path, self.text, _FWHM if fwhm else 1.0)


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, wrong = content.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise DataError(
            f"{path}, line {line}: byte 0x{wrong:02x} is not UTF-8; mend: give a text file in UTF-8"
        ) from error


def _from_columns(path: Path, text: str, width: float) -> Curve:
    rows: list[list[float]] = []
    for number, line in _lines(text):
        is_heading = not rows and _numbers(line) is None and _numbers(line, words=1) is None
        if not is_heading:
            rows.append(_row(f"{path}, line {number}: {line.strip()!r:.60}", line, rows[:1]))
    if not rows:
        raise DataError(f"{path}: no line with numbers; mend: give columns q, R, sigma, resolution")
    table = np.array(rows)
    missing = np.full((len(rows), 4 - table.shape[1]), np.nan)
    q, reflectivity, sigma, q_sigma = np.hstack([table, missing]).T
    return Curve(q, reflectivity, sigma, np.zeros_like(q) if len(rows[0]) < 4 else q_sigma / width)


def _row(where: str, line: str, first: list[list[float]]) -> list[float]:
    words = re.split(r"[\s;]+", line.strip())
    if len(words) > 1 and any(_DECIMAL_COMMA.fullmatch(word) for word in words):
        raise DataError(f"{where} has a decimal comma; mend: write the numbers with a decimal point")
    values = _numbers(line)
    if values is None or not 2 <= len(values) <= 4 or (first and len(values) != len(first[0])):
        remedy = "2 to 4 numbers, nan for a missing one, and # before a remark"
        raise DataError(f"{where}; mend: give {f'{len(first[0])} numbers as above' if first else remedy}")
    return values


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _numbers(line: str, words: int | None = None) -> list[float] | None:
    """The numbers that a line, or its first words, consist of; Fortran writes 1.0D-02."""
    try:
        found = _SEPARATOR.split(line.strip(" \t,;"))[:words]
        return [float(word.lower().replace("d", "e")) for word in found]
    except ValueError:
        return None


def _orso(path: Path, text: str) -> list[fileio.OrsoDataset]:
    for number, line in _lines(text):
        _check_orso_row(f"{path}, line {number}: {line.strip()!r:.60}", line)
    try:
        return fileio.load_orso(StringIO(text.lstrip(), newline=None))
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not ORSO text ({error}); mend: correct its header") from error


def _check_orso_row(where: str, line: str) -> None:
    try:
        list(map(float, line.split()))
    except ValueError as error:
        raise DataError(f"{where}; mend: give numbers with blanks between, nan for a missing one") from error


def _from_orso(path: Path, stored: fileio.OrsoDataset) -> Curve:
    table = np.asarray(stored.data)
    columns: _Columns = {c.name: (c, table[:, i]) for i, c in enumerate(stored.info.columns)}
    if "Qz" not in columns or "R" not in columns:
        raise DataError(f"{path}: has columns {', '.join(columns)}; mend: Qz and R are needed")
    factor = _per_angstrom(path, columns["Qz"][0].unit)
    q, reflectivity = columns["Qz"][1] * factor, columns["R"][1]
    return Curve(
        q=q,
        reflectivity=reflectivity,
        reflectivity_sigma=_error(columns, "sR", np.full_like(q, np.nan)),
        q_sigma=factor * _error(columns, "sQz", np.zeros_like(q)),
    )


def _per_angstrom(path: Path, unit: str | None) -> float:
    # Files without a unit are in 1/angstrom, as the standard recommends.
    if unit is not None and unit not in _PER_ANGSTROM:
        known = " or ".join(_PER_ANGSTROM)
        raise DataError(f"{path}: Qz is in {unit}; mend: convert it to {known}")
    return _PER_ANGSTROM[unit or "1/angstrom"]


def _error(columns: _Columns, name: str, missing: FloatArray) -> FloatArray:
    if name not in columns:
        return missing
    column, values = columns[name]
    return values * getattr(column, "to_sigma", 1.0)
