"""Fluorescence spectra in an MDA file: which of its many arrays are spectra, times, rates and scalers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from skyloop.errors import DataError
from skyloop.quantities import FloatArray
from skyloop.storage._spectra import Calibration, Counts, Spectra, doubts, nothing, usable
from skyloop.storage.mda import Channel, Level, Mda

SCALERS: Mapping[str, str] = {
    "SRCURRENT": r"S:SRcurrentAI(\.VAL)?",
    "US_IC": r".*:scaler\d*_cts1\.B",
    "DS_IC": r".*:scaler\d*_cts1\.C",
}
"""Which process variable a scaler is, where nobody says: the names at the APS microprobes."""

# A multichannel scaler (mcs) counts pulses along a row, not photons by energy.
_SPECTRUM = re.compile(r"(?P<prefix>.*(?<!mcs:))mca(?P<number>\d+)(?:\.VAL)?", re.IGNORECASE)
_OF_DETECTOR = {
    "live_time": ("{prefix}mca{number}.ELTM",),
    "real_time": ("{prefix}mca{number}.ERTM",),
    "input_rate": ("{prefix}dxp{number}:InputCountRate", "{prefix}dxp{number}.ICR"),
    "output_rate": ("{prefix}dxp{number}:OutputCountRate", "{prefix}dxp{number}.OCR"),
}
_CALIBRATION = ("CALO", "CALS", "CALQ")


def spectra_of(mda: Mda, *, scalers: Mapping[str, str] | None = None) -> Spectra:
    """The spectra of an MDA file, one per pixel and detector.

    `scalers` names the process variable of each scaler, as a MAPS parameter file does; without it a few usual
    names are looked for. Pixels that the scan had not finished are NaN, and the notes count them.

    Raises:
        DataError: the file has no spectra, or not one pixel was finished.
    """
    matches = [(_SPECTRUM.fullmatch(d.name), d) for d in mda.levels[-1].detectors]
    found = [(match, d) for match, d in matches if match]
    if not found or mda.levels[-1].positioners:
        names = ", ".join(d.name for d in mda.levels[-1].detectors[:5]) or "nothing"
        raise DataError(
            f"{mda.source}: holds no spectra, its innermost scan reads {names}; "
            "mend: give the file of the detector (fly scans write spectra to a file of their own)"
        )
    counts = np.stack([d.values for _, d in found], axis=-2)
    counts = counts.reshape((1,) * (4 - counts.ndim) + counts.shape)
    finished = _finished(mda, counts.shape[:2])
    if not finished.any():
        raise DataError(f"{mda.source}: not one spectrum was finished; mend: give a file of a longer scan")
    counts[~finished] = np.nan
    notes = [*_progress(mda, finished), *_left_out(mda, len(found)), *doubts(counts)]
    pixel = mda.levels[-2] if len(mda.levels) > 1 else None
    words = [match.groupdict() for match, _ in found]
    timed = {name: _timed(name, pixel, words, counts, notes) for name in _OF_DETECTOR}
    x, y = _positions(mda, counts.shape[:2], notes)
    return Spectra(
        counts=counts,
        x=x[0],
        y=y[0],
        detectors=tuple(d.name.removesuffix(".VAL") for _, d in found),
        source=mda.source,
        **timed,
        scalers=_scalers(pixel, scalers, counts.shape[:2], notes),
        calibration=_calibration(mda, words, notes),
        x_unit=x[1],
        y_unit=y[1],
        notes=tuple(notes),
    )


def _finished(mda: Mda, pixels: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels whose spectrum is whole and whose row had gone on to the next point."""
    whole = mda.levels[-1].measured.reshape(pixels) == mda.levels[-1].points
    if len(mda.levels) == 1:
        return whole
    passed = np.arange(pixels[1]) < mda.levels[-2].measured.reshape(-1, 1)
    return whole & passed


def _progress(mda: Mda, finished: NDArray[np.bool_]) -> Iterator[str]:
    asked, done = math.prod(level.points for level in mda.levels[:-1]), int(finished.sum())
    if done < asked:
        yield f"the scan ended early: {done} of {asked} pixels are measured, the others left out or NaN"
    begun = int((mda.levels[-1].measured > 0).sum()) - done
    if begun:
        yield f"{begun} spectra left out: their pixels were not finished"


