"""Runs as JSON lines: one file per run, one document per line, in the dialect of Bluesky's own writer.

A line is `{"name": "event", "doc": {...}}`. NaN and infinities are written as the bare words `NaN` and
`Infinity`, as Bluesky's writer does: Python reads them back exactly, and a `null` in their place would turn a
number into nothing. A reader of strict JSON has to replace these words first.

Lines go into `<uid>.<process>-<number>.jsonl.part`, whole and flushed, so that a running analysis can be
watched and a process that dies loses nothing it had written. Each writer has a part of its own. At its stop
the run gets its name, `<uid>.jsonl`, which only finished runs bear. Where one is there already, the two are
compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Self, cast

import numpy as np

from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError, SkyloopError, StorageError
from skyloop.storage._parts import Part
from skyloop.storage._routing import Once, Routes
from skyloop.storage.digest import digest

__all__ = ["JsonlDocuments", "JsonlWriter", "json_line", "read_jsonl"]

_LONGEST_LINE = 256 * 1024 * 1024
_UNFIT = (SkyloopError, OSError, TypeError, ValueError, LookupError, RecursionError)


def json_line(name: str, doc: dict[str, Any]) -> bytes:
    r"""One line of a file, with its line feed.

    >>> json_line("event", {"data": {"x": np.array([1.0, np.nan])}})
    b'{"name": "event", "doc": {"data": {"x": [1.0, NaN]}}}\n'
    """
    return json.dumps({"name": name, "doc": doc}, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in a document")


class JsonlWriter:
    """A callback that writes each run into its own file of a folder; runs may come interleaved.

    Until its stop document comes, a run is in a file that ends in `.part`, one for each writer. Writing a run
    again is a success when its content is that of the file (see `digest`); a document that comes twice is
    written once. What was never finished is replaced by the whole run.

    Raises:
        StorageError: the folder cannot be written, or the run is there with other content: the part then
            stays. The rest of that run is passed over; other runs go on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._routes = Routes()
        self._open: dict[str, _Put] = {}
        self._one_at_a_time = Lock()  # it may be subscribed to several analyses
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the folder {folder}: {error}") from error

    def path(self, run: str) -> Path:
        """The file of a run, once the run has stopped."""
        return self._folder / f"{run}.jsonl"

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Write one document."""
        with self._one_at_a_time:
            self._take(name, doc)

    def close(self) -> None:
        """Close the files of runs that have not stopped."""
        with self._one_at_a_time, ExitStack() as closing:
            for run in list(self._open):
                closing.callback(self._drop, run)

    def _take(self, name: str, doc: dict[str, Any]) -> None:
        run = self._routes.of(name, doc) or ""
        if name != "start" and run not in self._open:
            return  # of a run that failed, or whose start went elsewhere
        goes_on = False
        try:
            self._add(run, name, doc)
            goes_on = name != "stop"
        except _UNFIT as error:
            raise StorageError(f"run {run} is not written to {self.path(run)}: {error}") from error
        finally:
            if not goes_on:  # a run that lacks a document must never get its name
                with suppress(OSError):  # closing tries once more to write what a full disk has just refused
                    self._drop(run)

    def _add(self, run: str, name: str, doc: dict[str, Any]) -> None:
        if run not in self._open:
            self._open[run] = _Put(self.path(_safe(run)))
        self._open[run].add(name, doc)

    def _drop(self, run: str) -> None:
        self._routes.forget(run)
        if put := self._open.pop(run, None):
            put.close()


def _safe(uid: str) -> str:
    if not uid or Path(uid).name != uid or uid.startswith("."):
        raise StorageError(f"uid {uid!r} cannot be the name of a file; mend: use a uuid")
    return uid


class _Put:
    """One run on its way into its file."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._part = Part(final)
        self._once = Once()

    def add(self, name: str, doc: dict[str, Any]) -> None:
        if self._once.is_new(name, doc):
            self._part.write(json_line(name, doc))
        if name == "stop":
            self._settle()

    def close(self) -> None:
        self._part.close()

    def _settle(self) -> None:
        """Give the run its name; absorb a repetition, replace the unfinished, refuse what differs."""
        kept = self._kept()
        self._part.clear(lambda left: _is_needless(left, kept))
        if kept != self._final:
            raise StorageError(
                f"the file holds this run with other content; what came now is in {kept.name}; mend: compare "
                "them, then move one away or write to another folder"
            )

    def _kept(self) -> Path:
        """The file in which what came now is kept."""
        while not self._part.take_name():
            stored, again = digest(read_jsonl(self._final)), digest(read_jsonl(self._part.path))
            if not stored.complete:
                self._final.unlink(missing_ok=True)
            elif stored.hexdigest() == again.hexdigest():
                self._part.remove()
                break
            else:
                return self._part.path
        return self._final


