"""Tiled: a catalog of runs in a folder of one's own, and a sink that writes runs into any catalog."""

from __future__ import annotations

import atexit
import os
import secrets
import sqlite3
from collections.abc import Sequence
from functools import cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from skyloop.errors import MissingExtraError, SkyloopError, StorageError, UnavailableError
from skyloop.storage._routing import Routes, singles
from skyloop.storage._tiled_put import Comparing, Put, Writing, remove

__all__ = ["EmbeddedTiled", "TiledSink", "connect", "embedded_tiled"]

_BATCH_SIZE = 20
_AGAIN_LATER = (429, 502, 503, 504)
_UNFIT = (ValueError, TypeError, ArithmeticError, RuntimeError)  # what TiledWriter raises on a document


def embedded_tiled(folder: Path, *, readable: Sequence[Path] = ()) -> EmbeddedTiled:
    """Start a Tiled server in this process that keeps its runs in a folder; close it when done.

    One that is open when the program ends is closed then, after the sinks.

    It listens on 127.0.0.1 alone, on a free port, with a key of this process. A later start in the same
    folder finds the runs again.

    Args:
        folder: where catalog, tables and arrays are kept; made when absent.
        readable: folders with detector files that it may serve.

    Raises:
        MissingExtraError: Tiled is not installed.
        StorageError: the folder cannot be used, for example because another server has it open.
    """
    return EmbeddedTiled(folder, readable)


class EmbeddedTiled:
    """A running server; a context manager that stops it."""

    def __init__(self, folder: Path, readable: Sequence[Path] = ()) -> None:
        _need_tiled()
        from tiled.server import SimpleTiledServer

        _teach_export()
        self.folder = folder
        self._closed = False
        self._process = os.getpid()
        self._lock = _locked(folder)
        folders = [str(path) for path in readable]
        try:
            # a thread started from a daemon is one too; else that of the server would keep the program alive
            with ThreadPool(1) as daemon:
                given = {"api_key": _key(), "readable_storage": folders}
                self._server: Any = daemon.apply(SimpleTiledServer, (folder,), given)
        except (OSError, RuntimeError) as error:
            self._lock.close()
            raise StorageError(
                f"no Tiled server starts in {folder}: {error}; "
                "mend: see error.log there, or take another folder"
            ) from error
        atexit.register(self.close)
        self.uri: str = self._server.uri
        self.client: Any = connect(self.uri)

    def __enter__(self) -> EmbeddedTiled:
        """The server itself."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server; a second call does nothing, nor does one in a forked process."""
        if not self._closed and self._process == os.getpid():
            self._closed = True
            atexit.unregister(self.close)
            self.client.context.http_client.close()
            self._server.close()
            self._lock.close()


