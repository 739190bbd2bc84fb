"""What the spectra of all pixels are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.xrf.spectrum import SpectrumFit
from skyloop.errors import ConfigError

__all__ = ["Basis", "basis_of", "inverse", "shared_weights"]

_FLOOR = 1e-2  # of the mean expectation: what the least expectation of a channel is taken for in a weight
_DEPENDENT = 1e-10  # smallest eigenvalue of the normalised Gram matrix that tells components apart


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What the spectrum of a pixel is made of.

    Raises:
        ConfigError: shapes that do not fit, numbers that are negative or not finite, a component that
            reaches no channel, or components that cannot be told apart.
    """

    names: tuple[str, ...]
    """Components, then background columns."""
    columns: Tensor
    """[component + background, channel], expected counts at amplitude 1."""
    n_components: int
    """How many of the columns are components."""
    first: int
    """Number of the first of these channels in the detector."""
    weights: Tensor
    """[channel], of the least squares that all pixels share; see `shared_weights`."""

    def __post_init__(self) -> None:
        n, channels = len(self.names), self.columns.shape[-1]
        shapes = tuple(self.columns.shape), tuple(self.weights.shape)
        if shapes != ((n, channels), (channels,)) or not 0 < self.n_components <= n:
            raise ConfigError(
                f"basis of {n} names, {self.n_components} components: columns {shapes[0]}, weights"
                f" {shapes[1]}; mend: columns [{n}, channel], weights [channel], 1 to {n} components"
            )
        for name, array in (("columns", self.columns), ("weights", self.weights)):
            if array.dtype != torch.float64 or not bool(((array >= 0) & array.isfinite()).all()):
                raise ConfigError(f"{name} of the basis: mend: float64, finite and not negative")
        self._check_told_apart()

    def _check_told_apart(self) -> None:
        reach = (self.columns * self.weights).sum(1)
        if lost := [name for name, r in zip(self.names, reach.tolist(), strict=True) if r <= 0]:
            raise ConfigError(
                f"component '{lost[0]}' reaches none of the channels; mend: more channels, or leave it out"
            )
        size, vectors = torch.linalg.eigh(_normalised((self.columns * self.weights) @ self.columns.T)[0])
        if float(size[0]) < _DEPENDENT:
            alike = [self.names[i] for i in (vectors[:, 0].abs() > 0.1).nonzero()[:, 0]]
            raise ConfigError(
                f"components {', '.join(alike)} cannot be told apart in these channels; mend: leave one out"
            )


def basis_of(fit: SpectrumFit) -> Basis:
    """The components of a fitted sum of pixels, and its background as one column of area 1.

    Raises:
        ConfigError: a component that the fit was told of reaches no channel, or cannot be told from another.
    """
    total = float(fit.background.sum())
    smooth = [fit.background / total] if total > 0 else []
    columns = torch.from_numpy(np.vstack([fit.columns, *smooth]))
    amplitudes = torch.from_numpy(np.append(fit.amplitudes, [total] * len(smooth)))
    names = (*fit.names, *["background"] * len(smooth))
    return Basis(names, columns, len(fit.names), fit.first, shared_weights(columns, amplitudes))


def shared_weights(columns: Tensor, amplitudes: Tensor) -> Tensor:
    """Weights [channel] of counts whose variance is that of the mean pixel: 1 / max(m, m̄ / 100).

    Args:
        columns: [component + background, channel].
        amplitudes: [component + background], of the sum or the mean of the pixels.
    """
    model = amplitudes @ columns
    return 1 / model.clamp(min=_FLOOR * float(model.mean()))


def _normalised(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The Gram matrix of columns of length one, and one over their lengths [..., column, column]."""
    scale = gram.diagonal(dim1=-2, dim2=-1).rsqrt()
    return gram * scale[..., :, None] * scale[..., None, :], scale[..., :, None] * scale[..., None, :]


def inverse(gram: Tensor) -> Tensor:
    """Of positive definite matrices [..., column, column], whatever the units of the columns."""
    unit, scale = _normalised(gram)
    return torch.cholesky_inverse(torch.linalg.cholesky(unit)) * scale
