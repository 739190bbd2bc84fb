"""From counts to mass per area: absorbers, and a thin film of known elements as the standard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from skyloop.engines.xrf.lines import LineTable, line_table
from skyloop.errors import ConfigError, DataError
from skyloop.quantities import FloatArray

__all__ = [
    "Absorber",
    "ArealDensity",
    "Instrument",
    "Sensitivity",
    "Standard",
    "air",
    "areal_density",
    "calibrate",
    "read_standard",
]

_GRAM = 1e-6  # per microgram
_MAX_BYTES = 1024 * 1024
_TAGS = ("FILENAME", "ELEMENTS_IN_STANDARD", "WEIGHT")


@dataclass(frozen=True, slots=True)
class Absorber:
    """A layer that photons pass on their way to the detector.

    Raises:
        ConfigError: mass fractions that do not sum to 1 within 0.1 %, or a density or thickness below zero.
    """

    composition: Mapping[str, float]
    """Mass fraction by element."""
    density: float
    """g/cm^3."""
    thickness: float
    """cm."""

    def __post_init__(self) -> None:
        fractions = list(self.composition.values())
        if not (min(fractions, default=-1.0) >= 0 and abs(sum(fractions) - 1) <= 1e-3):
            raise ConfigError(
                f"absorber of {dict(self.composition)}; mend: mass fractions from 0 to 1 that sum to 1"
            )
        if not (0 <= self.density < math.inf and 0 <= self.thickness < math.inf):
            raise ConfigError(
                f"absorber of {', '.join(self.composition)}: {self.density:g} g/cm^3, {self.thickness:g} cm;"
                " mend: finite, zero or more"
            )

    def transmission(self, energy: ArrayLike, table: LineTable) -> FloatArray:
        """Share of photons that pass, exp(-ρ t Σ f μ), same shape as `energy` (keV).

        >>> Absorber({"Be": 1.0}, 1.848, 0.0025).transmission(3.69, line_table()).round(2).tolist()
        0.95
        """
        per_mass = sum(f * table.attenuation(e, energy) for e, f in self.composition.items())
        return np.exp(-self.density * self.thickness * np.asarray(per_mass, dtype=np.float64))


def air(thickness: float) -> Absorber:
    """Dry air of 20 °C and 1013 hPa, thickness in cm."""
    return Absorber({"N": 0.7553, "O": 0.2318, "Ar": 0.0129}, 1.205e-3, thickness)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is the same for standard and sample."""

    incident_energy: float
    """keV."""
    absorbers: tuple[Absorber, ...] = ()
    """Between sample and detector: air path, window, dead layer."""
    crystal: Absorber | None = None
    """The part of the detector that counts; None: it stops every photon."""
    cross_section_sigma: float = 0.05
    """Relative standard deviation of a fluorescence cross section, independent by component."""
    table: LineTable = field(default_factory=line_table)
    """Cross sections and attenuation."""

    def response(self, components: Sequence[str]) -> FloatArray:
        """[component], σ T ε of the main line at 1 µg/cm^2: counts per exposure at sensitivity 1.

        Production cross section σ, transmission T of the absorbers, efficiency ε of the crystal.

        Raises:
            ConfigError: a component that has no lines, is not excited, or has no cross section in the table.
        """
        lines = self.table.lines(components, self.incident_energy)
        if missing := [n for n, s in zip(lines.names, lines.cross_section, strict=True) if not s > 0]:
            raise ConfigError(
                f"the line table has no cross section of {missing[0]}; mend: line_table(), or leave it out"
            )
        energy = np.array([self.table.families[name].energy[0] for name in components], dtype=np.float64)
        response = _GRAM * lines.cross_section
        for absorber in self.absorbers:
            response = response * absorber.transmission(energy, self.table)
        return response * (1 - self.crystal.transmission(energy, self.table) if self.crystal else 1.0)


@dataclass(frozen=True, slots=True)
class Standard:
    """A thin film."""

    areal_density: Mapping[str, float]
    """µg/cm^2 by element."""
    file_name: str = ""
    """Its measurement."""


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity:
    """Counts per exposure that a response of 1 gives."""

    value: float
    """Solid angle, incident flux per unit of exposure and all else that no line knows of."""
    relative_sigma: float
    """Standard deviation of ln(value); greater by sqrt(χ²/ν) where the components disagree, χ² > ν."""
    chi2: float
    """Of the agreement of the components."""
    degrees: int
    """ν, components less one."""
    components: tuple[str, ...]
    """What it was found from."""
    each: FloatArray
    """[component], the sensitivity that each of them gives."""


