"""Specular reflectivity of a stack of slabs: the Parratt recursion with Nevot-Croce roughness.

Everything is float64 in real arithmetic. A complex number is a pair (re, im) whose im is None where it is
known to be zero, as it is for most wavevectors above the critical edge: that halves the work there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skyloop.errors import DataError

__all__ = ["Slabs", "reflectivity", "stack"]

_CHUNK = 8192  # values per temporary: a dozen of them stay in the second-level cache
TINY = 1e-200  # keeps 0/0 at the edge of a medium equal to its neighbour at 0
SLD_TO_SQUARE = 4e-6 * math.pi  # from 1e-6/angstrom^2 to the square of a wavenumber


@dataclass(frozen=True, slots=True, eq=False)
class Slabs:
    """A batch of stacks with L layers each, from the fronting to the backing; all float64."""

    thickness: Tensor
    """[batch, L], angstrom."""
    sld: Tensor
    """[batch, L + 2], 1e-6/angstrom^2, fronting first."""
    isld: Tensor
    """[batch, L + 2], 1e-6/angstrom^2, >= 0 absorbs; that of the fronting is ignored."""
    roughness: Tensor
    """[batch, L + 1], angstrom: interface below the fronting first."""
    scale: Tensor
    """[batch], factor on the reflectivity."""
    background: Tensor
    """[batch], added to it."""
    q_offset: Tensor
    """[batch], 1/angstrom, added to q."""
    resolution: Tensor
    """[batch], factor on the resolution."""

    def __len__(self) -> int:
        return len(self.sld)


def stack(
    thickness: Sequence[float],
    sld: Sequence[float],
    *,
    roughness: Sequence[float] | None = None,
    isld: Sequence[float] | None = None,
) -> Slabs:
    """One stack with scale 1, no background, no offset in q and the resolution as given.

    >>> len(stack([100.0], [0.0, 3.47, 2.07]))
    1
    """
    layers = len(thickness)
    rough = [0.0] * (layers + 1) if roughness is None else roughness
    absorption = [0.0] * (layers + 2) if isld is None else isld
    if (len(sld), len(absorption), len(rough)) != (layers + 2, layers + 2, layers + 1):
        raise DataError(
            f"{layers} layers with {len(sld)} SLDs, {len(absorption)} absorptions and {len(rough)} "
            "roughnesses; mend: SLDs and absorptions are two more, roughnesses one more"
        )
    columns = (torch.tensor([list(c)], dtype=torch.float64) for c in (thickness, sld, absorption, rough))
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return Slabs(*columns, scale=one, background=zero, q_offset=zero, resolution=one)


def reflectivity(q: Tensor, slabs: Slabs) -> Tensor:
    """Reflectivity [batch, n] of each stack at q [n] or [batch, n], without smearing or scale.

    With k_j = sqrt(q^2/4 - 4 pi (sld_j - sld_0) + 4 pi i isld_j), for each interface from the backing up

        r_j = (k_j - k_j+1)/(k_j + k_j+1) exp(-2 k_j k_j+1 roughness^2)
        R_j = (r_j + R_j+1 p)/(1 + r_j R_j+1 p),  p = exp(2 i k_j+1 thickness)

    and the reflectivity is |R_0|^2.

    References:
        L. G. Parratt, Phys. Rev. 95, 359 (1954), doi:10.1103/PhysRev.95.359;
        L. Nevot and P. Croce, Rev. Phys. Appl. 15, 761 (1980), doi:10.1051/rphysap:01980001503076100.

    >>> q = torch.tensor([0.005, 0.1], dtype=torch.float64)
    >>> reflectivity(q, stack([], [0.0, 2.07]))
    tensor([[1.0000e+00, 6.8375e-06]], dtype=torch.float64)
    """
    half = (torch.atleast_2d(q).abs() / 2).T  # [n, batch or 1]: the batch runs fastest
    media = Media.of(slabs)
    out = half.new_empty(len(half), len(slabs))
    rows = max(1, _CHUNK // max(1, len(slabs)))
    for start in range(0, len(half), rows):
        out[start : start + rows] = _recursion(half[start : start + rows], media)
    return out.T


@dataclass(frozen=True, slots=True, eq=False)
class Media:
    """What the recursion needs of the slabs, interface by interface, with the batch last."""

    step: Tensor
    """[L + 2, batch], 4 pi (sld - sld of the fronting)."""
    loss: Tensor
    """[L + 2, batch], 4 pi isld."""
    edge: list[float]
    """[L + 2], the largest step of the batch: wavenumbers above its root are real."""
    absorbs: list[bool]
    """[L + 2], whether any of the batch does."""
    twice: Tensor
    """[L, batch], 2 thickness."""
    damping: Tensor
    """[L + 1, batch], -2 roughness^2."""

    @classmethod
    def of(cls, slabs: Slabs) -> Media:
        step = ((slabs.sld - slabs.sld[:, :1]) * SLD_TO_SQUARE).T.contiguous()
        loss = (slabs.isld * SLD_TO_SQUARE).T.contiguous()
        loss[0] = 0.0
        return cls(
            step=step,
            loss=loss,
            edge=step.amax(dim=1).tolist(),
            absorbs=(loss != 0).any(dim=1).tolist(),
            twice=(2 * slabs.thickness).T.contiguous(),
            damping=(-2 * slabs.roughness**2).T.contiguous(),
        )


_Full = tuple[Tensor, Tensor]
_Complex = tuple[Tensor, Tensor | None]


def _recursion(half: Tensor, media: Media) -> Tensor:
    square = half * half
    lowest = float(square.min())
    below = wavenumber(square, media, len(media.step) - 1, lowest)
    amplitude: _Complex | None = None
    for j in range(len(media.step) - 2, 0, -1):
        above = wavenumber(square, media, j, lowest)
        r = _fresnel(above, below, media.damping[j])
        x = None if amplitude is None else _propagated(amplitude, below, media.twice[j])
        amplitude = r if x is None else _joined(r, x)
        below = above
    r = _fresnel((half, None), below, media.damping[0])
    return _intensity(r, amplitude and _propagated(amplitude, below, media.twice[0]))


def wavenumber(square: Tensor, media: Media, j: int, lowest: float) -> _Complex:
    """Wavenumber in medium j where (q/2)^2 is `square`, of which `lowest` is the least."""
    a = square - media.step[j]
    if not media.absorbs[j]:
        if lowest >= media.edge[j]:
            return a.sqrt_(), None
        return a.clamp(min=0).sqrt_(), a.neg_().clamp_(min=0).sqrt_()
    b = media.loss[j]
    # The root of the larger part first: the other by division, without cancellation.
    large = torch.addcmul(b * b, a, a).sqrt_().add_(a.abs()).mul_(0.5).sqrt_()
    small = b / (2 * large).add_(TINY)
    if lowest >= media.edge[j]:
        return large, small
    above = a >= 0
    return torch.where(above, large, small), torch.where(above, small, large)


def _fresnel(above: _Complex, below: _Complex, damping: Tensor) -> _Complex:
    (ar, ai), (br, bi) = above, below
    if ai is None and bi is None:
        return ((ar - br) / (ar + br).add_(TINY)).mul_((ar * br).mul_(damping).exp_()), None
    ai = torch.zeros_like(ar) if ai is None else ai
    bi = torch.zeros_like(br) if bi is None else bi
    dr, di, sr, si = ar - br, ai - bi, ar + br, ai + bi
    size = (sr * sr).addcmul_(si, si).add_(TINY)
    ratio = (
        (dr * sr).addcmul_(di, si).div_(size),
        (di * sr).addcmul_(dr, si, value=-1).div_(size),
    )
    grow = (ar * br).addcmul_(ai, bi, value=-1).mul_(damping).exp_()
    turn = (ar * bi).addcmul_(ai, br).mul_(damping)
    return _product(ratio, (grow * turn.cos(), grow * turn.sin()))


def _product(x: _Full, y: _Full) -> _Full:
    (xr, xi), (yr, yi) = x, y
    return (xr * yr).addcmul_(xi, yi, value=-1), (xr * yi).addcmul_(xi, yr)


def _propagated(inner: _Complex, k: _Complex, twice: Tensor) -> _Full:
    (xr, xi), (kr, ki) = inner, k
    angle = kr * twice
    c, s = angle.cos(), angle.sin_()
    if ki is not None:
        decay = (ki * twice).neg_().exp_()
        c, s = c.mul_(decay), s.mul_(decay)
    if xi is None:
        return c.mul_(xr), s.mul_(xr)
    return (xr * c).addcmul_(xi, s, value=-1), s.mul_(xr).addcmul_(xi, c)


def _joined(r: _Complex, x: _Full) -> _Full:
    """(r + x)/(1 + r x)."""
    numerator, (dr, di) = _sides(r, x)
    nr, ni = numerator
    share = (dr * dr).addcmul_(di, di).reciprocal_()
    real = (nr * dr).addcmul_(ni, di).mul_(share)
    return real, dr.mul_(ni).addcmul_(nr, di, value=-1).mul_(share)


def _intensity(r: _Complex, x: _Full | None) -> Tensor:
    """|(r + x)/(1 + r x)|^2."""
    if x is None:
        rr, ri = r
        return rr * rr if ri is None else (rr * rr).addcmul_(ri, ri)
    (nr, ni), (dr, di) = _sides(r, x)
    return (nr * nr).addcmul_(ni, ni).div_((dr * dr).addcmul_(di, di))


def _sides(r: _Complex, x: _Full) -> tuple[_Full, _Full]:
    """The numerator r + x and the denominator 1 + r x."""
    (rr, ri), (xr, xi) = r, x
    if ri is None:
        return (rr + xr, xi), ((rr * xr).add_(1), rr * xi)
    real, imag = _product((rr, ri), (xr, xi))
    return (rr + xr, ri + xi), (real.add_(1), imag)
