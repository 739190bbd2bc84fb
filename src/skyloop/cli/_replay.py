"""`skyloop replay`: stored runs through the code of the live analysis, and decisions checked."""

from __future__ import annotations

import time
from collections import Counter
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
from skyloop.cli._compare import Replayed, cut_short, verify_all
from skyloop.cli._model import keys_file, model_file
from skyloop.cli._show import columns_of, data_of, values_of
from skyloop.cli._store import finish_store
from skyloop.documents.run import NamedDocument
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.figures.words import MARK
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
    model: Path | None = None
    """YAML file with the model; None: that of the stored analysis."""
    keys: Path | None = None
    """YAML file that says what the data are called; None: what the stored analysis took."""


@dataclass(frozen=True)
class Job:
    """A run, and what to analyse it with."""

    run: Run
    """The raw run."""
    technique: Technique
    """The technique, which knows what the data are called."""
    config: Any = None
    """Configuration of the engine; None when there is none for this run."""
    why_not: str = ""
    """Why there is none."""
    mend: str = "--model sample.yaml"
    """What to say then."""


def replay(request: Request, technique: str, out: Path, console: Console) -> None:
    """Analyse stored runs, write the analysis runs, print one line each.

    Raises:
        SkyloopError: the source, the model or the technique cannot be used, or a decision differs.
    """
    chosen = technique_named(technique)
    with open_source(request.source, run=request.run or None, search=search_of(request.search)) as source:
        runs = list(source)
        _refuse_analyses(source, runs)
        jobs = _jobs(chosen, source, runs, request)
        replayed = _replay_all(jobs, out, console)
        console.print(_table(chosen, replayed))
        _print_speed(replayed, console)
        _print_left_out(jobs, console)
        _print_frameless(chosen, replayed, console)
        _print_cut_short(replayed, console)
        console.print(f"analysis runs as JSON lines in {escape(str(out))}", soft_wrap=True, highlight=False)
        _print_not_trusted(chosen, replayed, console)
        if request.verify:
            verify_all(chosen, source, replayed, console)


def _refuse_analyses(source: Source, runs: list[Run]) -> None:
    if wrong := next((run for run in runs if run.is_analysis), None):
        raw = wrong.start.get("original_run_uid", "")
        raise DataError(f"run {wrong.uid[:8]} is an analysis of run {raw}; mend: --run {raw[:8]}")
    if runs:
        return
    if (analysis := next(source.all_runs(), None)) and all(run.is_analysis for run in source.all_runs()):
        raw = analysis.start.get("original_run_uid", "")
        raise DataError(
            f"{source.name} holds analysis runs only, nothing to analyse again; "
            f"mend: give the file or folder that holds their raw runs, such as {raw}"
        )
    raise DataError(f"{source.name}: no raw run fits; mend: give another --search, or none")


def _jobs(technique: Technique, source: Source, runs: list[Run], request: Request) -> list[Job]:
    """Each run with model and keys: those given, or those of its stored analysis, the first one made."""
    given = technique.called(keys_file(request.keys)) if request.keys else None
    config = technique.load(model_file(request.model)) if request.model else None
    stored: dict[str, list[Run]] = {}
    for run in source.all_runs() if given is None or config is None else ():
        if run.is_analysis and run.start.get("technique") == technique.name:
            stored.setdefault(run.start.get("original_run_uid", ""), []).append(run)
    jobs = [_job(technique, run, _first(stored.get(run.uid, [])), given, config) for run in runs]
    if all(job.config is None for job in jobs):
        raise ConfigError(
            f"{source.name} holds no {technique.name} analysis whose model could be taken"
            f"{'' if not stored else f' ({jobs[0].why_not})'}; mend: {jobs[0].mend}"
        )
    return jobs


def _first(analyses: list[Run]) -> dict[str, Any]:
    """What the first of some analyses that was made says of itself."""
    return min(analyses, key=lambda run: run.start["time"]).start["analysis"] if analyses else {}


def _job(technique: Technique, run: Run, stored: dict[str, Any], given: Technique | None, config: Any) -> Job:
    try:
        keyed = given or technique.called(stored.get("keys", {}))
    except ConfigError as error:
        why_not = f"its stored keys cannot be used: {error}"
        return Job(run, technique, why_not=why_not, mend="--keys keys.yaml")
    if config is not None:
        return Job(run, keyed, config)
    if not stored:
        return Job(run, keyed, why_not="no stored analysis")
    try:
        return Job(run, keyed, technique.load(yaml.safe_dump(stored["config"])))
    except ConfigError as error:
        return Job(run, keyed, why_not=f"its stored model cannot be used: {error}")


