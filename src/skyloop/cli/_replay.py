"""`skyloop replay`: stored runs through the code of the live analysis, and decisions checked."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
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
from skyloop.cli._model import keys_file, model_file
from skyloop.cli._show import columns_of
from skyloop.documents.run import NamedDocument
from skyloop.errors import ConfigError, DataError, StorageError
from skyloop.figures.pen import number
from skyloop.plans import VerifyReport, verify
from skyloop.runtime.sinks import Sink
from skyloop.storage.digest import digest
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
        console.print(f"analysis runs as JSON lines in {escape(str(out))}", soft_wrap=True, highlight=False)
        if request.verify:
            _verify_all(chosen, source, replayed, console)


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
    if not any(job.config for job in jobs):
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
    store, able = Sink(JsonlWriter(out)), [job for job in jobs if job.config]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        followed = progress.track(able, description=f"replaying {len(able)} runs")
        replayed = [_replay_one(job, store) for job in followed]
    store.close()
    if store.failed:
        raise StorageError(f"{store.failed} documents were not written; the last: {store.last_failure}")
    return replayed


def _replay_one(job: Job, store: Sink) -> Replayed:
    documents: list[NamedDocument] = []
    with Analyzer(job.technique, job.config, Options(executor="inline")) as analysis:
        analysis.subscribe(store)
        analysis.subscribe(lambda name, doc: documents.append((name, doc)))
        began = time.perf_counter()
        report = play(job.run.documents(), [analysis])
        seconds = time.perf_counter() - began
    return Replayed(job.run, report.events, seconds, tuple(documents))


def _print_left_out(jobs: list[Job], console: Console) -> None:
    for (why, mend), count in Counter((job.why_not, job.mend) for job in jobs if not job.config).items():
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


def _table(technique: Technique, replayed: list[Replayed]) -> Table:
    table = Table(title=technique.name, title_justify="left")
    for head in ("run", "plan", "events", *columns_of(technique), "outcome"):
        table.add_column(head, overflow="fold")
    for one in replayed:
        plan = escape(str(one.run.start.get("plan_name", "")))
        table.add_row(one.run.uid[:8], plan, str(one.events), *_cells(technique, one))
    return table


def _cells(technique: Technique, one: Replayed) -> list[str]:
    values = _values(technique, one.analysis)
    if not values:
        return [*[""] * len(columns_of(technique)), "no frame"]
    data = next(doc["data"] for name, doc in reversed(one.analysis) if name == "event")
    reason = data[f"{technique.name}_reason"]
    return [*values, escape(f"{data[f'{technique.name}_outcome']} {reason}".strip())]


def _values(technique: Technique, analysis: Sequence[NamedDocument]) -> list[str]:
    """The hinted values of the last result, in words; none when there is no result."""
    events = [doc["data"] for name, doc in analysis if name == "event"]
    if not events:
        return []
    told = {hint: float(events[-1][f"{technique.name}_{hint}"]) for hint in technique.hints}
    return [number(told[v], told.get(sigma, math.nan)) for v, sigma in columns_of(technique).items()]


def _print_speed(replayed: list[Replayed], console: Console) -> None:
    events, seconds = sum(r.events for r in replayed), sum(r.seconds for r in replayed)
    rate = f", {events / seconds:.3g} events/s" if seconds else ""
    runs = "1 run" if len(replayed) == 1 else f"{len(replayed)} runs"
    console.print(f"{runs}, {events} events in {seconds:.1f} s{rate}")


def _verify_all(technique: Technique, source: Source, replayed: list[Replayed], console: Console) -> None:
    adaptive = [one for one in replayed if "adaptive" in one.run.start]
    if not adaptive:
        raise DataError(f"{source.name}: no run was measured by an adaptive plan; mend: leave --verify out")
    wrong = [line for one in adaptive for line in _verify_one(technique, source, one, console)]
    if wrong:
        raise DataError(f"{len(wrong)} recorded values do not follow from the stored documents: {wrong[0]}")


def _verify_one(technique: Technique, source: Source, one: Replayed, console: Console) -> list[str]:
    report, stored = _best_report(source, one)
    word = "[green]verified[/]" if report.verified else "[red]not verified[/]"
    console.print(f"run {one.run.uid[:8]}: {report.decisions} decisions {word}")
    console.print(_compared(technique, one, stored), soft_wrap=True, highlight=False)
    lines = [
        f"run {one.run.uid[:8]} decision {d.seq}, {d.field}: recorded {d.recorded}, recomputed {d.recomputed}"
        for d in report.differences
    ]
    for line in lines:
        console.print(escape(line), soft_wrap=True)
    return lines or ([] if report.verified else [f"run {one.run.uid[:8]} has no decision"])


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


def _compared(technique: Technique, one: Replayed, stored: list[NamedDocument]) -> str:
    """Whether the replay gave the results that the plan had."""
    name = f"run {one.run.uid[:8]}"
    if not stored or not one.analysis:
        return f"[yellow]{name}: no stored analysis to compare the results of the replay with[/]"
    new, old = (analysis[0][1]["analysis"] for analysis in (one.analysis, stored))
    now, before = (_result_in_words(technique, analysis) for analysis in (one.analysis, stored))
    if other := _told_otherwise(new, old):
        gives = f"gives other results: {now}; stored {before}" if now != before else f"still gives {now}"
        told = f"replayed with {other} and {gives}"
        return f"[yellow]{escape(f'{name}: {told}')}[/]"
    if digest(one.analysis).hexdigest() == digest(stored).hexdigest():
        return f"{name}: results identical to those of the stored analysis"
    told = f"{name}: same model, yet other results than the stored analysis: {now}; stored {before}"
    return f"[yellow]{escape(told)}[/]"


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
    values = zip(columns_of(technique), _values(technique, analysis), strict=True)
    return ", ".join(f"{name} {value}" for name, value in values)
