"""Messages of two processes of which one may have become hostile: JSON and bare numbers, never pickle."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from math import inf, prod
from socket import socket
from typing import Any

import numpy as np

from skyloop.documents.external import MOST_BYTES

__all__ = ["hear", "hear_array", "say", "say_array"]

_LENGTH_BYTES = 4
_MOST_TEXT = 2**20
_NUMBERS = re.compile(r"[<>|][biufc]\d\d?")


def say(pipe: socket, message: Any) -> None:
    """Send what JSON can hold; numbers and arrays of numpy go as those of Python.

    Raises:
        TypeError: it holds something else.
        TimeoutError: the other end does not read within the time limit of the socket.
    """
    text = json.dumps(message, default=_plain).encode()
    pipe.sendall(len(text).to_bytes(_LENGTH_BYTES, "big") + text)


def hear(pipe: socket, deadline: float = inf) -> Any:
    """Receive a message, until a time of `time.monotonic` [s].

    Raises:
        ValueError: it is no message, or longer than 1 MiB.
        TimeoutError: it did not come in time.
        EOFError: the other end is closed.
    """
    length = int.from_bytes(_received(pipe, _LENGTH_BYTES, deadline), "big")
    if length > _MOST_TEXT:
        raise ValueError(f"a message of {length} bytes, more than {_MOST_TEXT}")
    return json.loads(_received(pipe, length, deadline))


def say_array(pipe: socket, array: np.ndarray[Any, Any], *, single: bool) -> None:
    """Send an array of numbers: type and shape, then the bytes as they lie in memory.

    Args:
        pipe: a socket that waits as long as it takes.
        array: numbers of any type.
        single: whether it stands for its one number.
    """
    say(pipe, {"kind": "array", "dtype": array.dtype.str, "shape": array.shape, "single": single})
    pipe.sendall(_bytes_of(np.ascontiguousarray(array)))


def hear_array(pipe: socket, layout: Mapping[str, Any], deadline: float) -> Any:
    """The array, or the number, that a message of `say_array` announces.

    It is read straight into place: to unpack a large message would hold the GIL for its time.

    Raises:
        ValueError, KeyError, TypeError: it announces no array of numbers, or more than 1 GiB.
        TimeoutError, EOFError: as in `hear`.
    """
    named, shape = layout["dtype"], layout["shape"]
    if not _NUMBERS.fullmatch(named) or not all(type(axis) is int and axis >= 0 for axis in shape):
        raise ValueError(f"no array of numbers: {str(named)[:100]}, {str(shape)[:100]}")
    dtype = np.dtype(named)
    if prod(shape) * dtype.itemsize > MOST_BYTES:
        raise ValueError(f"an array of shape {str(shape)[:100]}, more than {MOST_BYTES} bytes")
    array = np.empty(shape, dtype)
    _fill(pipe, _bytes_of(array), deadline)
    return array.item() if layout["single"] else array


def _bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    return array.reshape(-1).view("u1").data


def _received(pipe: socket, size: int, deadline: float) -> bytearray:
    received = bytearray(size)
    _fill(pipe, memoryview(received), deadline)
    return received


def _fill(pipe: socket, left: memoryview, deadline: float) -> None:
    while left:
        seconds = deadline - time.monotonic()
        if seconds <= 0:  # also for one that sends a byte now and then
            raise TimeoutError
        pipe.settimeout(None if seconds == inf else seconds)
        size = pipe.recv_into(left)
        if not size:
            raise EOFError
        left = left[size:]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is nothing that a document can hold")
