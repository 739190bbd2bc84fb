"""Writers that end before their runs do, disks that refuse, and what is found in the folder afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stored_runs import Document, analysis_run, essence

from skyloop.storage.jsonl import JsonlWriter, read_jsonl

RUN = analysis_run("raw")
OTHER = analysis_run("raw", seed=2)
UID = RUN[0][1]["uid"]


def put(writer: JsonlWriter, documents: Iterable[Document]) -> None:
    for name, doc in documents:
        writer(name, doc)


def killed(folder: Path, documents: Iterable[Document]) -> Path:
    """What a writer leaves that ends before its run does."""
    before = set(folder.iterdir())
    writer = JsonlWriter(folder)
    put(writer, documents)
    writer.close()
    (part,) = set(folder.iterdir()) - before
    return part


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.part"))


def holds(file: Path, documents: list[Document]) -> bool:
    return essence(read_jsonl(file)) == essence(documents)


def fails(number: int) -> Any:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call
