"""What `skyloop replay` found, beside what is stored: decisions checked, results compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from skyloop.callbacks import Technique
from skyloop.cli._last_word import LastWord, last_word
from skyloop.documents.run import NamedDocument
from skyloop.errors import DataError, SkyloopError
from skyloop.plans import VerifyReport, verify
from skyloop.storage.digest import first_difference
from skyloop.storage.sources import Run

__all__ = ["Replayed", "analyses_by", "cut_short", "stored_config", "verify_all"]


@dataclass(frozen=True)
class Replayed:
    """One run after its replay."""

    run: Run
    """The raw run."""
    technique: Technique
    """What it was analysed with, which knows what the data are called."""
    stored: tuple[Run, ...]
    """Its stored analyses, of any technique."""
    seconds: float
    """What the analysis took."""
    analysis: tuple[NamedDocument, ...]
    """Documents of the new analysis run; empty when the run holds no frame of the technique."""
    word: LastWord | None
    """The last word of that; None when there is none."""
    has_stop: bool
    """Whether the raw run has its stop document."""
    put_aside: tuple[str, ...] = ()
    """Why documents of the raw run were put aside."""


def analyses_by(technique: str, analyses: Iterable[Run]) -> list[Run]:
    """The analyses by one technique, the first one made first."""
    mine = (run for run in analyses if run.start.get("technique") == technique)
    return sorted(mine, key=lambda run: run.start["time"])


def stored_config(technique: Technique, analysis: dict[str, Any]) -> Any:
    """The configuration that an analysis says it had.

    Raises:
        ConfigError: it cannot be used.
    """
    return technique.load(yaml.safe_dump(analysis["config"]))


def cut_short(one: Replayed) -> str:
    """What to say of a raw run without an end."""
    return f"run {one.run.uid[:8]}: the raw run has no stop document: it was cut short"


def verify_all(technique: Technique, replayed: list[Replayed], console: Console) -> None:
    """Recompute each recorded decision, compare the results with the stored ones, and print both.

    Raises:
        DataError: a decision differs, the same model gives other results, or a raw run was cut short.
    """
    checked = [_verify_one(technique, one, console) for one in replayed]
    _print_undecided([one for one in replayed if "adaptive" not in one.run.start], console)
    if wrong := [line for decisions, _ in checked for line in decisions]:
        raise DataError(f"{len(wrong)} recorded values do not follow from the stored documents: {wrong[0]}")
    if cut := [one for one in replayed if not one.has_stop]:
        raise DataError(f"{cut_short(cut[0])}; mend: verify the whole run, from another store")
    if other := [line for _, line in checked if line]:
        raise DataError(f"{other[0]}; mend: replay with the version that the stored analysis names")


def _verify_one(technique: Technique, one: Replayed, console: Console) -> tuple[list[str], str]:
    """The decisions that do not follow, and how the results differ where they must not; prints both."""
    wrong: list[str] = []
    if "adaptive" in one.run.start:
        report, stored = _best_report(one)
        wrong = _differing(one, report)
        word = "[green]verified[/]" if report.verified else "[red]not verified[/]"
        console.print(f"run {one.run.uid[:8]}: {report.decisions} decisions {word}")
    else:
        stored = _nearest(technique, one)
    told, differs = _compared(technique, one, stored)
    console.print(told, soft_wrap=True, highlight=False)
    for line in wrong:
        console.print(escape(line), soft_wrap=True)
    return wrong, differs


def _differing(one: Replayed, report: VerifyReport) -> list[str]:
    name = f"run {one.run.uid[:8]}"
    lines = [
        f"{name} decision {d.seq}, {d.field}: recorded {d.recorded}, recomputed {d.recomputed}"
        for d in report.differences
    ]
    return lines or ([] if report.verified else [f"{name} has no decision"])


def _print_undecided(undecided: list[Replayed], console: Console) -> None:
    if undecided:
        runs = f"run {undecided[0].run.uid[:8]} has" if len(undecided) == 1 else f"{len(undecided)} runs have"
        told = f"{runs} no decisions to verify: not measured by an adaptive plan"
        console.print(told, soft_wrap=True, highlight=False)


def _best_report(one: Replayed) -> tuple[VerifyReport, list[NamedDocument]]:
    """The report with the analysis that the plan had, and that analysis; none where none is stored.

    A run may have been analysed otherwise since.
    """
    raw, technique = list(one.run.documents()), one.run.start["adaptive"]["technique"]
    stored = [list(analysis.documents()) for analysis in analyses_by(technique, one.stored)]
    if not stored:
        return verify(raw, one.analysis), []
    reports = [(verify(raw, documents), documents) for documents in stored]
    return min(reports, key=lambda pair: len(pair[0].differences))


def _nearest(technique: Technique, one: Replayed) -> list[NamedDocument]:
    """The stored analysis that was told the same as the replay, else the first one made; none is empty."""
    stored = analyses_by(technique.name, one.stored)
    if not stored or not one.analysis:
        return list(stored[0].documents()) if stored else []
    new = one.analysis[0][1]["analysis"]
    return list(min(stored, key=lambda run: bool(_told_otherwise(new, run.start["analysis"]))).documents())


def _compared(technique: Technique, one: Replayed, stored: list[NamedDocument]) -> tuple[str, str]:
    """Whether the replay gave the stored final result; again alone where it had to and did not."""
    name = f"run {one.run.uid[:8]}"
    if not stored:
        return f"[yellow]{name}: no stored analysis to compare the results of the replay with[/]", ""
    old = stored[0][1]["analysis"]
    if not one.analysis:
        told = f"{name}: the replay finds no frame, the stored analysis did"
        return f"[yellow]{told}[/]", told if one.technique.keys == old.get("keys") else ""
    new = one.analysis[0][1]["analysis"]
    if other := _told_otherwise(new, old):
        now, before = str(one.word), _stored_word(technique, stored)
        gives = f"gives other results: {now}; stored {before}" if now != before else f"still gives {now}"
        return f"[yellow]{escape(f'{name}: replayed with {other} and {gives}')}[/]", ""
    difference = first_difference(one.analysis, stored)
    if difference is None:
        return f"{name}: same final result as the stored analysis", ""
    key, value, kept = difference
    told = f"{name}: same model, yet other results than the stored analysis: {key} is {value}, stored {kept}"
    return f"[yellow]{escape(told)}[/]", told


def _stored_word(technique: Technique, stored: list[NamedDocument]) -> str:
    try:
        config = stored_config(technique, stored[0][1]["analysis"])
        return str(last_word(technique, config, stored) or "no result")
    except SkyloopError as error:
        return f"what this version cannot read ({error})"


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
