"""A file that is small until it is read."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py


def explosive(path: Path) -> None:
    """Frames of 96 bytes, each of which becomes 1 GiB when it is inflated."""
    pack = zlib.compressobj(9)
    head = pack.compress(bytes(2**20)) + pack.flush(zlib.Z_FULL_FLUSH)
    piece = pack.compress(bytes(2**20)) + pack.flush(zlib.Z_FULL_FLUSH)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (5, 3, 4), "f8", chunks=(1, 3, 4), compression="gzip")
        for index in range(5):
            data.id.write_direct_chunk((index, 0, 0), head + 1023 * piece)
