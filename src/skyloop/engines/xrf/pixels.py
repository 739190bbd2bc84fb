"""Amplitudes of the components in every pixel of a map, with their uncertainty.

All pixels share the spectra of the components, which the fit of the sum spectrum gave. Each pixel is projected
on them once; what follows needs no channels. Pixels of few counts are fitted again by maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType

import torch
from torch import Tensor

from skyloop.engines.xrf._counted import expected, likeliest
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.numerics.nnls import nnls

__all__ = ["Basis", "Fault", "Limits", "PixelSolver", "Pixels", "shared_weights"]

_BLOCK = 256  # pixels whose channels stay near the processor
_FLOOR = 1e-2  # of the mean expectation: what the least expectation of a channel is taken for in a weight
_DEPENDENT = 1e-10  # smallest eigenvalue of the normalised Gram matrix that tells components apart
_OPTIMAL = 1e-6


class Fault(IntEnum):
    """What is wrong with a pixel."""

    NONE = 0
    NOT_FINITE = 1
    NEGATIVE = 2
    SATURATED = 3
    NO_EXPOSURE = 4
    DEAD_TIME = 5
    LONG_DEAD_TIME = 6
    NOT_CONVERGED = 7

    @property
    def outcome(self) -> Outcome:
        """How the analysis of such a pixel ends; numbers of a rejected one are NaN."""
        return _FAULTS[self][0]

    @property
    def reason(self) -> str:
        """In words; empty for `NONE`."""
        return _FAULTS[self][1]


_FAULTS: Mapping[Fault, tuple[Outcome, str]] = MappingProxyType(
    {
        Fault.NONE: (Outcome.OK, ""),
        Fault.NOT_FINITE: (Outcome.REJECTED, "a channel holds no finite number"),
        Fault.NEGATIVE: (Outcome.REJECTED, "a channel holds a negative number"),
        Fault.SATURATED: (Outcome.REJECTED, "a channel is at the saturation of the counter"),
        Fault.NO_EXPOSURE: (Outcome.REJECTED, "the exposure is not a positive number"),
        Fault.DEAD_TIME: (Outcome.REJECTED, "the dead time is not a share from 0 to below 1"),
        Fault.LONG_DEAD_TIME: (Outcome.DEGRADED, "the dead time is longer than the limit"),
        Fault.NOT_CONVERGED: (Outcome.DEGRADED, "the conditions of a minimum are not met to 1e-6"),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What the spectrum of a pixel is made of.

    Raises:
        ConfigError: shapes that do not fit, negative or infinite numbers, a component that reaches no channel, or
            components that cannot be told apart.
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
                f"basis of {n} names, {self.n_components} components: columns {shapes[0]}, weights {shapes[1]};"
                f" mend: columns [{n}, channel], weights [channel], 1 to {n} components"
            )
        for name, array in (("columns", self.columns), ("weights", self.weights)):
            if array.dtype != torch.float64 or not bool(((array >= 0) & array.isfinite()).all()):
                raise ConfigError(f"{name} of the basis; mend: float64, finite and not negative")
        self._check_told_apart()

    def _check_told_apart(self) -> None:
        reach = (self.columns * self.weights).sum(1)
        if lost := [name for name, r in zip(self.names, reach.tolist(), strict=True) if r <= 0]:
            raise ConfigError(
                f"component '{lost[0]}' reaches none of the channels; mend: fit more channels, or leave it out"
            )
        size, vectors = torch.linalg.eigh(_normalised(self.columns, self.weights))
        if float(size[0]) < _DEPENDENT:
            alike = [self.names[i] for i in (vectors[:, 0].abs() > 0.1).nonzero()[:, 0]]
            raise ConfigError(
                f"components {', '.join(alike)} cannot be told apart in these channels; mend: leave one out"
            )


def shared_weights(columns: Tensor, amplitudes: Tensor) -> Tensor:
    """Weights [channel] of counts whose variance is that of the mean pixel: 1 / max(m, m̄ / 100).

    Args:
        columns: [component + background, channel].
        amplitudes: [component + background], of the sum or the mean of the pixels.
    """
    model = amplitudes @ columns
    return 1 / model.clamp(min=_FLOOR * float(model.mean()))


@dataclass(frozen=True, slots=True)
class Limits:
    """When a pixel is suspect, and when it is fitted by maximum likelihood."""

    saturation: float = float("inf")
    """Counts of one channel at and above which the counter is full."""
    most_dead_time: float = 0.5
    """Share of the real time; a pixel above it is degraded."""
    few_counts: float = 2000.0
    """Pixels with fewer counts in all are fitted by maximum likelihood."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """The components of each pixel; rejected pixels have NaN."""

    amplitudes: Tensor
    """[pixel, component], counts in the main line; never negative."""
    sigma: Tensor
    """[pixel, component], standard deviation, with all other amplitudes of the pixel unknown.

    At zero it is that of the estimate which may be negative. A component of less than one count in all its
    lines has the variance of one count.
    """
    detection_limit: Tensor
    """[pixel, component], the amplitude that is three times its own sigma in the shared least squares.

    3 sqrt(v_0) where the variance v_0 at amplitude zero, by background and neighbours, is large; nine counts
    where it is zero.
    """
    background: Tensor
    """[pixel, background], amplitudes of the background columns."""
    chi2: Tensor
    """[pixel], Σw(y - m)² with the shared weights over its expectation: 1 at any number of counts.

    NaN where no counts are expected and none are found.
    """
    kkt: Tensor
    """[pixel], largest violation of the conditions of a minimum, relative."""
    fault: Tensor
    """[pixel], `Fault` as int64."""

    def outcome(self, pixel: int) -> Outcome:
        """How the analysis of a pixel ended."""
        return Fault(int(self.fault[pixel])).outcome

    def reason(self, pixel: int) -> str:
        """Why it is not `ok`, else empty."""
        return Fault(int(self.fault[pixel])).reason

    def over(self, exposure: Tensor) -> Pixels:
        """Rates: amplitudes, sigma, detection limits and background over exposure [pixel]."""
        e = exposure.to(torch.float64)[:, None]
        return replace(
            self,
            amplitudes=self.amplitudes / e,
            sigma=self.sigma / e,
            detection_limit=self.detection_limit / e,
            background=self.background / e,
        )


class PixelSolver:
    """Solves pixels on one basis.

    Pixels of many counts: min Σw(y - aB)², a ≥ 0, on the Gram matrix G = BWBᵀ. The estimate is unbiased whatever
    w is, with the covariance G⁻¹BW diag(m) WBᵀG⁻¹ of Poisson counts; as m = aB is linear in a, so are the
    variances. Pixels of few counts: maximum likelihood, with the inverse Fisher information.

    References:
        P. Huber, Proc. 5th Berkeley Symp. 1, 221 (1967) (covariance with weights that are not the right ones);
        L. A. Currie, Anal. Chem. 40, 586 (1968), doi:10.1021/ac60259a007 (detection limit).

    >>> columns = torch.eye(2, dtype=torch.float64)
    >>> basis = Basis(("Fe", "Cu"), columns, 2, 0, torch.ones(2, dtype=torch.float64))
    >>> found = PixelSolver(basis).solve(torch.tensor([[100.0, 9.0]]))
    >>> found.amplitudes, found.sigma
    (tensor([[100.,   9.]], dtype=torch.float64), tensor([[10.,  3.]], dtype=torch.float64))
    """

    def __init__(self, basis: Basis, limits: Limits | None = None) -> None:
        self._basis, self._limits = basis, limits or Limits()
        b, w = basis.columns, basis.weights
        weighted = b * w
        self._gram = weighted @ b.T
        influence = _inverse(self._gram) @ weighted  # of a count in each channel on each amplitude
        self._variance = b @ (influence**2).T  # [of counts, on amplitude], at amplitude 1
        self._scatter = b @ (w - (influence * weighted).sum(0))  # expectation of Σw(y - m)² at amplitude 1
        self._area = b.sum(1)
        self._projector = torch.cat([weighted, torch.ones_like(w)[None]]).T.contiguous()

    @property
    def basis(self) -> Basis:
        """What the pixels are made of."""
        return self._basis

    def solve(
        self, counts: Tensor, *, exposure: Tensor | None = None, dead_time: Tensor | None = None
    ) -> Pixels:
        """Amplitudes of pixels with counts [pixel, channel] as recorded.

        Args:
            counts: over the channels of the basis; any real type.
            exposure: [pixel], live time times incident flux, in any unit; a pixel without is rejected.
            dead_time: [pixel], share of the real time.

        Raises:
            DataError: counts are no matrix with the channels of the basis, or the others not one per pixel.
        """
        self._check_shapes(counts, exposure, dead_time)
        fault = self._of_scalars(len(counts), exposure, dead_time)
        blocks = range(0, max(1, len(counts)), _BLOCK)
        parts = [self._block(counts[i : i + _BLOCK], fault[i : i + _BLOCK]) for i in blocks]
        names = Pixels.__dataclass_fields__
        return Pixels(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def _check_shapes(self, counts: Tensor, exposure: Tensor | None, dead_time: Tensor | None) -> None:
        channels = self._basis.columns.shape[1]
        if counts.ndim != 2 or counts.shape[1] != channels:
            raise DataError(
                f"counts have the shape {tuple(counts.shape)}, the basis has {channels} channels from channel"
                f" {self._basis.first} on; mend: counts [pixel, {channels}] of these channels"
            )
        for name, given in (("exposure", exposure), ("dead time", dead_time)):
            if given is not None and tuple(given.shape) != (len(counts),):
                raise DataError(
                    f"{name} has the shape {tuple(given.shape)} for {len(counts)} pixels; mend: one number per"
                    " pixel"
                )

    def _of_scalars(self, count: int, exposure: Tensor | None, dead_time: Tensor | None) -> Tensor:
        """Faults [pixel] that show in the exposure and the dead time."""
        fault = torch.zeros(count, dtype=torch.int64)
        if dead_time is not None:
            fault[dead_time > self._limits.most_dead_time] = Fault.LONG_DEAD_TIME
            fault[~((dead_time >= 0) & (dead_time < 1))] = Fault.DEAD_TIME
        if exposure is not None:
            fault[~((exposure > 0) & exposure.isfinite())] = Fault.NO_EXPOSURE
        return fault

    def _block(self, counts: Tensor, fault: Tensor) -> Pixels:
        y = counts.to(torch.float64)
        fault = self._of_channels(y, fault)
        bad = is_rejected(fault)
        if bool(bad.any()):
            y = torch.where(bad[:, None], 0.0, y)
        projected = y @ self._projector
        c, total = projected[:, :-1], projected[:, -1]
        solved = nnls(self._gram, c)
        a, kkt, scatter = solved.x, solved.kkt.clone(), None
        variance, matters = self._shared(a)
        few = ((total < self._limits.few_counts) & ~bad).nonzero()[:, 0]
        limit = 4.5 * matters.own + torch.sqrt((4.5 * matters.own) ** 2 + 9 * matters.other)
        raise NotImplementedError
