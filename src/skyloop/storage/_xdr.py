"""Numbers and strings of a big-endian file (XDR), read in order and never beyond its end."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyloop.errors import DataError

_INT = struct.Struct(">i")
_FLOAT = struct.Struct(">f")


class Cursor:
    """A place in the bytes of a file; whatever reads moves it on.

    Every size is held against what is left of the file before anything is made of it.
    """

    __slots__ = ("at", "content", "source")

    def __init__(self, content: bytes, source: str, at: int = 0) -> None:
        self.content, self.source, self.at = content, source, at

    def fault(self, what: str, *, at: int | None = None) -> DataError:
        """What is wrong, at the byte where it stands."""
        where = self.at if at is None else at
        return DataError(
            f"{self.source}, byte {where} of {len(self.content)}: {what}; mend: copy the file again, whole"
        )

    def skip(self, size: int, what: str) -> int:
        """Pass over some bytes; returns where they begin."""
        start = self.at
        if not 0 <= size <= len(self.content) - start:
            left = len(self.content) - start
            raise self.fault(f"{what} would take {size} bytes where {left} are left", at=start)
        self.at = start + size
        return start

    def integer(self, what: str) -> int:
        """One integer of 4 bytes."""
        return int(_INT.unpack_from(self.content, self.skip(4, what))[0])

    def count(self, what: str, *, size: int = 0) -> int:
        """An integer that says how many things follow, each of at least `size` bytes."""
        start, number = self.at, self.integer(what)
        if number < 0 or number * size > len(self.content) - self.at:
            raise self.fault(f"{what} is {number}, more than the file can hold", at=start)
        return number

    def real(self, what: str) -> float:
        """One number of 4 bytes."""
        return float(_FLOAT.unpack_from(self.content, self.skip(4, what))[0])

    def array(self, code: str, number: int, what: str) -> NDArray[Any]:
        """Numbers of one kind, as they stand in the file: nothing is copied."""
        kind = np.dtype(code)
        start = self.skip(number * kind.itemsize, what)
        return np.frombuffer(self.content, kind, number, start)

    def string(self, what: str) -> str:
        """A string that its length precedes twice; the first may be too long, and 0 stands alone."""
        if self.count(f"length of {what}") == 0:
            return ""
        length = self.count(f"length of {what}", size=1)
        start = self.skip(-(-length // 4) * 4, what)
        raw = self.content[start : start + length]
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:  # units such as µm in the coding of older control systems
            return raw.decode("latin-1")
