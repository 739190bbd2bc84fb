"""`skyloop replay`: stored runs through the code of the live analysis, and decisions checked."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from skyloop.callbacks import Analyzer, Options, Technique
from skyloop.cli._analyze import technique_named
from skyloop.cli._model import model_file
from skyloop.cli._show import columns_of
from skyloop.documents.run import NamedDocument
from skyloop.errors import ConfigError, DataError, StorageError
from skyloop.figures.pen import number
from skyloop.plans import VerifyReport, verify
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import JsonlWriter
from skyloop.storage.replay import replay as play
from skyloop.storage.sources import Run, Source, open_source, search_of

__all__ = ["Request", "replay"]


@dataclass(frozen=True)
class Request:
    """What to replay, and how."""

    source: str
    """Where the runs are."""
    run: str = ""
    """First characters of one uid."""
    search: tuple[str, ...] = ()
    """Words `key=value`."""
    verify: bool = False
    """Recompute recorded decisions."""


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


def replay(request: Request, technique: str, model: Path | None, out: Path, console: Console) -> None:
    """Analyse stored runs, write the analysis runs, print one line each.

    Raises:
        SkyloopError: the source, the model or the technique cannot be used, or a decision differs.
    """
    chosen = technique_named(technique)
    with open_source(request.source, run=request.run or None, search=search_of(request.search)) as source:
        runs = list(source)
        if not runs:
            raise DataError(f"{request.source}: no raw run fits; mend: give another --search, or none")
        config = chosen.load(model_file(model)) if model else _stored_config(chosen, source, runs)
        replayed = _replay_all(chosen, config, runs, out, console)
        console.print(_table(chosen, replayed))
        _print_speed(replayed, console)
        console.print(f"analysis runs as JSON lines in {escape(str(out))}", soft_wrap=True, highlight=False)
        if request.verify:
            _verify_all(source, replayed, console)


def _stored_config(technique: Technique, source: Source, runs: list[Run]) -> Any:
    for run in runs:
        for analysis in source.analyses_of(run.uid):
            if analysis.start.get("technique") == technique.name:
                return technique.load(yaml.safe_dump(analysis.start["analysis"]["config"]))
    raise ConfigError(
        f"{source.name} holds no {technique.name} analysis whose model could be taken; "
        "mend: --model sample.yaml"
    )


def _replay_all(
    technique: Technique, config: Any, runs: list[Run], out: Path, console: Console
) -> list[Replayed]:
    store, documents = Sink(JsonlWriter(out)), list[NamedDocument]()
    with (
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        Analyzer(technique, config, Options(executor="inline")) as analysis,
    ):
        analysis.subscribe(store)
        analysis.subscribe(lambda name, doc: documents.append((name, doc)))
        replayed = [
            _replay_one(run, analysis, documents)
            for run in progress.track(runs, description=f"replaying {len(runs)} runs")
        ]
    store.close()
    if store.failed:
        raise StorageError(f"{store.failed} documents were not written; the last: {store.last_failure}")
    return replayed


def _replay_one(run: Run, analysis: Analyzer, documents: list[NamedDocument]) -> Replayed:
    documents.clear()
    began = time.perf_counter()
    report = play(run.documents(), [analysis])
    seconds = time.perf_counter() - began
    analysis.flush()
    return Replayed(run, report.events, seconds, tuple(documents))


def _table(technique: Technique, replayed: list[Replayed]) -> Table:
    table = Table(title=technique.name, title_justify="left")
    for head in ("run", "plan", "events", *columns_of(technique), "outcome"):
        table.add_column(head, overflow="fold")
    for one in replayed:
        plan = escape(str(one.run.start.get("plan_name", "")))
        table.add_row(one.run.uid[:8], plan, str(one.events), *_cells(technique, one))
    return table


def _cells(technique: Technique, one: Replayed) -> list[str]:
    events = [doc for name, doc in one.analysis if name == "event"]
    columns = columns_of(technique)
    if not events:
        return [*[""] * len(columns), "no frame"]
    data = events[-1]["data"]
    told = {hint: float(data[f"{technique.name}_{hint}"]) for hint in technique.hints}
    values = [number(told[value], told.get(sigma, math.nan)) for value, sigma in columns.items()]
    reason = data[f"{technique.name}_reason"]
    return [*values, escape(f"{data[f'{technique.name}_outcome']} {reason}".strip())]


def _print_speed(replayed: list[Replayed], console: Console) -> None:
    events, seconds = sum(r.events for r in replayed), sum(r.seconds for r in replayed)
    rate = f", {events / seconds:.3g} events/s" if seconds else ""
    runs = "1 run" if len(replayed) == 1 else f"{len(replayed)} runs"
    console.print(f"{runs}, {events} events in {seconds:.1f} s{rate}")


def _verify_all(source: Source, replayed: list[Replayed], console: Console) -> None:
    adaptive = [one for one in replayed if "adaptive" in one.run.start]
    if not adaptive:
        raise DataError(f"{source.name}: no run was measured by an adaptive plan; mend: leave --verify out")
    wrong = [line for one in adaptive for line in _verify_one(source, one, console)]
    if wrong:
        raise DataError(f"{len(wrong)} recorded values do not follow from the stored documents: {wrong[0]}")


def _verify_one(source: Source, one: Replayed, console: Console) -> list[str]:
    report = _best_report(source, one)
    word = "[green]verified[/]" if report.verified else "[red]not verified[/]"
    console.print(f"run {one.run.uid[:8]}: {report.decisions} decisions {word}")
    lines = [
        f"run {one.run.uid[:8]} decision {d.seq}, {d.field}: recorded {d.recorded}, recomputed {d.recomputed}"
        for d in report.differences
    ]
    for line in lines:
        console.print(escape(line), soft_wrap=True)
    return lines or ([] if report.verified else [f"run {one.run.uid[:8]} has no decision"])


def _best_report(source: Source, one: Replayed) -> VerifyReport:
    """The report with the analysis that the plan had: a run may have been analysed otherwise since."""
    raw, technique = list(one.run.documents()), one.run.start["adaptive"]["technique"]
    stored = [a for a in source.analyses_of(one.run.uid) if a.start.get("technique") == technique]
    analyses = [list(analysis.documents()) for analysis in stored] or [list(one.analysis)]
    reports = (verify(raw, analysis) for analysis in analyses)
    return min(reports, key=lambda report: len(report.differences))
