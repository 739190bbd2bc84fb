"""`skyloop replay`: stored runs through the code of the live analysis, and decisions checked."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from skyloop.callbacks import Analyzer, Options, Technique
from skyloop.cli._analyze import technique_named
from skyloop.cli._compare import Replayed, analyses_by, cut_short, stored_config, verify_all
from skyloop.cli._last_word import last_word
from skyloop.cli._model import keys_file, model_file
from skyloop.cli._show import columns_of
from skyloop.cli._store import finish_store
from skyloop.documents.run import NamedDocument
from skyloop.errors import ConfigError, DataError, Outcome, SkyloopError
from skyloop.figures.words import MARK
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import JsonlWriter
from skyloop.storage.replay import replay as play
from skyloop.storage.sources import Run, Source, open_source, search_of

__all__ = ["Request", "replay"]

_log = logging.getLogger(__name__)


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
    analyses: tuple[Run, ...] = ()
    """Its stored analyses, of any technique."""
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
        runs = sorted(source, key=lambda run: run.start.get("time", 0.0))
        _refuse_analyses(source, runs)
        jobs = _jobs(chosen, source, runs, request)
        if request.verify:
            _refuse_to_verify_nothing(chosen, source, jobs)
        replayed = _replay_all(jobs, out, console)
        console.print(_table(chosen, replayed))
        _print_speed(replayed, console)
        _print_left_out(jobs, console)
        _print_damaged(replayed, console)
        _print_frameless(chosen, replayed, console)
        _print_cut_short(replayed, console)
        console.print(f"analysis runs as JSON lines in {escape(str(out))}", soft_wrap=True, highlight=False)
        _print_not_trusted(replayed, console)
        if request.verify:
            verify_all(chosen, replayed, console)


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


def _refuse_to_verify_nothing(technique: Technique, source: Source, jobs: list[Job]) -> None:
    if not any("adaptive" in job.run.start or analyses_by(technique.name, job.analyses) for job in jobs):
        raise DataError(
            f"{source.name}: nothing to verify: no run has decisions or a stored {technique.name} analysis; "
            "mend: leave --verify out"
        )


def _jobs(technique: Technique, source: Source, runs: list[Run], request: Request) -> list[Job]:
    """Each run with model and keys: those given, or those of its stored analysis, the first one made."""
    given = technique.called(keys_file(request.keys)) if request.keys else None
    config = technique.load(model_file(request.model)) if request.model else None
    stored: dict[str, list[Run]] = {}
    is_told_all = given is not None and config is not None
    for run in () if is_told_all and not request.verify else source.all_runs():
        if run.is_analysis and _says_how(run):
            stored.setdefault(run.start.get("original_run_uid", ""), []).append(run)
    jobs = [_job(technique, run, stored.get(run.uid, []), given, config) for run in runs]
    if all(job.config is None for job in jobs):
        raise ConfigError(
            f"{source.name} holds no {technique.name} analysis whose model could be taken"
            f"{f' ({jobs[0].why_not})' if any(job.analyses for job in jobs) else ''}; mend: {jobs[0].mend}"
        )
    return jobs


def _says_how(analysis: Run) -> bool:
    """Whether the start of an analysis holds what a replay takes from it."""
    start = analysis.start
    is_whole = isinstance(start.get("analysis"), Mapping) and isinstance(start.get("time"), int | float)
    if not is_whole:
        _log.warning("analysis %s is damaged: its start document lacks model or time", analysis.uid)
    return is_whole


def _job(technique: Technique, run: Run, analyses: list[Run], given: Technique | None, config: Any) -> Job:
    mine = analyses_by(technique.name, analyses)
    stored = mine[0].start["analysis"] if mine else {}
    job = Job(run, technique, tuple(analyses), config)
    try:
        job = replace(job, technique=given or technique.called(stored.get("keys", {})))
    except ConfigError as error:
        why_not = f"its stored keys cannot be used: {error}"
        return replace(job, config=None, why_not=why_not, mend="--keys keys.yaml")
    if config is not None:
        return job
    if not stored:
        return replace(job, why_not="no stored analysis")
    try:
        return replace(job, config=stored_config(technique, stored))
    except ConfigError as error:
        return replace(job, why_not=f"its stored model cannot be used: {error}")


def _replay_all(jobs: list[Job], out: Path, console: Console) -> list[Replayed]:
    store, able = Sink(JsonlWriter(out)), [job for job in jobs if job.config is not None]
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            followed = progress.track(able, description=f"replaying {len(able)} runs")
            replayed = [_replay_one(job, store) for job in followed]
    except SkyloopError:
        store.close()  # it would write on while the command ends
        raise
    finish_store(store)
    return replayed


def _replay_one(job: Job, store: Sink) -> Replayed:
    documents: list[NamedDocument] = []
    with Analyzer(job.technique, job.config, Options(executor="inline")) as analysis:
        analysis.subscribe(store)
        analysis.subscribe(lambda name, doc: documents.append((name, doc)))
        began = time.perf_counter()
        names: set[str] = set()
        play(job.run.documents(), [analysis, lambda name, _: names.add(name)])
        seconds = time.perf_counter() - began
        aside = tuple(analysis.health.quarantined)
    return Replayed(
        run=job.run,
        technique=job.technique,
        stored=job.analyses,
        seconds=seconds,
        analysis=tuple(documents),
        word=last_word(job.technique, job.config, documents),
        has_stop="stop" in names,
        put_aside=aside,
    )


def _print_left_out(jobs: list[Job], console: Console) -> None:
    for (why, mend), count in Counter((job.why_not, job.mend) for job in jobs if job.config is None).items():
        first = next(job.run.uid for job in jobs if job.why_not == why)
        runs = f"run {first[:8]}" if count == 1 else f"{count} runs, such as {first[:8]}"
        line = f"left out: {runs}: {why}; mend: --run {first[:8]} {mend}"
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True, highlight=False)


def _print_damaged(replayed: list[Replayed], console: Console) -> None:
    for one in replayed:
        if one.put_aside:
            told = f"run {one.run.uid[:8]}: damaged, documents were put aside: {'; '.join(one.put_aside)}"
            console.print(f"[yellow]{escape(told)}[/]", soft_wrap=True, highlight=False)


def _print_frameless(technique: Technique, replayed: list[Replayed], console: Console) -> None:
    frameless = [one.run.uid[:8] for one in replayed if not one.analysis and not one.put_aside]
    if frameless and technique.with_keys is not None:
        runs = f"run {frameless[0]}" if len(frameless) == 1 else f"{len(frameless)} runs"
        told = f"{runs}: no event holds what this technique looks for; mend: say what it is called, --keys"
        console.print(f"[yellow]{told} keys.yaml[/]", soft_wrap=True, highlight=False)


def _print_cut_short(replayed: list[Replayed], console: Console) -> None:
    for one in replayed:
        if not one.has_stop:
            console.print(f"[yellow]{cut_short(one)}[/]", soft_wrap=True, highlight=False)


def _print_not_trusted(replayed: list[Replayed], console: Console) -> None:
    outcomes = [one.word.outcome for one in replayed if one.word]
    if doubted := sum(outcome != Outcome.OK for outcome in outcomes):
        of = f"{doubted} of {len(outcomes)} {'analysis is' if len(outcomes) == 1 else 'analyses are'}"
        told = f"{of} not to be trusted: the errors of the values marked{MARK} do not hold, see the outcome"
        console.print(f"[yellow]{told}[/]", soft_wrap=True, highlight=False)


def _table(technique: Technique, replayed: list[Replayed]) -> Table:
    columns = list(columns_of(technique))
    table = Table(title=technique.name, title_justify="left")
    for head in ("run", "plan or file", "points", *columns, "outcome"):
        table.add_column(head, overflow="fold")
    for one in replayed:
        table.add_row(*map(escape, (*_names(one.run), *_cells(columns, one))))
    return table


def _names(run: Run) -> tuple[str, str]:
    """What tells runs apart: uid and number of the scan, and the file where it came from one."""
    if file := run.start.get("file"):
        return run.uid[:8], str(file)
    scan = f"\nscan {run.start['scan_id']}" if "scan_id" in run.start else ""
    return run.uid[:8] + scan, str(run.start.get("plan_name", ""))


def _cells(columns: list[str], one: Replayed) -> list[str]:
    if one.word is None:
        return ["", *[""] * len(columns), "no frame"]
    # what the user named stands above its value
    named = zip(columns, one.word.values, strict=True)
    values = [told if name == column else f"{name}\n{told}" for column, (name, told) in named]
    return [str(one.word.points), *values, one.word.verdict]


def _print_speed(replayed: list[Replayed], console: Console) -> None:
    seconds = sum(one.seconds for one in replayed)
    runs = "1 run" if len(replayed) == 1 else f"{len(replayed)} runs"
    each = f", {seconds / len(replayed):.2g} s per run" if len(replayed) > 1 else ""
    console.print(f"{runs} analysed in {seconds:.1f} s{each}", highlight=False)
