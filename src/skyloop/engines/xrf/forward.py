"""The spectrum of each component for one count in its main line, and the slopes of their sum."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skyloop.engines.xrf.features import Features, features
from skyloop.engines.xrf.parameters import PARAMETERS
from skyloop.engines.xrf.profile import Peaks, profile, profile_slopes
from skyloop.engines.xrf.rows import COMPTON, COMPTON_ROWS, Rows

__all__ = ["Span", "energies", "line_shapes", "shapes", "slopes", "strains"]

_NAMES = tuple(PARAMETERS)
_OFFSET, _SLOPE, _QUADRATIC = (_NAMES.index(f"ENERGY_{x}") for x in ("OFFSET", "SLOPE", "QUADRATIC"))
_STEPS = frozenset({"F_STEP_OFFSET", "F_STEP_LINEAR"})
_BETA = 2.5
_TINY = 1e-30
_REACH = 7.0  # standard deviations; a Gaussian has 3e-12 of its area beyond
_TAIL_REACH = 16.0  # decay lengths; a tail has 1e-7 of its area beyond


@dataclass(frozen=True, slots=True)
class Span:
    """Equidistant channels."""

    first: int
    """First channel."""
    count: int
    """How many."""
    step: int = 1
    """Every so many."""

    def channels(self) -> Tensor:
        """Their numbers [channel]."""
        return self.first + self.step * torch.arange(self.count, dtype=torch.float64)


def energies(theta: Tensor, span: Span) -> Tensor:
    """ENERGY_OFFSET + ENERGY_SLOPE i + ENERGY_QUADRATIC i^2 [..., channel] in keV."""
    return _energy(theta, span.channels())


def _energy(theta: Tensor, channel: Tensor) -> Tensor:
    t = theta[..., None]
    return t[..., _OFFSET, :] + channel * (t[..., _SLOPE, :] + channel * t[..., _QUADRATIC, :])


def shapes(rows: Rows, theta: Tensor, span: Span) -> Tensor:
    """Counts per channel of each component [..., component, channel] at amplitude 1; differentiable.

    The amplitude of a component is its counts in the main line (Ka1, La1, Ma1), as in MAPS.
    """
    out = _canvas(theta, len(rows.names), span)
    for part in _parts(rows, theta, span):
        out = part.added(out, profile(part.peaks, part.energy(theta)), rows.of[part.chosen])
    return theta[..., None, _SLOPE, None] * out[..., : span.count]


def line_shapes(rows: Rows, theta: Tensor, span: Span, chosen: Tensor) -> Tensor:
    """As `shapes`, of single lines [..., chosen, channel]; `chosen` are rows that are no scatter."""
    own = torch.full((len(rows.of),), len(chosen))
    own[chosen] = torch.arange(len(chosen))
    out = _canvas(theta, len(chosen) + 1, span)
    for part in _parts(rows, theta, span):
        out = part.added(out, profile(part.peaks, part.energy(theta)), own[part.chosen])
    return theta[..., None, _SLOPE, None] * out[..., :-1, : span.count]


def strains(rows: Rows, theta: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of `shapes` by what all lines of one component may be off by.

    They are by a shift [keV], by the logarithm of the width, and by the share of the tail.
    """
    moved = [_canvas(theta, len(rows.names), span) for _ in range(3)]
    for part in _parts(rows, theta, span):
        _, by_energy, by_features = profile_slopes(part.peaks, part.energy(theta))
        of = rows.of[part.chosen]
        tail = part.peaks.gauss * (by_features[5] - by_features[3]) * _satellites(rows, part)
        each = (-by_energy, part.peaks.sigma * by_features[1], tail)
        moved = [part.added(out, values, of) for out, values in zip(moved, each, strict=True)]
    gain = theta[..., None, _SLOPE, None]
    shifted, widened, tailed = (gain * out[..., : span.count] for out in moved)
    return shifted, widened, tailed


