"""What a spectrum is made of: peaks of lines, escapes and pile-up, and scatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from skyloop.engines.xrf.detector import Detector, Material
from skyloop.engines.xrf.lines import Lines, LineTable
from skyloop.errors import ConfigError
from skyloop.quantities import FloatArray

__all__ = ["COMPTON", "COMPTON_ROWS", "ELASTIC", "Rows", "pair_of", "rows_of"]

ELASTIC, COMPTON = "COHERENT_SCT_AMPLITUDE", "COMPTON_AMPLITUDE"
"""Names of the two components of scatter."""
COMPTON_ROWS = 4
"""Gaussian, step with tail, mirrored tail, escape."""
_ELASTIC_ROWS = 2
_LEAST_ESCAPING = 0.01  # of the main line: weaker ones leave no visible escape
_MOST_PILED = 12


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of some components: first those with tail and step, then pure Gaussians, then scatter."""

    names: tuple[str, ...]
    """Components: elements, pile-up pairs and the two of scatter."""
    of: Tensor
    """[row], index into `names`."""
    energy: Tensor
    """[tailed + plain], keV."""
    ratio: Tensor
    """[tailed + plain], intensity relative to the main line of the component."""
    broadening: Tensor
    """[tailed + plain], factor on the width that the parameters give."""
    attenuation: Tensor
    """[tailed], mass attenuation coefficient of the detector's material [cm^2/g]."""
    is_beta: Tensor
    """[tailed], true for K beta."""
    escaping: Tensor
    """[plain], escape probability that the detector's material predicts; NaN for rows that are no escape."""
    n_tailed: int
    """How many rows have a tail and a step."""
    scatter: tuple[str, ...]
    """Which of elastic and Compton are components."""
    escape_shift: float
    """Energy that an escape takes away [keV]."""
    scatter_escaping: float
    """Escape probability of scattered photons."""
    detector: Detector
    """Material of the detector."""
    labels: tuple[str, ...]
    """[tailed + plain], for example `"Fe Ka1"`."""

    @cached_property
    def minor_lines(self) -> Tensor:
        """Rows of K, L and M lines other than the main ones: their intensity is known from a table only."""
        is_single = torch.tensor([not pair_of(self.names[i]) for i in self._plain_of], dtype=torch.bool)
        plain = torch.isnan(self.escaping) & is_single
        is_line = torch.cat([torch.ones(self.n_tailed, dtype=torch.bool), plain])
        return (is_line & (self.ratio != 1.0)).nonzero()[:, 0]

    @property
    def _plain_of(self) -> list[int]:
        return self.of[self.n_tailed : len(self.ratio)].tolist()

    def strained(self, factor: Tensor, shift: Tensor, broadening: Tensor) -> Rows:
        """The rows with lines of other intensity and components elsewhere.

        Args:
            factor: [tailed + plain], on the intensity of each line.
            shift: [component], of all its lines [keV].
            broadening: [component], factor on their width.
        """
        at = self.of[: len(self.ratio)]
        return replace(
            self,
            ratio=self.ratio * factor,
            energy=self.energy + shift[at],
            broadening=self.broadening * broadening[at],
        )

    @cached_property
    def mirror(self) -> Tensor:
        """[row], -1 for the tail above the Compton peak, else 1."""
        mirror = torch.ones(len(self.of), dtype=torch.float64)
        if COMPTON in self.scatter:
            mirror[-2] = -1.0
        return mirror

    @cached_property
    def is_escape(self) -> Tensor:
        """[plain], true for escape peaks."""
        return ~torch.isnan(self.escaping)


def rows_of(
    components: Sequence[str], table: LineTable, *, incident_energy: float, detector: Detector = "Si"
) -> Rows:
    """Rows of components by their MAPS names: `"Fe"`, `"La_L"`, `"Pb_M"`, pile-up `"Si_Cl"`, scatter.

    Raises:
        ConfigError: a component is named twice, unknown, or not excited.
    """
    names = tuple(components)
    _refuse_k_lines(names)
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ConfigError(f"component '{twice[0]}' is named twice; mend: once")
    single = [n for n in names if n not in (ELASTIC, COMPTON) and not pair_of(n)]
    lines = table.lines(single, incident_energy)
    material = Material(detector, table)
    parts = [
        _lines_of(lines, names, tailed=True),
        _lines_of(lines, names, tailed=False),
        *(
            _piled(pair, names.index(name), table, incident_energy)
            for name in names
            if (pair := pair_of(name))
        ),
        _escapes(_lines_of(lines, names, tailed=None), material),
    ]
    return _assembled(names, parts, material, incident_energy)


