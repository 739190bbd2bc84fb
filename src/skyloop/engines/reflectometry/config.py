"""The sample model and the question: what is known, what is sought, how well it must be known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    PlainValidator,
    Tag,
    TypeAdapter,
    ValidationError,
    with_config,
)

from skyloop.engines.reflectometry._check import MOST_FACTOR, MOST_LENGTH, MOST_Q, MOST_SLD, SLD, check
from skyloop.engines.reflectometry._yaml import read_yaml, text_of
from skyloop.errors import ConfigError

__all__ = ["Config", "Entry", "Layer", "Medium", "QGrid", "Range", "Repeat", "Sample", "load"]

_LENGTH = "angstrom"
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def _number(value: Any) -> float:
    # YAML 1.1 reads 1e-6 as a string; float() mends that. It would read `yes` as 1 and 1_0e1 as 100.
    if _is_no_number(value) or not isinstance(value, (int, float, str)):
        raise ValueError("neither a number nor a pair [low, high]")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _is_no_number(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and "_" in value)


def _counted(value: Any) -> Any:
    if _is_no_number(value):
        raise ValueError("not a whole number")
    return value


def _range(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return _number(value)
    if len(value) != 2:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError("a range is a pair [low, high]")
    return tuple(_number(v) for v in value)


Range = Annotated[float | tuple[float, float], PlainValidator(_range)]
"""A known number, or the lowest and highest value of a uniform prior."""
_Number = Annotated[float, PlainValidator(_number)]
_Count = Annotated[int, BeforeValidator(_counted)]


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Layer:
    """A homogeneous layer; its roughness is that of the interface above it."""

    thickness: Range
    """Thickness in angstrom."""
    sld: Range
    """Scattering length density in 1e-6/angstrom^2."""
    roughness: Range = 0.0
    """Gaussian roughness (one standard deviation) of the interface above, in angstrom."""
    isld: Range = 0.0
    """Absorption, the imaginary scattering length density, in 1e-6/angstrom^2; >= 0 absorbs."""
    name: str = ""
    """Name in parameters and results; empty: layer1, layer2, ... by position."""


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Repeat:
    """A group of layers that follows itself several times with the same parameters."""

    repeat: _Count
    """How many times."""
    layers: tuple[Layer, ...]
    """The layers of one period, from the fronting side to the backing side."""


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Medium:
    """A semi-infinite medium: the fronting that the beam comes from, or the backing."""

    sld: Range
    """Scattering length density in 1e-6/angstrom^2."""
    roughness: Range = 0.0
    """Roughness of the interface above, in angstrom; the fronting has none."""
    isld: Range = 0.0
    """Absorption in 1e-6/angstrom^2; that of the fronting is part of the scale."""
    name: str = ""
    """Name in parameters and results; empty: fronting or backing."""


def _kind(value: Any) -> str:
    repeats = isinstance(value, Repeat) or (isinstance(value, Mapping) and "repeat" in value)
    return "Repeat" if repeats else "Layer"


_Entry = Annotated[Annotated[Layer, Tag("Layer")] | Annotated[Repeat, Tag("Repeat")], Discriminator(_kind)]


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Sample:
    """A stack from the fronting, where the beam comes from, to the backing."""

    backing: Medium
    """The medium below the last layer."""
    layers: tuple[_Entry, ...] = ()
    """Layers and repeated groups, from the fronting to the backing."""
    fronting: Medium = field(default_factory=lambda: Medium(sld=0.0, name="air"))
    """The medium that the beam comes from."""

    def groups(self) -> tuple[Repeat, ...]:
        """The stack as repeated groups of named layers; a single layer is a group of one."""
        groups = [e if isinstance(e, Repeat) else Repeat(1, (e,)) for e in self.layers]
        named = iter(_named(layer for group in groups for layer in group.layers))
        return tuple(replace(g, layers=tuple(next(named) for _ in g.layers)) for g in groups)

    def named_layers(self) -> tuple[Layer, ...]:
        """Each interior layer once, named."""
        return tuple(layer for group in self.groups() for layer in group.layers)

    @property
    def fronting_name(self) -> str:
        """Name of the fronting in parameters."""
        return self.fronting.name or "fronting"

    @property
    def backing_name(self) -> str:
        """Name of the backing in parameters."""
        return self.backing.name or "backing"


def _named(layers: Iterable[Layer]) -> list[Layer]:
    return [replace(a, name=a.name or f"layer{i}") for i, a in enumerate(layers, start=1)]


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class QGrid:
    """Equidistant wavevector transfers, in 1/angstrom: candidates, and where predictions are told."""

    start: _Number = 0.008
    """First value."""
    stop: _Number = 0.25
    """Last value."""
    num: _Count = 122
    """How many."""


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Config:
    """All that the engine is told before the first point.

    Raises:
        ConfigError: names the key, what was found there and the mend.
    """

    sample: Sample
    """The stack of layers, with what is known and the ranges of what is not."""
    scale: Range = 1.0
    """Factor on the reflectivity."""
    background: Range = 0.0
    """Added to the reflectivity; a pair is the range of a log-uniform prior."""
    q_offset: Range = 0.0
    """Added to the nominal q, in 1/angstrom."""
    resolution: Range = 1.0
    """Factor on the resolution that the data give."""
    target: str = ""
    """Free parameter that the user wants to know; empty: the first free one."""
    target_sigma: _Number = 1.0
    """Known well enough at this standard deviation, in the unit of the target."""
    systematic: _Number = 0.01
    """Relative standard deviation per point that counting does not lower."""
    q_grid: QGrid = QGrid()
    """Candidates of an adaptive plan, and the grid of predictions."""
    particles: _Count = 800
    """Size of the ensemble that stands for the posterior."""

    def __post_init__(self) -> None:
        check(self)

    def entries(self) -> tuple[Entry, ...]:
        """Every named quantity in fixed order: each layer's four, the media, the instrument."""
        return (*_sample_entries(self.sample), *_instrument_entries(self))


