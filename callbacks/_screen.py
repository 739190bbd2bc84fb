"""What a table or a plot is given: the documents of an analysis without what shows nothing."""

from __future__ import annotations

from typing import Any

from skyloop.errors import Outcome
from skyloop.runtime.sinks import Callback

__all__ = ["with_results"]


def with_results(screen: Callback, outcome_key: str) -> Callback:
    """A callback that leaves out the events of superseded frames, which hold NaN, and passes all else on."""

    def shown(name: str, doc: dict[str, Any]) -> None:
        if name != "event" or doc["data"][outcome_key] != Outcome.SUPERSEDED:
            screen(name, doc)

    return shown
