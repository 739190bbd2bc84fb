"""`skyloop analyze`: a measured file becomes a run, an analysis run, a table and a figure."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from skyloop.callbacks import Analyzer, Options, Technique, techniques
from skyloop.cli._model import ModelOptions, model_text
from skyloop.cli._show import data_of, frames_of, marked, newest, points_of, show_facts
from skyloop.cli._store import finish_store
from skyloop.documents.run import NamedDocument
from skyloop.documents.schema import decode
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.figures.pen import draw, save
from skyloop.runtime.sinks import Callback, Sink
from skyloop.storage.jsonl import JsonlWriter

__all__ = ["FileRequest", "analyze", "technique_named"]


@dataclass(frozen=True)
class FileRequest:
    """What to analyse, and where the result goes."""

    file: Path
    """Measured data."""
    reading: Any
    """What the user says of the file that the file does not say itself."""
    out: Path
    """Folder for the runs and the figure."""


def analyze(request: FileRequest, technique: str, model: ModelOptions, console: Console) -> None:
    """Analyse one file and show the result.

    Raises:
        SkyloopError: the file, the model or the technique cannot be used.
    """
    began = time.monotonic()
    chosen = technique_named(technique)
    if chosen.read_file is None or chosen.panels is None:
        raise ConfigError(
            f"technique '{technique}' reads no files; mend: use `skyloop replay` on its stored runs"
        )
    if not request.file.is_file():
        raise DataError(f"there is no file {request.file}; mend: check the path")
    config = chosen.load(model_text(model))
    documents, notes = chosen.read_file(request.file, request.reading)
    for note in (*notes, *(chosen.assumed(config) if chosen.assumed else ())):
        console.print(f"[yellow]{escape(note)}[/]", soft_wrap=True, highlight=False)
    frames = frames_of(chosen, points_of(documents))
    config = chosen.for_file(config, frames) if chosen.for_file else config
    with _working(f"analysing {request.file.name}", console) as tell:
        store = Sink(JsonlWriter(request.out))
        follow = newest(chosen, lambda news: tell(f"{news}; now once more, over the whole prior"))
        analysed = _analysed(chosen, config, documents, (store, follow))
    result = _summary(chosen, config, analysed)
    panels = chosen.panels(frames, result, config=config)
    panels = marked(panels, chosen.priors(config) if chosen.priors else {})
    show_facts(panels, console)
    figure = save(draw(panels, title=request.file.name), request.out / f"{request.file.stem}.png")
    raw, analysis = documents[0][1]["uid"], analysed[0][1]["uid"]
    for line in (
        f"figure   {figure}",
        f"raw run  {raw}",
        f"analysis {analysis}",
        f"both as JSON lines in {request.out}",
        f"took {time.monotonic() - began:.0f} s",
    ):
        console.print(escape(line), soft_wrap=True, highlight=False)


@contextmanager
def _working(title: str, console: Console) -> Generator[Callable[[str], None]]:
    """A line that says what is done now, and for how long; it is gone afterwards."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
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


def _analysed(
    technique: Technique, config: Any, documents: Sequence[NamedDocument], sinks: tuple[Sink, Callback]
) -> list[NamedDocument]:
    analysed: list[NamedDocument] = []
    store, follow = sinks
    with Analyzer(technique, config, Options(executor="inline")) as analysis:
        analysis.subscribe(lambda name, doc: analysed.append((name, doc)))
        analysis.subscribe(follow)
        analysis.subscribe(store)
        for document in documents:
            store(*document)
            analysis(*document)
    finish_store(store)
    return analysed


def _summary(technique: Technique, config: Any, analysed: Sequence[NamedDocument]) -> Any:
    events = data_of(analysed)
    if not events:
        raise DataError("the analysis gave no result; mend: look at the warnings, or say --debug")
    kind = technique.engine(config).result_type
    first, last = (decode(kind, data, prefix=technique.name) for data in (events[0], events[-1]))
    if last.outcome in (Outcome.FAILED, Outcome.REJECTED):
        raise DataError(f"the analysis {first.outcome}: {first.reason}; mend: report it with file and model")
    return last
