"""A measured curve from a file as a raw run, so that files and scans are analysed by the same code."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray

from skyloop.documents.run import NamedDocument
from skyloop.errors import ConfigError, DataError
from skyloop.quantities import FloatArray, quantities
from skyloop.storage.curves import Curve, CurveFile

__all__ = ["CurveOptions", "curve_run"]

_FWHM = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True, slots=True)
class CurveOptions:
    """What the user says of a file that the file does not say itself.

    Raises:
        ConfigError: a relative number is none between 0 and 1.
    """

    fwhm: bool = False
    """The resolution column of a plain text file is a full width at half maximum, not one sigma."""
    relative_resolution: float = 0.0
    """Resolution dq/q as full width at half maximum; above 0 it stands in place of that in the file."""
    relative_sigma: float = 0.0
    """Relative standard deviation of the reflectivity; above 0 it stands in place of that in the file."""
    q_min: float = 0.0
    """Lowest q to use [1/angstrom]."""
    q_max: float = float("inf")
    """Highest q to use [1/angstrom]."""
    dataset: int = 1
    """Which dataset of an ORSO file, from 1."""

    def __post_init__(self) -> None:
        for name in ("relative_resolution", "relative_sigma"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(
                    f"{name} (--{name.replace('_', '-')}): found {value:g}; "
                    "mend: give a fraction from 0 to 1, such as 0.1 for 10 %"
                )


def curve_run(path: Path, options: CurveOptions) -> tuple[list[NamedDocument], tuple[str, ...]]:
    """Documents of a raw run that holds the curve of a file in one event, and notes on it, one line each.

    The notes say what was left out and what was assumed. The uid follows from the content of the file and
    the options, so the same file gives the same run.

    Raises:
        DataError: the file cannot be read, or lacks what the options do not supply.
    """
    file = CurveFile.read(path)
    stored = file.curve(dataset=options.dataset, fwhm=options.fwhm)
    curve = _plausible(path, _completed(stored, path, options))
    chosen, left_out = _chosen(curve, options)
    if not len(chosen):
        told = " and ".join(left_out)
        raise DataError(f"{path}: no point can be used: {told}; mend: check columns and q_min, q_max")
    notes = _of_file(stored, options, len(file.orso)) + [f"left out: {what}" for what in left_out]
    return _documents(file, chosen, options), (*notes, *_assumed(stored, chosen, options))


def _of_file(stored: Curve, options: CurveOptions, datasets: int) -> list[str]:
    """Which of its datasets is analysed, and what was said of the file and has no meaning there."""
    notes: list[str] = []
    if datasets > 1:
        notes.append(
            f"this file holds {datasets} datasets: number {options.dataset} is analysed; "
            "dataset chooses another (--dataset)"
        )
    if options.fwhm and datasets:
        notes.append("fwhm (--fwhm) changes nothing: an ORSO file says itself what its resolution is")
    elif options.fwhm and not stored.q_sigma.any():
        notes.append("fwhm (--fwhm) changes nothing: this file has no resolution")
    return notes


def _completed(curve: Curve, path: Path, options: CurveOptions) -> Curve:
    if options.relative_sigma > 0:
        curve = replace(curve, reflectivity_sigma=options.relative_sigma * np.abs(curve.reflectivity))
    elif np.isnan(curve.reflectivity_sigma).all():
        raise DataError(
            f"{path}: has no column with the error of the reflectivity; "
            "mend: give relative_sigma, such as 0.05 or another honest relative error (--relative-sigma)"
        )
    if options.relative_resolution > 0:
        curve = replace(curve, q_sigma=curve.q * options.relative_resolution / _FWHM)
    return curve


def _assumed(stored: Curve, chosen: Curve, options: CurveOptions) -> list[str]:
    """What the numbers rest on that the file does not say."""
    notes: list[str] = []
    if options.relative_sigma > 0:
        had_none = bool(np.isnan(stored.reflectivity_sigma).all())
        instead = "no uncertainty in this file" if had_none else "uncertainty of the file not used"
        notes.append(f"{instead}: taken as {100 * options.relative_sigma:g} % of R")
    has_resolution = bool(stored.q_sigma.any())
    if options.relative_resolution > 0:
        instead = "resolution of the file not used" if has_resolution else "no resolution in this file"
        notes.append(f"{instead}: dq/q taken as {100 * options.relative_resolution:g} % (full width)")
    elif not chosen.q_sigma.any():
        notes.append("no resolution in this file: taken as 0")
    return notes


def _plausible(path: Path, curve: Curve) -> Curve:
    negative = int((curve.reflectivity < 0).sum())
    if negative > len(curve) / 2:
        raise DataError(
            f"{path}: {negative} of {len(curve)} reflectivities are negative, as logarithms are; "
            "mend: give the reflectivity itself"
        )
    return curve


def _chosen(curve: Curve, options: CurveOptions) -> tuple[Curve, list[str]]:
    """The points that can be used, each once, and how many were left out for what reason."""
    columns = np.column_stack([getattr(curve, f.name) for f in fields(Curve)])
    faults = {
        "with NaN or infinity": ~np.isfinite(columns).all(axis=1),
        "without a positive q": ~(curve.q > 0),
        "outside the range of q": ~((curve.q >= options.q_min) & (curve.q <= options.q_max)),
        "without a positive error": ~(curve.reflectivity_sigma > 0),
        "with a negative resolution": curve.q_sigma < 0,
    }
    usable, left_out = np.ones(len(curve), dtype=np.bool_), list[str]()
    for what, wrong in faults.items():
        left_out += _counted(int((usable & wrong).sum()), f"point{{s}} {what}")
        usable &= ~wrong
    once = _once(columns, usable)
    left_out += _counted(int((usable & ~once).sum()), "row{s} identical to an earlier one")
    return _masked(curve, once), left_out


def _counted(count: int, what: str) -> list[str]:
    return [f"{count} {what.format(s='' if count == 1 else 's')}"] if count else []


def _once(columns: FloatArray, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # a point measured again scatters: rows that agree in every digit are one measurement, written twice
    at = np.flatnonzero(usable)
    _, first = np.unique(columns[at], axis=0, return_index=True)
    once = np.zeros_like(usable)
    once[at[first]] = True
    return once


def _masked(curve: Curve, mask: NDArray[np.bool_]) -> Curve:
    return Curve(**{f.name: getattr(curve, f.name)[mask] for f in fields(Curve)})


def _canonical(options: CurveOptions) -> CurveOptions:
    """Options that print alike when they are equal: 0, 0.0 and -0.0 are one number."""
    values: dict[str, Any] = {
        f.name: type(f.default)(getattr(options, f.name) or 0) for f in fields(CurveOptions)
    }
    return CurveOptions(**values)


def _documents(file: CurveFile, curve: Curve, options: CurveOptions) -> list[NamedDocument]:
    path, when = file.path, file.modified
    uid = str(uuid5(NAMESPACE_URL, f"skyloop:curve|{file.sha256}|{_canonical(options)}"))
    data = {f.name: getattr(curve, f.name).tolist() for f in fields(Curve)}
    start = {
        "uid": uid,
        "time": when,
        "plan_name": "file",
        "scan_id": 1,
        "file": path.name,
        "sha256": file.sha256,
    }
    event = {
        "uid": _uid_of(uid, "event"),
        "descriptor": _uid_of(uid, "descriptor"),
        "time": when,
        "seq_num": 1,
    }
    event |= {"data": data, "timestamps": dict.fromkeys(data, when), "filled": {}}
    stop = {
        "uid": _uid_of(uid, "stop"),
        "run_start": uid,
        "time": when,
        "exit_status": "success",
        "reason": "",
    }
    return [
        ("start", start),
        ("descriptor", _descriptor(uid, when, path, len(curve))),
        ("event", event),
        ("stop", stop | {"num_events": {"primary": 1}}),
    ]


def _uid_of(run: str, what: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{run}|{what}"))


def _descriptor(uid: str, when: float, path: Path, points: int) -> dict[str, Any]:
    keys = {
        name: {
            "source": f"file:{path.name}",
            "dtype": "array",
            "dtype_numpy": "<f8",
            "shape": [points],
            "dims": list(quantity.dims),
            "units": quantity.unit,
        }
        for name, (_, quantity) in quantities(Curve).items()
    }
    return {
        "uid": _uid_of(uid, "descriptor"),
        "run_start": uid,
        "time": when,
        "name": "primary",
        "data_keys": keys,
        "object_keys": {"file": list(keys)},
        "configuration": {"file": {"data": {}, "timestamps": {}, "data_keys": {}}},
        "hints": {"file": {"fields": ["reflectivity"]}},
    }