def _replay_all(jobs: list[Job], out: Path, console: Console) -> list[Replayed]:
    store, able = Sink(JsonlWriter(out)), [job for job in jobs if job.config is not None]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        followed = progress.track(able, description=f"replaying {len(able)} runs")
        replayed = [_replay_one(job, store) for job in followed]
    finish_store(store)
    return replayed


def _replay_one(job: Job, store: Sink) -> Replayed:
    documents: list[NamedDocument] = []
    with Analyzer(job.technique, job.config, Options(executor="inline")) as analysis:
        analysis.subscribe(store)
        analysis.subscribe(lambda name, doc: documents.append((name, doc)))
        began = time.perf_counter()
        names: set[str] = set()
        report = play(job.run.documents(), [analysis, lambda name, _: names.add(name)])
        seconds = time.perf_counter() - began
    return Replayed(job.run, report.events, seconds, tuple(documents), "stop" in names)


def _print_left_out(jobs: list[Job], console: Console) -> None:
    for (why, mend), count in Counter((job.why_not, job.mend) for job in jobs if job.config is None).items():
        first = next(job.run.uid for job in jobs if job.why_not == why)
        runs = f"run {first[:8]}" if count == 1 else f"{count} runs, such as {first[:8]}"
        line = f"left out: {runs}: {why}; mend: --run {first[:8]} {mend}"
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True, highlight=False)


def _print_frameless(technique: Technique, replayed: list[Replayed], console: Console) -> None:
    frameless = [one.run.uid[:8] for one in replayed if not one.analysis]
    if frameless and technique.with_keys is not None:
        runs = f"run {frameless[0]}" if len(frameless) == 1 else f"{len(frameless)} runs"
        told = f"{runs}: no event holds what this technique looks for; mend: say what it is called, --keys"
        console.print(f"[yellow]{told} keys.yaml[/]", soft_wrap=True, highlight=False)


def _print_cut_short(replayed: list[Replayed], console: Console) -> None:
    for one in replayed:
        if not one.has_stop:
            console.print(f"[yellow]{cut_short(one)}[/]", soft_wrap=True, highlight=False)


def _print_not_trusted(technique: Technique, replayed: list[Replayed], console: Console) -> None:
    last = [data_of(one.analysis)[-1:] for one in replayed]
    outcomes = [data[0][f"{technique.name}_outcome"] for data in last if data]
    if doubted := sum(outcome != Outcome.OK for outcome in outcomes):
        of = f"{doubted} of {len(outcomes)} {'analysis is' if len(outcomes) == 1 else 'analyses are'}"
        told = f"{of} not to be trusted: the errors of the values marked{MARK} do not hold, see the outcome"
        console.print(f"[yellow]{told}[/]", soft_wrap=True, highlight=False)


def _table(technique: Technique, replayed: list[Replayed]) -> Table:
    table = Table(title=technique.name, title_justify="left")
    for head in ("run", "plan", "events", *columns_of(technique), "outcome"):
        table.add_column(head, overflow="fold")
    for one in replayed:
        plan = escape(str(one.run.start.get("plan_name", "")))
        table.add_row(one.run.uid[:8], plan, str(one.events), *_cells(technique, one))
    return table


def _cells(technique: Technique, one: Replayed) -> list[str]:
    values = values_of(technique, one.analysis)
    if not values:
        return [*[""] * len(columns_of(technique)), "no frame"]
    data = data_of(one.analysis)[-1]
    reason = data[f"{technique.name}_reason"]
    return [*values, escape(f"{data[f'{technique.name}_outcome']} {reason}".strip())]


def _print_speed(replayed: list[Replayed], console: Console) -> None:
    events, seconds = sum(r.events for r in replayed), sum(r.seconds for r in replayed)
    rate = f", {events / seconds:.3g} events/s" if seconds else ""
    runs = "1 run" if len(replayed) == 1 else f"{len(replayed)} runs"
    console.print(f"{runs}, {events} events in {seconds:.1f} s{rate}")
