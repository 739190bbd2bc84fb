"""Emission lines of the elements: energies, relative intensities and cross sections, from a frozen table.

The table is data of this package (`lines.npz`), built from xraylib by `recipes/xrf_lines.py`.

A component is one family of lines of one element, by its MAPS name: `"Fe"` (K lines), `"La_L"`, `"Pb_M"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skyloop.engines.xrf.families import Curve, Family, IntArray, Vacancies
from skyloop.errors import ConfigError
from skyloop.quantities import FloatArray

__all__ = ["LineTable", "Lines", "line_table"]

_SUFFIX = {"K": "", "L": "_L", "M": "_M"}
_MAIN = {"K": "Ka1", "L": "La1", "M": "Ma1"}
_WEAKEST = 1e-4
"""Lines below this share of the strongest of their family are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The emission lines of some components at one incident energy, flat, in the order of the components."""

    names: tuple[str, ...]
    """Components, by MAPS name."""
    of: IntArray
    """[line] index into `names`."""
    labels: tuple[str, ...]
    """[line] such as `"Ka1"`."""
    energy: FloatArray
    """[line] keV."""
    ratio: FloatArray
    """[line] photons per photon of the component's main line (Ka1, La1 or Ma1: 1)."""
    edge: FloatArray
    """[line] keV, binding energy of the shell whose vacancy emits the line."""
    cross_section: FloatArray
    """[component] cm²/g, production of the main line at the incident energy; NaN where the table has none."""

    def take(self, names: Sequence[str]) -> Lines:
        """The lines of some of the components, in the order given.

        Raises:
            ConfigError: a name is not among the components, or is given twice.
        """
        _check_once(names)
        at = [_index(self.names, name) for name in names]
        rows = [np.flatnonzero(self.of == i) for i in at]
        line = _joined(rows).astype(np.int64)
        return Lines(
            names=tuple(names),
            of=_owners(rows),
            labels=tuple(self.labels[i] for i in line),
            energy=self.energy[line],
            ratio=self.ratio[line],
            edge=self.edge[line],
            cross_section=self.cross_section[at],
        )


@dataclass(frozen=True, slots=True, eq=False)
class LineTable:
    """Which lines each component emits, and what each element absorbs."""

    families: Mapping[str, Family]
    """By component name, in order of atomic number."""
    totals: Mapping[str, Curve]
    """Total mass attenuation coefficient in cm²/g by element symbol."""
    incident: tuple[float, float]
    """keV, range of the incident energy."""
    provenance: str
    """Where the numbers come from."""

    def lines(self, components: Sequence[str], incident_energy: float) -> Lines:
        """The lines that photons of `incident_energy` (keV) excite in each component.

        σ_l = ω_s r_l Σ_t T_st τ_t(E) with the fluorescence yield ω and the vacancies (see `Vacancies`) of the
        shell s that emits line l, and the radiative rate r, as in xraylib's `CS_FluorLine_Kissel_Cascade`.
        A line is there only if the edge of its own shell lies below the incident energy. Lines weaker than
        1e-4 of the strongest of their family are left out. Far above the K edge (28 times it, so for Z < 20
        only) τ falls as the photo-absorption of the whole atom, for there the tables by shell end.

        Raises:
            ConfigError: a component is unknown, given twice or not excited, or the incident energy is outside
                the table.

        References:
            T. Schoonjans et al., Spectrochim. Acta B 66, 776 (2011), doi:10.1016/j.sab.2011.09.011.

        >>> table = line_table()
        >>> lines = table.lines(["Fe", "La_L"], incident_energy=10.0)
        >>> lines.labels[:4]
        ('Ka1', 'Ka2', 'Kb1', 'Kb3')
        >>> lines.energy[:4].round(3).tolist()
        [6.404, 6.391, 7.058, 7.058]
        >>> lines.take(["La_L"]).labels[0]
        'La1'
        """
        self._check_incident(incident_energy)
        _check_once(components)
        found = [self._excited(name, incident_energy) for name in components]
        emission = [family.emission(incident_energy) for family in found]
        kept = [np.flatnonzero((e > 0.0) & (e >= _WEAKEST * e.max())) for e in emission]
        return Lines(
            names=tuple(components),
            of=_owners(kept),
            labels=tuple(f.labels[i] for f, k in zip(found, kept, strict=True) for i in k),
            energy=_joined([f.energy[k] for f, k in zip(found, kept, strict=True)]),
            ratio=_joined([e[k] / e[0] for e, k in zip(emission, kept, strict=True)]),
            edge=_joined([f.edge[k] for f, k in zip(found, kept, strict=True)]),
            cross_section=_joined(
                [e[:1] if f.vacancies else [np.nan] for f, e in zip(found, emission, strict=True)]
            ),
        )

    def components(self, incident_energy: float, low: float, high: float) -> tuple[str, ...]:
        """Every component whose main line is excited and lies in [low, high], all in keV; by atomic number.

        Raises:
            ConfigError: the incident energy is outside the table.

        >>> line_table().components(10.0, 6.0, 6.5)
        ('Fe', 'Gd_L', 'Tb_L', 'Dy_L')
        """
        self._check_incident(incident_energy)
        pairs = self.families.items()
        return tuple(n for n, f in pairs if f.edge[0] < incident_energy and low <= f.energy[0] <= high)

    def attenuation(self, element: str, energy: ArrayLike) -> FloatArray:
        """Total mass attenuation coefficient of an element in cm²/g, same shape as `energy` (keV).

        Photo-ionisation and scattering (xraylib's `CS_Total`); at an edge, the value above it.

        Raises:
            ConfigError: the element is unknown or an energy is outside the table.

        >>> line_table().attenuation("Si", [5.0, 10.0]).round().tolist()
        [244.0, 34.0]
        """
        curve = self.totals.get(element)
        if curve is None:
            raise ConfigError(_unknown("element", element, self.totals))
        e = np.asarray(energy, dtype=np.float64)
        low, high = float(curve.energy[0]), float(curve.energy[-1])
        outside = e[~((e >= low) & (e <= high))]
        if outside.size:
            raise ConfigError(
                f"no attenuation of {element} at {outside.flat[0]:g} keV: the table reaches from {low:g} to"
                f" {high:g} keV; mend: ask within it, energies are in keV"
            )
        return curve(e)

    def _check_incident(self, energy: float) -> None:
        low, high = self.incident
        if not low <= energy <= high:
            raise ConfigError(
                f"incident energy {energy:g} keV: the line table reaches from {low:g} to {high:g} keV"
                "; mend: give the incident energy in keV"
            )

    def _excited(self, name: str, incident_energy: float) -> Family:
        family = self.families.get(name)
        if family is None:
            raise ConfigError(_unknown("component", name, self.families))
        if family.edge[0] < incident_energy:
            return family
        raise ConfigError(
            f"{name}: its main line {family.labels[0]} needs more than its edge at {family.edge[0]:.4f} keV,"
            f" the incident energy is {incident_energy:.4f} keV;"
            f" mend: {self._instead(name, incident_energy)}"
        )

    def _instead(self, name: str, incident_energy: float) -> str:
        """What a user can ask for in place of a component that is not excited."""
        symbol = name.split("_")[0]
        others = [symbol + suffix for suffix in _SUFFIX.values()]
        excited = [o for o in others if o in self.families and self.families[o].edge[0] < incident_energy]
        use = f"use {excited[0]!r}, " if excited else ""
        return f"{use}take {name} out of the components, or raise the incident energy"


