"""The reflectivity with its derivatives by everything in the slabs, in one pass down and one up.

Reverse mode through the recursion of `forward`: each point of each curve is one output, so that all
derivatives together cost about as much as three more curves, however many parameters there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from skyloop.engines.reflectometry.forward import SLD_TO_SQUARE, TINY, Media, Slabs, wavenumber

__all__ = ["Slopes", "reflectivity_and_slopes"]

_CHUNK = 8192  # values per temporary, chosen as in `forward`


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """Derivatives of the reflectivity of each curve at each point."""

    thickness: Tensor
    """[batch, n, L], 1/angstrom."""
    sld: Tensor
    """[batch, n, L + 2], angstrom^2/1e-6."""
    isld: Tensor
    """[batch, n, L + 2], angstrom^2/1e-6; zero for the fronting."""
    roughness: Tensor
    """[batch, n, L + 1], 1/angstrom^2: by the square of each, because by itself none tells at zero."""
    q: Tensor
    """[batch, n], angstrom."""


def reflectivity_and_slopes(q: Tensor, slabs: Slabs) -> tuple[Tensor, Slopes]:
    """Reflectivity [batch, n] as `forward.reflectivity` gives it, and its derivatives.

    Derivatives by what is below a critical edge grow without limit towards that edge.

    >>> from skyloop.engines.reflectometry.forward import stack
    >>> q = torch.tensor([0.05], dtype=torch.float64)
    >>> _, slopes = reflectivity_and_slopes(q, stack([100.0], [0.0, 3.47, 2.07]))
    >>> slopes.sld.sum().abs() < 1e-12  # a common shift of all densities changes nothing
    tensor(True)
    """
    half = (torch.atleast_2d(q) / 2).T
    media, layers = Media.of(slabs), slabs.thickness.shape[1]
    out = half.new_empty(len(half), len(slabs))
    slopes = half.new_zeros(4 * layers + 6, len(half), len(slabs))
    rows = max(1, _CHUNK // max(1, len(slabs)))
    for start in range(0, len(half), rows):
        part = slice(start, start + rows)
        out[part] = _chunk(half[part], media, slopes[:, part])
    sizes = [layers, layers + 2, layers + 2, layers + 1, 1]
    thickness, sld, isld, roughness, by_q = slopes.permute(2, 1, 0).split(sizes, dim=2)
    return out.T, Slopes(thickness, sld, isld, roughness, by_q[..., 0])


class _Interface(NamedTuple):
    """What one interface leaves behind on the way up; all [n, batch] and complex."""

    k: Tensor
    """Wavenumber below it."""
    e: Tensor
    """Roughness factor exp(-2 k_above k roughness^2)."""
    r: Tensor
    """Its own amplitude."""
    x: Tensor
    """Amplitude of all below it, seen from just below it."""
    p: Tensor
    """Phase factor of the layer below it."""


def _chunk(half: Tensor, media: Media, out: Tensor) -> Tensor:
    """Reflectivity [n, batch]; fills `out` [fields, n, batch]."""
    k = _wavenumbers(half.abs(), media)
    interfaces, amplitude = _upward(k, media)
    _downward(half, media, (k, interfaces, amplitude), out)
    return amplitude.abs() ** 2


def _wavenumbers(half: Tensor, media: Media) -> list[Tensor]:
    square = half * half
    lowest = float(square.min())
    pairs = [wavenumber(square, media, j, lowest) for j in range(1, len(media.step))]
    whole = [torch.complex(re, torch.zeros_like(re) if im is None else im) for re, im in pairs]
    first = half.expand_as(whole[0])
    return [torch.complex(first, torch.zeros_like(first)), *whole]


def _upward(k: list[Tensor], media: Media) -> tuple[list[_Interface], Tensor]:
    interfaces: list[_Interface] = []
    last = len(k) - 2
    amplitude = torch.zeros_like(k[-1])
    for j in range(last, -1, -1):
        above, below = k[j], k[j + 1]
        e = (above * below * media.damping[j]).exp()
        r = (above - below) / (above + below + TINY) * e
        p = torch.zeros_like(r) if j == last else (1j * below * media.twice[j]).exp()
        x = amplitude * p
        amplitude = (r + x) / (1 + r * x)
        interfaces.append(_Interface(below, e, r, x, p))
    return interfaces[::-1], amplitude


def _downward(
    half: Tensor, media: Media, upward: tuple[list[Tensor], list[_Interface], Tensor], out: Tensor
) -> None:
    k, interfaces, amplitude = upward
    layers = len(k) - 2
    thickness, sld, isld, roughness, by_q = out.split([layers, layers + 2, layers + 2, layers + 1, 1])
    # `outer` is the derivative of the intensity by the amplitude at this interface, in the sense that
    # the change of the intensity is the real part of its product with the change of the amplitude.
    outer = 2 * amplitude.conj().resolve_conj()
    by_k = torch.zeros_like(amplitude)  # by the wavenumber above the interface
    total = torch.zeros_like(amplitude)
    for j, (below, e, r, x, p) in enumerate(interfaces):
        above = k[j]
        share = outer / (1 + r * x) ** 2
        by_r, by_x = share * (1 - x * x), share * (1 - r * r)
        bend = e / (above + below + TINY) ** 2
        damped = media.damping[j] * r
        roughness[j] = -2 * (by_r * r * above * below).real
        by_k = by_k + by_r * below * (2 * bend + damped)
        by_square = by_k / (2 * above + TINY)
        if j == 0:
            by_q[0] = by_k.real / 2
        else:
            total += _by_density(by_square, sld[j], isld[j])
        by_k = by_r * above * (damped - 2 * bend)
        if j < layers:
            turn = 1j * by_x * x
            thickness[j] = 2 * (turn * below).real
            by_k = by_k + turn * media.twice[j]
            outer = by_x * p
    total += _by_density(by_k / (2 * k[-1] + TINY), sld[-1], isld[-1])
    sld[0] = SLD_TO_SQUARE * total.real
    # All wavenumbers grow with q: d(k^2)/dq = q/2.
    by_q[0] = (by_q[0] + half.abs() * total.real) * half.sign()


def _by_density(by_square: Tensor, sld: Tensor, isld: Tensor) -> Tensor:
    sld.copy_(-SLD_TO_SQUARE * by_square.real)
    isld.copy_(-SLD_TO_SQUARE * by_square.imag)
    return by_square
