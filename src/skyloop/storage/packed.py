"""Documents as msgpack, with arrays, without pickle.

Files in the format of suitcase-msgpack are read: one packed `[name, doc]` after another, arrays in the layout
of `msgpack_numpy`. That package itself is not used, since its decoder runs what a hostile file tells it to.
Here an array is a dtype, a shape and bytes that must fit both; only plain dtypes are taken.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgpack
import numpy as np

from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError

__all__ = ["decode", "encode", "pack", "read_packed", "unpack", "unpacked"]

_PLAIN = "biufcSU"  # bool, integers, float, complex, bytes, text: no objects, no structures
_LARGEST = 1 << 30


def encode(value: Any) -> Any:
    """What msgpack cannot pack by itself: scalars of numpy as Python's, arrays as `[dtype, shape, bytes]`.

    Raises:
        TypeError: an array of objects or structures, or something that has no place in a document.
    """
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in _PLAIN:
        return {"__nd__": [value.dtype.str, list(value.shape), value.tobytes()]}
    raise TypeError(f"{type(value).__name__} has no place in a document")


def decode(value: Mapping[Any, Any]) -> Any:
    """A map as it is, or the array or number that it stands for; arrays are read-only.

    Both our layout and that of msgpack_numpy are understood.

    Raises:
        ValueError: a map that claims to be an array and is none, or is of a refused kind.
    """
    if "__nd__" in value:
        return _ours(value["__nd__"])
    if b"nd" in value:
        return _foreign(value)
    if b"complex" in value:
        return complex(str(value.get(b"data")))
    return value


def _ours(parts: Any) -> np.ndarray[Any, Any]:
    match parts:
        case [dtype, shape, data]:
            return _array(dtype, shape, data)
        case _:
            raise ValueError("an array is [dtype, shape, bytes]")


def _foreign(value: Mapping[Any, Any]) -> Any:
    if value.get(b"kind", b"") != b"":
        raise ValueError(f"an array of kind {value[b'kind']!r} is refused: it may hold code")
    if value[b"nd"] is True:
        return _array(value.get(b"type"), value.get(b"shape"), value.get(b"data"))
    return _array(value.get(b"type"), [], value.get(b"data"))[()]


def _array(dtype: Any, shape: Any, data: Any) -> np.ndarray[Any, Any]:
    """An array over bytes of someone else, each part checked before numpy sees it."""
    if not isinstance(dtype, str) or not isinstance(data, bytes):
        raise ValueError(f"an array needs a dtype and bytes, not {dtype!r} and {type(data).__name__}")
    kind = _dtype(dtype)
    if not isinstance(shape, list) or not all(
        isinstance(n, int) and n >= 0 for n in cast("list[Any]", shape)
    ):
        raise ValueError(f"{shape!r} is not a shape")
    sizes = cast("list[int]", shape)
    if math.prod(sizes) * kind.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes are not an array of {dtype} and shape {sizes}")
    if kind.kind == "U" and max(np.frombuffer(data, kind.byteorder + "u4"), default=0) > sys.maxunicode:
        raise ValueError(f"an array of {dtype} holds what is not text")
    return np.frombuffer(data, kind).reshape(sizes) if data else np.empty(sizes, kind)


def _dtype(text: str) -> np.dtype[Any]:
    try:
        kind = np.dtype(text)
    except (TypeError, SyntaxError) as error:
        raise ValueError(f"{text!r} is not a dtype") from error
    if kind.kind not in _PLAIN or not kind.itemsize:
        raise ValueError(f"an array of dtype {text!r} is refused: only numbers and text are taken")
    return kind


def pack(value: Any) -> bytes:
    """A document, or anything made of plain values and arrays, as bytes."""
    return cast("bytes", msgpack.packb(value, default=encode))


def unpack(data: bytes) -> Any:
    """What `pack` packed.

    >>> unpack(pack({"x": np.arange(3), "y": np.float64(1.5)}))
    {'x': array([0, 1, 2]), 'y': 1.5}

    Raises:
        ValueError: the bytes are damaged or hold what is refused.
    """
    return msgpack.unpackb(data, object_hook=decode)


def unpacked(file: BinaryIO) -> Iterator[Any]:
    """Packed values of an open file, one after another.

    Raises:
        ValueError: the file is damaged or holds what is refused.
    """
    yield from msgpack.Unpacker(file, object_hook=decode, max_buffer_size=_LARGEST)


def read_packed(path: Path) -> Iterator[NamedDocument]:
    """Documents of a msgpack file, read as they are asked for.

    A file that ends in the middle of a document ends with the document before it, as a run does whose
    process died.

    Raises:
        DataError: the file cannot be read, is damaged, or holds what is refused.
    """
    count = 0
    try:
        with path.open("rb") as file:
            for item in unpacked(file):
                count += 1
                yield _document(item)
    except (OSError, ValueError, OverflowError, msgpack.UnpackException) as error:
        raise DataError(
            f"cannot read {path} after {count} documents: {error or type(error).__name__}; "
            "mend: read the run from the store that wrote this file"
        ) from error


def _document(item: Any) -> NamedDocument:
    match item:
        case [str(name), dict(doc)]:
            return name, cast("dict[str, Any]", doc)
        case _:
            raise ValueError("a document is [name, {...}]")
