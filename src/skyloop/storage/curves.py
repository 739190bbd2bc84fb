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
_ORSO = "# # ORSO reflectivity data file"
_PER_ANGSTROM = {"1/angstrom": 1.0, "1/nm": 0.1}
_Columns = dict[str, tuple[Any, FloatArray]]
_SEPARATOR = re.compile(r"[\s,;]+")


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
    plain columns it is taken as a standard deviation unless `fwhm` says otherwise. Lines with `#` and
    words above the first numbers are skipped. Datasets of an ORSO file count from 1; columns are one.

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
            text = content.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); mend: give a text file") from error
        orso = _orso(path, text) if text.startswith(_ORSO) else ()
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


def _from_columns(path: Path, text: str, width: float) -> Curve:
    rows: list[list[float]] = []
    for number, line in _lines(text):
        values = _numbers(line)
        if values is None and not rows:
            continue
        if values is None or not 2 <= len(values) <= 4 or (rows and len(values) != len(rows[0])):
            expected = f"{len(rows[0])} numbers as above" if rows else "2 to 4 numbers"
            raise DataError(f"{path}, line {number}: {line.strip()!r:.60}; mend: give {expected}")
        rows.append(values)
    if not rows:
        raise DataError(f"{path}: no line with numbers; mend: give columns q, R, sigma, resolution")
    table = np.array(rows)
    missing = np.full((len(rows), 4 - table.shape[1]), np.nan)
    q, reflectivity, sigma, q_sigma = np.hstack([table, missing]).T
    return Curve(q, reflectivity, sigma, np.zeros_like(q) if len(rows[0]) < 4 else q_sigma / width)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(word) for word in _SEPARATOR.split(line.strip()) if word]
    except ValueError:
        return None


def _orso(path: Path, text: str) -> list[fileio.OrsoDataset]:
    try:
        return fileio.load_orso(StringIO(text, newline=None))
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not ORSO text ({error}); mend: correct its header") from error


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
