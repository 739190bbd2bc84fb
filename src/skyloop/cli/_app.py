"""The commands and what they say when something is wrong: one line, exit code 2, no traceback."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skyloop import __version__
from skyloop.callbacks import techniques
from skyloop.cli import _analyze, _demo, _replay, _simulate
from skyloop.cli._beamline import POINTS
from skyloop.cli._model import ModelOptions
from skyloop.cli._warnings import each_once
from skyloop.errors import SkyloopError
from skyloop.runtime.endings import flush_all
from skyloop.storage.curve_run import CurveOptions

__all__ = ["app", "main"]

_ENDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_FLUSH_SECONDS = 5.0  # a container or a queue kills ten seconds or more after it has told us to end

app = typer.Typer(
    name="skyloop",
    help="Live analysis and adaptive plans for Bluesky beamlines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Technique = Annotated[
    str, typer.Option("--technique", "-t", help="Which analysis: see `skyloop techniques`.")
]
Model = Annotated[Path | None, typer.Option("--model", "-m", help="YAML file with the sample model.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for runs and figures.")]


def _version(wanted: bool) -> None:
    if wanted:
        Console().print(f"skyloop {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every command; `main` reads `--debug` itself, wherever it stands."""
    # the arrays are small: a second thread costs more than it brings, and the other core measures
    torch.set_num_threads(1)


@app.command()
def demo(
    out: Out = Path("skyloop-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated instrument.")] = 7,
) -> None:
    """Close the loop on a simulated reflectometer: scan, analyse, decide, store, read back, replay."""
    _demo.demo(out, seed, Console())


@app.command()
def analyze(
    file: Annotated[Path, typer.Argument(help="Measured data: .ort, or text with 2 to 4 columns.")],
    technique: Technique = "reflectometry",
    model: Model = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Instead of --model: 'film thickness=10:800 sld=0:10 roughness=0:30'."),
    ] = None,
    fronting: Annotated[str, typer.Option(help="Where the beam comes from, 'sld=2.07'.")] = "0",
    backing: Annotated[str, typer.Option(help="Below the last layer, 'sld=2.07 roughness=0:10'.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another key of the model, 'scale=0.8:1.2'.")
    ] = None,
    fwhm: Annotated[bool, typer.Option(help="The resolution column is a full width, not a sigma.")] = False,
    relative_resolution: Annotated[float, typer.Option(help="dq/q as full width, not as in the file.")] = 0,
    relative_sigma: Annotated[float, typer.Option(help="Relative error of R, not as in the file.")] = 0,
    q_min: Annotated[float, typer.Option(help="Lowest q to use [1/angstrom].")] = 0,
    q_max: Annotated[float, typer.Option(help="Highest q to use [1/angstrom].")] = math.inf,
    dataset: Annotated[int, typer.Option(help="Which dataset of an .ort file, from 1.")] = 1,
    out: Out = Path("skyloop-results"),
) -> None:
    """Analyse a measured curve: parameters with uncertainties, chi2, a figure and an analysis run.

    Exit status: 0 ok, 2 not analysed, 3 analysed and not to be trusted.
    """
    sample = ModelOptions(model, tuple(layer or ()), fronting, backing, tuple(set_ or ()))
    reading = CurveOptions(fwhm, relative_resolution, relative_sigma, q_min, q_max, dataset)
    _analyze.analyze(_analyze.FileRequest(file, reading, out), technique, sample, Console())


@app.command()
def replay(
    source: Annotated[
        str, typer.Argument(help="Tiled URI or catalog folder, databroker catalog, .jsonl or .msgpack.")
    ],
    technique: Technique = "reflectometry",
    model: Model = None,
    keys: Annotated[Path | None, typer.Option(help="YAML file: what the data are called.")] = None,
    run: Annotated[str, typer.Option(help="One run: its uid or the beginning of it.")] = "",
    search: Annotated[list[str] | None, typer.Option(help="key=value in the start document.")] = None,
    verify: Annotated[bool, typer.Option(help="Recompute every recorded decision and compare.")] = False,
    out: Out = Path("skyloop-results"),
) -> None:
    """Analyse stored runs again with the code of the live analysis.

    Exit status: 0 replayed, 2 not. With --verify also 2 when a decision does not follow from what is stored,
    when the same model gives other results than those stored, when a raw run was cut short, or when there is
    nothing to verify.
    """
    request = _replay.Request(source, run, tuple(search or ()), verify, model, keys)
    _replay.replay(request, technique, out, Console())


@app.command()
def simulate(
    out: Out = Path("skyloop-results"),
    plan: Annotated[str, typer.Option(help="fixed, stop_when_known or adaptive_reflectivity.")] = "fixed",
    points: Annotated[int, typer.Option(help="Points of the fixed scan.", min=8)] = POINTS,
    seed: Annotated[int, typer.Option(help="Seed of the simulated instrument.")] = 7,
) -> None:
    """Measure on the simulated reflectometer and store the run as JSON lines, to try `replay` on."""
    _simulate.simulate(_simulate.Scan(plan, points, seed), out, Console())


@app.command("techniques")
def list_techniques() -> None:
    """List the techniques that are installed."""
    table = Table("technique", "shown in tables", "reads files")
    for name, technique in techniques().items():
        table.add_row(name, ", ".join(technique.hints), "yes" if technique.read_file else "no")
    Console().print(table)


def main() -> None:
    """Entry point of the `skyloop` command."""
    debug = "--debug" in sys.argv[1:]
    words = [word for word in sys.argv[1:] if word != "--debug"]  # wherever it stands
    # an analysis records whatever is raised in it and goes on; these are meant for the command
    before = {number: signal.signal(number, partial(_quit, words)) for number in _ENDS}
    try:
        with nullcontext() if debug else each_once(Console(stderr=True)):
            app(words)
    except SkyloopError as error:
        if debug:
            raise
        # not wrapped: who pipes it, searches it or copies a path from it gets whole lines
        Console(stderr=True).print(f"[bold red]skyloop:[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _quit(words: Sequence[str], number: int, _: object) -> None:
    """End at once; a machine that wants it leaves time to store what is finished, a person does not."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whoever asks twice does not want to wait
    lost = flush_all(_FLUSH_SECONDS) if number == signal.SIGTERM else ""
    console = Console(stderr=True)
    console.show_cursor(show=True)
    newline = "\n" if console.is_terminal else ""  # past what the spinner wrote
    where = "" if "demo" in words[:1] else "; what is unfinished is in files that end in .part"
    left = f"; not stored: {escape(lost)}" if lost else ""
    told = f"stopped by {_ENDS[signal.Signals(number)]}{where}{left}"
    console.print(f"{newline}[bold red]skyloop:[/] {told}", soft_wrap=True)
    os._exit(128 + number)
