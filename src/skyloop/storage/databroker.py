"""A stored run as databroker shows it, for those whose scripts speak databroker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from skyloop.errors import DataError, MissingExtraError

__all__ = ["BrokerRun", "read_back"]


@dataclass(frozen=True, slots=True)
class BrokerRun:
    """What databroker says of one run."""

    start: dict[str, Any]
    """The start document."""
    stop: dict[str, Any]
    """The stop document; empty while the run is open."""
    tables: dict[str, pd.DataFrame]
    """One table per stream, one row per event, scalars and arrays as columns."""


def read_back(client: Any, uid: str) -> BrokerRun:
    """Read a run through `databroker.Broker` over a Tiled client.

    Raises:
        MissingExtraError: databroker is not installed.
        DataError: the catalog does not hold this run.
    """
    try:
        from databroker import Broker
    except ImportError as error:
        raise MissingExtraError("databroker", "databroker") from error
    try:
        header = cast("Callable[[Any], Any]", Broker)(_own(client))[uid]
    except KeyError as error:
        raise DataError(f"the catalog holds no run {uid}; mend: check the uid and the catalog") from error
    tables = {name: header.table(name) for name in header.stream_names}
    return BrokerRun(dict(header.start), dict(header.stop or {}), tables)


def _own(client: Any) -> Any:
    """A client with client classes of its own: databroker changes them, for all clients that share them."""
    from tiled.utils import OneShotCachedMap

    shared = client.structure_clients
    classes = {name: (lambda name=name: shared[name]) for name in shared}
    return client.new_variation(structure_clients=OneShotCachedMap(classes))
