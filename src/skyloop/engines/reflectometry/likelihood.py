"""How probable the measured points are under model curves.

Counts: with a relative systematic error f that counting does not lower, counts are negative binomial,
mean mu = exposure R and variance mu + f^2 mu^2 (a Poisson mean smeared by a gamma factor of mean 1 and
standard deviation f); f = 0 is Poisson.
Measured reflectivity: normal, variance sigma^2 + f^2 R^2. R is the model's, not the datum's: a datum that
came out low must not be trusted more for it.

The systematic error belongs to a wavevector transfer, not to one counting of it, so countings of the same
point are added up first: repeating a point lowers the statistical part alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, gammaln, xlogy

from skyloop.engines.reflectometry.frame import Frame
from skyloop.quantities import FloatArray

__all__ = ["Data", "gather"]

_NOTHING = 1e-30
"""A reflectivity that no instrument sees; it keeps the logarithm of an expected count finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Points in canonical order: n distinct abscissae, gathered into m groups of repeated countings."""

    q: FloatArray
    """Distinct wavevector transfers [n] at which the model is needed, in 1/angstrom."""
    q_sigma: FloatArray
    """Resolution [n], one standard deviation."""
    share: FloatArray
    """What a unit of reflectivity at each abscissa adds to its group's expected value [n]."""
    starts: NDArray[np.intp]
    """First abscissa of each group [m]."""
    value: FloatArray
    """Counts, or mean reflectivity, of each group [m]."""
    known_variance: FloatArray
    """Variance of each measured group; NaN for counts [m]."""
    exposure: FloatArray
    """Counts expected at a reflectivity of one for each group; NaN where it was not counted [m]."""
    systematic: float
    """Relative standard deviation f that counting does not lower."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def group_q(self) -> FloatArray:
        """Mean wavevector transfer of each group [m], weighted as its data are."""
        return np.add.reduceat(self.q * self.share, self.starts) / self.unit

    @property
    def unit(self) -> FloatArray:
        """Expected value of each group at a reflectivity of one [m]."""
        return np.add.reduceat(self.share, self.starts)

    def thinned(self, bins: int) -> Data:
        """The first group of each kind (measured, counted) in each of `bins` equal parts of the range of q.

        Where points are sparse all of them stay, however many there are elsewhere.
        """
        sizes = np.diff(np.r_[self.starts, len(self.q)])
        q, counted = self.group_q, np.isnan(self.known_variance)
        edges = np.linspace(q.min(), q.max(), bins + 1)[1:-1]
        part = np.digitize(q, edges) + bins * counted
        groups = np.isin(np.arange(len(self)), np.unique(part, return_index=True)[1])
        columns = np.repeat(groups, sizes)
        return Data(
            q=self.q[columns],
            q_sigma=self.q_sigma[columns],
            share=self.share[columns],
            starts=np.cumsum(sizes[groups]) - sizes[groups],
            value=self.value[groups],
            known_variance=self.known_variance[groups],
            exposure=self.exposure[groups],
            systematic=self.systematic,
        )

    def expected(self, reflectivity: FloatArray) -> FloatArray:
        """Model reflectivity [..., n] at `q` -> expected counts or mean reflectivity [..., m]."""
        single = (reflectivity + _NOTHING) * self.share
        if len(self.starts) == len(self.q):
            return single
        return np.add.reduceat(single, self.starts, axis=-1)

    def variance(self, expected: FloatArray) -> FloatArray:
        """Variance of each group under the model [..., m]."""
        statistical = np.where(np.isnan(self.known_variance), expected, self.known_variance)
        return statistical + (self.systematic * expected) ** 2

    def columns_in(self, other: Data) -> NDArray[np.intp]:
        """Where each of these abscissae is among those of data that hold all of them."""
        places = {key: i for i, key in enumerate(other.keys())}
        return np.array([places[key] for key in self.keys()])

    def keys(self) -> list[tuple[bool, float, float]]:
        """What tells one abscissa from another: the kind of point, its q and its resolution."""
        lengths = np.diff(np.r_[self.starts, len(self.q)])
        counted = np.repeat(np.isnan(self.known_variance), lengths)
        return list(zip(counted.tolist(), self.q.tolist(), self.q_sigma.tolist(), strict=True))

    def log_likelihood(self, reflectivity: FloatArray) -> FloatArray:
        """Log probability of all data under each model curve [p, n] -> [p]."""
        expected = self.expected(reflectivity)
        counted = np.isnan(self.known_variance)
        if counted.all():
            return _log_counts(self.value, expected, self.systematic).sum(axis=-1)
        if not counted.any():
            return _log_normal(self.value - expected, self.variance(expected)).sum(axis=-1)
        variance = self.variance(expected)[..., ~counted]
        normal = _log_normal((self.value - expected)[..., ~counted], variance)
        counts = _log_counts(self.value[counted], expected[..., counted], self.systematic)
        return normal.sum(axis=-1) + counts.sum(axis=-1)

    def residuals(self, reflectivity: FloatArray) -> FloatArray:
        """(Data - model) / standard deviation of each group [..., m]."""
        expected = self.expected(reflectivity)
        return (self.value - expected) / np.sqrt(self.variance(expected))

    def sum_of_squares(self, reflectivity: FloatArray) -> FloatArray:
        """Sum of squared residuals [p] of each model curve [p, n]."""
        return (self.residuals(reflectivity) ** 2).sum(axis=-1)

    def p_value(self, reflectivity: FloatArray) -> FloatArray:
        """Probability [p] that data drawn from each model curve [p, n] fit it worse than the real data.

        The sum of squared residuals is taken as gamma distributed with its exact mean m and its exact
        variance sum(2 + 6 f^2 + 1/V): few counts spread it wider than chi-squared.
        """
        variance = self.variance(self.expected(reflectivity))
        excess = np.where(np.isnan(self.known_variance), 6.0 * self.systematic**2 + 1.0 / variance, 0.0)
        scale = (2.0 + excess).sum(axis=-1) / (2.0 * len(self))
        return gammaincc(0.5 * len(self) / scale, 0.5 * self.sum_of_squares(reflectivity) / scale)


def gather(frame: Frame, *, systematic: float, tolerance: float) -> Data:
    """Bring points into canonical order and add up those whose q differ by at most `tolerance`.

    Any order of the points gives the same data, bit for bit.

    >>> frame = Frame.counted([0.05, 0.1, 0.05], counts=[90, 10, 110], exposure=1e5)
    >>> data = gather(frame, systematic=0.01, tolerance=1e-5)
    >>> data.q, data.value, data.expected(np.array([1e-3, 1e-4]))
    (array([0.05, 0.1 ]), array([200.,  10.]), array([200.,  10.]))
    """
    frame = _sorted(frame)
    counted = frame.is_counted
    precision = 1.0 / frame.reflectivity_sigma**2
    weight = np.where(counted, frame.exposure, precision)
    signal = np.where(counted, frame.counts, frame.reflectivity * precision)
    same = np.diff(frame.q) == 0
    same &= (np.diff(frame.q_sigma) == 0) & (np.diff(counted.astype(int)) == 0)
    columns = np.flatnonzero(np.r_[True, ~same])
    first = _groups(frame, tolerance)
    groups = np.searchsorted(columns, first)
    share, total = np.add.reduceat(weight, columns), np.add.reduceat(weight, first)
    value, kind = np.add.reduceat(signal, first), counted[first]
    unit = np.where(kind, 1.0, total)
    return Data(
        q=frame.q[columns],
        q_sigma=frame.q_sigma[columns],
        share=share / np.repeat(unit, np.diff(np.r_[groups, len(columns)])),
        starts=groups,
        value=value / unit,
        known_variance=np.where(kind, np.nan, 1.0 / total),
        exposure=np.where(kind, total, np.nan),
        systematic=systematic,
    )


def _sorted(frame: Frame) -> Frame:
    value = np.where(frame.is_counted, frame.counts, frame.reflectivity)
    scale = np.where(frame.is_counted, frame.exposure, frame.reflectivity_sigma)
    order = np.lexsort((scale, value, frame.q_sigma, frame.q, frame.is_counted))
    columns = (frame.q, frame.q_sigma, frame.counts, frame.exposure)
    measured = (frame.reflectivity, frame.reflectivity_sigma)
    return Frame(*(column[order] for column in (*columns, *measured)))


def _groups(frame: Frame, tolerance: float) -> NDArray[np.intp]:
    """Where a new group starts: another kind of point, or too far from the group's first point."""
    starts = [0]
    for i in range(1, len(frame)):
        first = starts[-1]
        near = frame.q[i] - frame.q[first] <= tolerance
        sharp = abs(frame.q_sigma[i] - frame.q_sigma[first]) <= tolerance
        if not (near and sharp and frame.is_counted[i] == frame.is_counted[first]):
            starts.append(i)
    return np.array(starts)


def _log_counts(counts: FloatArray, mean: FloatArray, systematic: float) -> FloatArray:
    """Log probability of counts: negative binomial of variance mean + f^2 mean^2, Poisson for f = 0."""
    constant = -gammaln(counts + 1.0)
    if systematic == 0.0:
        return xlogy(counts, mean) - mean + constant
    size = systematic**-2
    constant = constant + gammaln(counts + size) - gammaln(size) - counts * np.log(size)
    diluted = np.log1p(mean / size)
    return xlogy(counts, mean) - (counts + size) * diluted + constant


def _log_normal(residual: FloatArray, variance: FloatArray) -> FloatArray:
    return -0.5 * (residual**2 / variance + np.log(2.0 * np.pi * variance))
