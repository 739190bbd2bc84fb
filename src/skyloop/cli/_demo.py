"""`skyloop demo`: the whole loop on a simulated reflectometer, from the scan to the verified replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import TECHNIQUE, reflectometry
from skyloop.cli._beamline import (
    COUNT_TIME,
    MOVE_OVERHEAD,
    MOVE_PER_UNIT,
    POINTS,
    START,
    STOP,
    TARGET,
    TARGET_SIGMA,
    TRUTH,
    beamline,
    model,
)
from skyloop.cli._show import data_of, each_result, frames_of, points_of
from skyloop.cli._store import finish_store
from skyloop.documents.run import NamedDocument
from skyloop.documents.schema import decode
from skyloop.engines.panel import Axis
from skyloop.engines.reflectometry import Engine, Frame, Result, panels
from skyloop.errors import SkyloopError
from skyloop.figures.pen import draw, save
from skyloop.figures.words import number
from skyloop.plans import adaptive_reflectivity, verify
from skyloop.runtime.sinks import Callback, Sink
from skyloop.storage.databroker import read_back
from skyloop.storage.digest import digest
from skyloop.storage.replay import replay
from skyloop.storage.sources import open_source
from skyloop.storage.tiled import TiledSink, embedded_tiled

__all__ = ["demo"]


@dataclass(frozen=True)
class Loop:
    """What the measurement left."""

    found: dict[str, Any]
    """What the plan returned."""
    analysis_uid: str
    """Uid of the analysis run."""


@dataclass(frozen=True)
class Uniform:
    """The uniform scan that the plan is compared with."""

    result: Result
    """What it knows."""
    beam_time: float
    """Counting and moving [s]."""


def demo(out: Path, seed: int, console: Console) -> None:
    """Measure, analyse, decide, store, read back, replay and compare; then a table and a figure.

    Raises:
        SkyloopError: a part is not installed, or a check of the demo fails.
    """
    console.print("[bold]skyloop demo[/]: a simulated reflectometer, until the film thickness is known")
    with embedded_tiled(out / "catalog") as server:
        with _stage(console, "measuring") as tell:
            loop = _measure(server.client, seed, tell)
        raw_uid = loop.found["run_uid"]
        with _stage(console, "reading back through databroker and Tiled"):
            points = len(read_back(server.client, raw_uid).tables["primary"])
            with open_source(server.uri, run=raw_uid) as source:
                raw = list(next(iter(source)).documents())
                stored = list(next(source.analyses_of(raw_uid)).documents())
        with _stage(console, "replaying from the store"):
            again = _replayed(raw)
            same = _same_results(stored, again)
            report = verify(raw, stored)
        with _stage(console, "measuring a uniform scan that knows as much"):
            uniform = _uniform(seed + 1)
    result = _last_word(stored)
    _print_table(console, loop, result, uniform, points)
    figure = _figure(raw, stored, result, out)
    console.print(
        f"runs    catalog in {out / 'catalog'}: raw {raw_uid[:8]}, analysis {loop.analysis_uid[:8]}"
    )
    results, decisions = (
        "identical" if same else "DIFFERENT",
        "verified" if report.verified else "NOT VERIFIED",
    )
    console.print(f"replay  {results} results, {report.decisions} decisions {decisions}")
    console.print(f"figure  {figure}")
    if not (same and report.verified):
        raise SkyloopError("the replay does not give what was measured; this is a fault of skyloop")


@contextmanager
def _stage(console: Console, title: str) -> Generator[Callable[[str, float], None]]:
    # together less than the 80 columns of a terminal
    columns = (TextColumn("{task.description:<48}"), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None)

        def tell(note: str, done: float) -> None:
            progress.update(task, description=f"{title}: {note}", total=1.0, completed=done)

        yield tell
        progress.update(task, total=1.0, completed=1.0)


def _measure(client: Any, seed: int, tell: Callable[[str, float], None]) -> Loop:
    devices = beamline(seed)
    engine: Any = RunEngine({}, call_returns_result=True, context_managers=[])  # Ctrl-C ends, not pauses
    store = Sink(TiledSink(client))
    uids: list[str] = []
    with reflectometry(model()) as analysis:
        engine.subscribe(store)
        engine.subscribe(analysis)
        analysis.subscribe(store)
        analysis.subscribe(lambda name, doc: uids.append(doc["uid"]) if name == "start" else None)
        analysis.subscribe(_progress_of(tell))
        plan = adaptive_reflectivity(
            [devices.detector],
            devices.q,
            analysis=analysis,
            start=START,
            stop=STOP,
            num=POINTS,
            count_time=COUNT_TIME,
            timeout=30.0,
            move_overhead=MOVE_OVERHEAD,
            move_per_unit=MOVE_PER_UNIT,
        )
        found = engine(plan).plan_result
    finish_store(store)
    return Loop(found, uids[0])


def _progress_of(tell: Callable[[str, float], None]) -> Callback:
    first: list[float] = []

    def show(point: int, value: float, sigma: float) -> None:
        if math.isnan(sigma):
            return  # without a result of its own
        first.append(sigma)
        way = np.log(first[0] / TARGET_SIGMA)
        done = 1.0 if way <= 0 else float(np.clip(1 - np.log(sigma / TARGET_SIGMA) / way, 0, 1))
        tell(f"point {point}, {number(value, sigma)} Å", done)

    return each_result(TECHNIQUE, show)


def _replayed(raw: Sequence[NamedDocument]) -> list[NamedDocument]:
    again: list[NamedDocument] = []
    with reflectometry(model(), options=Options(executor="inline"), name="") as analysis:
        analysis.subscribe(lambda name, doc: again.append((name, doc)))
        replay(raw, [analysis])
    return again


def _same_results(stored: Sequence[NamedDocument], again: Sequence[NamedDocument]) -> bool:
    return digest(stored).hexdigest() == digest(again).hexdigest()


def _uniform(seed: int) -> Uniform | None:
    """The uniform scan whose count time, in steps of 1.25, first reaches the target's uncertainty.

    It needs no confirmation: it is stopped by somebody who knows the truth.
    """
    devices, engine = beamline(seed), Engine(model())
    q = np.linspace(START, STOP, POINTS)
    moves = MOVE_OVERHEAD * len(q) + MOVE_PER_UNIT * (q[-1] - q[0])
    counting = devices.detector.counting
    for count_time in 5.0 * 1.25 ** np.arange(16):
        taken = [counting.expose(x, count_time, number=i, time=0.0) for i, x in enumerate(q)]
        columns = zip(*((t.counts, t.exposure, t.q_sigma) for t in taken), strict=True)
        _, result = engine.step(engine.start(seed), [Frame.counted(q, *map(list, columns))])
        if result.target_sigma <= TARGET_SIGMA:
            return Uniform(result, float(moves + count_time * len(q)))
    return None


def _last_word(stored: Sequence[NamedDocument]) -> Result:
    """The summary, confirmed or not: `replay` shows it too."""
    return _results(stored)[-1]


def _results(stored: Sequence[NamedDocument]) -> list[Result]:
    """Every result of an analysis run; the summary is the last."""
    return [decode(Result, data, prefix=TECHNIQUE.name) for data in data_of(stored)]


def _print_table(console: Console, loop: Loop, result: Result, uniform: Uniform | None, points: int) -> None:
    found = loop.found
    table = Table("", "film thickness", "beam time", "points")
    table.add_row("truth", f"{TRUTH[TARGET]} Å", "", "")
    table.add_row("adaptive plan", _thickness(result), f"{found['beam_time']:.0f} s", str(points))
    if uniform is None:
        table.add_row("uniform scan", "not reached", "", str(POINTS))
    else:
        seconds = f"{uniform.beam_time:.0f} s"
        table.add_row("uniform scan", _thickness(uniform.result), seconds, str(POINTS))
    console.print(table)
    if not result.confirmed:
        why = f": {result.reason}" if result.reason else ""
        console.print(f"[yellow]not confirmed by a second inference over the whole prior{escape(why)}[/]")
    console.print(f"stopped with: {found['reason']}; {_gain(found['beam_time'], uniform)}")


def _thickness(result: Result) -> str:
    return f"{number(result.target, result.target_sigma)} Å"


def _gain(beam_time: float, uniform: Uniform | None) -> str:
    if uniform is None:
        return f"no uniform scan that was tried knows the thickness to {TARGET_SIGMA} Å"
    return f"{uniform.beam_time / beam_time:.1f} times less beam time than the uniform scan"


def _figure(raw: Sequence[NamedDocument], stored: Sequence[NamedDocument], result: Result, out: Path) -> Path:
    found = points_of(raw)
    decisions = [point.data for point in found if point.stream == "decision"]
    history = _results(stored)[:-1]
    known: dict[str, Any] = {"config": model(), "moved": Axis("q", "1/angstrom"), "truth": TRUTH[TARGET]}
    drawn = panels(frames_of(TECHNIQUE, found), result, history=history, decisions=decisions, **known)
    return save(draw(drawn), out / "loop.png")
