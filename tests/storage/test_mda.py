"""MDA files: what is known of a real one, what a small writer wrote, and every way to break them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit

from skyloop.errors import DataError
from skyloop.storage.mda import read_mda
from skyloop.storage.spectra import read_spectra, spectra_of

Described = tuple[str, np.ndarray]


def _int(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


def _text(word: str) -> bytes:
    raw = word.encode()
    return _int(len(raw), len(raw)) + raw + b"\0" * (-len(raw) % 4) if raw else _int(0)


class Writer:
    """Writes MDA as the control system does: nested scans of which each may have ended early."""

    def __init__(self, shape: Sequence[int], measured: dict[tuple[int, ...], int] | None = None) -> None:
        self.shape, self.measured = tuple(shape), measured or {}
        self.values = np.random.default_rng(20160809)

    def file(self, *, extras: bytes = b"", version: float = 1.3) -> bytes:
        head = struct.pack(">f", version) + _int(7, len(self.shape), *self.shape, 1, 0)
        content = self._scan(len(head), ())
        pointer = len(head) + len(content) if extras else 0
        return head[:-4] + _int(pointer) + content + extras

    def started(self, index: tuple[int, ...]) -> int:
        """Points begun: those measured, and one more that has inner scans written down for it."""
        inner = [k[len(index)] + 1 for k in self.measured if k[: len(index)] == index and len(k) > len(index)]
        return max([self.done(index), *inner])

    def done(self, index: tuple[int, ...]) -> int:
        return self.measured.get(index, self.shape[len(index)])

    def _scan(self, start: int, index: tuple[int, ...]) -> bytes:
        rank, points = len(self.shape) - len(index), self.shape[len(index)]
        positioners, detectors = self.channels(rank)
        head = _int(rank, points, self.done(index))
        pointers = points if rank > 1 else 0
        tail = _text(f"sim:scan{rank}") + _text("AUG 09, 2016") + _int(len(positioners), len(detectors), 1)
        for name in positioners:
            tail += _int(0) + b"".join(map(_text, (name, "", "LINEAR", "mm", "", "", "")))
        for name in detectors:
            tail += _int(0) + b"".join(map(_text, (name, "counter", "cps")))
        tail += _int(0) + _text("sim:go") + struct.pack(">f", 1.0)
        for i in range(len(positioners)):
            tail += position(i, index, points).astype(">f8").tobytes()
        for i in range(len(detectors)):
            tail += reading(i, index, points).astype(">f4").tobytes()
        at = start + len(head) + 4 * pointers + len(tail)
        inner: list[bytes] = []
        offsets = [0] * pointers
        for i in range(min(self.started(index), pointers)):
            offsets[i] = at
            inner.append(self._scan(at, (*index, i)))
            at += len(inner[-1])
        return head + _int(*offsets) + tail + b"".join(inner)

    def channels(self, rank: int) -> tuple[list[str], list[str]]:
        if rank == 1:
            return [], ["sim:mca1.VAL", "sim:mca2.VAL"]
        return [f"sim:m{rank}.VAL"], [] if rank == 3 else ["sim:ic", "sim:mca1.ELTM"]


def position(which: int, index: tuple[int, ...], points: int) -> np.ndarray:
    return 10.0 * which + sum(index) + 0.1 * np.arange(points)


def reading(which: int, index: tuple[int, ...], points: int) -> np.ndarray:
    return 100.0 * which + 7 * sum((i + 1) * 10**k for k, i in enumerate(index)) + np.arange(points)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "scan.mda"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def axo(shared_data: Path) -> Path:
    return shared_data / "xrf" / "axo_std.mda"


def test_real_map_has_the_known_counts(axo: Path) -> None:
    spectra = read_spectra(axo)
    assert spectra.counts.shape == (11, 11, 4, 2000)
    assert spectra.counts.dtype == np.float32
    assert spectra.counts.sum(axis=(0, 1, 3), dtype=np.float64).tolist() == [895788, 844397, 593359, 696070]
    summed = spectra.counts[:, :, 0].sum(axis=(0, 1))
    assert np.flatnonzero(summed)[[0, -1]].tolist() == [78, 1997]
    per_pixel = spectra.counts[:, :, 0].sum(axis=-1, dtype=np.float64)
    assert (per_pixel.min(), per_pixel.max()) == (7010, 7987)
    assert per_pixel.mean() == pytest.approx(7403, rel=1e-3)
    assert spectra.counts.max() == 88


def test_real_map_has_the_known_lines(axo: Path) -> None:
    summed = read_spectra(axo).counts.sum(axis=(0, 1), dtype=np.float64)
    known = {3.6905: 385.3, 6.3996: 667.7, 8.0413: 839.6}
    found = [_centroid(summed[0], round(channel)) for channel in known.values()]
    assert found == pytest.approx(list(known.values()), abs=0.5)
    for detector, slope in enumerate((9.58, 9.60, 9.71, 9.65)):
        guess = np.array(list(known)) / slope * 1e3
        centroids = [_centroid(summed[detector], round(channel)) for channel in guess]
        fitted, offset = np.polyfit(centroids, list(known), 1) * 1e3
        assert fitted == pytest.approx(slope, abs=0.03)
        assert abs(offset) < 15


def _centroid(counts: np.ndarray, near: int) -> float:
    """Of a Gaussian on a straight line, within 9 channels of itself."""

    def shape(c: Any, height: float, offset: float, width: float, level: float, tilt: float) -> Any:
        return height * np.exp(-0.5 * ((c - offset) / width) ** 2) + level + tilt * c

    centre = near - 10 + int(counts[near - 10 : near + 11].argmax())
    around, offset = np.arange(-9, 10), 0.0
    for _ in range(5):
        part = counts[centre + around]
        offset = curve_fit(shape, around, part, p0=[np.ptp(part), 0.0, 6.0, part.min(), 0.0])[0][1]
        if abs(offset) <= 1:
            break
        centre += round(offset)
    return centre + float(offset)


def test_real_map_has_the_known_scalars(axo: Path) -> None:
    spectra = read_spectra(axo)
    means = {name: values.mean() for name, values in spectra.scalers.items()}
    assert means == pytest.approx({"SRCURRENT": 102.08, "US_IC": 312815, "DS_IC": 266136}, rel=1e-4)
    assert spectra.live_time.mean(axis=(0, 1)) == pytest.approx([0.8663, 0.8673, 0.8707, 0.8726], abs=1e-4)
    assert spectra.real_time.mean(axis=(0, 1)) == pytest.approx([1.0075, 1.0050, 1.0060, 1.0070], abs=1e-4)
    rates = spectra.input_rate[..., 0].mean(), spectra.output_rate[..., 0].mean()
    assert rates == pytest.approx((7575, 7394), abs=1)
    assert spectra.x[0] == pytest.approx(-1.36647 + 0.1 * np.arange(11), abs=1e-5)
    assert spectra.y[:, 0] == pytest.approx(2.742 + 0.1 * np.arange(11), abs=1e-5)
    assert (spectra.x_unit, spectra.y_unit) == ("mm", "mm")
    assert spectra.calibration is None
    assert any("0.0501 0.0094 0" in note for note in spectra.notes)


def test_real_map_has_its_extra_values(axo: Path) -> None:
    extras = {extra.name: extra for extra in read_mda(axo).extras}
    assert len(read_mda(axo).extras) == 843
    assert extras["2xfm:A1sens_unit.VAL"].value == "nA/V"
    assert extras["2xfm:saveData_scanNumber"].value == (2,)
    assert extras["dxpXMAP2xfm3:mca1.CALS"].value == (0.0094,)
    assert (extras["2xfm:m23.VAL"].value, extras["2xfm:m23.VAL"].unit) == ((0.5,), "mm")


def test_scalers_can_be_named(axo: Path) -> None:
    spectra = spectra_of(read_mda(axo), scalers={"I0": "2xfm:scaler3_cts1.B", "none": "2xfm:absent"})
    assert list(spectra.scalers) == ["I0"]
    assert any("none left out: 2xfm:absent is not in this file" in note for note in spectra.notes)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_what_was_written_comes_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mda = read_mda(written(tmp_path, Writer(shape).file()))
    assert (mda.version, mda.number, mda.dims, mda.extras) == (1.3, 7, shape, ())
    for depth, level in enumerate(mda.levels):
        assert level.points == shape[depth]
        assert (level.measured == shape[depth]).all()
        for index in np.ndindex(*shape[:depth]):
            for i, channel in enumerate(level.positioners):
                assert np.array_equal(channel.values[index], position(i, index, shape[depth]))
            for i, channel in enumerate(level.detectors):
                assert np.array_equal(channel.values[index], reading(i, index, shape[depth]))


@pytest.mark.parametrize(
    ("shape", "expected"), [((5,), (1, 1, 2, 5)), ((3, 5), (1, 3, 2, 5)), ((2, 3, 5), (2, 3, 2, 5))]
)
def test_spectra_are_rows_of_pixels_whatever_the_rank(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    spectra = read_spectra(written(tmp_path, Writer(shape).file()))
    assert spectra.counts.shape == expected
    assert spectra.detectors == ("sim:mca1", "sim:mca2")
    assert np.isnan(spectra.y).all() == (len(shape) < 3)
    assert spectra.real_time.size == 0
    if len(shape) > 1:
        assert np.isfinite(spectra.live_time[..., 0]).all()
        assert np.isnan(spectra.live_time[..., 1]).all()
        assert "no live time of detector 2" in spectra.notes


def test_points_never_measured_are_nan_and_rows_never_begun_are_absent(tmp_path: Path) -> None:
    """Ten rows asked for, two done, in the third row two pixels done and a third one begun."""
    writer = Writer((10, 4, 5), {(): 2, (2,): 2, (2, 2): 1})
    path = written(tmp_path, writer.file())
    mda = read_mda(path)
    assert mda.dims == (10, 4, 5)
    assert mda.levels[0].measured == 2
    assert mda.levels[1].measured.tolist() == [4, 4, 2]
    assert mda.levels[2].measured.tolist() == [[5] * 4, [5] * 4, [5, 5, 1, 0]]
    assert np.isnan(mda.levels[0].positioners[0].values).tolist() == [False, False, True]
    assert np.isnan(mda.levels[1].detectors[0].values).sum() == 2
    spectra = read_spectra(path)
    assert spectra.counts.shape == (3, 4, 2, 5)
    unmeasured = np.isnan(spectra.counts).all(axis=(2, 3))
    assert np.argwhere(unmeasured).tolist() == [[2, 2], [2, 3]]
    assert np.isnan(spectra.counts).sum() == 2 * 2 * 5
    assert "the scan ended early: 10 of 40 pixels are measured, the others left out or NaN" in spectra.notes
    assert "1 spectra left out: their pixels were not finished" in spectra.notes


def test_early_end_of_a_huge_map_is_read(tmp_path: Path) -> None:
    """10^8 pixels asked for would take 4 GB; three of them were measured."""
    spectra = read_spectra(written(tmp_path, Writer((10_000, 10_000, 5), {(): 0, (0,): 3, (0, 2): 5}).file()))
    assert spectra.counts.shape == (1, 3, 2, 5)
    assert np.isfinite(spectra.counts).all()


def test_scan_without_one_finished_spectrum_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, Writer((3, 4, 5), {(): 0, (0,): 0, (0, 0): 2}).file())
    with pytest.raises(DataError, match="not one spectrum was finished"):
        read_spectra(path)


def test_every_kind_of_extra_value_comes_back(tmp_path: Path) -> None:
    head = _text("pv") + _text("what")
    extras = _int(6)
    extras += head + _int(0) + _text("word")
    extras += head + _int(32, 4) + _text("") + _int(*b"ab\0c")
    extras += head + _int(29, 1) + _text("mm") + _int(-3)
    extras += head + _int(33, 2) + _text("") + _int(1, 2)
    extras += head + _int(30, 1) + _text("") + struct.pack(">f", 0.5)
    extras += head + _int(34, 1) + _text("") + struct.pack(">d", 0.1)
    found = read_mda(written(tmp_path, Writer((2, 3)).file(extras=extras))).extras
    assert [extra.value for extra in found] == ["word", "ab", (-3,), (1, 2), (0.5,), (0.1,)]
    assert found[2].unit == "mm"


def test_units_of_older_systems_are_read(tmp_path: Path) -> None:
    content = Writer((2, 3)).file().replace(_text("cps"), _int(3, 2) + "µm".encode("latin-1") + b"\0\0")
    assert read_mda(written(tmp_path, content)).levels[0].detectors[0].unit == "µm"


def test_one_scan_that_reads_something_else_is_refused(tmp_path: Path) -> None:
    content = Writer((2, 3)).file()
    last = content.rindex(b"sim:mca2.VAL")
    path = written(tmp_path, content[:last] + b"sim:mca3.VAL" + content[last + 12 :])
    with pytest.raises(DataError, match=r"\(2,\) has other points"):
        read_mda(path)


def test_scalars_along_a_line_are_no_spectra(tmp_path: Path) -> None:
    content = (
        Writer((3, 5)).file().replace(b"sim:mca1.VAL", b"mcs:mca1.VAL").replace(b"sim:mca2.V", b"sim:ic22.V")
    )
    with pytest.raises(DataError, match=r"innermost scan reads mcs:mca1\.VAL, sim:ic22\.VAL; mend"):
        read_spectra(written(tmp_path, content))


def test_counts_that_nobody_counted_are_told(tmp_path: Path) -> None:
    content = bytearray(Writer((1, 3)).file())
    content[-12:-4] = struct.pack(">2f", -1.0, np.inf)
    notes = read_spectra(written(tmp_path, bytes(content))).notes
    assert "1 channels hold negative counts: kept as they are" in notes
    assert "1 channels hold infinite counts: kept as they are" in notes


def test_file_cut_short_anywhere_is_refused(axo: Path, tmp_path: Path) -> None:
    content = axo.read_bytes()
    cuts = np.random.default_rng(0).integers(0, len(content), 200)
    for cut in [*map(int, cuts), 0, 3, 4, 31, len(content) - 1]:
        with pytest.raises(DataError, match=r"byte \d+ of \d+: .*mend"):
            read_mda(written(tmp_path, content[:cut]))


def test_damaged_file_is_read_or_refused(tmp_path: Path) -> None:
    content = Writer((3, 4, 5)).file(extras=_int(1) + _text("pv") + _text("") + _int(34, 1, 0) + b"\0" * 8)
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(1000):
        broken = bytearray(content)
        for bit in random.integers(0, 8 * len(content), random.integers(1, 4)):
            broken[bit // 8] ^= 1 << int(bit % 8)
        try:
            read_spectra(written(tmp_path, bytes(broken)))
        except DataError:
            refused += 1
    assert 100 < refused < 1000


def test_damaged_real_file_is_read_or_refused(axo: Path, tmp_path: Path) -> None:
    content = axo.read_bytes()
    random = np.random.default_rng(2)
    places = [*random.integers(0, 12000, 60), *random.integers(3_986_160, len(content), 30)]
    outcomes: set[bool] = set()
    for place in map(int, places):
        broken = (
            content[:place] + bytes([content[place] ^ (1 << int(random.integers(8)))]) + content[place + 1 :]
        )
        try:
            outcomes.add(read_spectra(written(tmp_path, broken)).counts.size > 0)
        except DataError:
            outcomes.add(False)
    assert outcomes == {True, False}


def _head(*after: int) -> bytes:
    return struct.pack(">f", 1.3) + _int(*after)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_head(1, 1, 9, 1, 0, 1, 2**31 - 1, 0, 0, 0, 0, 2**31 - 1, 0), id="detectors"),
        pytest.param(_head(1, 2**31 - 1), id="rank"),
        pytest.param(_head(1, 2, 9, 9, 1, 0, 2, 2**31 - 1, 2**31 - 1), id="pointers"),
        pytest.param(_head(1, 1, 9, 1, 0, 1, 2**31 - 1, 2**31 - 1, 0, 0, 0, 0, 0), id="points of nothing"),
        pytest.param(_head(1, 1, 9, 1, 0, 1, -5, 0), id="negative points"),
        pytest.param(_head(1, 1, 9, 1, 0, 1, 2, 1, 2**31 - 1, 2**31 - 1), id="string"),
        pytest.param(_head(1, 1, 9, 1, 0, 1, 0, 0, 0, 0, 0, 0, 2**31 - 1), id="triggers"),
        pytest.param(_head(1, 1, 1, 1, 56, 1, 1, 1, 0, 0, 0, 0, 0, 2**31 - 1), id="extra values"),
    ],
)
def test_two_gigabytes_claimed_in_a_small_file_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError):
        read_mda(written(tmp_path, content + b"\0" * 1000))


def test_scan_that_stands_for_many_is_refused(tmp_path: Path) -> None:
    """A thousand pointers to one scan would make a thousand times its size."""
    inner = _int(1, 1000, 1000, 0, 0, 0, 1, 0, 0) + _text("a") + _text("") + _text("") + b"\0" * 4000
    outer = _head(1, 2, 1000, 1000, 1, 0) + _int(2, 1000, 1000)
    at = len(outer) + 4000 + 20
    content = outer + _int(*[at] * 1000) + _int(0, 0, 0, 0, 0) + inner
    with pytest.raises(DataError, match="scans overlap"):
        read_mda(written(tmp_path, content))


def test_reversed_byte_order_is_named(axo: Path, tmp_path: Path) -> None:
    swapped = np.frombuffer(axo.read_bytes()[:4000], ">u4").astype("<u4").tobytes()
    for read in (read_mda, read_spectra):
        with pytest.raises(DataError, match="byte 0 of 4000: the byte order is reversed"):
            read(written(tmp_path, swapped))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", "nul\0byte"):
        with pytest.raises(DataError, match="mend"):
            read_mda(path)


def test_scan_of_rank_four_is_refused_with_its_rank(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="scan of rank 4"):
        read_mda(written(tmp_path, Writer((1, 1, 1, 2)).file()))
