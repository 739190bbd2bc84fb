"""One run on its way into Tiled: written, or compared with what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import SEEK_END
from tempfile import TemporaryFile
from typing import Any, Protocol, cast

from skyloop.documents.run import NamedDocument
from skyloop.errors import StorageError
from skyloop.storage._routing import Once
from skyloop.storage._tiled_runs import stored_documents
from skyloop.storage.digest import RunDigest, digest
from skyloop.storage.packed import pack, unpacked

__all__ = ["Comparing", "Put", "Writing", "remove"]

_REWRITES = 5


class Put(Protocol):
    """Where the documents of one run go."""

    def add(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document; the same one may come again."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


def remove(client: Any, uid: str) -> None:
    """Delete a run and all that Tiled stores of it; files of detectors stay."""
    client[uid].delete(recursive=True, external_only=False)


class Writing:
    """Writes a run that the catalog does not have.

    Documents are kept in a temporary file until the stop: TiledWriter cannot go on after a failure, so when
    the server went away, the part that is there is deleted and all is written again.
    """

    def __init__(self, client: Any, uid: str, batch_size: int) -> None:
        self._client = client
        self._uid = uid
        self._batch_size = batch_size
        self._once = Once()
        self._spool = TemporaryFile()  # noqa: SIM115  # closed in `close`
        self._writer: Callable[[str, dict[str, Any]], Any] | None = None
        self._whole = True
        self._rewritten = 0

    def add(self, name: str, doc: dict[str, Any]) -> None:
        """Write a document, unless it came before; after a failure, all of them once more."""
        new = self._once.is_new(name, doc)
        if new:
            self._spool.seek(0, SEEK_END)
            self._spool.write(pack([name, doc]))
        if not self._whole:
            self._write_again()
        elif new:
            self._write(iter([(name, doc)]))

    def close(self) -> None:
        """Drop the temporary file."""
        self._spool.close()

    def _write_again(self) -> None:
        begun = self._uid in self._client  # raises while the server is away
        if self._rewritten == _REWRITES:
            raise StorageError(
                f"the server answers, but writing broke off {_REWRITES + 1} times; mend: see the server's log"
            )
        self._rewritten += 1
        if begun:
            remove(self._client, self._uid)
        self._write(self._spooled())

    def _write(self, documents: Iterator[NamedDocument]) -> None:
        self._whole = False
        for name, doc in documents:
            if name == "start":
                self._writer = _writer_of_run(self._client, doc, self._batch_size)
            if self._writer:
                self._writer(name, doc)
        self._whole = True

    def _spooled(self) -> Iterator[NamedDocument]:
        self._spool.flush()
        self._spool.seek(0)
        yield from ((name, doc) for name, doc in unpacked(self._spool))


def _writer_of_run(client: Any, start: dict[str, Any], batch_size: int) -> Callable[[str, Any], Any]:
    """What TiledWriter puts behind its router for one run, without the router.

    The router turns an error at the start document into a warning, and the rest of the run would follow into
    nothing. Only the arrangement of the parts is asked of TiledWriter here.
    """
    from bluesky_tiled_plugins import TiledWriter
    from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer

    made: list[Any] = []

    def normalizer(**options: Any) -> _Deaf:
        made.append(RunNormalizer(**options))
        return _Deaf(made[-1])

    # arrays of up to 16 elements would become text in a table, so all arrays go to where arrays go
    arrange: Any = TiledWriter(
        client, normalizer=cast("Any", normalizer), batch_size=batch_size, max_array_size=0
    )
    arrange("start", start)
    return made[0]


class _Deaf:
    """Stands before a normalizer and lets the router tell it nothing."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def subscribe(self, callback: Any) -> None:
        self._inner.subscribe(callback)

    def __call__(self, name: str, doc: Any) -> None:
        pass


class Comparing:
    """Takes a run that the catalog has; writes nothing and says at its stop whether it is the same."""

    def __init__(self, run: Any, uid: str) -> None:
        self._run = run
        self._uid = uid
        self._once = Once()
        self._digest = RunDigest()

    def add(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document; the stop compares.

        Raises:
            StorageError: the catalog holds this run with other content.
        """
        if self._once.is_new(name, doc):
            self._digest.add(name, doc)
        if name == "stop":
            self._compare()

    def close(self) -> None:
        """Nothing is held."""

    def _compare(self) -> None:
        stored = digest(stored_documents(self._run)).hexdigest()
        if stored != self._digest.hexdigest():
            raise StorageError(
                f"the catalog holds this run with other content (sha256 {stored[:12]}, now "
                f"{self._digest.hexdigest()[:12]}); mend: write to another catalog, or delete the stored run"
            )