def _is_needless(left: Path, kept: Path) -> bool:
    """Whether a file is unfinished or says what is kept; a damaged one is for a person to look at."""
    try:
        found = digest(read_jsonl(left))
        return not found.complete or found.hexdigest() == digest(read_jsonl(kept)).hexdigest()
    except (DataError, LookupError):
        return False


def read_jsonl(path: Path, *, longest_line: int = _LONGEST_LINE, containing: bytes = b"") -> JsonlDocuments:
    """Documents of a file, read as they are asked for; both dialects of JSON lines are understood.

    Besides `{"name": ..., "doc": ...}` that is `["name", {...}]`, the dialect of suitcase. A last line that
    was torn off in the middle is passed over and told in `notes`.

    Args:
        path: the file.
        longest_line: bytes of a line that no document exceeds.
        containing: pass over lines without these bytes unread, to find start documents quickly.

    Raises:
        DataError: the file cannot be read, or a line is not a document; says file, line and the mend.
    """
    return JsonlDocuments(path, longest_line, containing)


class JsonlDocuments:
    """An iterator over the documents of one file."""

    notes: tuple[str, ...]
    """What was passed over; complete when the iteration has ended."""

    def __init__(self, path: Path, longest_line: int, containing: bytes) -> None:
        self.notes = ()
        self._path = path
        self._longest = longest_line
        self._containing = containing
        self._documents = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> NamedDocument:
        return next(self._documents)

    def _read(self) -> Iterator[NamedDocument]:
        try:
            with self._path.open("rb") as file:
                yield from self._lines(file)
        except OSError as error:
            raise DataError(f"cannot read {self._path}: {error}") from error

    def _lines(self, file: BinaryIO) -> Iterator[NamedDocument]:
        number = 0
        while line := file.readline(self._longest):
            number += 1
            if len(line) == self._longest and not line.endswith(b"\n"):
                raise DataError(
                    f"{self._path}, line {number} is longer than {self._longest} bytes; "
                    "mend: read it with a larger longest_line if the file is yours"
                )
            if line.isspace() or self._containing not in line:
                continue
            if document := self._document(line, number):
                yield document

    def _document(self, line: bytes, number: int) -> NamedDocument | None:
        try:
            return _parsed(line)
        except (ValueError, RecursionError) as error:
            if not line.endswith(b"\n"):
                self.notes += (f"{self._path}, line {number} is torn off and was passed over",)
                return None
            raise DataError(
                f"{self._path}, line {number} is not a document: {error}; "
                "mend: delete that line, or read the run from another store"
            ) from error


def _parsed(line: bytes) -> NamedDocument:
    match json.loads(line):
        case {"name": str(name), "doc": dict(doc)}:
            return name, cast("dict[str, Any]", doc)
        case [str(name), dict(doc)]:
            return name, cast("dict[str, Any]", doc)
        case _:
            raise ValueError('neither {"name": ..., "doc": ...} nor ["name", {...}]')
