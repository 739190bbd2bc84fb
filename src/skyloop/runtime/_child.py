"""The child of `WorkerRunner`: reads calls from its pipe, answers each, ends when the pipe closes."""

from __future__ import annotations

import os
import pickle
import sys
import time
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from skyloop.runtime._child_process import leave_signals_to_the_parent
from skyloop.runtime.guarded import Broken
from skyloop.runtime.runners import LocalRunner

_LOOK_SECONDS = 1.0


def _serve(pipe: Connection) -> None:
    path, engine = pipe.recv()
    sys.path[:] = path
    runner = LocalRunner(pickle.loads(engine))  # noqa: S301 - from our parent, over a private socket pair
    while True:
        verb, run_uid, folded, batches = pipe.recv()
        try:
            answer = _answer(runner, verb, run_uid, [()] * folded + batches)
        except KeyboardInterrupt as error:  # no person sends it here: the engine itself raised it
            answer = Broken(f"KeyboardInterrupt: {error}", error)
        pipe.send((_portable(answer), runner.folded(run_uid)))


def _answer(runner: LocalRunner, verb: str, run_uid: str, batches: list[Any]) -> Any:
    # the runner skips what it has folded, so the empty batches that stand for it are never looked at
    match verb:
        case "step":
            return runner.step(run_uid, batches)
        case "finish":
            return runner.finish(run_uid, batches)
        case "forget":
            return runner.forget(run_uid)
        case "ready":
            return "ready"
        case _:
            unknown = ValueError(f"no call is named {verb!r}")
            return Broken(str(unknown), unknown)


def _portable(answer: Any) -> Any:
    # an exception may hold anything; its words travel, the object stays
    return Broken(answer.reason, RuntimeError(answer.reason)) if isinstance(answer, Broken) else answer


def _end_with(parent: int) -> None:
    # a parent that was killed closes the pipe, but an engine that hangs does not look there
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _main() -> None:
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    leave_signals_to_the_parent()
    try:
        _serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):  # the parent is gone, perhaps before it read an answer
        return


if __name__ == "__main__":
    _main()
