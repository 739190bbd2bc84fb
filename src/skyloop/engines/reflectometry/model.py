"""From a configuration to numbers: the free parameters, their prior, and the slabs they describe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skyloop.engines.reflectometry.config import Config, Entry, Sample
from skyloop.engines.reflectometry.forward import Slabs

__all__ = ["Parameters"]


@dataclass(frozen=True, slots=True, eq=False)
class Parameters:
    r"""The free parameters of a configuration, in a fixed order, and what they mean.

    A theta [batch, p] holds their values in their units; u [batch, p] holds the same as coordinates of
    the unit cube, in which the prior is uniform.

    >>> from skyloop.engines.reflectometry.config import load
    >>> text = "sample:\n  layers: [{thickness: [10, 30], sld: 3}]\n  backing: {sld: 2.07}\n"
    >>> parameters = Parameters.of(load(text))
    >>> parameters.names
    ('layer1.thickness',)
    >>> parameters.slabs(parameters.theta(torch.tensor([[0.5]], dtype=torch.float64))).thickness
    tensor([[20.]], dtype=torch.float64)
    """

    entries: tuple[Entry, ...]
    """Every named quantity, known or free, as in `Config.entries`."""
    names: tuple[str, ...]
    """Names of the free parameters."""
    units: tuple[str, ...]
    """Their units."""
    low: Tensor
    """[p], lowest values."""
    high: Tensor
    """[p], highest values."""
    is_log: Tensor
    """[p], true where the prior is uniform in the logarithm."""
    is_roughness: Tensor
    """[p], true for the roughness of an interface."""
    target: int
    """Index of the parameter that the user wants to know; -1 when nothing is free."""
    _known: Tensor
    """[entries - p + 1], known values, and a zero for what has no entry."""
    _places: Tensor
    """[entries], where each entry is in (theta, known)."""
    _layout: _Layout

    @classmethod
    def of(cls, config: Config) -> Parameters:
        """Parameters of a configuration."""
        entries = config.entries()
        free = [e for e in entries if e.is_free]
        known = [e.low for e in entries if not e.is_free]
        places = _places(entries, len(free))
        names = tuple(e.name for e in free)
        layout = _Layout.of(config.sample, places, nothing=len(entries))
        return cls(
            entries=entries,
            names=names,
            units=tuple(e.unit for e in free),
            low=_vector([e.low for e in free]),
            high=_vector([e.high for e in free]),
            is_log=torch.tensor([e.is_log for e in free], dtype=torch.bool),
            is_roughness=torch.isin(torch.arange(len(free)), layout.roughness),
            target=names.index(config.target) if config.target else min(0, len(free) - 1),
            _known=_vector([*known, 0.0]),
            _places=torch.tensor(list(places.values())),
            _layout=layout,
        )

    def __len__(self) -> int:
        return len(self.names)

    def theta(self, u: Tensor) -> Tensor:
        """Values of the parameters at a point u of the unit cube."""
        grown = self.low * (self.high / self._above_zero()) ** u
        return torch.where(self.is_log, grown, self.low + (self.high - self.low) * u)

    def uniform(self, theta: Tensor) -> Tensor:
        """Point of the unit cube with these values: the inverse of `theta`."""
        low = self._above_zero()
        grown = (theta / low).log() / (self.high / low).log()
        return torch.where(self.is_log, grown, (theta - self.low) / (self.high - self.low))

    def slope(self, theta: Tensor) -> Tensor:
        """Derivative of `theta` by u, elementwise."""
        grown = theta * (self.high / self._above_zero()).log()
        return torch.where(self.is_log, grown, (self.high - self.low).expand_as(theta))

    def values(self, theta: Tensor) -> Tensor:
        """Value [batch, entries] of every named quantity, known or free, in the order of `entries`."""
        return self._pool(theta)[:, self._places]

    def slabs(self, theta: Tensor) -> Slabs:
        """The stacks that theta [batch, p] describes, repeats written out."""
        pool, at = self._pool(theta), self._layout
        return Slabs(
            thickness=pool[:, at.thickness],
            sld=pool[:, at.sld],
            isld=pool[:, at.isld],
            roughness=pool[:, at.roughness],
            scale=pool[:, at.scale],
            background=pool[:, at.background],
            q_offset=pool[:, at.q_offset],
            resolution=pool[:, at.resolution],
        )

    def gather(self, slopes: Slabs) -> Tensor:
        """Derivatives [batch, n, p] by theta, or by the square of a roughness, from those by slabs.

        Theirs have n inserted as axis 1, and are by the squares of the roughnesses too.
        """
        at = self._layout
        first = slopes.scale
        pool = first.new_zeros(*first.shape, len(self._places) + 1)
        pool.index_add_(2, at.thickness, slopes.thickness)
        pool.index_add_(2, at.sld, slopes.sld)
        pool.index_add_(2, at.isld, slopes.isld)
        pool.index_add_(2, at.roughness, slopes.roughness)
        pool[..., at.scale] = slopes.scale
        pool[..., at.background] = slopes.background
        pool[..., at.q_offset] = slopes.q_offset
        pool[..., at.resolution] = slopes.resolution
        return pool[..., : len(self)]

    def _pool(self, theta: Tensor) -> Tensor:
        return torch.cat([theta, self._known.expand(len(theta), -1)], dim=1)

    def _above_zero(self) -> Tensor:
        # The logarithm of a range is needed only where is_log, and there low > 0.
        return torch.where(self.is_log, self.low, torch.ones_like(self.low))


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where each number of the slabs is in (theta, known)."""

    thickness: Tensor
    sld: Tensor
    isld: Tensor
    roughness: Tensor
    scale: int
    background: int
    q_offset: int
    resolution: int

    @classmethod
    def of(cls, sample: Sample, places: Mapping[str, int], *, nothing: int) -> _Layout:
        layers = [layer.name for g in sample.groups() for _ in range(g.repeat) for layer in g.layers]
        below = [*layers, sample.backing_name]
        return cls(
            thickness=_indices(places[f"{name}.thickness"] for name in layers),
            sld=_indices(places[f"{name}.sld"] for name in (sample.fronting_name, *below)),
            isld=_indices([nothing, *(places[f"{name}.isld"] for name in below)]),
            roughness=_indices(places[f"{name}.roughness"] for name in below),
            scale=places["scale"],
            background=places["background"],
            q_offset=places["q_offset"],
            resolution=places["resolution"],
        )


def _places(entries: tuple[Entry, ...], free: int) -> dict[str, int]:
    """Place of each entry when the free ones come first and then the known ones."""
    first, rest = iter(range(free)), iter(range(free, len(entries)))
    return {e.name: next(first if e.is_free else rest) for e in entries}


def _vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _indices(values: Iterable[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.long)
