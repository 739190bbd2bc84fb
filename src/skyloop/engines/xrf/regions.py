"""Counts in windows of energy, with or without the line of background that their neighbourhood shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skyloop.errors import ConfigError, DataError

__all__ = ["Region", "RegionSums", "region_sums"]

Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Region:
    """A window of energy and, if its background is to be subtracted, one window on either side.

    Raises:
        ConfigError: a window that does not rise, one side window without the other, or one that overlaps.
    """

    name: str
    """Such as `"Fe"`."""
    low: float
    """keV."""
    high: float
    """keV."""
    below: Window | None = None
    """Lower side window (low, high) in keV."""
    above: Window | None = None
    """Upper side window (low, high) in keV."""

    def __post_init__(self) -> None:
        if not all(low < high for low, high in self.windows):
            raise ConfigError(
                f"region '{self.name}': {self.windows}; mend: (low, high) with low < high, in keV"
            )
        if (self.below is None) != (self.above is None):
            raise ConfigError(f"region '{self.name}' has one side window; mend: both or none")
        if self.below and self.above and not (self.below[1] <= self.low and self.high <= self.above[0]):
            raise ConfigError(
                f"region '{self.name}' from {self.low:g} to {self.high:g} keV overlaps the side windows"
                f" {self.below} and {self.above}; mend: one below and one above"
            )

    @property
    def windows(self) -> tuple[Window, ...]:
        """The window itself, then those at its sides."""
        return ((self.low, self.high), *(side for side in (self.below, self.above) if side))


@dataclass(frozen=True, slots=True, eq=False)
class RegionSums:
    """Sums over regions; NaN where a channel holds a negative number or none."""

    values: Tensor
    """[..., region], counts; less the background where a region has side windows, and then maybe negative."""
    sigma: Tensor
    """[..., region], standard deviation of counts that are Poisson, at least that of one count."""


def region_sums(counts: Tensor, energy: Tensor, regions: Sequence[Region]) -> RegionSums:
    """Σ v_i y_i and sqrt(Σ v_i² y_i) with the share v_i of channel i that lies in the window.

    Side windows give the height of a straight background at their middles; the region less that background is
    a sum over channels too, with negative v_i in the side windows.

    Args:
        counts: y [..., channel].
        energy: [channel], keV in the middle of each channel, ascending; see `forward.energies`.
        regions: which windows.

    Raises:
        DataError: counts and energies do not fit.
        ConfigError: a window reaches beyond the channels.

    >>> energy = torch.arange(5, dtype=torch.float64)
    >>> found = region_sums(torch.tensor([0.0, 4.0, 8.0, 4.0, 0.0]), energy, [Region("a", 1.0, 2.5)])
    >>> found.values, found.sigma
    (tensor([10.], dtype=torch.float64), tensor([3.], dtype=torch.float64))
    """
    if energy.ndim != 1 or not counts.ndim or counts.shape[-1] != len(energy) or len(energy) < 2:
        raise DataError(
            f"counts {tuple(counts.shape)} with energies {tuple(energy.shape)}; mend: one energy per channel,"
            " two channels at least"
        )
    if not bool((energy.diff() > 0).all()):
        raise DataError("energies of the channels do not ascend; mend: one calibration, slope above zero")
    y = counts.to(torch.float64)
    bad = ~((y >= 0) & y.isfinite()).all(-1, keepdim=True)
    y = torch.where(bad, torch.nan, y)
    if not regions:
        return RegionSums(y[..., :0], y[..., :0])
    shares = torch.stack([_shares(region, energy.to(torch.float64)) for region in regions])
    return RegionSums(y @ shares.T, (y @ (shares**2).T).clamp(min=1.0).sqrt())


def _shares(region: Region, energy: Tensor) -> Tensor:
    """[channel], what a count in each channel adds to the sum of the region."""
    ends = [_ends(region, window, energy) for window in region.windows]
    own, *sides = [_inside(low, high, len(energy)) for low, high in ends]
    if not sides:
        return own
    middle, left, right = [(low + high) / 2 for low, high in ends]
    width, *side_widths = [high - low for low, high in ends]
    towards = (middle - left) / (right - left)
    return own - width * ((1 - towards) * sides[0] / side_widths[0] + towards * sides[1] / side_widths[1])


def _ends(region: Region, window: Window, energy: Tensor) -> Window:
    """A window in channels; channel i is from i - 1/2 to i + 1/2."""
    low, high = (_place(each, energy) for each in window)
    if low < -0.5 or high > len(energy) - 0.5:
        raise ConfigError(
            f"region '{region.name}': {window[0]:g} to {window[1]:g} keV, the channels reach from"
            f" {energy[0]:g} to {energy[-1]:g} keV; mend: windows within the channels"
        )
    return low, high


def _place(at: float, energy: Tensor) -> float:
    """The channel of an energy, a real number; straight between the channels and beyond the ends."""
    i = int(torch.searchsorted(energy, at).clamp(1, len(energy) - 1))
    below, above = float(energy[i - 1]), float(energy[i])
    return i - 1 + (at - below) / (above - below)


def _inside(low: float, high: float, count: int) -> Tensor:
    """[channel], share of each channel in [low, high]."""
    channel = torch.arange(count, dtype=torch.float64)
    return ((channel + 0.5).clamp(max=high) - (channel - 0.5).clamp(min=low)).clamp(min=0.0)
