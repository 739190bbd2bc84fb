"""A measured curve from a file as a raw run, so that files and scans are analysed by the same code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray

from skyloop.errors import DataError
from skyloop.quantities import quantities
from skyloop.storage.curves import Curve, read_curve

__all__ = ["CurveOptions", "curve_run"]

_FWHM = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True, slots=True)
class CurveOptions:
    """What the user says of a file that the file does not say itself."""

    fwhm: bool = False
    """The resolution column of a plain text file is a full width at half maximum, not one sigma."""
    relative_resolution: float = 0.0
    """Resolution dq/q as full width at half maximum, for a file without a resolution column."""
    relative_sigma: float = 0.0
    """Relative standard deviation of the reflectivity, for a file without that column."""
    q_min: float = 0.0
    """Lowest q to use [1/angstrom]."""
    q_max: float = float("inf")
    """Highest q to use [1/angstrom]."""


def curve_run(path: Path, options: CurveOptions) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """Documents of a raw run that holds the curve of a file in one event, and what was left out.

    The uid follows from the content of the file and the options, so the same file gives the same run.

    Raises:
        DataError: the file cannot be read, or lacks what the options do not supply.
    """
    curve = _plausible(path, _completed(read_curve(path, fwhm=options.fwhm), path, options))
    chosen, left_out = _chosen(curve, options)
    if not len(chosen):
        raise DataError(f"{path}: no point can be used: {left_out}; mend: check columns and q_min, q_max")
    return _documents(path, chosen, options), left_out


def _completed(curve: Curve, path: Path, options: CurveOptions) -> Curve:
    if np.isnan(curve.reflectivity_sigma).all():
        if not options.relative_sigma > 0:
            raise DataError(
                f"{path}: has no column with the error of the reflectivity; "
                "mend: --relative-sigma 0.05, or another honest relative error"
            )
        curve = replace(curve, reflectivity_sigma=options.relative_sigma * np.abs(curve.reflectivity))
    if options.relative_resolution > 0:
        curve = replace(curve, q_sigma=curve.q * options.relative_resolution / _FWHM)
    return curve


def _plausible(path: Path, curve: Curve) -> Curve:
    negative = int((curve.reflectivity < 0).sum())
    if negative > len(curve) / 2:
        raise DataError(
            f"{path}: {negative} of {len(curve)} reflectivities are negative, as logarithms are; "
            "mend: give the reflectivity itself"
        )
    return curve


def _chosen(curve: Curve, options: CurveOptions) -> tuple[Curve, str]:
    inside = (curve.q >= options.q_min) & (curve.q <= options.q_max)
    usable = (
        (curve.q > 0)
        & np.isfinite(curve.reflectivity)
        & (curve.reflectivity_sigma > 0)
        & np.isfinite(curve.reflectivity_sigma)
        & np.isfinite(curve.q_sigma)
    )
    outside, unusable = int((~inside).sum()), int((inside & ~usable).sum())
    notes = [f"{outside} points outside the range of q"] if outside else []
    notes += [f"{unusable} points without a positive q, a number or a positive error"] if unusable else []
    return _masked(curve, inside & usable), " and ".join(notes)


def _masked(curve: Curve, mask: NDArray[np.bool_]) -> Curve:
    return Curve(**{f.name: getattr(curve, f.name)[mask] for f in fields(Curve)})


def _documents(path: Path, curve: Curve, options: CurveOptions) -> list[tuple[str, dict[str, Any]]]:
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    uid, when = str(uuid5(NAMESPACE_URL, f"skyloop:curve|{sha}|{options}")), path.stat().st_mtime
    data = {f.name: getattr(curve, f.name).tolist() for f in fields(Curve)}
    start = {"uid": uid, "time": when, "plan_name": "file", "scan_id": 1, "file": path.name, "sha256": sha}
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
