"""Units and shapes of a value, written once beside the field that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

__all__ = ["FloatArray", "Quantity", "Sizes", "blank", "quantities", "shape_of"]

T = TypeVar("T")

FloatArray = NDArray[np.float64]

Sizes = Mapping[str, int]
"""How long each named dimension is, for example `{"layer": 2, "q": 128}`."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What an annotated field is measured in and along which dimensions.

    >>> Annotated[float, Quantity("angstrom")].__metadata__[0].unit
    'angstrom'
    """

    unit: str = ""
    """Unit in words, such as `"1/angstrom"` or `"count"`; empty for a pure number."""

    dims: tuple[str, ...] = ()
    """Names of the dimensions: `()` for a scalar, `("q",)` for one value per q."""


@cache
def quantities(cls: type) -> dict[str, tuple[type, Quantity]]:
    """Python type and `Quantity` of each field of a dataclass, in order of definition.

    A field without a `Quantity` is a pure scalar.

    >>> @dataclass
    ... class Point:
    ...     q: Annotated[float, Quantity("1/angstrom")]
    >>> quantities(Point)
    {'q': (<class 'float'>, Quantity(unit='1/angstrom', dims=()))}
    """
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: _split(hints[f.name]) for f in fields(cls)}


def _split(hint: Any) -> tuple[type, Quantity]:
    quantity = Quantity()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        quantity = next((e for e in extras if isinstance(e, Quantity)), quantity)
    return get_origin(hint) or hint, quantity


def shape_of(quantity: Quantity, sizes: Sizes) -> tuple[int, ...]:
    """Shape of a field, its dimensions looked up in `sizes`.

    >>> shape_of(Quantity("angstrom", ("layer",)), {"layer": 2})
    (2,)
    """
    return tuple(sizes[dim] for dim in quantity.dims)


def blank(cls: type[T], sizes: Sizes, **given: Any) -> T:
    """A value of `cls` that says nothing: NaN, zero or empty in each field that is not given."""
    values = {
        name: given[name] if name in given else _nothing(kind, shape_of(quantity, sizes))
        for name, (kind, quantity) in quantities(cls).items()
    }
    return cls(**values)


def _nothing(kind: type, shape: tuple[int, ...]) -> Any:
    if kind is np.ndarray:
        return np.full(shape, np.nan)
    return float("nan") if kind is float else kind()
