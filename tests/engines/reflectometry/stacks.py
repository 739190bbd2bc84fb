"""Random stacks, reference arrays and a second, plain way to compute a reflectivity."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.reflectometry.forward import Slabs, stack

Q = torch.linspace(0.004, 0.3, 90, dtype=torch.float64)


def random_slabs(layers: int, *, batch: int = 6, absorbing: bool = True, seed: int = 0) -> Slabs:
    """Stacks with and without critical edges; half of the media absorb."""
    rng = np.random.default_rng([layers, seed])
    isld = rng.uniform(0, 0.5, (batch, layers + 2)) * rng.integers(0, 2, layers + 2) * absorbing
    columns = (
        rng.uniform(5, 200, (batch, layers)),
        rng.uniform(-1, 8, (batch, layers + 2)),
        isld,
        rng.uniform(0, 6, (batch, layers + 1)),
        rng.uniform(0.8, 1.2, batch),
        rng.uniform(0, 1e-5, batch),
        rng.uniform(-1e-4, 1e-4, batch),
        rng.uniform(0.8, 1.2, batch),
    )
    return Slabs(*(torch.from_numpy(c) for c in columns))


def abeles(q: Tensor, slabs: Slabs) -> Tensor:
    """The same physics by products of complex 2 x 2 matrices; q [n] or [batch, n]."""
    density = (slabs.sld - slabs.sld[:, :1] - 1j * slabs.isld) * 4e-6 * math.pi
    square = (torch.atleast_2d(q) ** 2 / 4)[:, None] - density[:, 1:, None]
    k = [torch.atleast_2d(q) / 2 + 0j, *square.sqrt().unbind(1)]
    m11 = m22 = torch.ones_like(k[-1])
    m12 = m21 = torch.zeros_like(k[-1])
    for j in range(len(k) - 1):
        phase = 1j * k[j] * slabs.thickness[:, j - 1, None] if j else torch.zeros_like(k[1])
        r = (k[j] - k[j + 1]) / (k[j] + k[j + 1])
        r = r * torch.exp(-2 * k[j] * k[j + 1] * slabs.roughness[:, j, None] ** 2)
        c11, c12, c21, c22 = phase.neg().exp(), r * phase.neg().exp(), r * phase.exp(), phase.exp()
        m11, m12 = m11 * c11 + m12 * c21, m11 * c12 + m12 * c22
        m21, m22 = m21 * c11 + m22 * c21, m21 * c12 + m22 * c22
    return (m21 / m11).abs() ** 2


def orso_case(folder: Path, number: int) -> tuple[Slabs, np.ndarray]:
    """Stack and reference table (q, R [, dR, dq]) of one validation case."""
    root = folder / "reflectometry" / "orso" / "unpolarised"
    lines = (root / f"test{number}.txt").read_text().splitlines()
    layers, data = [line.strip() for line in lines if line and not line.startswith("#")][:2]
    rows = np.loadtxt(root / layers, ndmin=2)
    slabs = stack(
        rows[1:-1, 0].tolist(),
        rows[:, 1].tolist(),
        isld=rows[:, 2].tolist(),
        roughness=rows[1:, 3].tolist(),
    )
    return slabs, np.loadtxt(root / data)
