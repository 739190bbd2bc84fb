"""Curves as an instrument sees them: smeared by its resolution, scaled, on a background.

The resolution is a Gaussian in q around each point, cut at 3.5 sigma and normalised. Points with narrow
resolution get few nodes and points without any get one, so that what is not smeared costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.reflectometry.forward import Slabs, reflectivity
from skyloop.engines.reflectometry.slopes import reflectivity_and_slopes

__all__ = ["CUT", "model_curve", "model_curve_and_slopes"]

CUT = 3.5
"""Where the Gaussian ends, in standard deviations."""

_LADDER = (1, 5, 7, 9, 13, 17, 25, 35, 51, 75, 111, 165)
_LEAST_BESIDE_EDGE = 25  # nodes on either side of a critical edge
_NARROW = 1e-12
_BLOCK = 1 << 17  # nodes evaluated at once


def model_curve(q: Tensor, q_sigma: Tensor, slabs: Slabs) -> Tensor:
    """Expected reflectivity [batch, n] at the points q [n] with resolution q_sigma [n].

        scale * smeared(q + q_offset, resolution * q_sigma) + background

    >>> from skyloop.engines.reflectometry.forward import stack
    >>> q = torch.tensor([0.01, 0.1], dtype=torch.float64)
    >>> model_curve(q, 0.02 * q, stack([100.0], [0.0, 3.47, 2.07])).shape
    torch.Size([1, 2])
    """
    out = q.new_empty(len(slabs), len(q))
    for at, nodes, weights in node_groups(q, q_sigma, slabs):
        values = reflectivity(nodes.flatten(1), slabs).unflatten(1, nodes.shape[1:])
        out[:, at] = (values * weights).sum(dim=2)
    return out.mul_(slabs.scale[:, None]).add_(slabs.background[:, None])


def model_curve_and_slopes(q: Tensor, q_sigma: Tensor, slabs: Slabs) -> tuple[Tensor, Slabs]:
    """The curve [batch, n] of `model_curve` and its derivatives by each number of the slabs.

    The derivatives have the fields of the slabs with n inserted as axis 1; those by a roughness are by its
    square.
    """
    batch, layers = slabs.thickness.shape
    smeared = q.new_empty(batch, len(q))
    slopes = _blank_slopes(batch, len(q), layers)
    resolution = slabs.resolution[:, None, None]
    for at, nodes, weights in node_groups(q, q_sigma, slabs):
        values, by = reflectivity_and_slopes(nodes.flatten(1), slabs)
        away = nodes - (q[at] + slabs.q_offset[:, None])[..., None]
        per_resolution = torch.where(resolution > 0, away / resolution, 0.0)
        shape = nodes.shape[1:]
        smeared[:, at] = (values.unflatten(1, shape) * weights).sum(dim=2)
        by_q = by.q.unflatten(1, shape) * weights
        slopes.q_offset[:, at] = by_q.sum(dim=2)
        slopes.resolution[:, at] = (by_q * per_resolution).sum(dim=2)
        for name in ("thickness", "sld", "isld", "roughness"):
            field = getattr(by, name).unflatten(1, shape)
            getattr(slopes, name)[:, at] = (field * weights[..., None]).sum(dim=2)
    return _scaled(smeared, slopes, slabs)


def _blank_slopes(batch: int, n: int, layers: int) -> Slabs:
    rows = [layers, layers + 2, layers + 2, layers + 1]
    columns = [torch.zeros(batch, n, size, dtype=torch.float64) for size in rows]
    scalars = [torch.zeros(batch, n, dtype=torch.float64) for _ in range(4)]
    return Slabs(*columns, *scalars)


def _scaled(smeared: Tensor, slopes: Slabs, slabs: Slabs) -> tuple[Tensor, Slabs]:
    scale = slabs.scale[:, None]
    return smeared * scale + slabs.background[:, None], Slabs(
        thickness=slopes.thickness * scale[..., None],
        sld=slopes.sld * scale[..., None],
        isld=slopes.isld * scale[..., None],
        roughness=slopes.roughness * scale[..., None],
        scale=smeared,
        background=torch.ones_like(smeared),
        q_offset=slopes.q_offset * scale,
        resolution=slopes.resolution * scale,
    )


def node_groups(q: Tensor, q_sigma: Tensor, slabs: Slabs) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Quadrature in groups of points that need equally many nodes.

    Yields:
        Indices [g] of the points, nodes [batch or 1, g, m] and weights [batch or 1, g, m], which sum
        to one over m.
    """
    centre = q + _shared(slabs.q_offset)[:, None]
    if not bool(q_sigma.any()):  # nothing to smear: no need to look for edges and fringes either
        for at in _blocks(torch.ones_like(q, dtype=torch.bool), len(slabs)):
            yield at, centre[:, at, None], q.new_ones(1)
        return
    width = q_sigma * _shared(slabs.resolution)[:, None]
    edges = _edges(slabs)
    wide, needed = _near_edge(centre, width, edges), _needed(centre, width, edges, slabs)
    for count in _LADDER:
        for at in _blocks((needed == count) & ~wide, count * len(slabs)):
            z, w = _truncated_gauss(count)
            yield at, centre[:, at, None] + width[:, at, None] * z, w
        half = max(count // 2 + 1, _LEAST_BESIDE_EDGE)
        for at in _blocks((needed == count) & wide, 2 * half * len(slabs)):
            yield at, *_split(centre[:, at], width[:, at], edges[:, -1:], half=half)


def _shared(values: Tensor) -> Tensor:
    """One value when all of the batch agree, so that they share their nodes."""
    return values[:1] if bool((values == values[0]).all()) else values


def _edges(slabs: Slabs) -> Tensor:
    """Critical q [batch, L + 1] of each medium below the fronting; 0 where there is no edge."""
    contrast = slabs.sld[:, 1:] - slabs.sld[:, :1]
    return _shared((16e-6 * math.pi * contrast).clamp(min=0).sqrt())


def _near_edge(centre: Tensor, width: Tensor, edges: Tensor) -> Tensor:
    """Points [n] that see a critical edge of any of the batch."""
    reach = CUT * width
    near = torch.zeros(centre.shape[-1], dtype=torch.bool)
    for edge in edges.T:
        inside = (edge[:, None] - centre).abs() < reach
        near |= (inside & (edge[:, None] > 0)).any(dim=0)
    return near


def _needed(centre: Tensor, width: Tensor, edges: Tensor, slabs: Slabs) -> Tensor:
    """Nodes [n] from the ladder that integrate the fastest fringe to about 1e-6 of its size.

    Far above all edges a fringe has the phase q * thickness, and a Gauss rule with m nodes integrates
    cos(phase z) to 1e-6 as long as m >= 2 phase + 5. Towards the highest edge the phase grows like the root
    of q^2 - edge^2 instead, until the stack is thinner than a wavelength. Beside it all falls like q^-4.
    """
    thickness = slabs.thickness.sum(dim=1).max() if slabs.thickness.shape[1] else width.new_zeros(())
    low = (centre - CUT * width).clamp(min=0)
    gap = (low**2 - edges.max() ** 2).clamp(min=0).sqrt()
    crowding = (centre * thickness).minimum(centre / gap).clamp(min=1)
    phase = width * (thickness * crowding + 4 / centre.abs())
    ladder = torch.tensor(_LADDER[1:], dtype=width.dtype)
    steps = torch.searchsorted(ladder, (2 * phase + 5).amax(dim=0)).clamp_(max=len(ladder) - 1)
    return torch.where((width > 0).any(dim=0), ladder[steps], 1.0).long()


def _blocks(mask: Tensor, size: int) -> Iterator[Tensor]:
    at = mask.nonzero()[:, 0]
    return iter(at.split(max(1, _BLOCK // size))) if len(at) else iter(())


def _split(centre: Tensor, width: Tensor, edge: Tensor, *, half: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on either side of the edge, crowded towards it by q = edge +- length t^2.

    The wavenumber in the backing grows like a root from there, which the square takes away.
    """
    # A curve of the batch may have no resolution where others have: a width of nearly nothing.
    width = torch.where(width > 0, width, _NARROW)
    low, high = centre - CUT * width, centre + CUT * width
    middle = torch.maximum(torch.minimum(edge, high), low)[..., None]
    t, w = _unit_legendre(half)
    below, above = low[..., None] - middle, high[..., None] - middle
    nodes = torch.cat([middle + below * t**2, middle + above * t**2], dim=-1)
    weights = torch.cat([-below * (w * t), above * (w * t)], dim=-1)
    weights = weights * torch.exp(-0.5 * ((nodes - centre[..., None]) / width[..., None]) ** 2)
    return nodes, weights / weights.sum(dim=-1, keepdim=True)


@cache
def _unit_legendre(count: int) -> tuple[Tensor, Tensor]:
    x, w = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((x + 1) / 2), torch.from_numpy(w / 2)


@cache
def _truncated_gauss(count: int) -> tuple[Tensor, Tensor]:
    """Gauss rule for the normal density cut at 3.5 sigma: nodes in sigma, weights that sum to one.

    The recurrence of the orthogonal polynomials comes from a fine Gauss-Legendre rule (Stieltjes), the
    rule from the eigenvalues of its Jacobi matrix.

    References:
        G. H. Golub and J. H. Welsch, Math. Comp. 23, 221 (1969), doi:10.1090/S0025-5718-69-99647-1.
    """
    x, w = np.polynomial.legendre.leggauss(600)
    x = CUT * x
    w = w * np.exp(-x * x / 2)
    w /= w.sum()
    beside = np.zeros(count)
    previous, current = np.zeros_like(x), np.ones_like(x)
    for k in range(count):
        following = x * current - (beside[k - 1] if k else 0.0) * previous
        beside[k] = math.sqrt(float((w * following**2).sum()))
        previous, current = current, following / beside[k]
    matrix = np.diag(beside[: count - 1], 1) + np.diag(beside[: count - 1], -1)
    nodes, vectors = np.linalg.eigh(matrix)
    return torch.from_numpy(nodes), torch.from_numpy(vectors[0] ** 2)
