"""`python -m benchmarks.<what> [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks._figures import Figure, table_of, write_json

__all__ = ["run"]

Part = Callable[[bool], list[Figure]]
"""Measures some figures; quickly when asked to."""


def run(title: str, parts: Sequence[Part]) -> None:
    """Measure all parts one after the other; print the table and write the file."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="fewer samples and repeats")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    console = Console(width=150)
    console.print(title)
    figures = [figure for part in parts for figure in part(given.quick)]
    console.print(table_of(figures))
    if given.json:
        write_json(figures, given.json)
