"""Maps of 10,000 pixels, 2,048 channels and 17 components on one thread: speed, accuracy, time of a row.

All solve the same unweighted non-negative least squares, on the spectra of components that MapsTorch makes;
the pixels hold about 2,000 Poisson counts. `PixelSolver` also gives standard deviations, detection limits
and chi2; `.bare` is the projection and `nnls` alone. scipy and scikit-beam solve some pixels one by one.
MapsTorch has its defaults, but no SNIP and linear amplitudes; `.no_ridge` takes its ridge away, which does
not change its speed. Differences are relative to the largest amplitude of the pixel, and violations of the
conditions of the minimum to the largest projection.

PyMca's fast fit makes its own components of the same 15 elements and the scatter, without strip, continuum
and escape, and gives uncertainties; it leaves out in a second fit what came out negative. That is nearly the
same problem, so its speed is compared and its amplitudes are not.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from mapstorch.default import default_param_vals
from mapstorch.map import build_model_basis
from mapstorch.opt import solve_mca_amplitudes
from PyMca5.PyMcaPhysics.xrf.ClassMcaTheory import McaTheory
from PyMca5.PyMcaPhysics.xrf.FastXRFLinearFit import FastXRFLinearFit
from scipy.optimize import nnls as scipy_nnls
from skbeam.core.fitting.xrf_model import nnls_fit
from torch import Tensor

from benchmarks._figures import Figure, speed_ratio, version_of
from skyloop.engines.xrf.pixels import Basis, Limits, PixelSolver
from skyloop.numerics.nnls import nnls
from skyloop.quantities import FloatArray

__all__ = ["measure"]

_CHANNELS = 2048
_COUNTS = 2000.0
_ROW = 100
_RIDGE = 1e-3  # MapsTorch's default
_ELEMENTS = [*("Si", "S", "Cl", "Ar", "K", "Ca", "Ti", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn"), "La_L"]
_PARAMETERS = {"COHERENT_SCT_ENERGY": 12.0, "ENERGY_SLOPE": 0.01, "ENERGY_OFFSET": 0.0}


@dataclass(frozen=True, slots=True, eq=False)
class _Map:
    """Pixels and what they are made of."""

    counts: Tensor
    """[pixel, channel], float32."""
    names: list[str]
    """Components."""
    columns: Tensor
    """[component, channel]."""
    parameters: dict[str, Tensor]
    """Of the spectra, as MapsTorch has them."""

    @property
    def solver(self) -> PixelSolver:
        """Ours, as plain least squares in every pixel."""
        ones = torch.ones(_CHANNELS, dtype=torch.float64)
        basis = Basis(tuple(self.names), self.columns, len(self.names), 0, ones)
        return PixelSolver(basis, Limits(few_counts=0.0))

    def first(self, count: int) -> FloatArray:
        """[pixel, channel]."""
        return self.counts[:count].numpy().astype(np.float64)


def measure(quick: bool) -> list[Figure]:
    """Speeds against four peers, differences, and the time of a row."""
    torch.set_num_threads(1)
    pixels = _drawn(2000 if quick else 10_000)
    few, repeats = (100, 3) if quick else (500, 7)
    return [
        *_speeds(pixels, few, repeats),
        *_deviations(pixels, few if quick else 1000),
        *_rates(pixels, repeats),
        _row(pixels),
    ]


def _drawn(count: int) -> _Map:
    values = {**default_param_vals, **_PARAMETERS}
    parameters = {name: torch.tensor(float(value)) for name, value in values.items()}
    built, names = build_model_basis(parameters, (0, _CHANNELS - 1), _ELEMENTS)
    columns = built.detach().to(torch.float64)
    rng = np.random.default_rng(0)
    shares = rng.lognormal(0.0, 1.0, len(names)) * rng.lognormal(0.0, 1.0, (count, len(names)))
    weights = torch.from_numpy(shares)
    amplitudes = weights * (_COUNTS / (weights @ columns.sum(1)))[:, None]
    counts = rng.poisson((amplitudes @ columns).numpy()).astype(np.float32)
    return _Map(torch.from_numpy(counts), names, columns, parameters)


def _bare(pixels: _Map) -> Callable[[], FloatArray]:
    """The projection in float64 and the solution, in blocks that stay near the processor."""
    columns = pixels.columns
    gram, projector = columns @ columns.T, columns.T.contiguous()
    parts = pixels.counts.split(256)
    return lambda: nnls(gram, torch.cat([y.to(torch.float64) @ projector for y in parts])).x.numpy()


def _mapstorch(pixels: _Map, ridge: float = _RIDGE) -> FloatArray:
    amplitudes, _ = solve_mca_amplitudes(
        pixels.counts,
        (0, _CHANNELS - 1),
        pixels.parameters,
        elements_to_fit=_ELEMENTS,
        energy_dim=-1,
        use_snip=False,
        amp_method="nnls_pgd",
        return_log10=False,
        progress_bar=False,
        ridge_lambda=ridge,
    )
    return np.asarray(amplitudes, dtype=np.float64)


def _pymca(pixels: _Map) -> object:
    energy = _PARAMETERS["COHERENT_SCT_ENERGY"]
    configuration = McaTheory().getConfiguration()
    configuration["peaks"] = {name.partition("_")[0]: [name.partition("_")[2] or "K"] for name in _ELEMENTS}
    configuration["fit"] |= {"energy": [energy], "scatterflag": 1, "escapeflag": 0, "fitweight": 0}
    configuration["fit"] |= {"use_limit": 1, "xmin": 0, "xmax": _CHANNELS - 1, "linearfitflag": 1}
    configuration["detector"] |= {"zero": 0.0, "gain": _PARAMETERS["ENERGY_SLOPE"], "sum": 0.0}
    fit = FastXRFLinearFit()
    fit.setFitConfiguration(configuration)
    channels = np.arange(_CHANNELS, dtype=np.float64)
    return fit.fitMultipleSpectra(x=channels, y=pixels.counts.numpy()[None], weight=0, refit=True)


def _scipy(columns: FloatArray, counts: FloatArray) -> FloatArray:
    return np.array([scipy_nnls(columns, y)[0] for y in counts])


def _skbeam(columns: FloatArray, counts: FloatArray) -> FloatArray:
    return np.array([nnls_fit(y, columns)[0] for y in counts])


def _speeds(pixels: _Map, few: int, repeats: int) -> list[Figure]:
    """Times the peer's speed, pixel by pixel where the peer is."""
    solver, bare = pixels.solver, _bare(pixels)
    tall, some = pixels.columns.T.contiguous().numpy(), pixels.first(few)
    scale = len(pixels.counts) / few
    peers: list[tuple[str, Callable[[], object], float, float]] = [
        ("scipy", lambda: _scipy(tall, some), scale, 10.0),
        ("scikit-beam", lambda: _skbeam(tall, some), scale, 10.0),
        ("mapstorch", lambda: _mapstorch(pixels), 1.0, 5.0),
        ("PyMca5", lambda: _pymca(pixels), 1.0, math.nan),
    ]
    figures: list[Figure] = []
    for peer, work, share, goal in peers:
        for ending, ours in (("", lambda: solver.solve(pixels.counts)), (".bare", bare)):
            ratio = share * speed_ratio(ours, work, repeats)
            unit = f"times the peer's speed; {len(pixels.counts)} pixels"
            figures.append(_figure(f"speedup.{peer}{ending}", ratio, unit, peer, 1.0, goal, up=True))
    return figures


