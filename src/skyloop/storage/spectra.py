"""Fluorescence spectra from files of any known format: `read_spectra`."""

from __future__ import annotations

from pathlib import Path

from skyloop.errors import DataError
from skyloop.storage._mda_spectra import SCALERS, spectra_of
from skyloop.storage._spectra import Calibration, Spectra
from skyloop.storage._text_spectra import reader_of
from skyloop.storage.mda import is_mda, read_mda
from skyloop.storage.xrf_maps import read_xrf_maps

__all__ = ["FORMATS", "SCALERS", "Calibration", "Spectra", "read_spectra", "spectra_of"]

FORMATS = "MDA, HDF5 of XRF-Maps, .mca of Amptek (<<DATA>>), SPEC (@A), .spe ($DATA:), one column of numbers"
"""The formats that `read_spectra` reads, in words."""

_MAX_TEXT = 256 * 1024 * 1024
_START = 4096
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_spectra(path: str | Path, *, dataset: int = 1) -> Spectra:
    """Read the spectra of a file; its content tells the format, not its name.

    Datasets count from 1 and are the scans with spectra of a SPEC file; any other file has one.

    Raises:
        DataError: the file cannot be read, is of no known format, or is damaged; the message says where and
            names the mend.
    """
    path = Path(path)
    start = _start_of(path)  # a format that is not text is told by its first bytes, here
    if is_mda(start) or start.startswith(_HDF5):
        if dataset != 1:
            raise DataError(f"{path}: holds 1 dataset, not number {dataset}; mend: leave it at 1 (--dataset)")
        return spectra_of(read_mda(path)) if is_mda(start) else read_xrf_maps(path)
    text = "" if b"\0" in start else _text_of(path)
    read = reader_of(text)
    if read is None:
        raise DataError(f"{path}: of no known format; mend: give one of {FORMATS}")
    return read(str(path), text, dataset)


def _start_of(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise DataError(f"{path}: is no file; mend: give one of {FORMATS}")
        with path.open("rb") as file:
            return file.read(_START)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); mend: give one of {FORMATS}") from error


def _text_of(path: Path) -> str:
    """The text of a file; Latin-1 reads any byte, and nothing but remarks goes beyond ASCII."""
    try:
        if path.stat().st_size > _MAX_TEXT:
            raise DataError(f"{path}: text of more than {_MAX_TEXT} bytes; mend: give one spectrum a file")
        return path.read_text(encoding="latin-1")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); mend: give one of {FORMATS}") from error
