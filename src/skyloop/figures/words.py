"""Numbers and units as people write them: on figures, in tables and in questions."""

from __future__ import annotations

import numpy as np

from skyloop.engines.panel import Fact, Facts
from skyloop.errors import Outcome

__all__ = ["MARK", "fact_text", "number", "spread", "unit_text", "verdict"]

MARK = " ?"
"""Behind a value whose uncertainty does not hold."""

_UNITS = {"angstrom": "Å", "1/angstrom": "Å⁻¹", "1e-6/angstrom^2": "10⁻⁶ Å⁻²", "count": "counts"}
_TINY = 1e-3
"""Below it a value without an uncertainty is a matter of its power of ten."""
_PLAIN = 5
"""Powers of ten that are written out."""


def unit_text(unit: str) -> str:
    """A unit as people write it.

    >>> unit_text("1/angstrom")
    'Å⁻¹'
    """
    return _UNITS.get(unit, unit)


def number(value: float, sigma: float = float("nan")) -> str:
    """A value with its uncertainty, to the digits that the uncertainty leaves.

    >>> number(308.6371, 0.2149), number(2.07, 0.0), number(1234.5)
    ('308.64 ± 0.21', '2.07 (known)', '1234')
    >>> number(1.2036e-6, 3.1e-8), number(7.391e-46), number(True)
    ('(1.204 ± 0.031)e-06', '7e-46', 'yes')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not np.isfinite(value):
        return "not known"
    if sigma == 0:
        return f"{value:g} (known)"
    if np.isnan(sigma):
        return f"{value:.1g}" if 0 < abs(value) < _TINY else f"{value:.4g}"
    if not np.isfinite(sigma):
        return f"{value:.4g} ± not known"
    largest = _exponent(max(abs(value), sigma))
    if -_PLAIN <= largest <= _PLAIN and _exponent(sigma) > -_PLAIN:
        return _rounded(value, sigma)
    return f"({_rounded(value / 10.0**largest, sigma / 10.0**largest)})e{largest:+03d}"


def fact_text(fact: Fact, outcome: Outcome) -> str:
    """A value with its uncertainty, marked where it claims to be known and the result is not to be trusted.

    >>> thickness = Fact("thickness", 308.6371, 0.2149)
    >>> fact_text(thickness, Outcome.OK), fact_text(thickness, Outcome.DEGRADED)
    ('308.64 ± 0.21', '308.64 ± 0.21 ?')
    >>> fact_text(Fact("chi2", 7.123), Outcome.DEGRADED)
    '7.123'
    """
    is_claim = bool(fact.note) or not np.isnan(fact.sigma)
    return number(fact.value, fact.sigma) + (MARK if is_claim and outcome != Outcome.OK else "")


def verdict(facts: Facts) -> str:
    """The outcome in words, with what speaks against the values or what they depend on.

    >>> verdict(Facts("", (), Outcome.OK)), verdict(Facts("", (), Outcome.OK, "a is at its end"))
    ('ok', 'ok, but a is at its end')
    >>> verdict(Facts("", (), Outcome.DEGRADED, "does not fit"))
    'degraded: does not fit'
    """
    if not facts.reason:
        return str(facts.outcome)
    return f"{facts.outcome}{', but ' if facts.outcome == Outcome.OK else ': '}{facts.reason}"


def spread(sigma: float) -> str:
    """An uncertainty alone, to two digits; an integer part is written in full.

    >>> spread(0.8), spread(1.374), spread(114.2), spread(3.1e-8)
    ('0.80', '1.4', '114', '3.1e-08')
    >>> spread(float("inf")), spread(float("nan"))
    ('not known', 'not known')
    """
    if not np.isfinite(sigma):
        return "not known"
    if not -_PLAIN <= _exponent(sigma) <= _PLAIN:
        return f"{sigma:.1e}"
    return f"{sigma:.{_decimals(sigma)}f}"


def _rounded(value: float, sigma: float) -> str:
    """Both with two digits of the uncertainty; an integer part is written in full."""
    digits = _decimals(sigma)
    return f"{value:.{digits}f} ± {sigma:.{digits}f}"


def _decimals(sigma: float) -> int:
    return max(0, 1 - _exponent(sigma))


def _exponent(value: float) -> int:
    """Power of ten of the first digit, after rounding to two digits: 0.996 is 1.0."""
    return int(f"{value:.1e}".partition("e")[2])
