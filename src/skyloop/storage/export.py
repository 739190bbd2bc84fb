"""Results of an analysis run as tables and datasets, with their units and uncertainties beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError, MissingExtraError
from skyloop.quantities import Quantity, quantities
from skyloop.storage._routing import singles

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["results", "table"]

_EVENT = "event"
_BESIDE = ("raw_stream", "raw_seq_num", "queue_seconds", "compute_seconds")


def table(documents: Iterable[NamedDocument], result_type: type, *, stream: str = "primary") -> pd.DataFrame:
    """Scalar fields of the results, one row per event; units are in `.attrs["units"]`.

    Args:
        documents: documents of one analysis run, from any store.
        result_type: dataclass of its results.
        stream: `"primary"` for the results of single frames, `"summary"` for the final one.

    Raises:
        DataError: this is no analysis run, or it was written with another result type.
    """
    read = _read(documents, result_type, stream)
    scalars = {name: read.values[name] for name, q in read.fields.items() if not q.dims}
    frame = pd.DataFrame(scalars | read.beside, index=pd.Index(read.seq_nums, name="seq_num"))
    frame.attrs["units"] = {name: read.fields[name].unit for name in scalars if read.fields[name].unit}
    return frame


def results(documents: Iterable[NamedDocument], result_type: type, *, stream: str = "primary") -> xr.Dataset:
    """All fields of the results along `event`, arrays along their own dimensions too, NaN kept.

    Each variable has its unit in `.attrs["units"]`; the uncertainty of `x` is the variable `x_sigma`.

    Args:
        documents: documents of one analysis run, from any store.
        result_type: dataclass of its results.
        stream: `"primary"` for the results of single frames, `"summary"` for the final one.

    Raises:
        DataError: this is no analysis run, or it was written with another result type.
        MissingExtraError: xarray is not installed.
    """
    try:
        import xarray as xr
    except ImportError as error:
        raise MissingExtraError("xarray", "tiled") from error
    read = _read(documents, result_type, stream)
    variables = {
        name: ((_EVENT, *q.dims), _column(read.values[name], q), {"units": q.unit} if q.unit else {})
        for name, q in read.fields.items()
    }
    beside = {name: (_EVENT, values) for name, values in read.beside.items()}
    attrs = {key: read.start[key] for key in ("uid", "technique", "original_run_uid")}
    return xr.Dataset(variables, {_EVENT: read.seq_nums, **beside}, attrs)


def _column(values: list[Any], quantity: Quantity) -> Any:
    return np.asarray(values, dtype=np.float64) if quantity.dims else np.asarray(values)


@dataclass(frozen=True, slots=True)
class _Read:
    """One stream of an analysis run, column by column."""

    start: dict[str, Any]
    fields: dict[str, Quantity]
    seq_nums: list[int]
    values: dict[str, list[Any]]
    beside: dict[str, list[Any]]


def _read(documents: Iterable[NamedDocument], result_type: type, stream: str) -> _Read:
    start: dict[str, Any] = {}
    keys: dict[str, dict[str, Any]] = {}
    events: list[dict[str, Any]] = []
    for name, doc in (single for document in documents for single in singles(*document)):
        if name == "start":
            start = _analysis(doc)
        elif name == "descriptor" and doc["name"] == stream:
            keys[doc["uid"]] = doc["data_keys"]
        elif name == "event" and doc["descriptor"] in keys:
            events.append(doc)
    declared = next(iter(keys.values()), None)
    if declared is None:
        raise DataError(f"run {start.get('uid', '')} has no stream '{stream}'; mend: check that it is whole")
    prefix = start["technique"]
    data = [event["data"] for event in events]
    names = _names(result_type, declared, prefix)
    return _Read(
        start=start,
        fields={n: _stored_quantity(q, declared[f"{prefix}_{n}"]) for n, q in names.items()},
        seq_nums=[event["seq_num"] for event in events],
        values={name: [row[f"{prefix}_{name}"] for row in data] for name in names},
        beside={key: [row[key] for row in data] for key in _BESIDE if key in declared},
    )


def _analysis(start: dict[str, Any]) -> dict[str, Any]:
    if start.get("purpose") != "analysis":
        raise DataError(
            f"run {start.get('uid', '')} is not an analysis; mend: give one of its analysis runs, which "
            "'analyses_of' of a source finds"
        )
    return start


def _names(result_type: type, declared: Mapping[str, Any], prefix: str) -> dict[str, Quantity]:
    """Fields of the result type, each of which must have been stored."""
    fields = {name: quantity for name, (_, quantity) in quantities(result_type).items()}
    missing = [name for name in fields if f"{prefix}_{name}" not in declared]
    if missing:
        raise DataError(
            f"the stored results have no {', '.join(missing)}: another version of "
            f"{result_type.__name__} wrote them; mend: analyse the raw run again"
        )
    return fields


def _stored_quantity(quantity: Quantity, entry: Mapping[str, Any]) -> Quantity:
    """The unit that was stored: it may depend on the configuration of that analysis."""
    return Quantity(entry.get("units") or "", quantity.dims)
