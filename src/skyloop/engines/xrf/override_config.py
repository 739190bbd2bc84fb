"""Parameter files of MAPS for a fit: the configuration that one asks for, and fitted values put into one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from skyloop.engines.xrf._override_lines import has_tag
from skyloop.engines.xrf.config import Calibration, Config
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.override import Override
from skyloop.engines.xrf.parameters import FITTED, PARAMETERS
from skyloop.engines.xrf.rows import pair_of
from skyloop.errors import ConfigError, DataError

__all__ = ["configured", "overridden"]

_BEAM = "COHERENT_SCT_ENERGY"
_ENDS = ("MIN_ENERGY_TO_FIT", "MAX_ENERGY_TO_FIT")
_APART = (_BEAM, "ENERGY_OFFSET", "ENERGY_SLOPE")
_ESCAPES = {"SI_ESCAPE": "SI_ESCAPE_ENABLE", "GE_ESCAPE": "GE_ESCAPE_ENABLE"}
_AMPLITUDES = ("COHERENT_SCT_AMPLITUDE", "COMPTON_AMPLITUDE")
_OF_THE_FIT = (
    *("FIT_SNIP_WIDTH", "SNIP_USE_SINGLE_LOG", "SNIP_USE_FWHM_WIDTH", "SNIP_USE_FULL_SPECTRUM"),
    *("BE_WINDOW_THICKNESS", "DET_CHIP_THICKNESS", "GE_DEAD_LAYER", "AIRPATH"),
)
"""Settings that change what MAPS fits; the others name a measurement and its process variables."""


def configured(override: Override, incident_energy: float | None = None) -> tuple[Config, tuple[str, ...]]:
    r"""The fit that a parameter file asks for, and what of the file it cannot use, one line each.

    What changes nothing (a factor of 1, a quadratic term of 0) is not told. Fitted are the parameters of
    `FITTED`, without those that the file fixes, with those that it sets free.

    Args:
        override: what the file says.
        incident_energy: keV; that of the file, COHERENT_SCT_ENERGY, when not given.

    Raises:
        ConfigError: no incident energy, no element that it excites, or a value that no fit takes.
        DataError: bounds of the file that exclude its own value.

    >>> from skyloop.engines.xrf.override import read_override
    >>> text = "ELEMENTS_TO_FIT: Ca, Fe, Mo\nCOHERENT_SCT_ENERGY: 10\nCAL_SLOPE_[E_LINEAR]: 0.0095\n"
    >>> config, notes = configured(read_override(text))
    >>> config.incident_energy, config.elements, config.calibration.slope, notes[0].split(":")[0]
    (10.0, ('Ca', 'Fe'), 0.0095, 'Mo')
    """
    _check_bounds(override)
    beam = override.parameters.get(_BEAM) if incident_energy is None else incident_energy
    if beam is None:
        raise ConfigError(f"the override gives no {_BEAM}; mend: give incident_energy in keV")
    notes: list[str] = []
    if (told := override.parameters.get(_BEAM, beam)) != beam:
        notes.append(f"{_BEAM}: {told:g} keV gives way to the incident energy of {beam:g} keV")
    detector = "Ge" if override.detector_material == "Ge" else "Si"
    first = Config(incident_energy=beam, detector=detector)
    config = replace(
        first,
        elements=_components(override, beam, notes),
        energy_range=_energy_range(override, first),
        calibration=_calibration(override),
        parameters=_parameters(override, notes),
        free=_free(override),
    )
    return config, (*notes, *_unused(override))


def overridden(override: Override, fit_values: Mapping[str, float]) -> Override:
    """The same file with fitted values in the place of its own, for `write_override`.

    The notes tell a parameter that MAPS does not have (ESCAPE_SCALE), and one that the file switches off.

    Args:
        override: what the file says.
        fit_values: by parameter, such as `SpectrumFit.values`.

    Raises:
        DataError: an unknown name, a value that is no number, or one that the bounds of the file exclude.

    >>> overridden(Override(), {"ENERGY_SLOPE": 0.0096, "ESCAPE_SCALE": 0.9}).notes
    ('ESCAPE_SCALE: MAPS has no such parameter, its files cannot hold it',)
    """
    for name, value in fit_values.items():
        if not (has_tag(name) or name in PARAMETERS):
            raise DataError(f"'{name}' is no parameter; mend: one of {', '.join(PARAMETERS)}")
        if not math.isfinite(value):
            raise DataError(f"{name}: found {value}; mend: leave out what the fit did not find")
    held = {name: float(value) for name, value in fit_values.items() if has_tag(name)}
    changed = replace(override, parameters={**override.parameters, **held})
    _check_bounds(changed)
    lost = [name for name in fit_values if name not in held]
    notes = [f"{name}: MAPS has no such parameter, its files cannot hold it" for name in lost]
    off = _switched_off(changed)
    notes += [
        f"{name}: MAPS does not use it, as {off[name]} is 0 in the file" for name in off if name in held
    ]
    return replace(changed, notes=tuple(dict.fromkeys((*override.notes, *notes))))


def _check_bounds(override: Override) -> None:
    for name, (low, high) in override.bounds.items():
        value = override.parameters.get(name, low)
        if not low <= value <= high:
            raise DataError(
                f"{name}: its value {value:g} lies outside of its bounds, {low:g} to {high:g}; mend: widen"
                " the bounds, or take them out"
            )


def _components(override: Override, beam: float, notes: list[str]) -> tuple[str, ...]:
    """Elements and pile-up that can be fitted; none where the file names no elements."""
    elements = [name for name in override.elements if _can_be_seen(name, (name,), beam, notes)]
    if override.elements and not elements:
        raise ConfigError(
            f"none of the elements {', '.join(override.elements)} has lines at an incident energy of {beam:g}"
            " keV; mend: give the energy of the beam, or other elements"
        )
    if not elements:
        notes += [f"{name}: pile-up without elements to fit is not used" for name in override.pileups]
        notes.append("no elements to fit: those that the spectrum shows are looked for")
        return ()
    pairs = [name for name in override.pileups if _can_be_seen(name, pair_of(name) or (), beam, notes)]
    return (*elements, *pairs)


def _can_be_seen(name: str, parts: tuple[str, ...], beam: float, notes: list[str]) -> bool:
    families = line_table().families
    unknown = [part for part in parts if part not in families]
    dark = [part for part in parts if part in families and families[part].edge[0] >= beam]
    if not parts:
        notes.append(f"{name}: pile-up of more than two is not fitted: left out")
    elif unknown:
        notes.append(f"{name}: the line table has no lines of {unknown[0]}: left out")
    elif dark:
        notes.append(f"{name}: photons of {beam:g} keV excite no lines of {dark[0]}: left out")
    return bool(parts) and not (unknown or dark)


def _energy_range(override: Override, config: Config) -> tuple[float, float] | None:
    if not any(name in override.parameters for name in _ENDS):
        return None
    low, high = map(override.parameters.get, _ENDS, config.fitted_range)
    return low, high


def _calibration(override: Override) -> Calibration:
    usual = Calibration()
    return replace(
        usual,
        slope=override.parameters.get("ENERGY_SLOPE", usual.slope),
        offset=override.parameters.get("ENERGY_OFFSET", usual.offset),
    )


def _parameters(override: Override, notes: list[str]) -> dict[str, float]:
    """Values of the parameters that a fit knows; beam and calibration have places of their own."""
    off = _switched_off(override)
    notes += [f"{name}: {override.parameters[name]:g} is not used, {off[name]} is 0" for name in off]
    known = override.parameters.items()
    return {name: value for name, value in known if name in PARAMETERS and name not in (*_APART, *off)}


def _switched_off(override: Override) -> dict[str, str]:
    """Escape factors that MAPS does not use, and the setting that says so."""
    said = {name: switch for name, switch in _ESCAPES.items() if switch in override.settings}
    return {name: s for name, s in said.items() if override.parameters.get(name) and not _is_on(override, s)}


def _is_on(override: Override, name: str) -> bool:
    text = override.settings.get(name, "")
    try:
        return bool(text) and float(text.rstrip("%")) != 0
    except ValueError as error:
        raise DataError(f"{name}: found {text!r:.60}; mend: give a number") from error


def _free(override: Override) -> tuple[str, ...]:
    fixed = {name for name, how in override.fitting.items() if how == "FIXED"}
    more = [name for name, how in override.fitting.items() if how != "FIXED" and name in PARAMETERS]
    return tuple(n for n in dict.fromkeys((*FITTED, *more)) if n not in fixed)


def _unused(override: Override) -> Iterator[str]:
    """What no part of a configuration says."""
    for name, value in override.parameters.items():
        if name in _AMPLITUDES:
            yield f"{name}: {value:g} is not used, a fit needs no amplitudes to begin with"
        elif name not in PARAMETERS and name not in _ENDS and value:
            yield f"{name}: {value:g} is not used, the model has no such term"
    for name, (low, high) in override.bounds.items():
        yield f"{name}: bounds {low:g} to {high:g} are not used, a fit has its own"
    for name, step in override.steps.items():
        yield f"{name}: step {step:g} is not used, a fit chooses its steps"
    for name, how in override.fitting.items():
        if name not in PARAMETERS:
            yield f"{name}: {how} is not used, it is no parameter of the model"
    for each in override.adjustments:
        if each.tag.startswith("TAIL") or any(factor != 1 for factor in each.factors):
            factors = ", ".join(f"{factor:g}" for factor in each.factors)
            yield f"{each.tag} {each.element}: {factors} not used, the lines are those of the line table"
    for name in _OF_THE_FIT:
        if _is_on(override, name):
            yield f"{name}: {override.settings[name]} is not used"
