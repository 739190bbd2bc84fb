"""What a fit of fluorescence spectra is told: the beam, the detector, what is sought and what is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from skyloop.engines.xrf.detector import Detector
from skyloop.engines.xrf.joint import Doubts
from skyloop.engines.xrf.objective import OBJECTIVES, ObjectiveName
from skyloop.engines.xrf.parameters import FITTED, PARAMETERS, checked
from skyloop.errors import ConfigError

__all__ = ["Calibration", "Config"]

_MOST_ENERGY = 120.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of the energy calibration at first; the fit looks beyond where it must."""

    slope: float = 0.01
    """Energy per channel [keV/channel]."""
    slope_range: float = 0.1
    """Relative, to both sides."""
    offset: float = 0.0
    """Energy of channel 0 [keV]."""
    offset_range: float = 0.05
    """To both sides [keV]."""


@dataclass(frozen=True, slots=True)
class Config:
    """The question.

    Raises:
        ConfigError: names the key, what was found there and the mend.
    """

    incident_energy: float
    """Energy of the beam [keV]."""
    elements: tuple[str, ...] = ()
    """Components to fit, by their MAPS names; empty: those that the spectrum shows."""
    excluded: tuple[str, ...] = ()
    """Elements that are not looked for."""
    detector: Detector = "Si"
    """Material of the detector."""
    energy_range: tuple[float, float] | None = None
    """Lowest and highest energy that is fitted [keV]; default 1 keV to 1 keV above the beam."""
    calibration: Calibration = field(default_factory=Calibration)
    """What is known of the energy calibration."""
    parameters: Mapping[str, float] = field(default_factory=dict[str, float])
    """Values of parameters: of those that are fitted to begin with, of the others for good."""
    free: tuple[str, ...] = FITTED
    """Parameters that are fitted."""
    background: Literal["splines", "snip"] = "splines"
    """Fitted splines that are nowhere negative, or what SNIP takes from the counts and is sure of."""
    objective: ObjectiveName = "poisson"
    """What is made small."""
    doubts: Doubts = field(default_factory=Doubts)
    """How well the lines are known."""
    false_positives: float = 0.01
    """Expected number of elements found in a spectrum that does not hold them."""

    def __post_init__(self) -> None:
        _demand(
            1.0 < self.incident_energy <= _MOST_ENERGY,
            "incident_energy",
            self.incident_energy,
            "keV, 1 to 120",
        )
        _demand(self.background in ("splines", "snip"), "background", self.background, "splines or snip")
        _demand(self.objective in OBJECTIVES, "objective", self.objective, f"one of {', '.join(OBJECTIVES)}")
        _demand(0 <= self.doubts.branching <= 0.05, "doubts.branching", self.doubts.branching, "0 to 0.05")
        _demand(0 <= self.doubts.position <= 0.05, "doubts.position", self.doubts.position, "keV, 0 to 0.05")
        _demand(0 <= self.doubts.width <= 0.25, "doubts.width", self.doubts.width, "0 to 0.25")
        _demand(0 <= self.doubts.tail <= 0.2, "doubts.tail", self.doubts.tail, "0 to 0.2")
        _demand(0 < self.false_positives <= 1, "false_positives", self.false_positives, "above 0, at most 1")
        _demand(bool(self.free), "free", self.free, "at least one parameter")
        checked(self.parameters)
        for name in self.free:
            _demand(name in PARAMETERS, "free", name, f"one of {', '.join(PARAMETERS)}")
        low, high = self.fitted_range
        _demand(
            0 < low < high <= 2 * _MOST_ENERGY,
            "energy_range",
            (low, high),
            "a lower and a higher energy in keV",
        )
        known = self.calibration
        _demand(1e-4 <= known.slope <= 1, "calibration.slope", known.slope, "keV/channel, 0.0001 to 1")
        _demand(
            0 <= known.slope_range <= 0.5, "calibration.slope_range", known.slope_range, "relative, 0 to 0.5"
        )
        _demand(-0.2 <= known.offset <= 0.2, "calibration.offset", known.offset, "keV, -0.2 to 0.2")
        for name in ("ENERGY_OFFSET", "ENERGY_SLOPE"):
            _demand(name not in self.parameters, f"parameters.{name}", name, "say it in calibration")
        beam = "COHERENT_SCT_ENERGY"
        _demand(beam not in self.parameters, f"parameters.{beam}", beam, "say it as incident_energy")
        _demand(self.detector in ("Si", "Ge"), "detector", self.detector, "Si or Ge")
        _demand(0 <= known.offset_range <= 1, "calibration.offset_range", known.offset_range, "keV, 0 to 1")

    @property
    def fitted_range(self) -> tuple[float, float]:
        """Lowest and highest energy that is fitted [keV]."""
        return self.energy_range or (1.0, self.incident_energy + 1.0)


def _demand(holds: bool, key: str, found: object, mend: str) -> None:
    if not holds or (isinstance(found, float) and not math.isfinite(found)):
        raise ConfigError(f"{key}: found {found!r:.80}; mend: {mend}")
