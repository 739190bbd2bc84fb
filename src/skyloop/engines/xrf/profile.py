"""The shape of one peak, and how it changes with its position and width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Peaks", "profile", "profile_slopes"]

_NORM = 1 / math.sqrt(2 * math.pi)


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Peaks by their features, each [..., row, 1]; see `Features`."""

    center: Tensor
    sigma: Tensor
    gamma: Tensor
    gauss: Tensor
    step: Tensor
    tail: Tensor
    mirror: Tensor
    """-1 for a tail towards higher energies, else 1."""
    is_plain: bool
    """True when none has a tail or a step."""


def profile(peaks: Peaks, energy: Tensor) -> Tensor:
    """Intensity per keV at energies [..., row, point] in keV.

    With u = (energy - center) / sigma it is
    gauss phi(u) / sigma + tail t(u) / sigma + step Phi(-u) / center,
    t(u) = exp(1 / (2 gamma^2) + u / gamma) Phi(-u - 1 / gamma) / gamma,
    phi and Phi being density and distribution of a normal variate. Gaussian and tail have the areas `gauss`
    and `tail`; the tail is a Gaussian folded with an exponential, and smooth at u = 0.
    """
    u = peaks.mirror * (energy - peaks.center) / peaks.sigma
    gauss = peaks.gauss * _density(u)
    if peaks.is_plain:
        return gauss / peaks.sigma
    step = peaks.step * torch.special.ndtr(-u) / peaks.center
    return (gauss + peaks.tail * _tail(u, peaks.gamma)) / peaks.sigma + step


def profile_slopes(peaks: Peaks, energy: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The profile, its derivative by energy, and those by the six features; each [..., row, point]."""
    u = peaks.mirror * (energy - peaks.center) / peaks.sigma
    phi, sigma = _density(u), peaks.sigma
    if peaks.is_plain:
        value = peaks.gauss * phi / sigma
        by_energy = -peaks.mirror * u * value / sigma
        nothing = torch.zeros_like(value)
        by_width = (u * u - 1) * value / sigma
        return value, by_energy, [-by_energy, by_width, nothing, phi / sigma, nothing, nothing]
    gamma, center = peaks.gamma, peaks.center
    tail, below = _tail(u, gamma), torch.special.ndtr(-u)
    peak = peaks.gauss * phi + peaks.tail * tail
    value = peak / sigma + peaks.step * below / center
    falls = peaks.tail * (tail - phi) / gamma - peaks.gauss * u * phi  # by u, of the peak
    by_u = falls / sigma - peaks.step * phi / center
    by_energy = peaks.mirror * by_u / sigma
    by_center = -by_energy - peaks.step * below / center**2
    by_width = -by_u * u / sigma - peak / sigma**2
    by_gamma = peaks.tail / sigma * ((phi - tail * (1 + u * gamma)) / gamma**3 - tail / gamma)
    return value, by_energy, [by_center, by_width, by_gamma, phi / sigma, below / center, tail / sigma]


def _density(u: Tensor) -> Tensor:
    return _NORM * torch.exp(-0.5 * u * u)


def _tail(u: Tensor, gamma: Tensor) -> Tensor:
    # in logarithms: one factor overflows where the other is zero
    return torch.exp(0.5 / gamma**2 + u / gamma + torch.special.log_ndtr(-u - 1 / gamma)) / gamma
