"""Runs in files: found by their start documents, read when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError
from skyloop.storage._routing import Routes
from skyloop.storage.jsonl import read_jsonl
from skyloop.storage.packed import read_packed

__all__ = ["FILE_KINDS", "StoredRun", "runs_of_files"]

StoredRun = tuple[str, dict[str, Any], Callable[[], Iterator[NamedDocument]]]
"""Uid, start document, and what reads all documents."""

_START = b'"start"'

_READERS: dict[str, Callable[[Path], Iterator[NamedDocument]]] = {
    ".jsonl": read_jsonl,
    ".msgpack": read_packed,
}
FILE_KINDS = tuple(_READERS)
_UNFINISHED = {".part": read_jsonl}


def runs_of_files(paths: Iterable[Path]) -> Iterator[StoredRun]:
    """All runs in these files, file by file.

    Raises:
        DataError: a file is of no known kind or damaged.
    """
    for path in paths:
        reader = (_READERS | _UNFINISHED).get(path.suffix)
        if reader is None:
            raise DataError(
                f"{path} is of no kind that holds runs; "
                f"mend: give a file that ends in {' or '.join(FILE_KINDS)}"
            )
        yield from _runs_of(path, reader)


def _runs_of(path: Path, reader: Callable[[Path], Iterator[NamedDocument]]) -> Iterator[StoredRun]:
    """Every start document of a file; the rest is read again later, run by run."""
    documents = read_jsonl(path, containing=_START) if reader is read_jsonl else reader(path)
    has_start = False
    for name, doc in documents:
        if name == "start":
            has_start = True
            yield str(doc.get("uid", "")), doc, partial(_of_run, path, reader, doc.get("uid", ""))
    if reader is read_jsonl and not has_start:
        _refuse_garbage(path)


def _refuse_garbage(path: Path) -> None:
    """Say that the line of the start document is damaged; a file of other JSON lines is passed over."""
    with path.open("rb") as file:
        first = file.readline()  # not longer than what was read already
    try:
        json.loads(first or b"{}")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: line 1 is not JSON, and no other line holds a start document; "
            "mend: read the run from another store, or move the file away"
        ) from error


def _of_run(
    path: Path, reader: Callable[[Path], Iterator[NamedDocument]], uid: str
) -> Iterator[NamedDocument]:
    routes = Routes()
    return ((name, doc) for name, doc in reader(path) if routes.of(name, doc) == uid)