@cache
def line_table() -> LineTable:
    """The frozen table of this package: Z up to 92, incident energies from 0.5 to 120 keV.

    >>> line_table().provenance.split()[0]
    'xraylib'
    """
    with (
        files("skyloop.engines.xrf").joinpath("lines.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        data = {name: stored[name] for name in stored.files}
    symbols = [str(s) for s in data["symbol"]]
    totals = {s: c for i, s in enumerate(symbols) if (c := _curve(data, "total", i))}
    families = {n: f for z, symbol in enumerate(symbols) for n, f in _families(data, z, symbol)}
    reach = data["partial_energy"]
    return LineTable(
        families=MappingProxyType(families),
        totals=MappingProxyType(totals),
        incident=(float(reach.min()), float(reach.max())),
        provenance=str(data["provenance"]),
    )


def _families(data: Mapping[str, NDArray[Any]], z: int, symbol: str) -> list[tuple[str, Family]]:
    shells = len(data["shell"])
    partial = tuple(_curve(data, "partial", z * shells + s) for s in range(shells))
    vacancies = Vacancies(data["edge"][z], partial, data["transfer"][z].astype(np.float64))
    made = [(symbol + _SUFFIX[letter], _family(data, z, letter, vacancies)) for letter in _SUFFIX]
    return [(name, family) for name, family in made if family]


def _family(data: Mapping[str, NDArray[Any]], z: int, letter: str, vacancies: Vacancies) -> Family | None:
    """One family, or None if the element has no main line of it."""
    labels = [str(label) for label in data["label"]]
    shells = data["line_shell"].astype(np.int64)
    share = data["rate"][z] * data["fluorescence_yield"][z][shells]
    there = np.isfinite(share * data["energy"][z] * data["edge"][z][shells]) & (share > 0.0)
    line = [i for i in np.flatnonzero(there) if labels[i].startswith(letter)]
    if not line or labels[line[0]] != _MAIN[letter]:
        return None
    return Family(
        labels=tuple(labels[i] for i in line),
        energy=data["energy"][z][line],
        edge=data["edge"][z][shells[line]],
        share=share[line],
        shell=shells[line],
        vacancies=vacancies,
    )


def _curve(data: Mapping[str, NDArray[Any]], name: str, i: int) -> Curve | None:
    """One of the stored curves, or None if it has no knots."""
    start, stop = data[f"{name}_start"][i : i + 2]
    if start == stop:
        return None
    energy, value = (data[f"{name}_{axis}"][start:stop].astype(np.float64) for axis in ("energy", "value"))
    return Curve(energy, value)


def _owners(parts: Sequence[IntArray]) -> IntArray:
    """Number of the part that each entry of the joined parts comes from."""
    return np.repeat(np.arange(len(parts)), [len(p) for p in parts]).astype(np.int64)


def _joined(parts: Sequence[ArrayLike]) -> FloatArray:
    return np.concatenate([np.empty(0), *(np.asarray(p, dtype=np.float64) for p in parts)])


def _index(names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise ConfigError(_unknown("component", name, names))
    return names.index(name)


def _check_once(names: Sequence[str]) -> None:
    twice = sorted({n for n in names if list(names).count(n) > 1})
    if twice:
        raise ConfigError(f"components given twice: {', '.join(twice)}; mend: name each once")


def _unknown(kind: str, name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """Message on a name that is not known: first the other families of its element, then names like it."""
    by_lower = {k.lower(): k for k in known}
    own = [k for k in known if k.split("_")[0].lower() == name.split("_")[0].lower()]
    close = own or [by_lower[m] for m in get_close_matches(name.lower(), by_lower, n=4, cutoff=0.4)]
    hint = f"did you mean {', '.join(close)}?" if close else "names are like Fe (K lines), La_L, Pb_M"
    return f"no {kind} {name!r} in the line table; mend: {hint}"
