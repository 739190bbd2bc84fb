"""The forward model: how right on the ORSO references, how fast beside refnx and reflectorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from refnx.reflect import reflect_model

from benchmarks._figures import Figure, data_folder, speed_ratio, version_of
from skyloop.engines.reflectometry.forward import Slabs, reflectivity, stack
from skyloop.engines.reflectometry.slopes import reflectivity_and_slopes
from skyloop.engines.reflectometry.smearing import model_curve
from skyloop.quantities import FloatArray

__all__ = ["measure"]

_FWHM = 2.354820045
_CUT = 0.999535  # the smeared references keep the weight that the cut Gaussian lacks
_GOALS = {0: 1e-10, 1: 8e-5, 2: 1e-10, 3: 8e-5, 4: 1e-3, 5: 1e-3, 6: 1e-10, 7: 1e-10}
_POINTS = 128
_FEW = 128  # curves where the peer has more to do for each


def measure(quick: bool) -> list[Figure]:
    """Deviations from the ORSO references, then speeds on one thread."""
    torch.set_num_threads(1)
    folder = data_folder() / "reflectometry" / "orso" / "unpolarised"
    deviations = [_deviation(folder, case) for case in _GOALS]
    return [*deviations, *_speeds(batch=128 if quick else 1024, repeats=3 if quick else 9)]


def _deviation(folder: Path, case: int) -> Figure:
    slabs, table = _orso(folder, case)
    q, reference = table[:, 0], table[:, 1]
    width = table[:, 3] if table.shape[1] == 4 else np.zeros_like(q)
    lost = _CUT if width.any() else 1.0
    ours = model_curve(torch.tensor(q), torch.tensor(width), slabs)[0].numpy() * lost
    theirs = _refnx(_refnx_rows(slabs)[0], q, width)
    return Figure(
        figure=f"reflectometry.orso.case{case}",
        value=float(np.abs(ours / reference - 1).max()),
        unit="largest relative deviation",
        peer="refnx",
        peer_version=version_of("refnx"),
        peer_value=float(np.abs(theirs / reference - 1).max()),
        goal=_GOALS[case],
        higher_is_better=False,
    )


def _orso(folder: Path, case: int) -> tuple[Slabs, FloatArray]:
    lines = (folder / f"test{case}.txt").read_text().splitlines()
    layers, data = [line.strip() for line in lines if line and not line.startswith("#")][:2]
    rows = np.loadtxt(folder / layers, ndmin=2)
    columns = rows[1:-1, 0].tolist(), rows[:, 1].tolist()
    slabs = stack(*columns, isld=rows[:, 2].tolist(), roughness=rows[1:, 3].tolist())
    return slabs, np.loadtxt(folder / data)


def _refnx(rows: FloatArray, q: FloatArray, width: FloatArray) -> FloatArray:
    """Refnx with its default quadrature where there is a resolution."""
    dq: Any = _FWHM * width if width.any() else 0.0
    return np.asarray(reflect_model.reflectivity(q, rows, dq=dq, threads=1))


def _refnx_rows(slabs: Slabs) -> FloatArray:
    """One array [layers + 2, 4] of thickness, SLD, absorption and roughness per stack."""
    rows = np.zeros((*slabs.sld.shape, 4))
    rows[:, 1:-1, 0] = slabs.thickness.numpy()
    rows[:, :, 1] = slabs.sld.numpy()
    rows[:, :, 2] = slabs.isld.numpy()
    rows[:, 1:, 3] = slabs.roughness.numpy()
    return rows


def _speeds(batch: int, repeats: int) -> list[Figure]:
    q = torch.linspace(0.005, 0.3, _POINTS, dtype=torch.float64)
    figures: list[Figure] = []
    for name, layers, absorbs in (("3_layers", 3, False), ("3_absorbing", 3, True), ("20_layers", 20, False)):
        slabs = _random(batch, layers, absorbs=absorbs)
        rows = _refnx_rows(slabs)
        ratio = speed_ratio(lambda s=slabs: reflectivity(q, s), lambda r=rows: _kernel(q.numpy(), r), repeats)
        figures.append(_speed(f"speed.refnx.{name}", "refnx", ratio, 1 / 1.5))
        figures.append(_reflectorch(name, q, slabs, repeats))
    return [*figures, _smeared(q, repeats), _slopes(q, repeats)]


def _reflectorch(name: str, q: torch.Tensor, slabs: Slabs, repeats: int) -> Figure:
    peer = _reflectorch_kernel()
    ratio = float("nan")
    if peer is not None:
        sld = torch.complex(slabs.sld, slabs.isld) if slabs.isld.any() else slabs.sld
        ratio = speed_ratio(
            lambda: reflectivity(q, slabs),
            lambda: peer(q, slabs.thickness, slabs.roughness, sld),
            max(2, repeats // 3),
        )
    return _speed(f"speed.reflectorch.{name}", "reflectorch", ratio, 2.0)


def _reflectorch_kernel() -> Callable[..., torch.Tensor] | None:
    try:
        from reflectorch.data_generation.reflectivity.abeles import abeles
    except ImportError:
        return None
    return abeles


def _smeared(q: torch.Tensor, repeats: int) -> Figure:
    """5 % FWHM at every point; refnx with 17 nodes everywhere, ours with as many as are needed."""
    slabs = _random(_FEW, 3, absorbs=False)
    rows, width = _refnx_rows(slabs), 0.05 * q / _FWHM
    ratio = speed_ratio(
        lambda: model_curve(q, width, slabs),
        lambda: [_refnx(r, q.numpy(), width.numpy()) for r in rows],
        repeats,
    )
    return _speed("speed.refnx.smeared", "refnx", ratio, 1.0)


def _slopes(q: torch.Tensor, repeats: int) -> Figure:
    """A curve with its derivatives by 12 parameters; refnx by forward differences."""
    slabs = _random(_FEW, 3, absorbs=False)
    rows = np.repeat(_refnx_rows(slabs), 13, axis=0)
    ratio = speed_ratio(lambda: reflectivity_and_slopes(q, slabs), lambda: _kernel(q.numpy(), rows), repeats)
    return _speed("speed.refnx.derivatives", "refnx", ratio, 1.0)


def _kernel(q: FloatArray, rows: FloatArray) -> None:
    for row in rows:
        reflect_model.abeles(q, row, threads=1)


def _speed(what: str, peer: str, ratio: float, goal: float) -> Figure:
    return Figure(
        figure=f"reflectometry.{what}",
        value=ratio,
        unit="times the peer's speed",
        peer=peer,
        peer_version=version_of(peer),
        peer_value=1.0 if np.isfinite(ratio) else float("nan"),
        goal=goal,
        higher_is_better=True,
    )


def _random(batch: int, layers: int, *, absorbs: bool) -> Slabs:
    rng = np.random.default_rng(0)
    sld = np.c_[np.zeros(batch), rng.uniform(0, 7, (batch, layers)), np.full(batch, 2.07)]
    isld = np.full_like(sld, 0.1 if absorbs else 0.0)
    isld[:, 0] = 0
    thickness, rough = rng.uniform(10, 300, (batch, layers)), rng.uniform(0, 8, (batch, layers + 1))
    one = torch.ones(batch, dtype=torch.float64)
    columns = (torch.from_numpy(c) for c in (thickness, sld, isld, rough))
    return Slabs(*columns, scale=one, background=0 * one, q_offset=0 * one, resolution=one)
