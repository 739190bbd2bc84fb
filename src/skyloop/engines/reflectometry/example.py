"""A small problem with a known answer: for tests of every technique, and to try the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from skyloop.engines.reflectometry.config import Config, Layer, Medium, QGrid, Sample
from skyloop.engines.reflectometry.frame import Frame
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.smearing import model_curve
from skyloop.quantities import FloatArray

__all__ = ["Example", "example"]

_TRUTH = {
    "film.thickness": 240.0,
    "film.roughness": 6.0,
    "film.sld": 4.2,
    "silicon.roughness": 4.0,
    "background": 2e-6,
}
_FLUX = 3e6


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A configuration, frames that a sample gave, and the sample."""

    config: Config
    """Sample model and question."""
    frames: tuple[Frame, ...]
    """One frame per point of a scan."""
    truth: Mapping[str, float]
    """True values of the free parameters by name."""


def example(seed: int = 0, points: int = 40) -> Example:
    """A scan of a film on silicon with Poisson counts and a systematic error of 1 %."""
    film = Layer(thickness=(100.0, 500.0), roughness=(2.0, 15.0), sld=(0.0, 6.5), name="film")
    config = Config(
        sample=Sample(layers=(film,), backing=Medium(2.07, (2.0, 8.0), name="silicon")),
        background=(1e-7, 1e-5),
        target="film.thickness",
        target_sigma=1.0,
        q_grid=QGrid(0.01, 0.2, points),
    )
    rng = np.random.default_rng(seed)
    q = np.linspace(config.q_grid.start, config.q_grid.stop, points)
    mean = _FLUX * _reflectivity(config, q) * rng.gamma(config.systematic**-2, config.systematic**2, points)
    counts = rng.poisson(mean)
    frames = tuple(Frame.counted(x, n, _FLUX) for x, n in zip(q, counts, strict=True))
    return Example(config, frames, dict(_TRUTH))


def _reflectivity(config: Config, q: FloatArray) -> FloatArray:
    parameters = Parameters.of(config)
    theta = torch.tensor([[_TRUTH[name] for name in parameters.names]], dtype=torch.float64)
    at = torch.from_numpy(q)
    return model_curve(at, torch.zeros_like(at), parameters.slabs(theta))[0].numpy()
