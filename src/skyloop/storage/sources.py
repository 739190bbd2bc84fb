"""Where runs are read from: one word opens a file, a folder, a server or a catalog.

with open_source("runs/") as source:
    for run in source:
        replay(run.documents(), [analyzer])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError, SkyloopError
from skyloop.storage._run_files import FILE_KINDS, runs_of_files

__all__ = ["Run", "Source", "open_source", "search_of"]


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run; its documents are read when they are asked for."""

    uid: str
    """Uid of the start document."""
    start: dict[str, Any]
    """The start document."""
    read: Callable[[], Iterator[NamedDocument]]
    """Reads all documents from the first on, each time it is called."""

    @property
    def is_analysis(self) -> bool:
        """Whether this is an analysis of another run."""
        return self.start.get("purpose") == "analysis"

    def documents(self) -> Iterator[NamedDocument]:
        """All documents, start to stop.

        Raises:
            DataError: the store is damaged or does not answer.
        """
        return self.read()


@dataclass(frozen=True)
class Source:
    """The runs that a word names; iterate as often as you like, and close it."""

    name: str
    """The word it was opened with."""
    all_runs: Callable[[], Iterator[Run]]
    """Every run there, analyses too, in the order of the store."""
    run: str = ""
    """First characters of the one uid that is wanted; empty for all."""
    search: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the start document must say."""
    release: Callable[[], None] = lambda: None
    """Frees what the store holds open."""

    def __iter__(self) -> Iterator[Run]:
        """The runs that fit; raw ones unless a uid or a purpose was asked for.

        Raises:
            DataError: no run or more than one begins with the given uid.
        """
        if self.run:
            return iter([self._one()])
        raw_only = "purpose" not in self.search
        return (run for run in self._fitting() if not (raw_only and run.is_analysis))

    def analyses_of(self, raw_uid: str) -> Iterator[Run]:
        """The analysis runs of one raw run."""
        runs = self.all_runs()
        return (r for r in runs if r.is_analysis and r.start.get("original_run_uid") == raw_uid)

    def __enter__(self) -> Self:
        """The source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free what the store holds open; runs cannot be read afterwards."""
        self.release()

    def _fitting(self) -> Iterator[Run]:
        wanted = self.search.items()
        return (r for r in self.all_runs() if all(r.start.get(k) == v for k, v in wanted))

    def _one(self) -> Run:
        found = list(islice((r for r in self._fitting() if r.uid.startswith(self.run)), 4))
        if len(found) == 1:
            return found[0]
        if found:
            uids = ", ".join(run.uid[:13] for run in found)
            raise DataError(
                f"several runs in {self.name} begin with '{self.run}': {uids}; mend: give more of the uid"
            )
        raise DataError(
            f"no run in {self.name} begins with '{self.run}'; mend: check the uid, or list the runs there"
        )


def search_of(words: Iterable[str]) -> dict[str, Any]:
    """Search terms from words such as `scan_id=12`, values as YAML reads them.

    >>> search_of(["plan_name=count", "scan_id=12"])
    {'plan_name': 'count', 'scan_id': 12}

    Raises:
        DataError: a word is not of this form.
    """
    import yaml

    terms: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise DataError(f"'{word}' is not a search term; mend: write key=value")
        try:
            terms[key] = yaml.safe_load(value)
        # pyyaml raises the others for 2026-13-45, `!!bool x` and `!!timestamp x`
        except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
            raise DataError(
                f"'{word}' is not a search term; mend: write key=value, a value with signs in quotes: "
                f"""{key}='"..."'"""
            ) from error
    return terms


def open_source(text: str, *, run: str | None = None, search: Mapping[str, Any] | None = None) -> Source:
    """Open the runs that a word names.

    Args:
        text: a `.jsonl` or `.msgpack` file; a folder of them; the folder of an embedded Tiled catalog; the
            URI of a Tiled catalog or of one run in it; or the name of a Tiled profile or databroker catalog.
        run: first characters of the uid of the one run that is wanted, raw or analysis.
        search: keys and values that start documents must have.

    Raises:
        DataError: nothing of that name can be opened; says what was tried.
        MissingExtraError: it is in Tiled, and Tiled is not installed.
    """
    all_runs, release = _open(text)
    return Source(text, all_runs, run or "", dict(search or {}), release)


def _nothing_to_release() -> None:
    pass


def _open(text: str) -> tuple[Callable[[], Iterator[Run]], Callable[[], None]]:
    path = Path(text).expanduser()
    if text.startswith(("http://", "https://")):
        return _catalog(text)
    if (path / "catalog.db").is_file():
        return _embedded(path)
    if path.exists():
        return _files(path), _nothing_to_release
    if path.suffix or len(path.parts) > 1:
        raise DataError(f"there is no file or folder {path}; mend: check the path")
    return _catalog(text)


def _files(path: Path) -> Callable[[], Iterator[Run]]:
    paths = [path]
    if path.is_dir():
        paths = sorted(file for kind in FILE_KINDS for file in path.glob(f"*{kind}"))
        if not paths and (unfinished := sorted(path.glob("*.part"))):
            raise DataError(
                f"{path} holds {len(unfinished)} unfinished and no finished runs; "
                f"mend: give the file, {unfinished[0]}, to read what there is of it"
            )
        if not paths:
            raise DataError(
                f"{path} holds no run: neither {' nor '.join(FILE_KINDS)} files nor the catalog.db of an "
                "embedded Tiled; mend: give the folder or the file that holds the runs"
            )
    return lambda: (Run(*stored) for stored in runs_of_files(paths))


def _embedded(folder: Path) -> tuple[Callable[[], Iterator[Run]], Callable[[], None]]:
    from skyloop.storage.tiled import embedded_tiled

    server = embedded_tiled(folder)
    return _runs_of(server.client), server.close


def _catalog(text: str) -> tuple[Callable[[], Iterator[Run]], Callable[[], None]]:
    from skyloop.storage.tiled import connect

    try:
        client = connect(text)
    except SkyloopError as error:
        raise DataError(
            f"'{text.split('?', 1)[0]}' is not a file or a folder here, and as a Tiled catalog: {error}"
        ) from error
    # databroker catalogs keep their runs one level down
    client = client["raw"] if not _has_runs(client) and "raw" in list(client) else client
    return _runs_of(client), client.context.http_client.close


def _has_runs(client: Any) -> bool:
    from skyloop.storage._tiled_runs import is_run

    return is_run(client) or any(is_run(node) for node in client.values().head(1))


def _runs_of(client: Any) -> Callable[[], Iterator[Run]]:
    from skyloop.storage._tiled_runs import runs_in

    return lambda: (Run(*stored) for stored in runs_in(client))
