"""Data keys and values of fluorescence spectra: the same for a point, for a row, and in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyloop.quantities import Quantity, quantities
from skyloop.sim.fluorescence_counting import Spectra
from skyloop.sim.fluorescence_spectra import FluorescenceProbe

__all__ = [
    "FIELDS",
    "array_key",
    "arrays",
    "dtype_of",
    "point_keys",
    "point_values",
    "row_keys",
    "shape_of_key",
    "unit_of",
]

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "fluo_counts": "counts",
        "fluo_live_time": "live_time",
        "fluo_real_time": "real_time",
        "fluo_input_counts": "input_counts",
        "fluo_output_counts": "output_counts",
        "i0": "i0",
    }
)
"""Field of `Spectra` by data key."""
_DTYPES = {"counts": "<u4", "input_counts": "<i8", "output_counts": "<i8"}


def dtype_of(key: str) -> str:
    """Type of the numbers of a key, as numpy writes it.

    >>> dtype_of("fluo_counts"), dtype_of("i0")
    ('<u4', '<f8')
    """
    return _DTYPES.get(FIELDS[key], "<f8")


def shape_of_key(key: str, probe: FluorescenceProbe) -> tuple[int, ...]:
    """Shape of a key at one place; the axis of detectors is there where there are several.

    >>> shape_of_key("fluo_counts", FluorescenceProbe())
    (2048,)
    """
    sizes = {"detector": len(probe.sensors), "channel": probe.channels}
    return tuple(sizes[dim] for dim in _dims(key, probe))


def point_keys(probe: FluorescenceProbe, source: str) -> dict[str, Any]:
    """Data keys of one exposure."""
    return {key: _data_key(key, probe, source, ()) for key in FIELDS}


def row_keys(probe: FluorescenceProbe, source: str, pixels: int) -> dict[str, Any]:
    """Data keys of a row of exposures, each with the axis of pixels in front, and of their places "x"."""
    keys = {key: _data_key(key, probe, source, (pixels,)) for key in FIELDS}
    return {**keys, "x": array_key(f"{source}.x", "mm", "<f8", {"pixel": pixels})}


def array_key(source: str, units: str, dtype: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Data key of an array with named axes; of a single number where there are none."""
    kind = "array" if sizes else "integer" if "i" in dtype or "u" in dtype else "number"
    key = {"source": source, "dtype": kind, "dtype_numpy": dtype, "units": units}
    return {**key, "shape": list(sizes.values()), "dims": list(sizes)}


def point_values(spectra: Spectra, probe: FluorescenceProbe) -> dict[str, Any]:
    """Values of one exposure by key: arrays, and plain numbers where a key has no axis."""
    values = arrays([spectra], probe)
    return {key: each[0] if each[0].ndim else each[0].item() for key, each in values.items()}


def arrays(row: Sequence[Spectra], probe: FluorescenceProbe) -> dict[str, NDArray[Any]]:
    """Values of a row of exposures by key, each [pixel, ...]."""
    return {
        key: np.stack([getattr(each, name) for each in row])
        .reshape(len(row), *shape_of_key(key, probe))
        .astype(dtype_of(key))
        for key, name in FIELDS.items()
    }


def unit_of(key: str) -> str:
    """Unit of a key.

    >>> unit_of("fluo_live_time")
    's'
    """
    return _quantity(key).unit


def _data_key(key: str, probe: FluorescenceProbe, source: str, pixels: tuple[int, ...]) -> dict[str, Any]:
    own = dict(zip(_dims(key, probe), shape_of_key(key, probe), strict=True))
    sizes = {"pixel": pixels[0], **own} if pixels else own
    return array_key(f"{source}.{key}", unit_of(key), dtype_of(key), sizes)


def _dims(key: str, probe: FluorescenceProbe) -> tuple[str, ...]:
    several = len(probe.sensors) > 1
    return tuple(dim for dim in _quantity(key).dims if several or dim != "detector")


def _quantity(key: str) -> Quantity:
    return quantities(Spectra)[FIELDS[key]][1]
