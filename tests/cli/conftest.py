"""The commands in this process, as a terminal would run them, and what they said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from skyloop import cli
from skyloop.engines.reflectometry.config import load
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.smearing import model_curve

MODEL = """
sample:
  layers:
    - {name: film, thickness: [150, 350], roughness: 5, sld: 4.2}
  backing: {name: Si, sld: 2.07, roughness: 4}
target: film.thickness
q_grid: {start: 0.01, stop: 0.2, num: 20}
particles: 100
"""
TRUTH = 240.0


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a command that was refused: one line or a few, and no traceback."""
        assert self.code == 2, (self.out, self.err)
        assert "Traceback" not in self.err
        assert self.err.startswith("skyloop: ")
        return self.err.removeprefix("skyloop: ").rstrip("\n")


Command = Callable[..., Said]


@pytest.fixture
def skyloop(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`skyloop("analyze", file)` runs the command, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Said:
        monkeypatch.setattr("sys.argv", ["skyloop", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        said = capfd.readouterr()
        return Said(code if isinstance(code, int) else int(code is not None), said.out, said.err)

    return run


def columns(q: np.ndarray) -> np.ndarray:
    """A measured curve of one layer: q, R, sigma of R."""
    parameters = Parameters.of(load(MODEL))
    at, theta = torch.from_numpy(q), torch.tensor([[TRUTH]], dtype=torch.float64)
    curve = model_curve(at, torch.zeros_like(at), parameters.slabs(theta))[0].numpy()
    sigma = 0.03 * curve + 1e-7
    return np.column_stack([q, curve + sigma * np.random.default_rng(0).normal(size=len(q)), sigma])


def write(path: Path, rows: np.ndarray, extra: Sequence[str] = ()) -> Path:
    lines = [" ".join(f"{value:.8e}" for value in row) for row in rows]
    path.write_text("\n".join([*lines[:3], *extra, *lines[3:]]) + "\n")
    return path


@pytest.fixture
def curve(tmp_path: Path) -> Path:
    return write(tmp_path / "curve.dat", columns(np.linspace(0.01, 0.2, 20)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.yaml"
    path.write_text(MODEL)
    return path
