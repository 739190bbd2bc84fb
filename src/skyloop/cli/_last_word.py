"""What an analysis run says in the end, in the words that every command has for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skyloop.callbacks import Prior, Technique
from skyloop.cli._show import columns_of, data_of, panels_of
from skyloop.documents.run import NamedDocument
from skyloop.documents.schema import decode
from skyloop.engines.panel import Fact, Facts
from skyloop.errors import Outcome
from skyloop.figures.words import fact_text, unit_text, verdict
from skyloop.quantities import quantities

__all__ = ["LastWord", "last_word"]


@dataclass(frozen=True)
class LastWord:
    """The last result of an analysis run."""

    points: int
    """Points that it rests on."""
    values: tuple[tuple[str, str], ...]
    """Name of each hinted value, and what is known of it, with its unit and marked as in a table."""
    outcome: Outcome
    """How the analysis ended."""
    verdict: str
    """The outcome, and what speaks against the values."""

    def __str__(self) -> str:
        """The values in a line."""
        return ", ".join(f"{name} {told}" for name, told in self.values)


def last_word(technique: Technique, config: Any, analysis: Iterable[NamedDocument]) -> LastWord | None:
    """The last word of an analysis run with this configuration; None when it has no result.

    Raises:
        DocumentError: another version wrote it.
    """
    events = data_of(analysis)
    if not events:
        return None
    data = events[-1]
    result = decode(technique.engine(config).result_type, data, prefix=technique.name)
    drawn = [panel for panel in panels_of(technique, config, (), result) if isinstance(panel, Facts)]
    facts = drawn[0] if drawn else Facts("", (), result.outcome, result.reason)
    priors = technique.priors(config) if technique.priors else {}
    named = {
        hint: _named(hint, facts.rows, priors) or _plain(result, hint, sigma)
        for hint, sigma in columns_of(technique).items()
    }
    values = tuple((fact.name, _in_words(fact, facts.outcome)) for fact in named.values())
    return LastWord(_points(technique, data), values, facts.outcome, verdict(facts))


def _named(hint: str, rows: Sequence[Fact], priors: Mapping[str, Prior]) -> Fact | None:
    """The parameter that the user wants to know, which a result calls `target`; None for another hint."""
    names = [name for name, prior in priors.items() if prior.is_target and hint == "target"]
    return next((row for row in rows if row.name in names), None)


def _plain(result: Any, hint: str, sigma: str) -> Fact:
    _, quantity = quantities(type(result))[hint]
    return Fact(hint, getattr(result, hint), getattr(result, sigma) if sigma else math.nan, quantity.unit)


def _in_words(fact: Fact, outcome: Outcome) -> str:
    told = f"{fact_text(fact, outcome)} {unit_text(fact.unit)}".rstrip()
    return f"{told}, {fact.note}" if fact.note else told


def _points(technique: Technique, data: Mapping[str, Any]) -> int:
    """Points, where a technique counts them within its frames, else frames."""
    return int(data.get(f"{technique.name}_n_points", data.get("frames", 0)))
