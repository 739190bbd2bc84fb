"""`skyloop analyze`: a measured file becomes a run, an analysis run, a table and a figure."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from skyloop.callbacks import Analyzer, Options, Technique, techniques
from skyloop.cli._model import ModelOptions, model_text
from skyloop.cli._show import data_of, frames_of, newest, panels_of, points_of, show_facts
from skyloop.cli._store import finish_store
from skyloop.documents.run import NamedDocument
from skyloop.documents.schema import decode
from skyloop.engines.panel import Panel
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.figures.pen import draw, save
from skyloop.runtime.sinks import Callback, Sink
from skyloop.storage.jsonl import JsonlWriter

__all__ = ["NOT_TRUSTED", "FileRequest", "analyze", "technique_named"]

NOT_TRUSTED = 3
"""Exit status: analysed, and not to be trusted; 2 says that nothing could be analysed."""
_UNUSABLE = (Outcome.FAILED, Outcome.REJECTED)


@dataclass(frozen=True)
class FileRequest:
    """What to analyse, and where the result goes."""

    file: Path
    """Measured data."""
    reading: Any
    """What the user says of the file that the file does not say itself."""
    out: Path
    """Folder for the runs and the figure."""


@dataclass(frozen=True)
class _Job:
    """A file that was read, and what to analyse it with."""

    name: str
    technique: Technique
    config: Any
    documents: list[NamedDocument]
    frames: list[Any]
    notes: tuple[str, ...]


def analyze(request: FileRequest, technique: str, model: ModelOptions, console: Console) -> None:
    """Analyse one file and show the result.

    Raises:
        SkyloopError: the file, the model or the technique cannot be used.
        Exit: the outcome is not `ok`; its status is `NOT_TRUSTED`.
    """
    began = time.monotonic()
    job = _read(request, technique_named(technique), model, console)
    with _working(console) as tell:
        tell(f"step 1 of 3, analysing {job.name}")
        again = newest(job.technique, lambda news: tell(f"step 2 of 3, once more to check; {news}"))
        analysed = _analysed(job, Sink(JsonlWriter(request.out)), again)
        tell("step 3 of 3, drawing")
        result, uid = _summary(job, analysed), analysed[0][1]["uid"]
        panels = panels_of(job.technique, job.config, job.frames, result)
        # with its uid: the figure of another model of the same file stays
        figure = _drawn(job, result, panels, request.out / f"{request.file.stem}-{uid[:8]}.png")
    show_facts(panels, console)
    for line in (
        f"figure   {figure}",
        f"raw run  {job.documents[0][1]['uid']}",
        f"analysis {uid}",
        f"both as JSON lines in {request.out}",
        f"took {time.monotonic() - began:.0f} s",
    ):
        console.print(escape(line), soft_wrap=True, highlight=False)
    if result.outcome != Outcome.OK:
        console.print(f"exit status {NOT_TRUSTED}: analysed, and not to be trusted", highlight=False)
        raise typer.Exit(NOT_TRUSTED)


def _read(request: FileRequest, technique: Technique, model: ModelOptions, console: Console) -> _Job:
    """Read file and model, and say what they leave out or take for granted."""
    if technique.read_file is None or technique.panels is None:
        raise ConfigError(
            f"technique '{technique.name}' reads no files; mend: use `skyloop replay` on its stored runs"
        )
    if request.file.is_dir():
        raise DataError(f"{request.file} is a folder; mend: give one file in it")
    if not request.file.is_file():
        raise DataError(f"there is no file {request.file}; mend: check the path")
    config = technique.load(model_text(model))
    documents, notes = technique.read_file(request.file, request.reading)
    told = (*notes, *(technique.assumed(config) if technique.assumed else ()))
    for note in told:
        console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True, highlight=False)
    frames = frames_of(technique, points_of(documents))
    config = technique.for_file(config, frames) if technique.for_file else config
    return _Job(request.file.name, technique, config, documents, frames, told)


def _drawn(job: _Job, result: Any, panels: Sequence[Panel], path: Path) -> Path:
    doubt = "" if result.outcome == Outcome.OK else ": not to be trusted, see the outcome"
    return save(draw(panels, title=f"{job.name}{doubt}", notes=job.notes), path)


@contextmanager
def _working(console: Console) -> Generator[Callable[[str], None]]:
    """A line that says what is done now, and for how long; it is gone afterwards."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda news: progress.update(task, description=news)


def technique_named(name: str) -> Technique:
    """The technique of that name.

    Raises:
        ConfigError: there is none.
    """
    found = techniques()
    if name not in found:
        raise ConfigError(f"no technique '{name}'; mend: one of {', '.join(found)}")
    return found[name]


def _analysed(job: _Job, store: Sink, follow: Callback) -> list[NamedDocument]:
    analysed: list[NamedDocument] = []
    with Analyzer(job.technique, job.config, Options(executor="inline")) as analysis:
        analysis.subscribe(lambda name, doc: analysed.append((name, doc)))
        analysis.subscribe(follow)
        analysis.subscribe(store)
        for document in job.documents:
            store(*document)
            analysis(*document)
    finish_store(store)
    return analysed


def _summary(job: _Job, analysed: Sequence[NamedDocument]) -> Any:
    events = data_of(analysed)
    if not events:
        raise DataError("the analysis gave no result; mend: look at the warnings, or say --debug")
    kind = job.technique.engine(job.config).result_type
    first, last = (decode(kind, data, prefix=job.technique.name) for data in (events[0], events[-1]))
    if last.outcome in _UNUSABLE:
        cause = first if first.outcome in _UNUSABLE else last
        raise DataError(f"the analysis {cause.outcome}: {cause.reason}; mend: report it with file and model")
    return last
