"""The process of an engine ends without a word when its parent does, whatever that has left unread."""

from __future__ import annotations

import os
import pickle
import select
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest
import toy


@pytest.mark.parametrize("reads_nothing", [True, False])
def test_a_parent_that_is_gone_is_no_traceback(reads_nothing: bool) -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "skyloop.runtime._child", str(theirs.fileno())]
    child = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE)
    theirs.close()
    pipe = Connection(os.dup(ours.fileno()))
    ours.close()
    pipe.send((sys.path, pickle.dumps(toy.Engine(toy.Config()))))
    pipe.send(("ready", "", 0, []))
    assert select.select([pipe], [], [], 60.0)[0], "the child did not answer"
    if not reads_nothing:
        assert pipe.recv()[0] == "ready"
    pipe.close()
    _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, b"")
