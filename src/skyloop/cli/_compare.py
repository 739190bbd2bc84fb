"""What `skyloop replay` found, beside what is stored: decisions checked, results compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from skyloop.callbacks import Technique
from skyloop.cli._show import columns_of, values_of
from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError
from skyloop.plans import VerifyReport, verify
from skyloop.storage.digest import first_difference
from skyloop.storage.sources import Run, Source

__all__ = ["Replayed", "cut_short", "verify_all"]


@dataclass(frozen=True)
class Replayed:
    """One run after its replay."""

    run: Run
    """The raw run."""
    events: int
    """Its events."""
    seconds: float
    """What the analysis took."""
    analysis: tuple[NamedDocument, ...]
    """Documents of the new analysis run; empty when the run holds no frame of the technique."""
    has_stop: bool
    """Whether the raw run has its stop document."""


def cut_short(one: Replayed) -> str:
    """What to say of a raw run without an end."""
    return f"run {one.run.uid[:8]}: the raw run has no stop document: it was cut short"


def verify_all(technique: Technique, source: Source, replayed: list[Replayed], console: Console) -> None:
    """Recompute each recorded decision, compare the results with the stored ones, and print both.

    Raises:
        DataError: no run has decisions, one differs, the same model gives other results, or a raw run was
            cut short.
    """
    adaptive = [one for one in replayed if "adaptive" in one.run.start]
    if not adaptive:
        raise DataError(f"{source.name}: no run was measured by an adaptive plan; mend: leave --verify out")
    checked = [_verify_one(technique, source, one, console) for one in adaptive]
    if wrong := [line for decisions, _ in checked for line in decisions]:
        raise DataError(f"{len(wrong)} recorded values do not follow from the stored documents: {wrong[0]}")
    if cut := [one for one in adaptive if not one.has_stop]:
        raise DataError(f"{cut_short(cut[0])}; mend: verify the whole run, from another store")
    if other := [line for _, line in checked if line]:
        raise DataError(f"{other[0]}; mend: replay with the version that the stored analysis names")


def _verify_one(
    technique: Technique, source: Source, one: Replayed, console: Console
) -> tuple[list[str], str]:
    """The decisions that do not follow, and how the results differ where they must not; prints both."""
    report, stored = _best_report(source, one)
    word = "[green]verified[/]" if report.verified else "[red]not verified[/]"
    console.print(f"run {one.run.uid[:8]}: {report.decisions} decisions {word}")
    told, differs = _compared(technique, one, stored)
    console.print(told, soft_wrap=True, highlight=False)
    lines = [
        f"run {one.run.uid[:8]} decision {d.seq}, {d.field}: recorded {d.recorded}, recomputed {d.recomputed}"
        for d in report.differences
    ]
    for line in lines:
        console.print(escape(line), soft_wrap=True)
    lines = lines or ([] if report.verified else [f"run {one.run.uid[:8]} has no decision"])
    return lines, differs


def _best_report(source: Source, one: Replayed) -> tuple[VerifyReport, list[NamedDocument]]:
    """The report with the analysis that the plan had, and that analysis; none where none is stored.

    A run may have been analysed otherwise since.
    """
    raw, technique = list(one.run.documents()), one.run.start["adaptive"]["technique"]
    analyses = [a for a in source.analyses_of(one.run.uid) if a.start.get("technique") == technique]
    stored = [list(analysis.documents()) for analysis in analyses]
    if not stored:
        return verify(raw, one.analysis), []
    reports = [(verify(raw, documents), documents) for documents in stored]
    return min(reports, key=lambda pair: len(pair[0].differences))


def _compared(technique: Technique, one: Replayed, stored: list[NamedDocument]) -> tuple[str, str]:
    """Whether the replay gave the final result that the plan had; again alone where it had to and did not."""
    name = f"run {one.run.uid[:8]}"
    if not stored or not one.analysis:
        return f"[yellow]{name}: no stored analysis to compare the results of the replay with[/]", ""
    new, old = (analysis[0][1]["analysis"] for analysis in (one.analysis, stored))
    now, before = (_result_in_words(technique, analysis) for analysis in (one.analysis, stored))
    if other := _told_otherwise(new, old):
        gives = f"gives other results: {now}; stored {before}" if now != before else f"still gives {now}"
        told = f"replayed with {other} and {gives}"
        return f"[yellow]{escape(f'{name}: {told}')}[/]", ""
    difference = first_difference(one.analysis, stored)
    if difference is None:
        return f"{name}: same final result as the stored analysis", ""
    key, value, kept = difference
    told = f"{name}: same model, yet other results than the stored analysis: {key} is {value}, stored {kept}"
    return f"[yellow]{escape(told)}[/]", told


def _told_otherwise(new: dict[str, Any], old: dict[str, Any]) -> str:
    """What the replay was told otherwise than the stored analysis; empty when it was told the same."""
    told: list[str] = []
    if new["config_sha256"] != old["config_sha256"]:
        hashes = f"config {new['config_sha256'][:8]}, not {old['config_sha256'][:8]}"
        changed = _changed(new["config"], old["config"])
        told.append(f"another model than the stored analysis ({hashes}; it differs in {changed})")
    if new["keys"] != old.get("keys", {}):
        changed = _changed(new["keys"], old.get("keys", {}))
        told.append(f"other keys than the stored analysis (they differ in {changed})")
    return " and ".join(told)


def _changed(new: dict[str, Any], old: dict[str, Any]) -> str:
    return ", ".join(name for name, value in new.items() if old.get(name) != value)


def _result_in_words(technique: Technique, analysis: Sequence[NamedDocument]) -> str:
    values = zip(columns_of(technique), values_of(technique, analysis), strict=True)
    return ", ".join(f"{name} {value}" for name, value in values)