def _satellites(rows: Rows, part: _Part) -> Tensor:
    """[row, 1], how uncertain tails are: K beta lines have those of two-electron processes below."""
    size = torch.ones(len(rows.of), 1, dtype=torch.float64)
    size[: rows.n_tailed][rows.is_beta] = _BETA
    return size[part.chosen]


def slopes(rows: Rows, theta: Tensor, span: Span, amplitudes: Tensor, names: Sequence[str]) -> Tensor:
    """Derivatives [..., name, channel] of the sum of all components by parameters.

    Args:
        rows: what the spectrum is made of.
        theta: [..., parameter].
        span: channels.
        amplitudes: [..., component].
        names: parameters to derive by.
    """
    at = [_NAMES.index(name) for name in names]
    by_theta = _feature_slopes(rows, theta, at)  # [name, ..., row, 6]
    gain = theta[..., None, _SLOPE, None]
    out, by_energy, total = (_canvas(theta, k, span) for k in (len(at), 1, 1))
    for part in _parts(rows, theta, span, with_steps=not _STEPS.isdisjoint(names)):
        weight = amplitudes[..., rows.of[part.chosen], None]
        value, falls, by_features = profile_slopes(part.peaks, part.energy(theta))
        own = by_theta[..., part.chosen, :]
        moving = own.flatten(1).any(1).nonzero()[:, 0]  # most parameters move few rows
        terms = [own[moving, ..., f, None] * weight * by for f, by in enumerate(by_features)]
        inner = torch.stack(terms).sum(0)
        out = out.index_add(-2, moving, part.spread(inner.movedim(0, -3), span))
        one = torch.zeros(len(part.chosen), dtype=torch.int64)
        by_energy = part.added(by_energy, falls * weight, one)
        total = part.added(total, value * weight, one)
    by_energy, total = by_energy[..., : span.count], total[..., : span.count]
    return gain * out[..., : span.count] + _by_calibration(by_energy * gain, total, span, at)


def _by_calibration(by_energy: Tensor, total: Tensor, span: Span, at: Sequence[int]) -> Tensor:
    """What parameters change by moving the channels, and by the width of a channel."""
    channel = span.channels()
    moved = {
        _OFFSET: by_energy,
        _SLOPE: by_energy * channel + total,
        _QUADRATIC: by_energy * channel**2,
    }
    return torch.cat(
        [by_energy[..., :0, :], *(moved.get(i, torch.zeros_like(by_energy)) for i in at)], dim=-2
    )


def _feature_slopes(rows: Rows, theta: Tensor, at: Sequence[int]) -> Tensor:
    """Derivatives of the features by some parameters: [name, ..., row, feature].

    Im f(x + ih) / h has no difference in it, and so is exact to rounding.

    References:
        W. Squire, G. Trapp, SIAM Rev. 40, 110 (1998), doi:10.1137/S003614459631241X.
    """
    moved = torch.zeros(len(at), *theta.shape, dtype=theta.dtype)
    for k, i in enumerate(at):
        moved[k, ..., i] = _TINY
    found = features(rows, theta + 1j * moved)
    return torch.stack([each.imag / _TINY for each in found.tuple()], -1)


