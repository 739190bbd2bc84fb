"""Files on their way to their names: each writer has one of its own, and what dead writers left is found.

A part is locked while it is written, and the lock goes with its writer, even a killed one. What is not locked
was therefore left over. Where a disk knows no locks, nothing is taken for left over.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from skyloop.errors import StorageError

__all__ = ["Part"]


class Part:
    """A file `<stem>.<process>-<number><suffix>.part`, which is to become `<stem><suffix>`."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path, self._file = _new(final)

    def write(self, data: bytes) -> None:
        """Append, so that others can read it at once."""
        self._file.write(data)
        self._file.flush()

    def take_name(self) -> bool:
        """Become the final file, whole or not at all; false where there is one already.

        Raises:
            StorageError: somebody removed the part.
            OSError: it is not safe on the disk, which may be full.
        """
        if not _is(self._file, self.path):
            raise StorageError(
                f"{self.path.name} was removed while it was written; mend: write the run again"
            )
        os.fsync(self._file.fileno())  # a disk far away may say only now that it is full
        try:
            os.link(self.path, self._final)
        except FileExistsError:
            return False
        except OSError:  # no hard links there, as on exFAT
            if self._final.exists():
                return False
            self.path.rename(self._final)
        self.remove()
        return True

    def remove(self) -> None:
        """Let go of the file, and of its name of a part."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        self._file.close()

    def clear(self, needless: Callable[[Path], bool]) -> None:
        """Remove the parts of the same file whose writers are gone, where they are needless."""
        theirs = re.compile(rf"{re.escape(self._final.stem)}\.\d+-\d+{re.escape(self._final.suffix)}\.part")
        with suppress(OSError):  # a folder that cannot be listed is not tidied
            for name in filter(theirs.fullmatch, os.listdir(self._final.parent)):
                _clear(self._final.with_name(name), needless)


def _new(final: Path) -> tuple[Path, BinaryIO]:
    number = 0
    while True:
        number += 1
        path = final.with_name(f"{final.stem}.{os.getpid()}-{number}{final.suffix}.part")
        with suppress(FileExistsError):
            file = path.open("xb")
            _locked(file, wait=True)
            if _is(file, path):
                return path, file
            file.close()  # taken for left over in the instant before it was locked


def _clear(path: Path, needless: Callable[[Path], bool]) -> None:
    with suppress(OSError), path.open("rb+") as file:
        if _locked(file, wait=False) and _is(file, path) and needless(path):
            path.unlink()


def _locked(file: BinaryIO, *, wait: bool) -> bool:
    """Whether the lock of a file was got; not where another has it, nor where there are no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is(file: BinaryIO, path: Path) -> bool:
    """Whether an open file still has this name."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
