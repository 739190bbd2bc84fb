"""Which components spectra show: each kept or added by what it changes of the Poisson deviance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import comb

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2

from skyloop.engines.xrf.evidence import Pool
from skyloop.quantities import FloatArray

__all__ = ["Selection", "select", "threshold"]

_ALIKE = 9.0
"""Another component that lowers the deviance by this less, or more, may be meant as well."""
_CLEARLY = 1.0  # an exchange must lower the deviance by more, so that nothing is exchanged for ever
_STEADY = 1.05  # what comes in needs more than what stays, so that nothing goes in and out for ever
_MOST_TRIED = 12


def threshold(false_positives: float, candidates: int, detectors: int = 1) -> float:
    """Standard deviations that an amplitude must be above zero, so that of all candidates none is false.

    The change of deviance of a component that is not there is 0 with probability 1/2 in each detector, else
    chi-squared; t^2 is where its tail is `false_positives / candidates`, so that so many are found in all.

    References:
        S. G. Self, K.-Y. Liang, J. Am. Stat. Assoc. 82, 605 (1987), doi:10.1080/01621459.1987.10478472.

    >>> round(threshold(0.01, 100), 2), round(threshold(0.01, 100, detectors=4), 2)
    (3.72, 4.45)
    """
    tail = false_positives / max(1, candidates)

    def excess(t: float) -> float:
        some = range(1, detectors + 1)
        return sum(comb(detectors, d) * chi2.sf(t * t, d) for d in some) / 2**detectors - tail

    return float(np.asarray(brentq(excess, 0.0, 40.0))) if excess(0.0) > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Components that spectra show."""

    names: tuple[str, ...]
    """In the order of the candidates."""
    significance: Mapping[str, float]
    """Of each, amplitude over its standard deviation."""
    alike: Mapping[str, tuple[str, ...]]
    """Of each that may be confused: the candidates that would describe the spectra about as well."""


def select(
    pool: Pool,
    *,
    least: float,
    kept: Collection[str] = (),
    needs: Mapping[str, str] | None = None,
    rarer: Mapping[str, float] | None = None,
    start: Collection[str] | None = None,
    exchange: bool = True,
) -> Selection:
    """Components by backward elimination, then forward selection and exchange, until nothing changes.

    A change that leads back to components that were left before is not made.

    Args:
        pool: the evidence.
        least: standard deviations above zero that a component needs.
        kept: components that stay whatever the evidence is.
        needs: components that are there only together with another one.
        rarer: what more a component must lower the deviance by, -2 log of its prior odds against the others.
        start: where to begin; all candidates when not given.
        exchange: also try one component in the place of another.
    """
    index = {name: i for i, name in enumerate(pool.names)}
    rules = _Rules(
        fixed=frozenset(index[name] for name in kept),
        parent={index[a]: index[b] for a, b in (needs or {}).items() if a in index and b in index},
        least=least,
        rarer=np.array([(rarer or {}).get(name, 0.0) for name in pool.names]),
    )
    chosen = set(index.values()) if start is None else {index[name] for name in start} | rules.fixed
    seen = {frozenset(chosen)}
    while (changed := rules.changed(pool, chosen, exchange)) is not None and frozenset(changed) not in seen:
        chosen = changed
        seen.add(frozenset(chosen))
    return _told(pool, chosen, rules)


@dataclass(frozen=True, slots=True)
class _Rules:
    fixed: frozenset[int]
    """Candidates that stay."""
    parent: Mapping[int, int]
    """What a candidate needs."""
    least: float
    """Standard deviations."""
    rarer: FloatArray
    """[candidate], change of the deviance that a component needs besides."""

    def needed(self, k: int) -> float:
        """Standard deviations that a component needs."""
        return float(np.sqrt(self.least**2 + self.rarer[k]))

    def changed(self, pool: Pool, chosen: set[int], exchange: bool) -> set[int] | None:
        """The next set of components; None when this one stays."""
        fewer = self.fewer(pool, chosen)
        if fewer is not None:
            return fewer
        more = self.more(pool, chosen)
        return self.others(pool, chosen) if more is None and exchange else more

    def may_enter(self, k: int, chosen: set[int]) -> bool:
        return k not in chosen and self.parent.get(k, k) in chosen | {k}

    def fewer(self, pool: Pool, chosen: set[int]) -> set[int] | None:
        """Without those at zero or nearly so, or the least significant one; and without what needs it."""
        z = pool.significance(chosen)
        movable = chosen - self.fixed
        weak = {k for k in movable if z.get(k, 0.0) < min(1.0, self.least)}
        below = [k for k in movable if z.get(k, 0.0) < self.needed(k)]
        gone = weak or ({min(below, key=lambda k: z[k] / self.needed(k))} if below else set[int]())
        orphans = {k for k in movable if self.parent.get(k, -1) in gone}
        return chosen - gone - orphans if gone else None

    def more(self, pool: Pool, chosen: set[int]) -> set[int] | None:
        """With the candidate that gains most, if that is enough."""
        gains = pool.gains(chosen)
        outside = [k for k in range(len(gains)) if self.may_enter(k, chosen)]
        best = max(outside, key=lambda k: gains[k] / self.needed(k), default=None)
        return chosen | {best} if best is not None and gains[best] > _STEADY * self.needed(best) else None

    def others(self, pool: Pool, chosen: set[int]) -> set[int] | None:
        """With one candidate in the place of another, where that lowers the deviance."""
        gains, own = pool.gains_without(chosen)
        needed = {self.parent[k] for k in chosen if k in self.parent}
        movable = sorted(chosen - self.fixed - needed)
        outside = [k for k in range(len(gains)) if self.may_enter(k, chosen)]
        better = gains[np.ix_(outside, movable)] ** 2 - own[movable] ** 2
        better = better - self.rarer[outside][:, None] + self.rarer[movable]
        before = self._score(pool, chosen)
        for i, j in _largest(better, _MOST_TRIED):
            changed = (chosen - {movable[j]}) | {outside[i]}
            if better[i, j] <= _CLEARLY:
                break
            is_whole = self.parent.get(outside[i], outside[i]) in changed
            if is_whole and self._score(pool, changed) < before - _CLEARLY:
                return changed
        return None

    def _score(self, pool: Pool, chosen: set[int]) -> float:
        return pool.deviance(chosen) + float(self.rarer[sorted(chosen)].sum())


def _largest(values: FloatArray, count: int) -> list[tuple[int, int]]:
    order = np.argsort(-values, axis=None, kind="stable")[:count]
    return [divmod(int(at), values.shape[1]) for at in order]


def _told(pool: Pool, chosen: set[int], rules: _Rules) -> Selection:
    z = pool.significance(chosen)
    gains, own = pool.gains_without(chosen)
    outside = [k for k in range(len(gains)) if rules.may_enter(k, chosen)]
    alike: dict[str, tuple[str, ...]] = {}
    for k in sorted(chosen - rules.fixed):
        least = max(own[k] ** 2 - _ALIKE, 0.0)
        if near := tuple(pool.names[j] for j in outside if gains[j, k] ** 2 > least):
            alike[pool.names[k]] = near
    names = tuple(name for i, name in enumerate(pool.names) if i in chosen)
    return Selection(names, {pool.names[k]: z.get(k, 0.0) for k in sorted(chosen)}, alike)