@dataclass(frozen=True, slots=True)
class Entry:
    """A named quantity of a configuration, known or free."""

    name: str
    """For example `"film.thickness"` or `"scale"`."""
    value: float | tuple[float, float]
    """A known number, or the ends of the prior."""
    unit: str = ""
    """Unit in words."""
    least: float = 0.0
    """No value below it makes sense."""
    most: float = math.inf
    """No value above it is needed."""
    is_log: bool = False
    """True when the prior is uniform in the logarithm."""

    @property
    def low(self) -> float:
        """Lowest value."""
        return self.value[0] if isinstance(self.value, tuple) else self.value

    @property
    def high(self) -> float:
        """Highest value."""
        return self.value[1] if isinstance(self.value, tuple) else self.value

    @property
    def is_free(self) -> bool:
        """True when the value is sought."""
        return isinstance(self.value, tuple)


def _sample_entries(sample: Sample) -> Iterator[Entry]:
    for layer in sample.named_layers():
        yield Entry(f"{layer.name}.thickness", layer.thickness, _LENGTH, most=MOST_LENGTH)
        yield from _interface_entries(layer.name, layer)
    yield Entry(f"{sample.fronting_name}.sld", sample.fronting.sld, SLD, -MOST_SLD, MOST_SLD)
    yield from _interface_entries(sample.backing_name, sample.backing)


def _interface_entries(name: str, part: Layer | Medium) -> Iterator[Entry]:
    yield Entry(f"{name}.roughness", part.roughness, _LENGTH, most=MOST_LENGTH)
    yield Entry(f"{name}.sld", part.sld, SLD, -MOST_SLD, MOST_SLD)
    yield Entry(f"{name}.isld", part.isld, SLD, most=MOST_SLD)


def _instrument_entries(config: Config) -> Iterator[Entry]:
    yield Entry("scale", config.scale, most=MOST_FACTOR)
    yield Entry("background", config.background, most=MOST_FACTOR, is_log=True)
    yield Entry("q_offset", config.q_offset, "1/angstrom", -MOST_Q, MOST_Q)
    yield Entry("resolution", config.resolution, most=MOST_SLD)


def load(source: str | Path) -> Config:
    r"""Read a configuration from a YAML file, or from YAML text (a string with a line break).

    Aliases are refused: a few lines of them unfold to gigabytes.

    Raises:
        ConfigError: the file cannot be read, or names the key, what was found and the mend.

    >>> config = load("sample:\n  backing: {sld: 2.07, roughness: [2, 8]}\n")
    >>> config.sample.backing.roughness
    (2.0, 8.0)
    """
    text, name = text_of(source)
    try:
        return _validated(read_yaml(text))
    except ConfigError as error:
        if not name:
            raise
        raise ConfigError("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from error


def _validated(values: Any) -> Config:
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_told(e) for e in error.errors())) from error


_MENDS = {
    "extra_forbidden": "unknown key; mend: remove it or correct its spelling",
    "unexpected_keyword_argument": "unknown key; mend: remove it or correct its spelling",
    "missing": "missing; mend: add it",
}


def _told(error: Any) -> str:
    path = _path(part for part in error["loc"] if part not in ("Layer", "Repeat"))
    mend = _MENDS.get(error["type"])
    if mend is None:
        mend = f"{error['msg'].removeprefix('Value error, ')}; mend: correct the value"
    if error["type"] == "missing":
        return f"{path}: {mend}"
    return f"{path}: found {error['input']!r:.80}, {mend}"


def _path(parts: Iterable[int | str]) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)
    return path.removeprefix(".") or "configuration"
