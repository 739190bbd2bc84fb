"""Reflectometry: events with q and counts, or with a reflectivity, to results with uncertainties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skyloop.callbacks._analyzer import Analyzer
from skyloop.callbacks._options import Options
from skyloop.callbacks._reflectometry_file import assumed, covering, priors
from skyloop.callbacks._technique import Technique
from skyloop.documents.frames import Point
from skyloop.engines.reflectometry import Config, Engine, Frame, panels
from skyloop.engines.reflectometry.config import load
from skyloop.errors import ConfigError, DataError
from skyloop.quantities import FloatArray
from skyloop.storage.curve_run import curve_run

__all__ = ["TECHNIQUE", "Keys", "frame_of", "reflectometry", "wanted"]


@dataclass(frozen=True)
class Keys:
    """What the data are called in the events of a beamline.

    A point needs its q, and either counts with their exposure or a reflectivity with its sigma. Where no
    exposure is recorded it is `per_monitor * monitor * transmission`.

    Raises:
        ConfigError: a name is no text, or a number is none that can be.
    """

    stream: str = "primary"
    """Stream that holds the curve."""
    q: str = "q"
    """Wavevector transfer [1/angstrom]."""
    q_sigma: str = "q_sigma"
    """Resolution, one standard deviation [1/angstrom]; a point without it has none."""
    counts: str = "counts"
    """Detector counts, corrected for dead time."""
    exposure: str = "exposure"
    """Counts expected at a reflectivity of one."""
    monitor: str = "monitor"
    """Monitor counts, used where there is no exposure."""
    transmission: str = "transmission"
    """Transmission of the attenuator, used with the monitor; a point without it has 1."""
    per_monitor: float = 1.0
    """Counts expected at a reflectivity of one, per monitor count."""
    reflectivity: str = "reflectivity"
    """Reduced reflectivity, where the beamline records it."""
    reflectivity_sigma: str = "reflectivity_sigma"
    """Its standard deviation."""
    two_theta: str = "two_theta"
    """Scattering angle [deg], used where there is no q and `wavelength` is given."""
    wavelength: float = 0.0
    """Wavelength [angstrom] for `two_theta`."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(each.default, str):
                if not isinstance(value, str):
                    raise ConfigError(f"keys: {each.name}: found {value!r:.40}; mend: give the name of a key")
            else:  # 5000 and 5000.0 are the same calibration
                object.__setattr__(self, each.name, _factor(each.name, value))


def _factor(name: str, value: Any) -> float:
    try:
        number = np.nan if isinstance(value, bool) else float(value)  # for YAML, 3.2e4 is a text
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not 0 <= number < np.inf:
        raise ConfigError(f"keys: {name}: found {value!r:.40}; mend: give a finite number, not negative")
    return number


def frame_of(point: Point, keys: Keys | None = None) -> Frame | None:
    """The reflectivity points of a raw event; None when it holds none.

    Raises:
        DataError: the event holds some of what a point needs, but not all, or values that cannot be.
    """
    keys = keys or Keys()
    if point.stream != keys.stream:
        return None
    if keys.counts in point.data:
        counts = _numbers(point, keys.counts)
        return Frame.counted(_q(point, keys), counts, _exposure(point, keys), _q_sigma(point, keys))
    if keys.reflectivity in point.data:
        reflectivity = _numbers(point, keys.reflectivity)
        sigma = _needed(point, keys.reflectivity_sigma, keys.reflectivity)
        return Frame.measured(_q(point, keys), reflectivity, sigma, _q_sigma(point, keys))
    return None


def wanted(descriptor: Mapping[str, Any], keys: Keys | None = None) -> set[str]:
    """Data keys of a descriptor that a curve may need: a camera beside it stays unread."""
    keys = keys or Keys()
    if descriptor.get("name") != keys.stream:
        return set()
    counted = (keys.counts, keys.exposure, keys.monitor, keys.transmission)
    named = (keys.q, keys.q_sigma, keys.two_theta, *counted, keys.reflectivity, keys.reflectivity_sigma)
    return set(named) & set(descriptor["data_keys"])