def calibrate(
    instrument: Instrument,
    standard: Standard,
    components: Sequence[str],
    rates: ArrayLike,
    rate_sigma: ArrayLike,
    *,
    weight_sigma: float,
) -> Sensitivity:
    """One sensitivity from all components of a standard: the mean of ln(rate / (N σ T ε)), weighted.

    The variance of each is that of its rate and of its cross section; families of one element share the
    variance of its weight, so they count less than two elements do.

    Args:
        instrument: as it was for the standard.
        standard: areal densities N.
        components: which were fitted, all of elements in the standard: `"Ca"`, `"Pb_M"`.
        rates: [component], amplitude over exposure.
        rate_sigma: [component].
        weight_sigma: relative standard deviation of the standard's areal densities.

    Raises:
        ConfigError: no components, one that the standard does not have, or negative relative deviations.
        DataError: a rate that is not above zero, or a sigma that is negative.
    """
    symbols = [name.split("_")[0] for name in components]
    if foreign := [s for s in symbols if s not in standard.areal_density]:
        raise ConfigError(
            f"the standard has {', '.join(standard.areal_density)} and no {foreign[0]}; mend: leave it out"
        )
    if not symbols or weight_sigma < 0 or instrument.cross_section_sigma < 0:
        raise ConfigError(
            f"calibration with {len(symbols)} components, relative deviations {weight_sigma:g} of weights"
            f" and {instrument.cross_section_sigma:g} of cross sections; mend: one component, none negative"
        )
    rate, sigma = _measured(components, rates, rate_sigma)
    if not bool((rate > 0).all()):
        raise DataError(
            f"{components[int(np.argmin(rate > 0))]}: no counts in the standard; mend: leave it out"
        )
    weight = np.array([standard.areal_density[s] for s in symbols])
    each = rate / (weight * instrument.response(components))
    same = np.array([[a == b for b in symbols] for a in symbols], dtype=np.float64)
    variance = np.diag((sigma / rate) ** 2 + instrument.cross_section_sigma**2) + weight_sigma**2 * same
    return _combined(tuple(components), each, variance)


def _combined(components: tuple[str, ...], each: FloatArray, variance: FloatArray) -> Sensitivity:
    try:
        precision = np.linalg.inv(variance)
    except np.linalg.LinAlgError as error:
        raise ConfigError(
            "all deviations of a calibration are zero; mend: say how well weights or cross sections are known"
        ) from error
    total = precision.sum()
    mean = float(precision.sum(0) @ np.log(each) / total)
    rest = np.log(each) - mean
    chi2, degrees = float(rest @ precision @ rest), len(each) - 1
    spread = math.sqrt(max(1.0, chi2 / degrees)) if degrees else 1.0
    return Sensitivity(math.exp(mean), spread / math.sqrt(total), chi2, degrees, components, each)


@dataclass(frozen=True, slots=True, eq=False)
class ArealDensity:
    """Mass per area of a thin sample: one that neither absorbs its own lines nor the beam."""

    values: FloatArray
    """[..., component], µg/cm^2."""
    sigma: FloatArray
    """[..., component], of counts, sensitivity and cross section together."""
    counting_sigma: FloatArray
    """[..., component], of counts alone: what differs from pixel to pixel."""


def areal_density(
    instrument: Instrument,
    sensitivity: Sensitivity,
    components: Sequence[str],
    rates: ArrayLike,
    rate_sigma: ArrayLike,
) -> ArealDensity:
    """N = rate / (S σ T ε) with S from `calibrate`.

    The cross section of a component counts as unknown also where the standard holds the same component, in
    which case the sigma is greater than it need be.

    Args:
        instrument: as it was for the sample.
        sensitivity: S.
        components: which.
        rates: [..., component], amplitude over exposure; NaN stays NaN.
        rate_sigma: [..., component].

    Raises:
        DataError: rates that do not fit the components, or a sigma that is negative.
    """
    rate, sigma = _measured(components, rates, rate_sigma)
    scale = sensitivity.value * instrument.response(components)
    common = math.hypot(sensitivity.relative_sigma, instrument.cross_section_sigma)
    values, counting = rate / scale, sigma / scale
    return ArealDensity(values, np.hypot(counting, common * values), counting)


def _measured(
    components: Sequence[str], rates: ArrayLike, rate_sigma: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    rate, sigma = np.asarray(rates, dtype=np.float64), np.asarray(rate_sigma, dtype=np.float64)
    if rate.shape != sigma.shape or rate.shape[-1:] != (len(components),):
        raise DataError(
            f"rates {rate.shape} and their sigma {sigma.shape} for {len(components)} components; mend: both"
            f" [..., {len(components)}]"
        )
    if bool((sigma < 0).any()):
        raise DataError("a sigma of the rates is negative; mend: standard deviations")
    return rate, sigma


def read_standard(path: str | Path) -> Standard:
    """Read a standard from a `maps_standardinfo.txt` of MAPS: elements and their weights in µg/cm^2.

    Raises:
        DataError: the file cannot be read, a tag is missing or there twice, an element is unknown or there
            twice, or there is not one positive weight for each element.
    """
    tags = _tags(Path(path))
    symbols = [word.strip() for word in tags["ELEMENTS_IN_STANDARD"].split(",")]
    known = line_table().totals
    for symbol in symbols:
        if symbol not in known or symbols.count(symbol) > 1:
            raise DataError(f"{path}: element '{symbol}' is unknown or there twice; mend: symbols, each once")
    weights = [_weight(word, path) for word in tags["WEIGHT"].split(",")]
    if len(weights) != len(symbols):
        raise DataError(
            f"{path}: {len(symbols)} elements and {len(weights)} weights; mend: one weight for each element"
        )
    return Standard(dict(zip(symbols, weights, strict=True)), tags["FILENAME"])


def _tags(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; mend: a maps_standardinfo.txt in UTF-8") from error
    found: dict[str, str] = {}
    for line in text.splitlines():
        tag, colon, value = line.partition(":")
        if not colon or tag.strip() not in _TAGS:
            continue  # free text between the tags
        if tag.strip() in found:
            raise DataError(f"{path}: tag {tag.strip()} is there twice; mend: one standard in a file")
        found[tag.strip()] = value.strip()
    if missing := [tag for tag in _TAGS if tag not in found]:
        raise DataError(f"{path}: no line '{missing[0]}: ...'; mend: a maps_standardinfo.txt")
    return found


def _weight(word: str, path: str | Path) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise DataError(f"{path}: weight '{word.strip()}'; mend: a positive number in µg/cm^2")
    return value
