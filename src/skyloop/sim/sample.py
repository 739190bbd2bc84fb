"""A sample that is known: the truth behind the simulated devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from skyloop.engines.reflectometry.config import Config, Layer, Medium, Repeat
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.smearing import model_curve
from skyloop.errors import ConfigError
from skyloop.quantities import FloatArray

__all__ = ["TrueSample", "known"]

_LAYER = ("thickness", "roughness", "sld", "isld")
_MEDIUM = ("roughness", "sld", "isld")
_INSTRUMENT = ("scale", "background", "q_offset", "resolution")

_Part = TypeVar("_Part", Layer, Medium)


@dataclass(frozen=True, slots=True)
class TrueSample:
    """A sample of which every number is known, and which may grow.

    The clock is the caller's: whoever asks for a reflectivity says at which time.

    Raises:
        ConfigError: a number is a range still, or a layer that is to grow does not exist.

    >>> from skyloop.engines.reflectometry.config import load
    >>> config = load('''
    ... sample:
    ...   layers: [{name: film, thickness: [100, 500], sld: 3.47}]
    ...   backing: {sld: 2.07}
    ... ''')
    >>> film = TrueSample(known(config, {"film.thickness": 200.0}), growth={"film": 0.05})
    >>> film.thickness("film", time=100.0)
    205.0
    """

    config: Config
    """The sample and what is measured of it: scale, background, offset in q, factor on the resolution."""
    growth: Mapping[str, float] | None = None
    """Rate in angstrom/s at which layers grow, by name."""

    def __post_init__(self) -> None:
        free = [entry.name for entry in self.config.entries() if entry.is_free]
        if free:
            raise ConfigError(
                f"{free[0]}: a range, but a true sample is known; mend: give its value to known()"
            )
        self.at(0.0)

    def at(self, time: float) -> Config:
        """The sample at a time [s]."""
        if not self.growth:
            return self.config
        return known(self.config, {f"{n}.thickness": self.thickness(n, time) for n in self.growth})

    def thickness(self, layer: str, time: float) -> float:
        """Thickness of a layer [angstrom] at a time [s]."""
        values = {entry.name: entry.low for entry in self.config.entries()}
        name = f"{layer}.thickness"
        if name not in values:
            raise ConfigError(f"{name}: no such layer; mend: one of {', '.join(values)}")
        return values[name] + (self.growth or {}).get(layer, 0.0) * time

    def reflectivity(self, q: FloatArray, q_sigma: FloatArray, time: float = 0.0) -> FloatArray:
        """Reflectivity [] at q [1/angstrom], resolution q_sigma (one sigma), at a time [s]; shape of q."""
        slabs = Parameters.of(self.at(time)).slabs(torch.zeros(1, 0, dtype=torch.float64))
        curve = model_curve(torch.as_tensor(q), torch.as_tensor(q_sigma), slabs)
        return curve[0].numpy()


def known(config: Config, values: Mapping[str, float]) -> Config:
    """The configuration with some of its quantities replaced by known numbers.

    Args:
        config: with ranges or numbers.
        values: by parameter name, such as `"film.thickness"` or `"scale"`.

    Raises:
        ConfigError: there is no such parameter, or its value makes no sense.
    """
    names = [entry.name for entry in config.entries()]
    strange = [name for name in values if name not in names]
    if strange:
        raise ConfigError(f"{strange[0]}: no such parameter; mend: one of {', '.join(names)}")
    sample = replace(
        config.sample,
        fronting=_put(config.sample.fronting, config.sample.fronting_name, values, ("sld",)),
        layers=tuple(_put_group(group, values) for group in config.sample.groups()),
        backing=_put(config.sample.backing, config.sample.backing_name, values, _MEDIUM),
    )
    instrument = {name: values[name] for name in _INSTRUMENT if name in values}
    target = "" if config.target in values else config.target
    return replace(config, sample=sample, target=target, **instrument)


def _put_group(group: Repeat, values: Mapping[str, float]) -> Repeat:
    return replace(group, layers=tuple(_put(a, a.name, values, _LAYER) for a in group.layers))


def _put(part: _Part, name: str, values: Mapping[str, float], fields: tuple[str, ...]) -> _Part:
    given = {f: values[f"{name}.{f}"] for f in fields if f"{name}.{f}" in values}
    return replace(part, **given)
