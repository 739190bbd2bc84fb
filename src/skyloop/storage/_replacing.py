"""A file that is seen under its name only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from skyloop.errors import StorageError
from skyloop.storage._parts import Part


@contextmanager
def replacing(final: Path, *, overwrite: bool) -> Generator[Path]:
    """A file to write that takes its name when all went well, and is gone when not.

    Raises:
        StorageError: there is such a file already, or the disk refuses.
    """
    taken = StorageError(f"{final} is there already; mend: choose another name, or ask to overwrite it")
    if final.exists() and not overwrite:
        raise taken
    try:
        part = Part(final)
        try:
            part.clear(lambda _: True)
            yield part.path
            if overwrite:
                _take_over(part, final)
            elif not part.take_name():
                raise taken
        finally:
            part.remove()
    except (OSError, RuntimeError) as error:  # RuntimeError: HDF5, when it cannot close a file
        raise StorageError(
            f"{final} cannot be written ({error}); mend: check that its folder is there and its disk not full"
        ) from error


def _take_over(part: Part, final: Path) -> None:
    with part.path.open("rb") as file:
        os.fsync(file.fileno())  # a disk far away may say only now that it is full
    part.path.replace(final)
