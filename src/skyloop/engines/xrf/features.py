"""Position, width and weights of every peak as functions of the parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skyloop.engines.xrf.parameters import PARAMETERS
from skyloop.engines.xrf.rows import COMPTON, ELASTIC, Rows

__all__ = ["Features", "features", "theta_of"]

_FWHM = 2.3548
_ELECTRON = 510.998950  # rest energy, keV
_INDEX = {name: i for i, name in enumerate(PARAMETERS)}


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Position, width and weights of each row, [..., row]."""

    center: Tensor
    """Energy of the peak [keV]."""
    sigma: Tensor
    """Standard deviation of its Gaussian [keV]."""
    gamma: Tensor
    """Decay length of its tail in units of `sigma`."""
    gauss: Tensor
    """Area of the Gaussian."""
    step: Tensor
    """Area of the step from zero energy to the peak."""
    tail: Tensor
    """Area of the tail."""

    def tuple(self) -> tuple[Tensor, ...]:
        """All of them, in order."""
        return (self.center, self.sigma, self.gamma, self.gauss, self.step, self.tail)


def theta_of(values: Mapping[str, float]) -> Tensor:
    """Parameters as a tensor in the order of `PARAMETERS`."""
    return torch.tensor([values[name] for name in PARAMETERS], dtype=torch.float64)


def features(rows: Rows, theta: Tensor) -> Features:
    """Features of all rows under parameters theta [..., parameter]; differentiable."""
    p = _Named(theta)
    parts = [_tailed(rows, p), _plain(rows, p)]
    parts += [_elastic(rows, p)] if ELASTIC in rows.scatter else []
    parts += [_compton(rows, p)] if COMPTON in rows.scatter else []
    shape = theta.shape[:-1]
    columns = zip(*(part.tuple() for part in parts), strict=True)
    return Features(*(torch.cat([c.expand(*shape, c.shape[-1]) for c in column], -1) for column in columns))


def _magnitude(x: Tensor) -> Tensor:
    # not abs(), which is no analytic function: slopes are taken with complex parameters
    return torch.where(x.real < 0, -x, x)


class _Named:
    """Parameters by name, each [..., 1]."""

    def __init__(self, theta: Tensor) -> None:
        self._theta = theta

    def __getitem__(self, name: str) -> Tensor:
        i = _INDEX[name]
        return self._theta[..., i : i + 1]

    def width(self, energy: Tensor) -> Tensor:
        """Standard deviation [keV]: sqrt((FWHM_OFFSET / 2.3548)^2 + E FANO_COEFF FANOPRIME)."""
        fano = self["FWHM_FANO_COEFF"] * self["FWHM_FANOPRIME"]
        return torch.sqrt((self["FWHM_OFFSET"] / _FWHM) ** 2 + energy * fano)


def _tailed(rows: Rows, p: _Named) -> Features:
    n = rows.n_tailed
    energy, mu = rows.energy[:n], rows.attenuation[:n]
    alpha = p["F_TAIL_OFFSET"] + p["F_TAIL_LINEAR"] * mu
    beta = p["KB_F_TAIL_OFFSET"] + p["KB_F_TAIL_LINEAR"] * mu
    tail = torch.where(rows.is_beta, beta, alpha)
    step = mu * (p["F_STEP_OFFSET"] + p["F_STEP_LINEAR"] * energy)
    area = rows.ratio[:n] / (1 + step + tail)
    gamma = _magnitude(p["GAMMA_OFFSET"] + p["GAMMA_LINEAR"] * energy)
    sigma = rows.broadening[:n] * p.width(energy)
    return Features(energy + 0 * tail, sigma, gamma, area, area * step, area * tail)


def _plain(rows: Rows, p: _Named) -> Features:
    n = rows.n_tailed
    energy = rows.energy[n:]
    share = torch.where(rows.is_escape, _escaped(rows, p, torch.nan_to_num(rows.escaping)), 1.0)
    return _gaussians(energy, rows.broadening[n:] * p.width(energy), rows.ratio[n:] * share)


def _escaped(rows: Rows, p: _Named, predicted: Tensor | float) -> Tensor:
    return p["ESCAPE_SCALE"] * predicted + p["SI_ESCAPE" if rows.detector == "Si" else "GE_ESCAPE"]


def _gaussians(center: Tensor, sigma: Tensor, area: Tensor) -> Features:
    nothing = torch.zeros_like(area)
    return Features(center + nothing, sigma + nothing, 1 + nothing, area, nothing, nothing)


def _elastic(rows: Rows, p: _Named) -> Features:
    """The peak and its escape."""
    center = p["COHERENT_SCT_ENERGY"]
    both = torch.cat([center, center - rows.escape_shift], -1)
    escaped = _escaped(rows, p, rows.scatter_escaping)
    return _gaussians(both, p.width(_magnitude(both)), torch.cat([torch.ones_like(escaped), escaped], -1))


def _compton(rows: Rows, p: _Named) -> Features:
    """A Gaussian of its own width, step and tail below it, the tail above it (mirrored), and the escape."""
    incident, angle = p["COHERENT_SCT_ENERGY"], math.pi / 180 * p["COMPTON_ANGLE"]
    center = incident / (1 + incident / _ELECTRON * (1 - torch.cos(angle)))
    step, low, high = p["COMPTON_F_STEP"], p["COMPTON_F_TAIL"], p["COMPTON_HI_F_TAIL"]
    area, sigma = 1 / (1 + step + low + high), p.width(center)
    broad, no = sigma * p["COMPTON_FWHM_CORR"], torch.zeros_like(area)
    escaped = _escaped(rows, p, rows.scatter_escaping)
    return Features(
        center=torch.cat([center, center, center, center - rows.escape_shift], -1),
        sigma=torch.cat([broad, sigma, sigma, broad], -1),
        gamma=torch.cat([1 + no, p["COMPTON_GAMMA"], p["COMPTON_HI_GAMMA"], 1 + no], -1),
        gauss=torch.cat([area, no, no, escaped], -1),
        step=torch.cat([no, area * step, no, no], -1),
        tail=torch.cat([no, area * low, area * high, no], -1),
    )