def _deviations(pixels: _Map, count: int) -> list[Figure]:
    """From scipy in the first pixels, and from the conditions of a minimum in all."""
    reference = _scipy(pixels.columns.T.contiguous().numpy(), pixels.first(count))
    ours, theirs = pixels.solver.solve(pixels.counts).amplitudes.numpy(), _mapstorch(pixels)
    every = ours, theirs, _mapstorch(pixels, 0.0)
    apart = [_apart(found[:count], reference) for found in every]
    gram, projected = _normal_equations(pixels)
    broken = [_violation(found, gram, projected) for found in every]
    unit = f"largest difference to scipy, relative; {count} pixels"
    kkt = "largest violation of the conditions of a minimum, relative"
    return [
        _figure("difference", apart[0], unit, "mapstorch", apart[1], 1e-5, up=False),
        _figure("difference.no_ridge", apart[0], unit, "mapstorch", apart[2], 1e-5, up=False),
        _figure("kkt", broken[0], kkt, "mapstorch", broken[1], 1e-6, up=False),
        _figure("kkt.no_ridge", broken[0], kkt, "mapstorch", broken[2], 1e-6, up=False),
    ]


def _apart(found: FloatArray, reference: FloatArray) -> float:
    return float((np.abs(found - reference).max(1) / reference.max(1)).max())


def _normal_equations(pixels: _Map) -> tuple[FloatArray, FloatArray]:
    columns = pixels.columns.numpy()
    return columns @ columns.T, pixels.counts.numpy().astype(np.float64) @ columns.T


def _violation(found: FloatArray, gram: FloatArray, projected: FloatArray) -> float:
    """Largest |gradient| where positive and -gradient at zero, over the largest projection of the pixel."""
    gradient = found @ gram - projected
    broken = np.where(found > 0, np.abs(gradient), np.maximum(-gradient, 0.0))
    return float((broken.max(1) / np.abs(projected).max(1)).max())


def _rates(pixels: _Map, repeats: int) -> list[Figure]:
    """Pixels per second, beside those of reading the numbers once."""
    solver, bare = pixels.solver, _bare(pixels)
    works: list[Callable[[], object]] = [
        lambda: solver.solve(pixels.counts),
        bare,
        lambda: pixels.counts.sum(),
    ]
    rounds = [[_seconds(work) for work in works] for _ in range(repeats + 1)][1:]
    full, alone, read = (len(pixels.counts) / statistics.median(each) for each in zip(*rounds, strict=True))
    unit = "pixels/s"
    return [
        _figure("rate", full, unit, "reading all counts once", read, math.nan, up=True),
        _figure("rate.bare", alone, unit, "reading all counts once", read, math.nan, up=True),
    ]


def _row(pixels: _Map) -> Figure:
    """A row with standard deviations, from counts as they come."""
    solver, row = pixels.solver, pixels.counts[:_ROW]
    times = [1e3 * _seconds(lambda: solver.solve(row)) for _ in range(30)][5:]
    unit = f"ms, median of a row of {_ROW} pixels with sigma (largest {max(times):.1f})"
    return _figure("row", statistics.median(times), unit, "", float("nan"), 20.0, up=False)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _figure(
    name: str, value: float, unit: str, peer: str, peer_value: float, goal: float, *, up: bool
) -> Figure:
    packages = ("scipy", "scikit-beam", "mapstorch", "PyMca5")
    return Figure(
        figure=f"xrf.maps.{name}",
        value=value,
        unit=unit,
        peer=peer,
        peer_version=version_of(peer) if peer in packages else "",
        peer_value=peer_value,
        goal=goal,
        higher_is_better=up,
    )
