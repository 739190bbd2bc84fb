"""A file as on a mount that has died: whoever opens it waits, and whoever looks at its name does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Another process, since its own lease hinders nobody. SIGURG asks it for the lease, and nobody minds that.
_HOLD = """
import fcntl, os, signal, sys
handle = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Generator[None, None, None]:
    """Nobody can open the file until the block ends, or the system has waited for 45 s."""
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            pytest.skip("this system knows no leases")
        yield
        holder.kill()
