"""Amplitudes of the components in every pixel of a map, with their uncertainty.

All pixels share the spectra of the components, which the fit of the sum spectrum gave. Each pixel is
projected on them once; what follows needs no channels. Pixels of few counts are fitted again by maximum
likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from skyloop.engines.xrf._basis import Basis, basis_of, inverse, shared_weights
from skyloop.engines.xrf._likelihood import Likelihood
from skyloop.errors import DataError, Outcome
from skyloop.numerics.nnls import nnls

__all__ = ["Basis", "Fault", "Limits", "PixelSolver", "Pixels", "basis_of", "shared_weights"]

_BLOCK = 256  # pixels whose channels stay near the processor
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
    NO_COUNTS = 7
    NOT_CONVERGED = 8

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
        Fault.NO_COUNTS: (Outcome.DEGRADED, "no counts, and no exposure that says it was measured"),
        Fault.NOT_CONVERGED: (Outcome.DEGRADED, "the conditions of a minimum are not met to 1e-6"),
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a pixel is suspect, and when it is fitted by maximum likelihood."""

    saturation: float = float("inf")
    """Counts of one channel at and above which the counter is full."""
    most_dead_time: float = 0.5
    """Share of the real time; a pixel above it is degraded."""
    few_counts: float = 500.0
    """Pixels with fewer counts in all are fitted by maximum likelihood, which takes ten times as long."""


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
    """[pixel], Σw(y - m)² of the shared least squares over its expectation for Poisson counts.

    1 in the mean however few the counts are (but for 1.5 divided by the counts, which matters below 50); m is
    that of least squares in all pixels. Where no counts are expected, NaN, or infinite if some are found.
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

    Least squares: min Σw(y - aB)², a ≥ 0, on the Gram matrix G = BWBᵀ. But for a ≥ 0 it is unbiased whatever
    w is, and Poisson counts of mean m = aB give it the covariance G⁻¹BW diag(m) WBᵀG⁻¹, which is linear in a.

    Maximum likelihood, for pixels of few counts; its covariance is the inverse Fisher information. Both are
    nearly alike: with the weights of the mean pixel the mean squared error of least squares is larger by 1 to
    5 % (median over components) at any number of counts, more where a pixel lacks what is strong in the mean.

    References:
        H. White, Econometrica 48, 817 (1980), doi:10.2307/1912934 (covariance when weights are not the best);
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
        influence = inverse(self._gram) @ weighted  # of a count in each channel on each amplitude
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
        slices = [slice(i, i + _BLOCK) for i in blocks]
        parts = [self._block(counts[each], fault[each], exposure is not None) for each in slices]
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
                    f"{name} of shape {tuple(given.shape)} for {len(counts)} pixels; mend: one number each"
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

    def _block(self, counts: Tensor, fault: Tensor, has_exposure: bool) -> Pixels:
        y = counts.to(torch.float64)
        fault = self._of_channels(y, fault, has_exposure)
        bad = _is_rejected(fault)
        if bool(bad.any()):
            y = torch.where(bad[:, None], 0.0, y)
        projected = y @ self._projector
        c, total = projected[:, :-1], projected[:, -1]
        solved = nnls(self._gram, c)
        a, kkt = solved.x, solved.kkt
        own, others = self._variances(a)
        chi2 = self._chi2(y, c, a)
        sigma = torch.sqrt(own * self._counted(a) + others)
        few = ((total > 0) & (total < self._limits.few_counts)).nonzero()[:, 0]
        if len(few):
            a, kkt, sigma = a.clone(), kkt.clone(), sigma.clone()
            a[few], kkt[few] = self._likelihood.maximum(y[few], a[few])
            sigma[few] = self._likely_sigma(a[few])
        n = self._basis.n_components
        fault = torch.where((kkt > _OPTIMAL) & (fault == 0), int(Fault.NOT_CONVERGED), fault)
        found = torch.cat([a, sigma, _limit(own, others), chi2[:, None], kkt[:, None]], dim=1)
        found[bad] = torch.nan
        a, sigma, limit, chi2, kkt = found.split([a.shape[1]] * 3 + [1, 1], dim=1)
        return Pixels(a[:, :n], sigma[:, :n], limit[:, :n], a[:, n:], chi2[:, 0], kkt[:, 0], fault)

    def _of_channels(self, y: Tensor, fault: Tensor, has_exposure: bool) -> Tensor:
        """Faults [pixel] that show in the counts, and those known before."""
        low, high = torch.aminmax(y, dim=1)
        fault = fault.clone()
        fault[high >= self._limits.saturation] = Fault.SATURATED
        if not has_exposure:
            fault[(high == 0) & (fault == 0)] = Fault.NO_COUNTS
        fault[low < 0] = Fault.NEGATIVE
        fault[~(low.isfinite() & high.isfinite())] = Fault.NOT_FINITE
        return fault

    def _counted(self, a: Tensor) -> Tensor:
        """Amplitudes of at least one count: what the variance of few counts is taken from."""
        return torch.maximum(a, 1 / self._area)

    def _variances(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Variance per own amplitude [1, column], and that by all other columns [pixel, column]."""
        own = self._variance.diagonal()
        return own[None], self._counted(a) @ (self._variance - torch.diag(own))

    def _chi2(self, y: Tensor, c: Tensor, a: Tensor) -> Tensor:
        squares = (y * y) @ self._basis.weights
        return (squares + (a * (a @ self._gram - 2 * c)).sum(1)) / (a @ self._scatter)

    def _likely_sigma(self, a: Tensor) -> Tensor:
        model = self._counted(a) @ self._basis.columns
        # A channel that no column reaches says nothing.
        information = self._likelihood.information(torch.where(model > 0, model, torch.inf))
        return inverse(information).diagonal(dim1=1, dim2=2).sqrt()

    @cached_property
    def _likelihood(self) -> Likelihood:
        return Likelihood(self._basis.columns)


def _is_rejected(fault: Tensor) -> Tensor:
    codes = torch.tensor([each for each in Fault if each.outcome is Outcome.REJECTED])
    return torch.isin(fault, codes)


def _limit(own: Tensor, others: Tensor) -> Tensor:
    """The amplitude that is three times its own sigma: a = 3 sqrt(own a + others)."""
    return 4.5 * own + torch.sqrt((4.5 * own) ** 2 + 9 * others)
