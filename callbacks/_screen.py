"""What a table or a plot is given: the documents of an analysis without what shows nothing."""

from __future__ import annotations

from skyloop.documents.run import NamedDocument
from skyloop.errors import Outcome

__all__ = ["shows_something"]


def shows_something(document: NamedDocument, outcome_key: str) -> bool:
    """Whether it is no event of a superseded frame, which holds NaN."""
    name, doc = document
    return name != "event" or doc["data"][outcome_key] != Outcome.SUPERSEDED
