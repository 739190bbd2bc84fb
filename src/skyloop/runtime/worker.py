"""An engine in a process of its own: it may die, hang or exhaust memory, and the scan goes on."""

from __future__ import annotations

import pickle
import sys
from multiprocessing.connection import Connection, Pipe
from typing import Any

from skyloop.engines import Engine
from skyloop.errors import ConfigError
from skyloop.runtime._child_process import START_SECONDS, ChildProcess
from skyloop.runtime.guarded import Broken
from skyloop.runtime.runners import Batches

__all__ = ["DeadlineError", "WorkerDiedError", "WorkerRunner"]

_TRIES = 3  # a child may be killed from outside, also while it starts; what kills three is at fault itself


class DeadlineError(TimeoutError):
    """The engine took longer than its deadline; its process was ended."""


class WorkerDiedError(RuntimeError):
    """The process of the engine ended by itself."""


class WorkerRunner:
    """Runs the engine in one supervised child process.

    The child is started once and warmed. When it dies or overruns its deadline it is started anew, and the
    next call folds the run again from its first batch, which gives the same numbers. Parent and child talk
    over a private socket pair; nothing listens on the network. The child ends with the runner that holds it.

    Args:
        engine: the engine; its class must be importable by name.
        deadline: longest time of one call [s].

    Raises:
        ConfigError: the class of the engine cannot be imported by another process.
    """

    def __init__(self, engine: Engine[Any, Any, Any], deadline: float = 60.0) -> None:
        if type(engine).__module__ == "__main__":
            raise ConfigError(
                f"{type(engine).__name__} is defined in the session itself, where another process cannot "
                "import it; mend: put it into a module, or use executor='thread'"
            )
        self._engine = pickle.dumps(engine)
        self._deadline = deadline
        self._folded: dict[str, int] = {}
        self._child: ChildProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False
        self.restarts = -1
        self._start()

    def step(self, run_uid: str, batches: Batches) -> Any:
        """Fold the batches that the child has not seen; return the last result."""
        return self._fold("step", run_uid, batches)

    def finish(self, run_uid: str, batches: Batches) -> Any:
        """Fold what is new, then ask the engine for its final word."""
        return self._fold("finish", run_uid, batches)

    def forget(self, run_uid: str) -> None:
        """Drop the state of a run."""
        if self._folded.pop(run_uid, None) is not None:
            self._call("forget", run_uid, ())
            self._folded.pop(run_uid, None)

    def close(self) -> None:
        """End the child, whatever it does; no other one is started."""
        self._closed = True
        self._end()

    def _fold(self, verb: str, run_uid: str, batches: Batches) -> Any:
        answer, tries = self._call(verb, run_uid, batches), 1
        while _has_died(answer) and tries < _TRIES and not self._closed:
            answer, tries = self._call(verb, run_uid, batches), tries + 1
        return answer

    def _call(self, verb: str, run_uid: str, batches: Batches) -> Any:
        if self._pipe is None and not self._closed:
            self._start()
        # one batch at a time, so that the deadline is that of one step also where a new child folds them all
        while (folded := self._folded.get(run_uid, 0)) < len(batches) - 1:
            value = self._told("step", run_uid, folded, batches[folded : folded + 1])
            if isinstance(value, Broken):
                return value
        return self._told(verb, run_uid, folded, batches[folded:])

    def _told(self, verb: str, run_uid: str, folded: int, batches: Batches) -> Any:
        answer = self._exchange((verb, run_uid, folded, list(batches)))
        if isinstance(answer, Broken):
            self._end()
            return answer
        value, self._folded[run_uid] = answer
        return value

    def _exchange(self, message: tuple[Any, ...], seconds: float | None = None) -> Any:
        limit = self._deadline if seconds is None else seconds
        pipe = self._pipe
        if pipe is None:
            died = WorkerDiedError(
                f"the analysis process {'was closed' if self._closed else 'does not start'}"
            )
            return Broken(str(died), died)
        try:
            pipe.send(message)
            if not pipe.poll(limit):
                error = DeadlineError(f"no answer within {limit:g} s")
                return Broken(f"the analysis took longer than {limit:g} s", error)
            return pipe.recv()
        except (EOFError, OSError) as error:
            died = WorkerDiedError(f"the analysis process ended ({type(error).__name__})")
            return Broken(str(died), died)

    def _start(self) -> None:
        try:
            self._launch()
        except OSError:  # no process to be had, or one that died at once: the next call says so
            self._end()

    def _launch(self) -> None:
        ours, theirs = Pipe()
        with theirs:
            self._child = ChildProcess("skyloop.runtime._child", theirs.fileno())
        self._pipe = ours
        if self._closed:  # by another thread, meanwhile
            self._end()
            return
        self._folded.clear()
        self.restarts += 1
        ours.send((sys.path, self._engine))
        if isinstance(self._exchange(("ready", "", 0, []), START_SECONDS), Broken):
            self._end()

    def _end(self) -> None:
        # taken first: `close` may come from another thread
        child, self._child, self._pipe = self._child, None, None
        if child is not None:
            child.end()
        self._folded.clear()

    @property
    def pid(self) -> int:
        """Process id of the child, 0 when none runs."""
        return self._child.pid if self._child else 0


def _has_died(answer: Any) -> bool:
    return isinstance(answer, Broken) and isinstance(answer.error, WorkerDiedError)
