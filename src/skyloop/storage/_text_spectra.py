"""Fluorescence spectra from text: Amptek .mca, SPEC with `@A`, .spe with `$DATA:`, a column of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from skyloop.errors import DataError
from skyloop.quantities import FloatArray
from skyloop.storage._spectra import Calibration, Spectra, doubts, nothing, usable
from skyloop.storage._text_lines import Line, joined, lines_of, numbers_in, scans_of

_PER_KEV = {"kev": 1.0, "ev": 1e-3, "mev": 1e3}
_MOST = 2**24


@dataclass(slots=True)
class _Found:
    """What a text says of its spectra; the rows are spectra, by point and within it by detector."""

    source: str
    rows: list[list[float]] = field(default_factory=list[list[float]])
    points: int = 1
    axis: tuple[int, int] = (0, 1)
    """First channel, and how many were added into one."""
    wanted: int = 0
    """How many channels the file says that it has; 0 when it does not say."""
    live: list[float] = field(default_factory=list[float])
    real: list[float] = field(default_factory=list[float])
    calibrations: list[Calibration] = field(default_factory=list[Calibration])
    scalers: dict[str, FloatArray] = field(default_factory=dict[str, FloatArray])
    notes: list[str] = field(default_factory=list[str])

    def spectra(self) -> Spectra:
        lengths = {len(row) for row in self.rows}
        if len(lengths) != 1:
            told = " and ".join(map(str, sorted(lengths)[:3])) or "no"
            raise DataError(f"{self.source}: spectra of {told} channels; mend: give spectra of one length")
        if self.wanted and lengths != {self.wanted}:
            raise DataError(
                f"{self.source}: {lengths.pop()} channels where {self.wanted} are told; "
                "mend: copy the file again, whole"
            )
        detectors = len(self.rows) // self.points
        counts = np.array(self.rows).reshape(1, self.points, detectors, -1)
        unknown = np.full((1, self.points), np.nan)
        return Spectra(
            counts=counts,
            x=unknown,
            y=unknown.copy(),
            detectors=tuple(f"mca{number}" for number in range(1, detectors + 1)),
            source=self.source,
            live_time=self._time(self.live, detectors),
            real_time=self._time(self.real, detectors),
            input_rate=nothing((1, self.points)),
            output_rate=nothing((1, self.points)),
            scalers=self.scalers,
            calibration=self._calibration(detectors),
            notes=(*self.notes, *doubts(counts)),
        )

    def _time(self, seconds: list[float], detectors: int) -> FloatArray:
        """Times by detector; the format gives them once for all points of a scan."""
        pixels = (1, self.points)
        if not seconds or not all(0 < s < math.inf for s in seconds):
            self.notes += ["a time that is not above 0 is left out"] if seconds else []
            return nothing(pixels)
        if len(seconds) not in (1, detectors):
            self.notes.append(f"times of {len(seconds)} detectors for {detectors} are left out")
            return nothing(pixels)
        return np.broadcast_to(np.array(seconds), (*pixels, detectors)).copy()

    def _calibration(self, detectors: int) -> Calibration | None:
        if not self.calibrations:
            return None
        told = "; ".join(" ".join(f"{v:g}" for v in one) for one in self.calibrations)
        if len(set(self.calibrations)) > 1 or len(self.calibrations) not in (1, detectors):
            self.notes.append(f"detectors are calibrated differently, none is taken: {told}")
            return None
        if not usable(self.calibrations[0]):
            self.notes.append(f"calibration left out, it is none: {told}")
            return None
        first, step = self.axis
        if self.axis != (0, 1):
            self.notes.append(
                f"channel 0 is channel {first} of the detector, {step} in one: calibration is so"
            )
        offset, slope, quadratic = self.calibrations[0]
        return (
            offset + slope * first + quadratic * first**2,
            (slope + 2 * quadratic * first) * step,
            quadratic * step**2,
        )


def amptek(source: str, text: str, dataset: int) -> Spectra:
    """The spectrum of an Amptek file: sections `<<NAME>>`, one number a line in `<<DATA>>`."""
    _only_one(source, dataset)
    found, section, ended = _Found(source), "", False
    row: list[float] = []
    pairs: list[tuple[float, float]] = []
    label = ""
    for number, line in lines_of(text):
        where = f"{source}, line {number}"
        if line.startswith("<<"):
            ended |= section == "<<DATA>>"
            section = line.rstrip()
        elif section == "<<DATA>>":
            row += numbers_in(where, line, most=1)
        elif section == "<<CALIBRATION>>" and line.upper().startswith("LABEL"):
            label = line.partition("-")[2].strip()
        elif section == "<<CALIBRATION>>":
            pairs.append(_pair(where, line))
        elif time := re.match(r"(LIVE|REAL)_TIME\s+-\s+(\S+)", line):
            (found.live if time[1] == "LIVE" else found.real).extend(numbers_in(where, time[2]))
    if not row or not ended:
        raise DataError(f"{source}: <<DATA>> ... <<END>> is not whole; mend: copy the file again")
    found.rows.append(row)
    found.calibrations += _fitted(pairs, label, found.notes)
    return found.spectra()


def spe(source: str, text: str, dataset: int) -> Spectra:
    """The spectrum of a file with sections `$NAME:`; `$DATA:` begins with its first and last channel."""
    _only_one(source, dataset)
    found, section = _Found(source), ""
    parts: dict[str, list[Line]] = {}
    for number, line in lines_of(text):
        if line.startswith("$"):
            section = line.split(":")[0].strip()
            if section == "$DATA" and section in parts:
                raise DataError(f"{source}, line {number}: a second $DATA:; mend: one spectrum a file")
            parts.setdefault(section, [])
        elif section:
            parts[section].append((number, line))
    row, first = _channels(source, parts.get("$DATA", []))
    found.rows.append(row)
    found.axis = first, 1
    for number, line in parts.get("$MEAS_TIM", [])[:1]:
        times = numbers_in(f"{source}, line {number}", line)
        found.live, found.real = times[:1], times[1:2]
    found.calibrations += _spe_calibration(source, parts)
    return found.spectra()


def spec(source: str, text: str, dataset: int) -> Spectra:
    """Spectra of one scan of a SPEC file: blocks `@A`, with `#@CALIB` and `#@CTIME` for each detector."""
    scans = [scan for scan in scans_of(text) if any(line.startswith("@A") for _, line in scan)]
    if not 1 <= dataset <= len(scans):
        raise DataError(
            f"{source}: holds {len(scans)} scans with spectra, not number {dataset}; "
            f"mend: give a dataset from 1 to {len(scans)} (--dataset)"
        )
    found = _Found(source)
    if len(scans) > 1:
        found.notes.append(f"this file holds {len(scans)} scans with spectra: number {dataset} is read")
    columns, labels = list[list[float]](), list[str]()
    for number, line in joined(source, scans[dataset - 1]):
        where = f"{source}, line {number}"
        if line.startswith("@A"):
            found.rows.append(numbers_in(where, line[2:]))
        elif line.startswith("#@CALIB"):
            found.calibrations.append(_three(numbers_in(where, line[7:])))
        elif line.startswith("#@CHANN"):
            _check_axis(found, where, numbers_in(where, line[7:]))
        elif line.startswith("#@CTIME"):
            times = numbers_in(where, line[7:])
            found.live += times[1:2]
            found.real += times[2:3]
        elif line.startswith("#L"):
            labels = re.split(r"\s{2,}", line[2:].strip())
        elif not line.startswith(("#", "@")):
            columns.append(numbers_in(where, line))
    found.points = max(len(columns), 1)
    if len(found.rows) % found.points:
        raise DataError(
            f"{source}: {len(found.rows)} spectra for {found.points} points; mend: copy the file again"
        )
    if found.points > 1 and found.live:
        found.notes.append(f"times in the head of the scan are taken for each of {found.points} points")
    _name_columns(found, columns, labels)
    return found.spectra()


def column(source: str, text: str, dataset: int) -> Spectra:
    """The spectrum of a text with one number a line and remarks after #."""
    _only_one(source, dataset)
    found = _Found(source)
    found.rows.append([])
    for number, line in lines_of(text):
        if not line.startswith("#"):
            found.rows[0] += numbers_in(f"{source}, line {number}", line, most=1)
    return found.spectra()


