"""The rival of a sample model: the same sample with one more thin layer.

A design that trusts its model counts where that model says that the target shows, and a wrong model may fit
these few points as well as the true one does. So a target that seems known is doubted in the direction in
which models are wrong most often: by a layer that nobody thought of. What such a rival predicts tells the
points that decide between the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from skyloop.engines.reflectometry.belief import Curves
from skyloop.engines.reflectometry.config import Config, Layer, Medium, Range, Repeat, Sample
from skyloop.engines.reflectometry.fit import fit_data, quick_search
from skyloop.engines.reflectometry.likelihood import Data
from skyloop.engines.reflectometry.model import Parameters
from skyloop.quantities import FloatArray

__all__ = ["Rival", "with_further_layer"]

_Part = Layer | Medium

_NAME = "further"
_THICKEST = 60.0
_ROUGHEST = 10.0
_BEYOND = 1.0
"""How far the scattering length density may be beyond those of the neighbours, in 1e-6/angstrom^2."""
_GAIN_DECIMALS = 4
_SAME_MATERIAL = 0.15
"""Share of the contrast of an interface within which a layer is the same material as the film."""


@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """The sample with a further layer that describes the data best."""

    gain: float
    """Its log likelihood above that of the sample without the layer."""
    target: float
    """The target, if there is such a layer."""
    thickness: float
    """Thickness of the layer, in angstrom."""
    interface: str
    """Where it is, for example `film/silicon`."""
    curves: Curves
    """Model curves of the sample with the layer."""
    u: FloatArray
    """The rival as a point [1, d] of their unit cube."""


def with_further_layer(config: Config, data: Data, cost: float, *, key: int) -> Rival:
    """The most likely sample with a layer more, above or below the layer that the target belongs to.

    Its thickness, scattering length density and roughness are fitted with all that is free anyway.

    Args:
        config: sample model without the layer.
        data: gathered points.
        cost: minus the log likelihood of the best known sample of that model.
        key: seed of the starts of the fits.
    """
    rivals = [_fitted(wider, data, cost, key) for wider in _wider(config)]
    return max(rivals, key=lambda rival: rival.gain)


@dataclass(frozen=True, slots=True)
class _Wider:
    config: Config
    layer: str
    above: str
    below: str


def _wider(config: Config) -> Iterator[_Wider]:
    """The configurations with the layer."""
    groups, target = config.sample.groups(), _target(config)
    name = _NAME
    while any(entry.name.startswith(f"{name}.") for entry in config.entries()):
        name += "_"
    for slot in _slots(groups, target.partition(".")[0]):
        above, below = _neighbours(config.sample, groups, slot)
        layers = (*groups[:slot], _layer(name, above, below), *groups[slot:])
        sample = replace(config.sample, layers=layers)
        yield _Wider(replace(config, sample=sample, target=target), name, above.name, below.name)


def _target(config: Config) -> str:
    parameters = Parameters.of(config)
    return parameters.names[parameters.target]


def _slots(groups: Sequence[Repeat], name: str) -> tuple[int, ...]:
    """Above and below the layers of that name; above the backing when there are none."""
    for k, group in enumerate(groups):
        if any(layer.name == name for layer in group.layers):
            return k, k + 1
    return (len(groups),)


def _neighbours(sample: Sample, groups: Sequence[Repeat], slot: int) -> tuple[_Part, _Part]:
    above = groups[slot - 1].layers[-1] if slot else replace(sample.fronting, name=sample.fronting_name)
    ends = slot == len(groups)
    return above, replace(sample.backing, name=sample.backing_name) if ends else groups[slot].layers[0]


def _layer(name: str, above: _Part, below: _Part) -> Layer:
    sld, isld = _span(above.sld, below.sld), _span(above.isld, below.isld)
    return Layer(
        name=name,
        thickness=(0.0, _THICKEST),
        sld=(sld[0] - _BEYOND, sld[1] + _BEYOND),
        roughness=(0.0, _ROUGHEST),
        isld=isld if isld[0] < isld[1] else isld[0],
    )


def _span(*ranges: Range) -> tuple[float, float]:
    ends = [end for value in ranges for end in (value if isinstance(value, tuple) else (value,))]
    return min(ends), max(ends)


def _fitted(wider: _Wider, data: Data, cost: float, key: int) -> Rival:
    curves = Curves.of(wider.config)
    found = fit_data(wider.config, data, key=key, search=quick_search(len(curves.parameters)))
    u = curves.points(found.theta[None])
    names = (entry.name for entry in curves.parameters.entries)
    value = dict(zip(names, curves.values(u)[0].tolist(), strict=True))
    return Rival(
        gain=max(0.0, round(cost - found.cost, _GAIN_DECIMALS)),  # a layer of no thickness is as likely
        target=float(curves.target(u)[0]) + _slice(wider, value),
        thickness=value[f"{wider.layer}.thickness"],
        interface=f"{wider.above}/{wider.below}",
        curves=curves,
        u=u,
    )


def _slice(wider: _Wider, value: Mapping[str, float]) -> float:
    """Thickness of the layer if it is a slice of the film whose thickness is the target, else 0.

    A film cut in two describes the data as well as the whole one, and no measurement tells them apart.
    """
    film, _, kind = wider.config.target.partition(".")
    if kind != "thickness" or film not in (wider.above, wider.below):
        return 0.0
    other = wider.below if film == wider.above else wider.above
    here, there, own = (value[f"{name}.sld"] for name in (film, other, wider.layer))
    is_slice = abs(own - here) <= _SAME_MATERIAL * abs(here - there)
    return value[f"{wider.layer}.thickness"] if is_slice else 0.0
