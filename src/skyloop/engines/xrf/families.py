"""Families of emission lines of one element, and the vacancies that give rise to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skyloop.quantities import FloatArray

__all__ = ["Curve", "Family", "IntArray", "Vacancies"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A positive function of the energy, straight between its knots in log-log.

    Two knots at one energy are an edge.
    """

    energy: FloatArray
    """[knot] keV, ascending."""
    value: FloatArray
    """[knot]."""

    def __call__(self, energy: ArrayLike) -> FloatArray:
        """Value at each energy (keV), which must lie within the knots; at an edge, the value above it."""
        e = np.asarray(energy, dtype=np.float64)
        i = np.clip(np.searchsorted(self.energy, e, side="right"), 1, len(self.energy) - 1)
        e0, e1 = self.energy[i - 1], self.energy[i]
        y0, y1 = self.value[i - 1], self.value[i]
        return y0 * (y1 / y0) ** (np.log(e / e0) / np.log(e1 / e0))


@dataclass(frozen=True, slots=True, eq=False)
class Vacancies:
    """Vacancies of each shell of an element per incident photon and g/cm².

    v_s = Σ_t T_st τ_t(E) with the photo-ionisation cross section τ_t of shell t and the vacancies T_st that
    one in t leaves in s by Coster-Kronig, Auger and radiative transitions (full cascade).
    """

    edge: FloatArray
    """[shell] keV, K, L1 ... M5; NaN where there is no such shell."""
    partial: tuple[Curve | None, ...]
    """[shell] cm²/g, photo-ionisation cross section above the edge."""
    transfer: FloatArray
    """[shell, shell] T."""

    def __call__(self, incident_energy: float) -> FloatArray:
        """[shell] cm²/g at an incident energy in keV."""
        pairs = zip(self.edge, self.partial, strict=True)
        primary = [float(c(incident_energy)) if c and e < incident_energy else 0.0 for e, c in pairs]
        return self.transfer @ np.array(primary)


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """The K, L or M lines of one element; the first line is the main one."""

    labels: tuple[str, ...]
    """[line] such as `"La1"`."""
    energy: FloatArray
    """[line] keV."""
    edge: FloatArray
    """[line] keV, of the shell whose vacancy emits the line."""
    share: FloatArray
    """[line] photons per vacancy of that shell (yield × radiative rate); relative if `vacancies` is None."""
    shell: IntArray
    """[line] index of that shell: K, L1 ... M5."""
    vacancies: Vacancies | None
    """Of the element; None: the relative intensities do not depend on the incident energy."""

    def emission(self, incident_energy: float) -> FloatArray:
        """[line] cm²/g: production cross sections; 0 for a line whose shell is not excited."""
        excited = self.edge < incident_energy
        if self.vacancies is None:
            return np.where(excited, self.share, 0.0)
        return np.where(excited, self.share * self.vacancies(incident_energy)[self.shell], 0.0)