def reader_of(text: str) -> Callable[[str, str, int], Spectra] | None:
    """Which of these reads a text, told by what stands in it."""
    first = next((line for _, line in lines_of(text) if not line.startswith("#")), "")
    if first.startswith("<<"):
        return amptek
    if first.startswith("$"):
        return spe
    if re.search(r"^@A", text, re.MULTILINE):
        return spec
    return column if re.fullmatch(r"[-+.\dEe]+", first) else None


def _only_one(source: str, dataset: int) -> None:
    if dataset != 1:
        raise DataError(f"{source}: holds 1 dataset, not number {dataset}; mend: leave it at 1 (--dataset)")


def _pair(where: str, line: str) -> tuple[float, float]:
    values = numbers_in(where, line)
    if len(values) != 2:
        raise DataError(f"{where}: found {line!r:.60}; mend: give a channel and its energy")
    return values[0], values[1]


def _three(values: Sequence[float], factor: float = 1.0) -> Calibration:
    """Offset, slope and quadratic term; NaN when there are fewer or more numbers than that."""
    if len(values) not in (2, 3):
        return math.nan, math.nan, math.nan
    return values[0] * factor, values[1] * factor, (values[2] * factor if len(values) > 2 else 0.0)


def _fitted(pairs: list[tuple[float, float]], label: str, notes: list[str]) -> list[Calibration]:
    """The straight line through pairs of channel and energy, from the origin when there is one pair only."""
    if not pairs:
        return []
    notes.append(f"calibrated by the {len(pairs)} points of the file, energies in {label or 'keV'}")
    factor = _PER_KEV.get(label.lower(), 1.0)
    if factor == 1.0 and label.lower() != "kev":
        notes[-1] += ", taken as keV"
    channel, energy = np.array([(0.0, 0.0), *pairs] if len(pairs) == 1 else pairs).T
    centred = channel - channel.mean()
    spread = float(centred @ centred)
    slope = float(centred @ energy) / spread if spread > 0 else math.nan
    return [_three([float(energy.mean() - slope * channel.mean()), slope], factor)]


