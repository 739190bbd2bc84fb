"""A figure of merit beside that of a peer: how it is stored and shown."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.table import Table

__all__ = ["Figure", "data_folder", "speed_ratio", "table_of", "version_of", "write_json"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with the peer's and the goal."""

    figure: str
    """`<technique>.<what>[.<case>]`."""
    value: float
    """Ours."""
    unit: str
    """Unit in words."""
    peer: str
    """Name of the peer; empty when there is none."""
    peer_version: str
    """Its version; `not installed` when it could not be measured."""
    peer_value: float
    """Theirs, or NaN."""
    goal: float
    """What ours should reach; NaN for a figure that is stated only."""
    higher_is_better: bool
    """Which way is good."""

    @property
    def is_reached(self) -> bool:
        """True when the goal is; of no account without one."""
        return self.value >= self.goal if self.higher_is_better else self.value <= self.goal


def write_json(figures: Sequence[Figure], path: Path) -> None:
    """Write figures as a list of objects; a number that is missing is null."""
    rows = [{k: _plain(v) for k, v in asdict(figure).items()} for figure in figures]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_of(figures: Sequence[Figure]) -> Table:
    """Figures as a table for the terminal."""
    table = Table("figure", "ours", "peer", "goal", "unit", "peer is", "reached")
    for f in figures:
        sign = ">=" if f.higher_is_better else "<="
        stated = math.isnan(f.goal)
        values = (f"{f.value:.3g}", f"{f.peer_value:.3g}", "" if stated else f"{sign} {f.goal:.3g}")
        peer = f"{f.peer} {f.peer_version}".strip()
        table.add_row(f.figure, *values, f.unit, peer, "" if stated else "yes" if f.is_reached else "NO")
    return table


def version_of(package: str) -> str:
    """Version of an installed package, or `not installed`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def data_folder() -> Path:
    """Reference data, found as the tests find them."""
    given = os.environ.get("SKYLOOP_TEST_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        raise FileNotFoundError(f"no reference data in {folder}: set SKYLOOP_TEST_DATA")
    return folder


def speed_ratio(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> float:
    """How many times faster ours is: median over pairs, one after the other, after one of each."""
    _seconds(ours)
    _seconds(theirs)
    return statistics.median(_seconds(theirs) / _seconds(ours) for _ in range(repeats))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
