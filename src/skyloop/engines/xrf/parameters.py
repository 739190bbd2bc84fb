"""The parameters of the MAPS spectrum: names, units, defaults and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from skyloop.errors import ConfigError

__all__ = ["FITTED", "PARAMETERS", "Parameter", "checked", "defaults"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the spectrum model."""

    name: str
    """Its MAPS name."""
    unit: str
    """Unit in words."""
    default: float
    """Value where nothing else is known."""
    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    is_fitted: bool = False
    """Whether a fit varies it unless told otherwise."""


_ALL = (
    Parameter("ENERGY_OFFSET", "keV", 0.0, -0.2, 0.2, is_fitted=True),
    Parameter("ENERGY_SLOPE", "keV/channel", 0.01, 0.001, 0.1, is_fitted=True),
    Parameter("ENERGY_QUADRATIC", "keV/channel^2", 0.0, -1e-7, 1e-7, is_fitted=True),
    Parameter("FWHM_OFFSET", "keV", 0.1, 0.005, 0.5, is_fitted=True),
    Parameter("FWHM_FANOPRIME", "", 1.2e-4, 1e-6, 0.05, is_fitted=True),
    Parameter("COHERENT_SCT_ENERGY", "keV", 10.0, 1.0, 120.0, is_fitted=True),
    Parameter("COMPTON_ANGLE", "degree", 90.0, 20.0, 180.0, is_fitted=True),
    Parameter("COMPTON_FWHM_CORR", "", 1.5, 1.0, 4.0, is_fitted=True),
    Parameter("COMPTON_F_TAIL", "", 0.1, 0.0, 1.0, is_fitted=True),
    Parameter("COMPTON_HI_F_TAIL", "", 0.013, 0.0, 1.0, is_fitted=True),
    Parameter("F_TAIL_OFFSET", "", 0.003, 0.0, 0.1, is_fitted=True),
    Parameter("KB_F_TAIL_OFFSET", "", 0.05, 0.0, 0.2, is_fitted=True),
    Parameter("COMPTON_GAMMA", "", 3.0, 0.1, 10.0),
    Parameter("COMPTON_HI_GAMMA", "", 3.0, 0.1, 3.0),
    Parameter("COMPTON_F_STEP", "", 0.0, 0.0, 1.0),
    Parameter("F_STEP_OFFSET", "g/cm^2", 0.0, 0.0, 1e-3),
    Parameter("F_STEP_LINEAR", "g/(cm^2 keV)", 0.0, 0.0, 1e-3),
    Parameter("F_TAIL_LINEAR", "g/cm^2", 0.0, 0.0, 1e-3),
    Parameter("KB_F_TAIL_LINEAR", "g/cm^2", 0.0, 0.0, 1e-3),
    Parameter("GAMMA_OFFSET", "", 2.2, 0.1, 10.0),
    Parameter("GAMMA_LINEAR", "1/keV", 0.0, 0.0, 1.0),
    Parameter("FWHM_FANO_COEFF", "keV", 3.58, 1.0, 10.0),
    Parameter("SI_ESCAPE", "", 0.0, 0.0, 0.5),
    Parameter("GE_ESCAPE", "", 0.0, 0.0, 0.5),
    Parameter("ESCAPE_SCALE", "", 1.0, 0.0, 3.0, is_fitted=True),
    Parameter("SNIP_WIDTH", "", 0.5, 0.1, 2.83),
)

PARAMETERS: Mapping[str, Parameter] = MappingProxyType({p.name: p for p in _ALL})
"""Every parameter by name.

`FWHM_FANO_COEFF` is a constant of other codes, 3.58 in some and 2.96 in others: a FANOPRIME says nothing
without it. `ESCAPE_SCALE` scales the escape peaks that absorption and fluorescence in the detector predict;
`SI_ESCAPE` and `GE_ESCAPE` add the constant fraction of MAPS.
"""

FITTED: tuple[str, ...] = tuple(p.name for p in _ALL if p.is_fitted)
"""What a fit varies unless told otherwise: the twelve of MAPS, and the scale of the escape peaks."""


def defaults(given: Mapping[str, float] | None = None) -> dict[str, float]:
    """The default of every parameter, but for those that are given.

    Raises:
        ConfigError: a name that is no parameter, or a value outside its range.

    >>> defaults({"ENERGY_SLOPE": 0.02})["ENERGY_SLOPE"]
    0.02
    """
    return {name: p.default for name, p in PARAMETERS.items()} | checked(given or {})


def checked(given: Mapping[str, float]) -> dict[str, float]:
    """Values by parameter name, each known and inside its range.

    Raises:
        ConfigError: names the parameter, what was found and the mend.
    """
    for name, value in given.items():
        known = PARAMETERS.get(name)
        if known is None:
            raise ConfigError(f"parameter '{name}' is unknown; mend: one of {', '.join(PARAMETERS)}")
        if not known.low <= value <= known.high:
            raise ConfigError(
                f"parameter {name}: found {value:g} {known.unit}; mend: from {known.low:g} to {known.high:g}"
            )
    return dict(given)