def _q(point: Point, keys: Keys) -> Any:
    if keys.q not in point.data and keys.wavelength and keys.two_theta in point.data:
        theta = np.deg2rad(_numbers(point, keys.two_theta)) / 2
        return 4 * np.pi / keys.wavelength * np.sin(theta)
    return _needed(point, keys.q, keys.counts if keys.counts in point.data else keys.reflectivity)


def _q_sigma(point: Point, keys: Keys) -> Any:
    return _numbers(point, keys.q_sigma) if keys.q_sigma in point.data else 0.0


def _exposure(point: Point, keys: Keys) -> Any:
    if keys.exposure in point.data:
        return _numbers(point, keys.exposure)
    if keys.monitor not in point.data:
        raise DataError(
            f"event {point.seq_num} has '{keys.counts}' but neither '{keys.exposure}' nor '{keys.monitor}'; "
            "mend: name the key of the exposure or of the monitor in Keys(...)"
        )
    transmission = _numbers(point, keys.transmission) if keys.transmission in point.data else 1.0
    return keys.per_monitor * _numbers(point, keys.monitor) * transmission


def _needed(point: Point, key: str, because: str) -> Any:
    if key not in point.data:
        raise DataError(
            f"event {point.seq_num} has '{because}' but no '{key}'; "
            "mend: read it in the same event, or name its key in Keys(...)"
        )
    return _numbers(point, key)


def _numbers(point: Point, key: str) -> FloatArray:
    value = point.data[key]
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    if array.dtype.kind not in "biuf" or not array.size:
        raise DataError(
            f"event {point.seq_num}: '{key}' holds {value!r:.40}, which is no number and no list of numbers; "
            "mend: read numbers under this key, or name another one in Keys(...)"
        )
    numbers = array.astype(np.float64)
    if bad := np.flatnonzero(~np.isfinite(numbers)).tolist():
        raise DataError(
            f"event {point.seq_num}: {key}[{bad[0]}] = {numbers.flat[bad[0]]} must be finite "
            f"({len(bad)} of {numbers.size}); mend: look at the detector: it may be saturated or disconnected"
        )
    return numbers


def _with_keys(told: Mapping[str, Any]) -> Technique:
    known = [each.name for each in fields(Keys)]
    if unknown := [name for name in told if name not in known]:
        raise ConfigError(f"keys: found '{unknown[0]}', which is none; mend: one of {', '.join(known)}")
    keys = Keys(**told)
    return replace(
        TECHNIQUE,
        frame_of=partial(frame_of, keys=keys),
        wanted=partial(wanted, keys=keys),
        keys=asdict(keys),
    )


TECHNIQUE = Technique(
    name="reflectometry",
    load=load,
    engine=Engine,
    frame_of=frame_of,
    wanted=wanted,
    hints=("target", "target_sigma", "chi2"),
    panels=panels,
    read_file=curve_run,
    for_file=covering,
    assumed=assumed,
    priors=priors,
    keys=asdict(Keys()),
    with_keys=_with_keys,
)


def reflectometry(
    config: Config | str | Path,
    *,
    keys: Keys | None = None,
    options: Options | None = None,
    name: str = "reflectometry",
) -> Analyzer:
    """A live analysis of reflectivity scans.

    Args:
        config: sample model and question, or the YAML file or text that holds them.
        keys: what the data are called at this beamline.
        options: executor, limits and file access.
        name: what plans submitted to a queue call this analysis.

    Raises:
        ConfigError: the configuration cannot be used; the message names the key and the mend.
    """
    loaded = config if isinstance(config, Config) else load(config)
    return Analyzer(TECHNIQUE.called(asdict(keys or Keys())), loaded, options, name=name)
