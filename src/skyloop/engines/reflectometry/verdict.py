"""What a result says of itself: its outcome, the reason, and whether a second inference confirms it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from skyloop.engines.reflectometry.assess import Assessment
from skyloop.engines.reflectometry.rival import Rival
from skyloop.errors import Outcome

__all__ = ["Verdict", "agree", "carried", "doubted", "settled"]

_AGREEMENT = 3.0
_SAME_EVIDENCE = 4.0
"""Two inferences of one posterior differ less in log evidence: by some tenths, after many updates by two."""
_MOST_OTHER_MASS = 0.01
"""Another value of the target may be this probable before it must be told."""
_OPEN = 1.2
"""A rival of this log likelihood above the model's must be ruled out before a target that it shifts is known.

Chance gives this much to many correct models; their runs then take a little longer.
"""
_LIKELY = 3.0
"""A target that a rival of this shifts is not known at all; chance seldom gives that much."""
_CLEAR = 5.0
"""A rival of this describes the data better."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an analysis ended."""

    outcome: Outcome = Outcome.OK
    """How it ended."""
    reason: str = ""
    """Why, unless it is `ok`."""
    confirmed: bool = False
    """True when an independent inference agrees and the model fits."""
    z: float = float("nan")
    """Difference of the two inferences in standard deviations; NaN when there was one only."""
    rival: Rival | None = None
    """The best sample with a further layer, where one was sought."""
    is_open: bool = False
    """True when the data do not rule that sample out."""


def carried(found: Assessment, z: float) -> Verdict:
    """Verdict on a posterior whose last check found a difference z, or was not made or failed (NaN)."""
    doubt = _doubt(found)
    outcome = Outcome.DEGRADED if doubt else Outcome.OK
    return Verdict(outcome, doubt, confirmed=not (math.isnan(z) or doubt), z=z)


def settled(found: Assessment, pair: tuple[Assessment, Assessment]) -> Verdict:
    """Verdict on what was settled from two independent inferences."""
    z = _difference(*pair)
    if agree(*pair) or found.is_misfit:
        return carried(found, z)
    reason = (
        f"two independent inferences give {pair[0].target:.5g} and {pair[1].target:.5g}, with log evidence "
        f"{pair[0].log_evidence:.1f} and {pair[1].log_evidence:.1f}; the more probable one is told"
    )
    return Verdict(Outcome.DEGRADED, reason, z=z)


def doubted(verdict: Verdict, found: Assessment, rival: Rival, *, strict: bool) -> Verdict:
    """The verdict with its rival; it is not confirmed when the data favour the rival.

    Args:
        verdict: on the sample without the further layer.
        found: of that sample.
        rival: with the layer.
        strict: doubt also where the data favour it a little only and it shifts the target.
    """
    is_clear = rival.gain >= _CLEAR
    shifts = abs(rival.target - found.target) > _AGREEMENT * found.target_sigma
    if not (is_clear or (shifts and rival.gain >= (_OPEN if strict else _LIKELY))):
        return replace(verdict, rival=rival)
    layer = f"a further layer of about {rival.thickness:.2g} angstrom at the {rival.interface} interface"
    reason = (
        f"{layer} describes the data better (log likelihood +{rival.gain:.1f}): the model may lack a layer"
        if is_clear
        else f"{layer} is possible too (log likelihood +{rival.gain:.1f}); target would be {rival.target:.5g}"
    )
    outcome = Outcome.DEGRADED
    return replace(verdict, outcome=outcome, reason=reason, confirmed=False, rival=rival, is_open=True)


def agree(first: Assessment, other: Assessment) -> bool:
    """True when two estimates of the target are less than 3 standard deviations apart, and of one posterior.

    A difference in log evidence shows that one inference missed the most probable samples, even where its
    target is too wide to disagree.
    """
    is_one_posterior = abs(first.log_evidence - other.log_evidence) < _SAME_EVIDENCE
    return is_one_posterior and abs(_difference(first, other)) < _AGREEMENT


def _difference(first: Assessment, other: Assessment) -> float:
    variance = 0.5 * (first.target_sigma**2 + other.target_sigma**2)
    if variance == 0.0:  # single particles: no datum like these is expected of any sample of the model
        return math.nan
    return (other.target - first.target) / variance**0.5


def _doubt(found: Assessment) -> str:
    if found.is_misfit:
        return f"model does not describe the data (chi2 = {found.chi2:.3g}, p = {found.p_value:.1g})"
    if found.is_overfit:
        return f"data scatter less than their errors say (chi2 = {found.chi2:.2g})"
    if found.other_mass >= _MOST_OTHER_MASS:
        return f"{found.other_target:.5g} is possible too (probability {found.other_mass:.2g})"
    if found.edge:
        return f"target is at the {found.edge} end of its range; mend: widen the range"
    return ""