def _left_out(mda: Mda, spectra: int) -> Iterator[str]:
    others = len(mda.levels[-1].detectors) - spectra
    if others:
        yield f"{others} arrays beside the spectra left out: they are no spectra by their names"
    if len(mda.levels) > 1 and len(mda.levels[-2].positioners) > 1:
        moved = ", ".join(p.name for p in mda.levels[-2].positioners)
        yield f"the row moves {moved}: the first is taken as x"


def _timed(
    name: str, level: Level | None, words: list[dict[str, str]], counts: Counts, notes: list[str]
) -> FloatArray:
    """One value per pixel and detector, NaN for a detector without it, nothing when none has it."""
    known = {d.name: d for d in level.detectors} if level else {}
    rows = [next((known[n] for n in _named(name, w) if n in known), None) for w in words]
    missing = [w["number"] for w, row in zip(words, rows, strict=True) if row is None]
    if len(missing) == len(rows):
        notes.append(f"no {name.replace('_', ' ')} in this file")
        return nothing(counts.shape[:2])
    if missing:
        notes.append(f"no {name.replace('_', ' ')} of detector {', '.join(missing)}")
    blank = np.full(counts.shape[:2], np.nan)
    return np.stack([blank if r is None else _per_pixel(r, counts.shape[:2]) for r in rows], axis=-1)


def _named(name: str, words: dict[str, str]) -> list[str]:
    return [pattern.format(**words) for pattern in _OF_DETECTOR[name]]


def _per_pixel(channel: Channel, pixels: tuple[int, ...]) -> FloatArray:
    with np.errstate(invalid="ignore"):  # a damaged reading can be a signalling NaN: it stays a NaN
        return channel.values.astype(np.float64).reshape(pixels)


def _positions(
    mda: Mda, pixels: tuple[int, ...], notes: list[str]
) -> tuple[tuple[FloatArray, str], tuple[FloatArray, str]]:
    outer = mda.levels[-3] if len(mda.levels) > 2 else None
    inner = mda.levels[-2] if len(mda.levels) > 1 else None
    found: list[tuple[FloatArray, str]] = []
    for name, level, shape in (("x", inner, pixels), ("y", outer, (pixels[0], 1))):
        if level and level.positioners:
            values = level.positioners[0].values.astype(np.float64).reshape(shape)
            found.append((np.broadcast_to(values, pixels).copy(), level.positioners[0].unit))
        else:
            notes.append(f"no positions along {name} in this file")
            found.append((np.full(pixels, np.nan), ""))
    return found[0], found[1]


def _scalers(
    level: Level | None, given: Mapping[str, str] | None, pixels: tuple[int, ...], notes: list[str]
) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    patterns = SCALERS if given is None else {name: re.escape(pv) for name, pv in given.items()}
    for name, pattern in patterns.items():
        hits = [d for d in (level.detectors if level else ()) if re.fullmatch(pattern, d.name)]
        if len({d.name for d in hits}) == 1:
            found[name] = _per_pixel(hits[0], pixels)
            notes.extend([f"{name} is taken to be {hits[0].name}"] if given is None else [])
        elif hits:
            notes.append(f"{name} left out: {' and '.join(d.name for d in hits[:3])} may be meant")
        elif given is not None:
            notes.append(f"{name} left out: {given[name]} is not in this file")
    return found


def _calibration(mda: Mda, words: list[dict[str, str]], notes: list[str]) -> Calibration | None:
    """What the electronics were set to, when it is the same for every detector."""
    values = {extra.name: extra.value for extra in mda.extras}
    each = [_of_detector(values, f"{w['prefix']}mca{w['number']}") for w in words]
    if len(set(each)) == 1:
        return each[0]
    told = "; ".join(" ".join(f"{v:g}" for v in one) if one else "none" for one in each)
    notes.append(f"detectors are calibrated differently, none is taken [keV, keV/channel, ...]: {told}")
    return None


def _of_detector(values: Mapping[str, object], detector: str) -> Calibration | None:
    numbers: list[float] = []
    for name in _CALIBRATION:
        value = values.get(f"{detector}.{name}")
        if not isinstance(value, tuple) or len(value) != 1:  # pyright: ignore[reportUnknownArgumentType]
            return None
        numbers.append(float(value[0]))
    found = (numbers[0], numbers[1], numbers[2])
    return found if usable(found) else None