def _refuse_k_lines(names: Sequence[str]) -> None:
    """A name like Fe_K is read as pile-up with potassium here, and as K lines elsewhere."""
    for name in names:
        first, second = pair_of(name) or ("", "")
        if second == "K" != first:
            raise ConfigError(
                f"component '{name}' may be meant in two ways; mend: '{first}' for its K lines, "
                f"'K_{first}' for pile-up with potassium"
            )


def pair_of(name: str) -> tuple[str, str] | None:
    """The two components of a pile-up pair; None for a component that is none.

    >>> pair_of("Si_Cl"), pair_of("Au_L_Si"), pair_of("Au_L")
    (('Si', 'Cl'), ('Au_L', 'Si'), None)
    """
    if name in (ELASTIC, COMPTON):
        return None
    found: list[str] = []
    for word in name.split("_"):
        if found and word in ("L", "M") and "_" not in found[-1]:
            found[-1] += f"_{word}"
        else:
            found.append(word)
    return (found[0], found[1]) if len(found) == 2 else None


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some lines, by columns."""

    of: list[int]
    energy: FloatArray
    ratio: FloatArray
    labels: list[str]
    escaping: FloatArray


def _part(of: Sequence[int], energy: FloatArray, ratio: FloatArray, labels: Sequence[str]) -> _Part:
    return _Part(list(of), energy, ratio, list(labels), np.full(len(energy), np.nan))


def _lines_of(lines: Lines, names: tuple[str, ...], *, tailed: bool | None) -> _Part:
    """K and L lines have a tail, M lines have none; None takes all."""
    has_tail = np.array([not lines.names[i].endswith("_M") for i in lines.of], dtype=bool)
    chosen = np.flatnonzero(has_tail == tailed) if tailed is not None else np.arange(len(lines.of))
    of = [names.index(lines.names[lines.of[i]]) for i in chosen]
    labels = [f"{names[k].partition('_')[0]} {lines.labels[i]}" for k, i in zip(of, chosen, strict=True)]
    return _part(of, lines.energy[chosen], lines.ratio[chosen], labels)


def _piled(pair: tuple[str, str], of: int, table: LineTable, incident_energy: float) -> _Part:
    """Sums of two lines, intensities multiplied; the strongest is 1."""
    first, second = (table.lines([name], incident_energy) for name in pair)
    energy = (first.energy[:, None] + second.energy[None, :]).ravel()
    ratio = (first.ratio[:, None] * second.ratio[None, :]).ravel()
    strongest = np.argsort(-ratio, kind="stable")[:_MOST_PILED]
    labels = [f"{a}+{b} {x}+{y}" for a, b in [pair] for x in first.labels for y in second.labels]
    ratio = ratio[strongest] / ratio[strongest[0]]
    return _part([of] * len(strongest), energy[strongest], ratio, [labels[i] for i in strongest])


def _escapes(lines: _Part, material: Material) -> _Part:
    """The escape peaks of lines."""
    is_seen = (lines.energy > material.edge) & (lines.ratio >= _LEAST_ESCAPING)
    chosen = np.flatnonzero(is_seen).tolist()
    energy = lines.energy[chosen]
    return _Part(
        [lines.of[i] for i in chosen],
        energy - material.shift,
        lines.ratio[chosen],
        [f"{lines.labels[i]} escape" for i in chosen],
        material.escaping(energy),
    )


def _assembled(names: tuple[str, ...], parts: list[_Part], material: Material, incident: float) -> Rows:
    energy = np.concatenate([part.energy for part in parts])
    labels = [label for part in parts for label in part.labels]
    n_tailed = len(parts[0].energy)
    scatter = tuple(name for name in (ELASTIC, COMPTON) if name in names)
    counts = {ELASTIC: _ELASTIC_ROWS, COMPTON: COMPTON_ROWS}
    of = [k for part in parts for k in part.of]
    of += [names.index(name) for name in scatter for _ in range(counts[name])]
    as_tensor = torch.from_numpy
    return Rows(
        names=names,
        of=torch.tensor(of, dtype=torch.int64),
        energy=as_tensor(energy),
        ratio=as_tensor(np.concatenate([part.ratio for part in parts])),
        broadening=torch.ones(len(energy), dtype=torch.float64),
        attenuation=as_tensor(material.attenuation(energy[:n_tailed])),
        is_beta=torch.tensor([" Kb" in label for label in labels[:n_tailed]], dtype=torch.bool),
        escaping=as_tensor(np.concatenate([part.escaping for part in parts])[n_tailed:]),
        n_tailed=n_tailed,
        scatter=scatter,
        escape_shift=material.shift,
        scatter_escaping=float(material.escaping(np.array([incident]))[0]),
        detector=material.name,
        labels=tuple(labels),
    )