def _locked(folder: Path) -> sqlite3.Connection:
    """Keep other servers out of a folder until closed, or until this process is gone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(folder / "lock.db", timeout=0.0, isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN EXCLUSIVE")
    except (OSError, sqlite3.Error) as error:
        raise StorageError(
            f"the catalog in {folder} cannot be opened: {error}; mend: close the server that has it "
            "open, use that server's URI, or take another folder"
        ) from error
    return lock


@cache
def _key() -> str:
    # one for all servers of this process: Tiled keeps the key of the newest for all of them
    return secrets.token_hex(32)


def connect(text: str) -> Any:
    """A Tiled client from a URI (`http...`) or from the name of a profile.

    Raises:
        MissingExtraError: Tiled is not installed.
        UnavailableError: no server answers.
        StorageError: no such profile, or the server refuses the key.
    """
    _need_tiled()
    import httpx
    from tiled.client import from_profile, from_uri
    from tiled.profiles import ProfileNotFound

    try:
        return from_uri(text) if text.startswith(("http://", "https://")) else from_profile(text)
    except ProfileNotFound as error:
        raise StorageError(f"there is no Tiled profile {text!r}; mend: see 'tiled profile list'") from error
    except httpx.TransportError as error:
        raise UnavailableError(f"no Tiled server answers at {_public(text)}: {error}") from error
    except httpx.HTTPError as error:
        raise StorageError(f"the Tiled server at {_public(text)} refuses: {error}") from error


def _public(uri: str) -> str:
    return uri.split("?", 1)[0]  # what follows may be a key


class TiledSink:
    """A callback that writes each run into a catalog; runs may come interleaved, on one thread.

    Writing a run again is a success when its content is that of the stored run (see `digest`), and writes
    nothing; a document that comes twice is written once. NaN in a start document becomes null in Tiled.

    Args:
        catalog: a Tiled client, or a URI or profile to connect to.
        batch_size: events written at once. 1 shows each event at once and costs 30 to 300 ms per event,
            by the number of arrays; every run is complete after its stop.
        replace_unfinished: delete a stored run without stop document when the run comes again, which is
            right when its writer has died and wrong when it is still writing.

    Raises:
        MissingExtraError: Tiled is not installed.
        UnavailableError: the server does not answer; the same document can be offered again, nothing is lost.
        StorageError: the run is there with other content or unfinished, or the server refuses a document.
            The rest of that run is then passed over; other runs go on.
    """

    def __init__(
        self, catalog: Any, *, batch_size: int = _BATCH_SIZE, replace_unfinished: bool = False
    ) -> None:
        _need_tiled()
        self._client = connect(catalog) if isinstance(catalog, str) else catalog
        self._batch_size = batch_size
        self._replace_unfinished = replace_unfinished
        self._routes = Routes()
        self._open: dict[str, Put] = {}

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Write one document."""
        for single_name, single in singles(name, doc):
            self._single(single_name, single)

    def close(self) -> None:
        """Let go of runs that have not stopped."""
        for uid in list(self._open):
            self._drop(uid)

    def _single(self, name: str, doc: dict[str, Any]) -> None:
        uid = self._routes.of(name, doc) or ""
        if name != "start" and uid not in self._open:
            return  # of a run that failed, or whose start went elsewhere
        try:
            self._add(uid, name, doc)
        except UnavailableError:
            raise
        except StorageError as error:
            self._drop(uid)
            raise StorageError(f"run {uid} is not written to Tiled: {error}") from error
        if name == "stop":
            self._drop(uid)

    def _add(self, uid: str, name: str, doc: dict[str, Any]) -> None:
        import httpx
        from event_model import EventModelError
        from jsonschema import ValidationError

        try:
            if uid not in self._open:
                self._open[uid] = self._begin(uid)
            self._open[uid].add(name, doc)
        except httpx.TransportError as error:
            raise UnavailableError(f"the Tiled server does not answer: {error}") from error
        except httpx.HTTPStatusError as error:
            kind = UnavailableError if error.response.status_code in _AGAIN_LATER else StorageError
            raise kind(f"the Tiled server refuses a document '{name}': {error}") from error
        except SkyloopError:
            raise
        except (EventModelError, ValidationError, LookupError, *_UNFIT) as error:
            raise StorageError(f"a document '{name}' cannot be written: {error!r}") from error

    def _begin(self, uid: str) -> Put:
        if uid not in self._client:
            return Writing(self._client, uid, self._batch_size)
        run = self._client[uid]
        if run.metadata.get("stop"):
            return Comparing(run, uid)
        if not self._replace_unfinished:
            raise StorageError(
                "the catalog holds an unfinished run of this uid; mend: wait if it is still being written, "
                "else write again with replace_unfinished"
            )
        remove(self._client, uid)
        return Writing(self._client, uid, self._batch_size)

    def _drop(self, uid: str) -> None:
        if put := self._open.pop(uid, None):
            put.close()
        self._routes.forget(uid)


def _need_tiled() -> None:
    try:
        import bluesky_tiled_plugins  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import tiled.server  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingExtraError("tiled", "tiled") from error


def _teach_export() -> None:
    """Let the server answer `run.documents()`; it must know how before it is built."""
    from bluesky_tiled_plugins.exporters import json_seq_exporter
    from tiled.media_type_registration import default_serialization_registry

    default_serialization_registry.register("BlueskyRun", "application/json-seq", json_seq_exporter)
