"""The counts in a file of XRF-Maps: where they are, how their axes lie, and which were never written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyloop.storage._spectra import Counts
from skyloop.storage._xrf_file import MapsFile, fault, told, unwritten

_COUNTS = ("Spectra/mca_arr", "mca_arr")
_SUM = ("Spectra/Integrated_Spectra/Spectra", "int_spec")
_ENERGY = ("Spectra/Energy", "energy")
_MOST_PIXELS = 2**26
_BLOCK = 2**26  # bytes that one read brings, where one row is not more,
_BLOCK_OF_CHUNKS = 2**30  # or where rows that are packed together would have to be unpacked again and again


@dataclass(frozen=True, slots=True, eq=False)
class StoredCounts:
    """The dataset with the counts, in the order of its axes."""

    dataset: Any
    """Open, of h5py."""
    axes: str
    """`cyx`, `yxc`, or `c` where there is only a sum."""
    lost: NDArray[np.bool_]
    """[y, x]: pixels of which a part was never written; of size 0 when there are none."""

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """See `XrfMaps.dtype`."""
        return np.result_type(self.dataset.dtype, np.float32)

    @property
    def shape(self) -> tuple[int, int, int]:
        """[y, x, channel]."""
        n = dict(zip(self.axes, self.dataset.shape, strict=True))
        return n.get("y", 1), n.get("x", 1), n["c"]

    def rows_at_once(self) -> int:
        """As many rows as fit into a block, whole chunks of them where possible."""
        n_y, n_x, n_c = self.shape
        row = self.dtype.itemsize * n_x * n_c
        most = max(1, _BLOCK // row)
        together = dict(zip(self.axes, self.dataset.chunks or (), strict=False)).get("y", 1)
        if most < together <= _BLOCK_OF_CHUNKS // row:
            return together
        return min(n_y, most - most % together or most)

    def rows(self, start: int, stop: int) -> Counts:
        """[row, x, channel]."""
        if self.axes == "cyx":
            stored = np.moveaxis(self.dataset[:, start:stop], 0, -1)
        elif self.axes == "yxc":
            stored = self.dataset[start:stop]
        else:
            stored = self.dataset[()][None, None]
        values = np.ascontiguousarray(stored, dtype=self.dtype)
        if self.lost.size:
            values[self.lost[start:stop]] = np.nan
        return values


def stored_counts(file: MapsFile, notes: list[str]) -> StoredCounts:
    found = file.first(*_COUNTS)
    if found is None:
        return _only_sum(file, notes)
    file.check(found, (None, None, None), at_once=0)
    axes = _axes(file, found.shape, notes)
    n = dict(zip(axes, found.shape, strict=True))
    if n["y"] * n["x"] > _MOST_PIXELS:
        raise fault(
            str(file.path), f"{found.name} has {n['y']} x {n['x']} pixels", "check that its shape is true"
        )
    file.check(found, (None, None, None), at_once=n["x"] * n["c"])
    with told(file.path, f"{found.name} "):
        missing = unwritten(found).any(axis=axes.index("c"))
    if not missing.any():
        return StoredCounts(found, axes, np.empty(0, dtype=bool))
    sizes = dict(zip(axes, found.chunks, strict=True))
    lost = missing.repeat(sizes["y"], axis=0).repeat(sizes["x"], axis=1)[: n["y"], : n["x"]]
    notes.append(f"{int(lost.sum())} pixels of {lost.size} were never written: they are NaN")
    return StoredCounts(found, axes, lost)


def _only_sum(file: MapsFile, notes: list[str]) -> StoredCounts:
    found = file.first(*_SUM)
    if found is None:
        tried = ", ".join(f"/MAPS/{name}" for name in (*_COUNTS, *_SUM))
        raise fault(str(file.path), f"holds none of {tried}", "give a file of XRF-Maps that holds spectra")
    file.check(found, (None,))
    notes.append("only the summed spectrum is stored: a map of one pixel")
    return StoredCounts(found, "c", np.empty(0, dtype=bool))


def _axes(file: MapsFile, shape: tuple[int, ...], notes: list[str]) -> str:
    """Which axis of the counts is which, told by the length of what has channels only."""
    known = [spectrum for name in (*_SUM, *_ENERGY) if (spectrum := file.first(name)) is not None]
    n = known[0].size if known else shape[0]
    if n not in (shape[0], shape[2]):
        what = f"counts of shape {shape} have no axis of {n} channels, the length of {known[0].name}"
        raise fault(str(file.path), what, "store counts along [channel, y, x]")
    if not known or shape[0] == shape[2]:
        notes.append(f"counts of shape {shape} are taken as [channel, y, x]; nothing in the file tells")
    if n == shape[0]:
        return "cyx"
    notes.append("counts are stored along [y, x, channel], not [channel, y, x]")
    return "yxc"
