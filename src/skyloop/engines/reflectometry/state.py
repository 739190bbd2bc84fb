"""What the engine remembers between two steps."""

from __future__ import annotations

from dataclasses import dataclass

from skyloop.engines.reflectometry.assess import Assessment
from skyloop.engines.reflectometry.frame import Frame
from skyloop.engines.reflectometry.rival import Rival
from skyloop.engines.reflectometry.verdict import Verdict, doubted
from skyloop.numerics.smc import Ensemble

__all__ = ["Settled", "State"]


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """What two independent inferences on the same points come to."""

    ensemble: Ensemble
    """Particles of the posterior."""
    found: Assessment
    """What they say."""
    verdict: Verdict
    """How they agree."""
    rival: Rival | None
    """The best sample with a further layer, where one was sought."""

    def judged(self, *, strict: bool) -> Verdict:
        """The verdict with the doubt of the rival; strictly also where the data favour it a little only."""
        if self.rival is None:
            return self.verdict
        return doubted(self.verdict, self.found, self.rival, strict=strict)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All that is known of a run."""

    key: int
    """Seed of the run."""
    n_frames: int = 0
    """Frames folded so far."""
    points: Frame | None = None
    """Points folded so far."""
    ensemble: Ensemble | None = None
    """Particles of the posterior."""
    n_inferred: int = 0
    """Distinct abscissae when the posterior was last inferred over the whole prior."""
    n_checked: int = 0
    """Points when the posterior was last checked by an independent inference."""
    n_doubted: int = 0
    """Points when a rival of the sample model was first told; 0 while none was."""
    z: float = float("nan")
    """Difference that this check found, in standard deviations, while it holds; else NaN."""
    final: Settled | None = None
    """What `finish` comes to, where a check of a whole curve came to it already."""
