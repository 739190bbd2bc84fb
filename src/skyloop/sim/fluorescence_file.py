"""HDF5 files of fluorescence spectra, which others may read while they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from skyloop.sim.fluorescence_keys import FIELDS, dtype_of, shape_of_key
from skyloop.sim.fluorescence_spectra import FluorescenceProbe

__all__ = ["SpectraFile"]

_CHUNK = 256  # pixels of a key that is one number each


class SpectraFile:
    """Datasets `/entry/<key>` [pixel, ...] that grow by whole rows; the first axis of all is equally long.

    Args:
        path: a file that is not there yet.
        probe: the shape of a pixel.
        places: further keys that are one number per pixel, in mm.

    Raises:
        FileExistsError: the file is there.
    """

    def __init__(self, path: Path, probe: FluorescenceProbe, places: tuple[str, ...] = ()) -> None:
        self.path = path
        self.shapes = {**{key: shape_of_key(key, probe) for key in FIELDS}, **dict.fromkeys(places, ())}
        self._file = h5py.File(path, "x", libver="latest")
        for key in self.shapes:
            self._create(key)
        self._file.swmr_mode = True

    @staticmethod
    def dataset(key: str) -> str:
        """Where a key is in the file.

        >>> SpectraFile.dataset("i0")
        '/entry/i0'
        """
        return f"/entry/{key}"

    @staticmethod
    def dtype(key: str) -> str:
        """Type of the numbers of a key, as numpy writes it."""
        return dtype_of(key) if key in FIELDS else "<f8"

    def chunk(self, key: str) -> tuple[int, ...]:
        """Shape of the chunks of a key."""
        shape = self.shapes[key]
        return (1, *shape) if shape else (_CHUNK,)

    def append(self, row: Mapping[str, NDArray[Any]]) -> None:
        """Write some pixels, [pixel, ...] by key; on return all of them can be read."""
        for key in self.shapes:
            dataset: Any = self._file[self.dataset(key)]
            length = len(dataset) + len(row[key])
            dataset.resize(length, axis=0)
            dataset[length - len(row[key]) :] = row[key]
            dataset.flush()

    def close(self) -> None:
        """Close the file; nothing happens if it is closed."""
        self._file.close()

    def _create(self, key: str) -> None:
        shape = self.shapes[key]
        self._file.create_dataset(
            self.dataset(key),
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=self.chunk(key),
            dtype=np.dtype(self.dtype(key)),
        )
