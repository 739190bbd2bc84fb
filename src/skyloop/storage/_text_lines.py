"""Lines and numbers of a text with spectra."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from skyloop.errors import DataError

Line = tuple[int, str]
"""Number of a line, and what it says."""


def lines_of(text: str) -> Iterator[Line]:
    """Every line that says something, without the blanks around it."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if stripped := line.strip():
            yield number, stripped


def scans_of(text: str) -> list[list[Line]]:
    """Lines of each scan; what stands before the first `#S` is the head of the file."""
    scans: list[list[Line]] = [[]]
    for number, line in lines_of(text):
        if line.startswith("#S "):
            scans.append([])
        scans[-1].append((number, line))
    return scans


def joined(source: str, parts_of: list[Line]) -> Iterator[Line]:
    """Lines of which those that end in a backslash are one with the next."""
    parts, start = list[str](), 0
    for number, line in parts_of:
        start = start if parts else number
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            yield start, " ".join(parts)
            parts = []
    if parts:
        raise DataError(f"{source}, line {start}: is not finished; mend: copy the file again, whole")


def numbers_in(where: str, text: str, *, most: int = 0) -> list[float]:
    """Numbers with blanks between them."""
    words = text.split()
    if most and len(words) > most:
        raise DataError(f"{where}: found {text!r:.60}; mend: give one number a line")
    return [_number(where, word) for word in words]


def _number(where: str, word: str) -> float:
    try:
        value = float(word) if len(word) < 64 and "_" not in word else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: found {word!r:.60}; mend: give a number")
    return value
