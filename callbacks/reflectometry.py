"""Reflectometry: events with q and counts, or with a reflectivity, to results with uncertainties."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skyloop.callbacks._analyzer import Analyzer
from skyloop.callbacks._options import Options
from skyloop.callbacks._technique import Technique
from skyloop.documents.frames import Point
from skyloop.engines.reflectometry import Config, Engine, Frame, panels
from skyloop.engines.reflectometry.config import load
from skyloop.errors import DataError
from skyloop.storage.curve_run import curve_run

__all__ = ["TECHNIQUE", "Keys", "frame_of", "reflectometry"]


@dataclass(frozen=True)
class Keys:
    """What the data are called in the events of a beamline.

    A point needs its q, and either counts with their exposure or a reflectivity with its sigma. Where no
    exposure is recorded it is `per_monitor * monitor * transmission`.
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


def frame_of(point: Point, keys: Keys | None = None) -> Frame | None:
    """The reflectivity points of a raw event; None when it holds none.

    Raises:
        DataError: the event holds some of what a point needs, but not all, or values that cannot be.
    """
    keys = keys or Keys()
    if point.stream != keys.stream:
        return None
    if keys.counts in point.data:
        return Frame.counted(
            _q(point, keys), point.data[keys.counts], _exposure(point, keys), _q_sigma(point, keys)
        )
    if keys.reflectivity in point.data:
        sigma = _needed(point, keys.reflectivity_sigma, keys.reflectivity)
        return Frame.measured(_q(point, keys), point.data[keys.reflectivity], sigma, _q_sigma(point, keys))
    return None


def _q(point: Point, keys: Keys) -> Any:
    if keys.q not in point.data and keys.wavelength and keys.two_theta in point.data:
        theta = np.deg2rad(np.asarray(point.data[keys.two_theta], dtype=np.float64)) / 2
        return 4 * np.pi / keys.wavelength * np.sin(theta)
    return _needed(point, keys.q, keys.counts if keys.counts in point.data else keys.reflectivity)


def _q_sigma(point: Point, keys: Keys) -> Any:
    return point.data.get(keys.q_sigma, 0.0)


def _exposure(point: Point, keys: Keys) -> Any:
    if keys.exposure in point.data:
        return point.data[keys.exposure]
    if keys.monitor not in point.data:
        raise DataError(
            f"event {point.seq_num} has '{keys.counts}' but neither '{keys.exposure}' nor '{keys.monitor}'; "
            "mend: name the key of the exposure or of the monitor in Keys(...)"
        )
    transmission = point.data.get(keys.transmission, 1.0)
    return keys.per_monitor * np.asarray(point.data[keys.monitor], dtype=np.float64) * transmission


def _needed(point: Point, key: str, because: str) -> Any:
    if key not in point.data:
        raise DataError(
            f"event {point.seq_num} has '{because}' but no '{key}'; "
            "mend: read it in the same event, or name its key in Keys(...)"
        )
    return point.data[key]


TECHNIQUE = Technique(
    name="reflectometry",
    load=load,
    engine=Engine,
    frame_of=frame_of,
    hints=("target", "target_sigma", "chi2"),
    panels=panels,
    read_file=curve_run,
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
    technique = replace(TECHNIQUE, frame_of=partial(frame_of, keys=keys)) if keys else TECHNIQUE
    return Analyzer(technique, loaded, options, name=name)