def _channels(source: str, lines: list[Line]) -> tuple[list[float], int]:
    """Counts of a `$DATA:` section and its first channel."""
    limits = numbers_in(f"{source}, line {lines[0][0]}", lines[0][1]) if lines else []
    if len(limits) != 2 or not 0 <= limits[0] <= limits[1] < _MOST:
        raise DataError(f"{source}: no first and last channel after $DATA:; mend: copy the file again, whole")
    counts = [value for number, line in lines[1:] for value in numbers_in(f"{source}, line {number}", line)]
    wanted = int(limits[1]) - int(limits[0]) + 1
    if len(counts) != wanted:
        raise DataError(
            f"{source}: {len(counts)} counts for {wanted} channels; mend: copy the file again, whole"
        )
    return counts, int(limits[0])


def _spe_calibration(source: str, parts: dict[str, list[Line]]) -> list[Calibration]:
    """From `$MCA_CAL:` (how many, then the coefficients and their unit), else `$ENER_FIT:`."""
    lines = parts.get("$MCA_CAL", [])[1:2] or parts.get("$ENER_FIT", [])[:1]
    if not lines:
        return []
    number, line = lines[0]
    words = line.split()
    unit = words.pop().lower() if words[-1].lower() in _PER_KEV else "kev"
    return [_three(numbers_in(f"{source}, line {number}", " ".join(words)), _PER_KEV[unit])]


def _check_axis(found: _Found, where: str, values: list[float]) -> None:
    """Of `#@CHANN`: how many channels, the first, the last, and how many were added into one."""
    if len(values) != 4 or values[3] < 1:
        raise DataError(f"{where}: found {values}; mend: give number, first, last and reduction")
    axis = int(values[1]), int(values[3])
    if found.wanted and (found.wanted, *found.axis) != (int(values[0]), *axis):
        raise DataError(f"{where}: differs from the detector before; mend: give detectors of equal channels")
    found.wanted, found.axis = int(values[0]), axis


def _name_columns(found: _Found, columns: list[list[float]], labels: list[str]) -> None:
    if not columns:
        return
    if {len(row) for row in columns} != {len(labels)} or len(set(labels)) != len(labels):
        found.notes.append("columns of the scan left out: they do not fit their labels")
        return
    found.notes.append("columns of the scan are kept as scalers, positions among them")
    for label, values in zip(labels, np.array(columns).T, strict=True):
        found.scalers[label] = values.reshape(1, -1)
