"""Runners hold the state of an engine between the batches of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from skyloop.engines import Engine
from skyloop.numerics.threads import one_thread
from skyloop.runtime.guarded import Broken, guarded

__all__ = ["Batches", "LocalRunner", "Runner", "key_of"]

Batches = Sequence[Sequence[Any]]
"""All batches of frames of a run so far, oldest first."""


def key_of(run_uid: str) -> int:
    """Seed of a run: the first eight bytes of the SHA-256 of its uid.

    >>> key_of("a") == key_of("a"), key_of("a") == key_of("b")
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(run_uid.encode()).digest()[:8], "big")


class Runner(Protocol):
    """Folds batches of frames; what it remembers of a run only saves time, and may be lost."""

    def step(self, run_uid: str, batches: Batches) -> Any:
        """Result after the last of the batches, or `Broken`."""
        ...

    def finish(self, run_uid: str, batches: Batches) -> Any:
        """The engine's final word on the batches, or `Broken`."""
        ...

    def forget(self, run_uid: str) -> None:
        """Drop the state of a run: it has ended, or its batches have changed."""
        ...

    def close(self) -> None:
        """Release what the runner holds."""
        ...


class LocalRunner:
    """Runs the engine in the calling thread."""

    def __init__(self, engine: Engine[Any, Any, Any]) -> None:
        self._engine = engine
        self._states: dict[str, tuple[int, Any]] = {}

    def step(self, run_uid: str, batches: Batches) -> Any:
        """Fold the batches that are new since the last call; return the last result."""
        with one_thread():
            return guarded(self._fold, run_uid, batches)

    def finish(self, run_uid: str, batches: Batches) -> Any:
        """Fold what is new, then ask the engine for its final word."""
        with one_thread():
            return guarded(self._finish, run_uid, batches)

    def forget(self, run_uid: str) -> None:
        """Drop the state of a run."""
        self._states.pop(run_uid, None)

    def folded(self, run_uid: str) -> int:
        """How many batches of a run the state holds."""
        return self._states[run_uid][0] if run_uid in self._states else 0

    def close(self) -> None:
        """Nothing is held outside this object."""

    def _fold(self, run_uid: str, batches: Batches) -> Any:
        folded, state = self._state(run_uid)
        result: Any = Broken("no batch to fold", ValueError("no batch to fold"))
        for batch in batches[folded:]:
            state, result = self._engine.step(state, batch)
            folded += 1
            self._states[run_uid] = (folded, state)
        return result

    def _finish(self, run_uid: str, batches: Batches) -> Any:
        if len(batches) > self._state(run_uid)[0]:
            self._fold(run_uid, batches)
        return self._engine.finish(self._state(run_uid)[1])

    def _state(self, run_uid: str) -> tuple[int, Any]:
        if run_uid not in self._states:
            self._states[run_uid] = (0, self._engine.start(key_of(run_uid)))
        return self._states[run_uid]
