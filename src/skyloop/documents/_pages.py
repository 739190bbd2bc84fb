"""Pages of documents, taken apart into single documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

__all__ = ["is_page", "rows_of"]

_Row = tuple[str, Any]
_EVENT_COLUMNS = ("uid", "time", "seq_num")


def is_page(name: str) -> bool:
    """Whether documents of this name hold several events or datums."""
    return name in _SPLITTERS


def rows_of(name: str, page: Mapping[str, Any]) -> list[_Row] | str:
    """Single documents of a page, new dictionaries in its order; or what is wrong with the page.

    Args:
        name: `event_page`, `datum_page`, `bulk_events` or `bulk_datum`.
        page: the document; never changed. Columns may be lists, tuples or arrays.
    """
    return _SPLITTERS[name](page)


def _event_rows(page: Mapping[str, Any]) -> list[_Row] | str:
    heads = {key: _column(page.get(key)) for key in _EVENT_COLUMNS}
    tables = {k: _columns(page.get(k)) for k in ("data", "timestamps", "filled") if k in page}
    size = _size(heads["uid"])
    if extra := page.keys() - {"descriptor", "data", "timestamps", "filled", *heads}:
        return f"it has properties that an event page has not: {sorted(map(str, extra))[:5]}"
    for name, column in heads.items():
        if column is None or len(column) != size:
            return f"column '{name}' is not a list of {size} values"
    for name in ("data", "timestamps"):
        if tables.get(name) is None:
            return f"'{name}' is not a table of columns"
    for name, table in tables.items():
        if table is None or any(len(column) != size for column in table.values()):
            return f"a column of '{name}' does not have the {size} values of the page"
    full = cast("dict[str, dict[Any, Any]]", tables)
    plain = {key: _plain(column) for key, column in heads.items()}
    return [("event", _event_row(page, plain, full, i)) for i in range(size)]


def _event_row(
    page: Mapping[str, Any], heads: dict[str, Any], tables: dict[str, dict[Any, Any]], index: int
) -> dict[str, Any]:
    row: dict[str, Any] = {key: column[index] for key, column in heads.items()}
    row["descriptor"] = page.get("descriptor")
    for name, table in tables.items():
        row[name] = {key: column[index] for key, column in table.items()}
    return row


def _datum_rows(page: Mapping[str, Any]) -> list[_Row] | str:
    ids, kwargs = _column(page.get("datum_id")), _columns(page.get("datum_kwargs"))
    if extra := page.keys() - {"datum_id", "datum_kwargs", "resource"}:
        return f"it has properties that a datum page has not: {sorted(map(str, extra))[:5]}"
    if ids is None or kwargs is None or any(len(c) != len(ids) for c in kwargs.values()):
        return "its columns are not lists of one length"
    rows = [{key: column[i] for key, column in kwargs.items()} for i in range(len(ids))]
    return _datums(page.get("resource"), _plain(ids), rows)


def _bulk_datum_rows(page: Mapping[str, Any]) -> list[_Row] | str:
    ids, kwargs = _column(page.get("datum_ids")), _column(page.get("datum_kwarg_list"))
    if ids is None or kwargs is None or len(ids) != len(kwargs):
        return "'datum_ids' and 'datum_kwarg_list' are not lists of one length"
    return _datums(page.get("resource"), _plain(ids), kwargs)


def _datums(resource: Any, ids: Any, kwargs: Any) -> list[_Row]:
    return [
        ("datum", {"resource": resource, "datum_id": datum_id, "datum_kwargs": row})
        for datum_id, row in zip(ids, kwargs, strict=True)
    ]


def _bulk_event_rows(page: Mapping[str, Any]) -> list[_Row] | str:
    columns = _columns(page)
    if columns is None:
        return "it is not a table of lists of events"
    return [("event", event) for column in columns.values() for event in column]


def _column(value: Any) -> Any:
    """A list, tuple or array of at least one axis; None for anything else."""
    if isinstance(value, np.ndarray):
        return value if value.ndim else None
    return cast("Any", value) if isinstance(value, (list, tuple)) else None


def _columns(value: Any) -> dict[Any, Any] | None:
    if not isinstance(value, dict):
        return None
    table = {key: _column(column) for key, column in cast("dict[Any, Any]", value).items()}
    return None if any(column is None for column in table.values()) else table


def _plain(column: Any) -> Any:
    return column.tolist() if isinstance(column, np.ndarray) else column


def _size(column: Any) -> int:
    return 0 if column is None else len(column)


_SPLITTERS: dict[str, Callable[[Mapping[str, Any]], list[_Row] | str]] = {
    "event_page": _event_rows,
    "datum_page": _datum_rows,
    "bulk_events": _bulk_event_rows,
    "bulk_datum": _bulk_datum_rows,
}
