"""A result dataclass as event data: keys, values and back.

Everything comes from the `Quantity` annotations of the dataclass, so what is stored cannot drift from
what is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from skyloop.errors import DocumentError
from skyloop.quantities import Quantity, Sizes, quantities, shape_of

__all__ = ["data_keys", "decode", "encode"]

T = TypeVar("T")

_SCALARS = {bool: ("boolean", "|b1"), int: ("integer", "<i8"), float: ("number", "<f8")}


def data_keys(
    result_type: type,
    sizes: Sizes,
    *,
    prefix: str,
    units: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Event-model data keys of a result type: `<prefix>_<field>` with dtype, shape, dims and units.

    Args:
        result_type: dataclass with `Quantity` annotations.
        sizes: length of each named dimension.
        prefix: technique name.
        units: units of those fields that depend on the configuration.
    """
    override = units or {}
    return {
        f"{prefix}_{name}": _data_key(
            kind, Quantity(override.get(name, q.unit), q.dims), sizes, source=f"skyloop:{prefix}"
        )
        for name, (kind, q) in quantities(result_type).items()
    }


def _data_key(kind: type, quantity: Quantity, sizes: Sizes, *, source: str) -> dict[str, Any]:
    shape = list(shape_of(quantity, sizes))
    key: dict[str, Any] = {"source": source, "shape": shape, "units": quantity.unit}
    if shape:
        return key | {"dtype": "array", "dtype_numpy": "<f8", "dims": list(quantity.dims)}
    if issubclass(kind, str):
        return key | {"dtype": "string"}
    dtype, dtype_numpy = _SCALARS[kind]
    return key | {"dtype": dtype, "dtype_numpy": dtype_numpy}


def encode(result: Any, *, prefix: str) -> dict[str, Any]:
    """Values of a result as plain Python numbers, strings and nested lists.

    Lists, not arrays: every writer and every wire takes them, and no reader can change another's.
    """
    return {
        f"{prefix}_{name}": _plain(getattr(result, name), kind)
        for name, (kind, _) in quantities(type(result)).items()
    }


def _plain(value: Any, kind: type) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if issubclass(kind, str):
        return str(value)
    return kind(value)


def decode(result_type: type[T], data: Mapping[str, Any], *, prefix: str) -> T:
    """The result that `encode` wrote, from event data with other keys beside it.

    Raises:
        DocumentError: a field of the result is missing in the data.
    """
    values: dict[str, Any] = {}
    for name, (kind, quantity) in quantities(result_type).items():
        key = f"{prefix}_{name}"
        if key not in data:
            raise DocumentError(
                f"no '{key}' in the event: it was written by another version of {result_type.__name__}; "
                "mend: analyse the raw run again"
            )
        values[name] = _restored(data[key], kind, quantity)
    return result_type(**values)


def _restored(value: Any, kind: type, quantity: Quantity) -> Any:
    if quantity.dims:
        return np.asarray(value, dtype=np.float64)
    return kind(value)
