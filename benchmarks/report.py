"""`python -m benchmarks.report FILE.json ...`: figures as a page for the documentation."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["page"]

_HOW_TO_READ = """
- `reflectometry.speed` and `loop` are on one thread; a speed is a ratio to the peer in the same process.
- `reflectometry.adaptive` is simulated beam time with moves, for 200 samples from the prior (20 and 8 with
  `--quick`). Both runs end at the same posterior standard deviation, the uniform one by an oracle. Samples
  that neither knows after a hundred thousand seconds are `left_out`.
- `wrong_model_detected` is the share of runs that do not stop as known, or stop within 3 sigma of the truth.
  The samples have an oxide of 20 to 80 angstrom that the model does not know, as far as an hour of uniform
  scan shows the misfit; `.thin` has all samples with one of 10 to 20 angstrom, which shifts the target and
  often does not show in such data at all. `coverage_oxide_in_model` has these samples and a model with an
  oxide of 0 to 40 angstrom.
- The thresholds of the search for a further layer were set on some of these samples, and the rule of what is
  a misfit was changed after three right models were called wrong among them.
- The oracle stops at a small standard deviation, whatever else its result says. One that leans on the end of
  its range is cut short there, and told as doubtful: without such samples it is `speedup.min_undoubted`.
- `reflectometry.chi2` compares least squares with least squares, from the same model and data; the errors of
  the nickel curve are at least 2 % there. A fit that equals the peer's may still not describe the data.
- `loop.replay` has an engine that computes nothing: gate, frames and documents alone.
- `xrf.fit` is one fit with known elements on one thread, `speedup` the time of 500 Adam steps of mapstorch
  over ours; `.sought` finds the calibration first. `xrf.draws` knows the energy of the beam and nothing else;
  its spectra have branching, positions and widths of lines drawn from what `Doubts` says, a drifting gain,
  escape, pile-up and a continuum, and calibrations wider than the grid. `xrf.maps` is of 10,000 pixels;
  `.bare` is without standard deviations, chi2 and checks.
- `wrong_mode_stops` and `coverage_xray` choose points for the whole curve, on an X-ray film of high contrast.
"""

_PACKAGES = (
    *("skyloop", "torch", "numpy", "scipy", "bluesky", "event-model", "tiled"),
    *("refnx", "reflectorch", "mapstorch", "PyMca5", "scikit-beam"),
)


def page(files: list[Path]) -> str:
    """All figures of the files as one Markdown page."""
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    lines = [
        "# Benchmarks",
        "",
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with the commands of `make bench`; {_machine()}.",
        "",
        f"At commit {_commit()}, with " + ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + ".",
        _HOW_TO_READ,
        "| figure | skyloop | peer | goal | unit | peer is | reached |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _machine() -> str:
    cores, python = torch.get_num_threads(), platform.python_version()
    return f"{cores} cores, {platform.machine()}, Python {python}, no GPU"


def _line(row: dict[str, Any]) -> str:
    higher = row["higher_is_better"]
    value, goal = row["value"], row["goal"]
    reached = value is not None and goal is not None and (value >= goal if higher else value <= goal)
    peer = f"{row['peer']} {row['peer_version']}".strip()
    cells = [
        f"`{row['figure']}`",
        _number(value),
        _number(row["peer_value"]),
        "" if goal is None else f"{'≥' if higher else '≤'} {_number(goal)}",
        row["unit"],
        peer,
        "" if goal is None else "yes" if reached else "**no**",
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    sys.stdout.write(page([Path(name) for name in sys.argv[1:]]))
