"""The detector's material: how it absorbs, and what escapes from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from skyloop.engines.xrf.lines import LineTable
from skyloop.quantities import FloatArray

__all__ = ["Detector", "Material"]

Detector = Literal["Si", "Ge"]


@dataclass(frozen=True, slots=True)
class _Escape:
    shift: float
    """Energy of the K line [keV]."""
    edge: float
    """K edge [keV]."""
    share: float
    """K fluorescence yield times the share of the K shell in the absorption."""


_ESCAPES: Mapping[str, _Escape] = {
    "Si": _Escape(1.73998, 1.839, 0.043 * 0.92),
    "Ge": _Escape(9.886, 11.103, 0.535 * 0.866),
}


@dataclass(frozen=True, slots=True)
class Material:
    """A detector's material as an absorber."""

    name: Detector
    """Chemical symbol."""
    table: LineTable
    """Where its attenuation is from."""

    @property
    def shift(self) -> float:
        """Energy that an escaping K photon takes away [keV]."""
        return _ESCAPES[self.name].shift

    @property
    def edge(self) -> float:
        """Photons below the K edge [keV] set none free."""
        return _ESCAPES[self.name].edge

    def attenuation(self, energy: FloatArray) -> FloatArray:
        """Mass attenuation coefficient [cm^2/g]."""
        return self.table.attenuation(self.name, energy)

    def escaping(self, energy: FloatArray) -> FloatArray:
        """Probability that the K photon of the detector escapes through its front; 0 below the edge.

        w/2 [1 - m ln(1 + 1/m)] with m the attenuation of the K photon over that of the incoming one.

        References:
            S. J. B. Reed, N. G. Ware, J. Phys. E 5, 582 (1972), doi:10.1088/0022-3735/5/6/029.
        """
        known = _ESCAPES[self.name]
        above = np.maximum(energy, known.edge)
        own = self.attenuation(np.array([known.shift]))
        ratio = own / self.attenuation(above)
        probability = known.share / 2 * (1 - ratio * np.log1p(1 / ratio))
        return np.where(energy > known.edge, probability, 0.0)
