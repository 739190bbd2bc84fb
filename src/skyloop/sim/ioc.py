"""The simulated reflectometer behind EPICS: a soft IOC in a process of its own, on the loopback interface."""

from __future__ import annotations

import os
import select
import socket
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO, Literal, cast

from skyloop.errors import MissingExtraError

__all__ = ["Ioc", "running_ioc"]

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ioc:
    """A running IOC, and how a client finds it."""

    prefix: str
    """Of its process variables."""
    environment: dict[str, str]
    """To be set in the client before it imports ophyd or pyepics."""
    pid: int
    """Its process."""


@contextmanager
def running_ioc(
    sample: Path,
    *,
    seed: int = 0,
    probe: Literal["neutron", "xray"] = "neutron",
    speed: float = 1.0,
    prefix: str = "SKY:",
    timeout: float = 60.0,
) -> Generator[Ioc, None, None]:
    """Start an IOC, wait until it answers, and end it with the block.

    Args:
        sample: a YAML file in which every number is known.
        seed: of all noise.
        probe: the instrument.
        speed: how much faster than real time it moves and counts; finite.
        prefix: of the process variables.
        timeout: how long to wait for it [s].

    Raises:
        MissingExtraError: caproto is not installed.
        RuntimeError: it did not start; the message ends with what it said.
    """
    if find_spec("caproto") is None:
        raise MissingExtraError("caproto", "epics")
    environment = _environment(_free_port(), _free_port())
    options = ["--seed", str(seed), "--probe", probe, "--speed", str(speed), "--prefix", prefix]
    command = [sys.executable, "-P", "-m", "skyloop.sim._ioc", str(sample), *options]
    with (
        tempfile.TemporaryFile("w+") as said,
        Popen(command, env=os.environ | environment, stdout=PIPE, stderr=said) as process,
    ):
        try:
            _await_ready(process, said, timeout)
            yield Ioc(prefix, environment, process.pid)
        finally:
            _end(process)


def _environment(port: int, repeater: int) -> dict[str, str]:
    """Server and client talk over one port of the loopback interface and nowhere else."""
    return {
        "EPICS_CA_ADDR_LIST": _LOOPBACK,
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_SERVER_PORT": str(port),
        "EPICS_CA_REPEATER_PORT": str(repeater),
        "EPICS_CAS_SERVER_PORT": str(port),
        "EPICS_CAS_INTF_ADDR_LIST": _LOOPBACK,
        "EPICS_CAS_BEACON_ADDR_LIST": _LOOPBACK,
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_CAS_BEACON_PORT": str(repeater),
    }


def _free_port() -> int:
    with socket.socket() as stream:
        stream.bind((_LOOPBACK, 0))
        return stream.getsockname()[1]


def _await_ready(process: Popen[bytes], said: IO[str], timeout: float) -> None:
    output = cast(IO[bytes], process.stdout)
    answered, _, _ = select.select([output], [], [], timeout)
    if answered and output.readline() == b"ready\n":
        return
    said.seek(0)
    why = "ended" if answered else f"gave no sign within {timeout} s"
    raise RuntimeError(f"the IOC {why}; it said: {said.read()[-2000:]}")


def _end(process: Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except TimeoutExpired:
        process.kill()
