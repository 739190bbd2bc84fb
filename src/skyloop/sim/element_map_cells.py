"""A sample like a slice of tissue: a few cells with iron and zinc, among grains that only look like them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from skyloop.engines.xrf.rows import COMPTON, ELASTIC
from skyloop.errors import ConfigError
from skyloop.quantities import FloatArray
from skyloop.sim.element_map import ElementMap, ElementSample, Grains, Texture

__all__ = ["TARGET", "tissue"]

TARGET = (("Fe", "Zn"), ("Ca",))
"""What the cells have, and what they lack: `sample.holds(x, y, *TARGET)` is the true region."""

_SHARE = 0.09
_GAP = 0.03  # between discs, and to the edge of the field, in parts of the field
_DRAWS = 20_000
_DECOYS = (("Fe",),) * 5 + (("Zn",),) * 5 + (("Ca",),) * 6 + (("Fe", "Zn", "Ca"),) * 4
_DECOY_RADIUS = (0.02, 0.045)
_IN_GRAIN: Mapping[str, float] = MappingProxyType({"Ca": 4000.0, "Fe": 3000.0, "Zn": 2500.0})
_SMOOTH: Mapping[str, float] = MappingProxyType({"S": 300.0, "Cl": 400.0, "K": 1500.0})
_UNIFORM: Mapping[str, float] = MappingProxyType(
    {"Si": 500.0, "Ar": 800.0, "Cu": 60.0, ELASTIC: 4000.0, COMPTON: 6000.0}
)
_CONTINUUM = 3000.0
_WAVES = 6
_GRAIN_TEXTURE, _SMOOTH_TEXTURE = 0.15, 0.4


def tissue(seed: int, *, patches: int = 1, size: float = 1.0) -> ElementSample:
    """A sample where `Fe & Zn & ~Ca` holds in 9 % of the field, at a beam of 12 keV.

    Around these patches are smaller grains of Fe, of Zn, of Ca, and of all three; no two discs overlap. Fe,
    Zn and Ca are nowhere else. S, Cl and K vary smoothly; Si, Ar, Cu, scatter and continuum are the same
    everywhere.

    Args:
        seed: of the places and of the texture.
        patches: of how many discs the region is made.
        size: edge of the square field, from 0 to it in x and y [mm].

    Raises:
        ConfigError: a number that makes no such sample.

    >>> round(tissue(1).covered(*TARGET), 2)
    0.09
    """
    if not (1 <= patches <= 8 and 0 < size < math.inf):
        raise ConfigError(f"{patches} patches in {size} mm; mend: 1 to 8 patches in a field above 0 mm")
    rng = np.random.Generator(np.random.Philox(seed))
    shares = rng.uniform(0.7, 1.3, patches)
    radii = np.sqrt(_SHARE * shares / shares.sum() / math.pi)
    kinds = (*((TARGET[0],) * patches), *_DECOYS)
    discs = _placed(np.concatenate([radii, rng.uniform(*_DECOY_RADIUS, len(_DECOYS))]), rng) * size
    maps = {name: ElementMap(uniform=rate) for name, rate in _UNIFORM.items()}
    for name, rate in _SMOOTH.items():
        maps[name] = ElementMap(uniform=rate, texture=_texture(rng, _SMOOTH_TEXTURE, size))
    for name, rate in _IN_GRAIN.items():
        own = discs[[name in kind for kind in kinds]]
        grains = Grains(own[:, 0], own[:, 1], own[:, 2])
        maps[name] = ElementMap(in_grain=rate, grains=grains, texture=_texture(rng, _GRAIN_TEXTURE, size))
    return ElementSample(maps, field=((0.0, size), (0.0, size)), continuum=_CONTINUUM)


def _texture(rng: np.random.Generator, strength: float, size: float) -> Texture:
    """Waves not shorter than a third of the field."""
    direction, length = rng.uniform(0, 2 * math.pi, _WAVES), rng.uniform(1, 3, _WAVES)
    number = 2 * math.pi * length / size
    waves = np.stack([number * np.cos(direction), number * np.sin(direction)], axis=1)
    return Texture(strength, waves, rng.uniform(0, 2 * math.pi, _WAVES))


def _placed(radii: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Discs [disc, (x, y, radius)] in the unit square that do not overlap, the first ones first."""
    discs = np.empty((0, 3))
    for _ in range(_DRAWS):
        if len(discs) == len(radii):
            return discs
        radius = radii[len(discs)]
        x, y = rng.uniform(radius + _GAP, 1 - radius - _GAP, 2)
        if (np.hypot(discs[:, 0] - x, discs[:, 1] - y) > discs[:, 2] + radius + _GAP).all():
            discs = np.vstack([discs, [x, y, radius]])
    raise ConfigError("the discs of this seed find no place; mend: fewer patches, or another seed")