def _canvas(theta: Tensor, count: int, span: Span) -> Tensor:
    """Zeros [..., count, channel + 1]; the last channel takes what lies outside the span."""
    return torch.zeros(*theta.shape[:-1], count, span.count + 1, dtype=theta.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows that are evaluated in windows of one length."""

    peaks: Peaks
    """Their features."""
    chosen: Tensor
    """Which rows they are."""
    channel: Tensor
    """[..., row, point], the channels of each window."""
    target: Tensor
    """[..., row, point], where these are in the span; its length where they are outside."""

    def energy(self, theta: Tensor) -> Tensor:
        """[..., row, point], keV."""
        return _energy(theta[..., None, :], self.channel)

    def added(self, out: Tensor, values: Tensor, of: Tensor) -> Tensor:
        """`out` [..., column, channel + 1] with values [..., row, point] added to the columns `of` [row]."""
        width = out.shape[-1]
        place = (of[:, None] * width + self.target).flatten(-2)
        return out.flatten(-2).scatter_add(-1, place, values.flatten(-2)).reshape(out.shape)

    def spread(self, values: Tensor, span: Span) -> Tensor:
        """[..., column, channel + 1], values [..., column, row, point] added up over the rows."""
        target = self.target.flatten(-2)[..., None, :]
        flat = values.flatten(-2)
        out = torch.zeros(*flat.shape[:-1], span.count + 1, dtype=values.dtype)
        return out.scatter_add(-1, target.expand(flat.shape), flat)


def _parts(rows: Rows, theta: Tensor, span: Span, *, with_steps: bool = False) -> Iterator[_Part]:
    """Rows with tails, pure Gaussians, and Compton, each in windows that hold it."""
    found = features(rows, theta)
    n_rows, n = len(rows.of), rows.n_tailed
    n_narrow = n_rows - (COMPTON_ROWS if COMPTON in rows.scatter else 0)
    has_steps = with_steps or bool((found.step[..., :n] != 0).any())
    if n:
        yield _part(rows, theta, span, found, (0, n), reach=None if has_steps else _tail_reach(found, n))
    if n < n_narrow:
        yield _part(rows, theta, span, found, (n, n_narrow), reach=0.0, is_plain=True)
    if n_narrow < n_rows:
        yield _part(rows, theta, span, found, (n_narrow, n_rows), reach=None)


def _tail_reach(found: Features, n: int) -> float:
    """How far the longest tail reaches, in standard deviations."""
    # also where there is no tail: the slope by its share reaches as far
    return _TAIL_REACH * float(found.gamma[..., :n].detach().max())


def _part(
    rows: Rows,
    theta: Tensor,
    span: Span,
    found: Features,
    part: tuple[int, int],
    *,
    reach: float | None,
    is_plain: bool = False,
) -> _Part:
    """Some rows; `reach` is that of their tails, None for windows over the whole span."""
    own = slice(*part)
    columns = [each[..., own, None] for each in found.tuple()]
    peaks = Peaks(*columns, mirror=rows.mirror[own, None], is_plain=is_plain)
    if reach is None:
        first = torch.zeros(*theta.shape[:-1], own.stop - own.start, 1, dtype=torch.int64)
        length = span.count
    else:
        first, length = _windows(theta, span, peaks, reach)
    place = first + torch.arange(length)
    is_inside = (place >= 0) & (place < span.count)
    channel = span.first + span.step * place.to(theta.dtype)
    return _Part(peaks, torch.arange(*part), channel, torch.where(is_inside, place, span.count))


def _windows(theta: Tensor, span: Span, peaks: Peaks, reach: float) -> tuple[Tensor, int]:
    """First place [..., row, 1] and length of windows that hold each peak and its tail."""
    with torch.no_grad():
        low = _channel(theta, peaks.center - (reach + _REACH) * peaks.sigma)
        high = _channel(theta, peaks.center + _REACH * peaks.sigma)
        length = math.ceil(float((high - low).max()) / span.step) + 2
        first = torch.floor((low - span.first) / span.step).clamp(-length, span.count).to(torch.int64)
    return (first, length) if length < span.count else (torch.zeros_like(first), span.count)


def _channel(theta: Tensor, energy: Tensor) -> Tensor:
    """The channel of an energy [..., row, 1]."""
    t = theta[..., None, None, :]
    rest = energy - t[..., _OFFSET]
    root = torch.sqrt((t[..., _SLOPE] ** 2 + 4 * t[..., _QUADRATIC] * rest).clamp(min=0))
    return 2 * rest / (t[..., _SLOPE] + root)
