"""What a table or a plot is given: the documents of an analysis without what shows nothing."""

from __future__ import annotations

from typing import Any

from skyloop.errors import Outcome
from skyloop.runtime.sinks import Callback

__all__ = ["with_results"]


def with_results(screen: Callback) -> Callback:
    """A callback that leaves out the events of superseded frames, which hold NaN, and passes all else on."""

    def shown(name: str, doc: dict[str, Any]) -> None:
        if name != "event" or not _is_superseded(doc["data"]):
            screen(name, doc)

    return shown


def _is_superseded(data: dict[str, Any]) -> bool:
    outcomes = (value for key, value in data.items() if key.endswith("_outcome"))
    return any(outcome == Outcome.SUPERSEDED for outcome in outcomes)
