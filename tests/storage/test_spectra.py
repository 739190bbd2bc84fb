"""Text with spectra: what the tests wrote comes back, and what is damaged is refused with its line."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from skyloop.errors import DataError
from skyloop.storage.spectra import FORMATS, Spectra, read_spectra


def written(folder: Path, text: str, name: str = "spectrum.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="latin-1")
    return path


def counts_of(channels: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).poisson(50, channels).tolist()


def amptek(counts: list[int], *, calibration: str = "LABEL - keV\n100 1.5\n900 9.5\n") -> str:
    data = "\n".join(map(str, counts))
    return (
        "<<PMCA SPECTRUM>>\nTAG - live_data\nGAIN - 3\nLIVE_TIME - 59.5\nREAL_TIME - 60.25\n"
        f"<<CALIBRATION>>\n{calibration}<<ROI>>\n10 20\n<<DATA>>\n{data}\n<<END>>\n"
        "<<DP5 CONFIGURATION>>\nTPEA=11.200;    Peaking Time 11.2 \xb5s\n<<DP5 CONFIGURATION END>>\n"
    )


def spe(counts: list[int], *, first: int = 0, rest: str = "") -> str:
    rows = [counts[i : i + 8] for i in range(0, len(counts), 8)]
    data = "\n".join("".join(f"{c:9d}." for c in row) for row in rows)
    head = "$SPEC_ID:\nsteel\n$MEAS_TIM:\n120 203\n"
    return f"{head}$DATA:\n{first:8d}{first + len(counts) - 1:12d}\n{data}\n{rest}"


def spec_block(counts: list[int]) -> str:
    rows = [" ".join(map(str, counts[i : i + 16])) for i in range(0, len(counts), 16)]
    return "@A " + "\\\n ".join(rows) + "\n"


def spec_scan(
    blocks: list[list[int]], *, head: str = "", points: list[str] | None = None, number: int = 1
) -> str:
    per_point = len(blocks) // len(points or [""])
    body = ""
    for i, block in enumerate(blocks):
        body += f"{points[i // per_point]}\n" if points and i % per_point == 0 else ""
        body += spec_block(block)
    return f"#S {number} ascan samx 0 1 2\n#D Tue Aug 9 10:28:52 2016\n{head}{body}\n"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_amptek_spectrum_comes_back(tmp_path: Path, ends: str) -> None:
    counts = counts_of(1024)
    path = tmp_path / "a.mca"
    path.write_bytes(amptek(counts).replace("\n", ends).encode("latin-1"))
    spectra = read_spectra(path)
    assert spectra.counts.tolist() == [[[counts]]]
    assert (spectra.live_time.item(), spectra.real_time.item()) == (59.5, 60.25)
    assert spectra.calibration == pytest.approx((0.5, 0.01, 0.0))
    assert np.isnan([spectra.x.item(), spectra.y.item()]).all()
    assert spectra.notes == ("calibrated by the 2 points of the file, energies in keV",)


def test_amptek_calibration_is_the_line_through_all_points_in_the_unit_told(tmp_path: Path) -> None:
    channel = np.array([100, 300, 700, 900])
    energy = 20.0 + 12.0 * channel + np.array([1, -1, -1, 1])
    pairs = "".join(f"{c} {e}\n" for c, e in zip(channel, energy, strict=True))
    spectra = read_spectra(written(tmp_path, amptek([1, 2], calibration=f"LABEL - eV\n{pairs}")))
    slope, offset = np.polyfit(channel, energy, 1)
    assert spectra.calibration == pytest.approx((offset / 1e3, slope / 1e3, 0.0))


def test_amptek_calibration_of_one_point_begins_at_zero_and_of_one_channel_is_none(tmp_path: Path) -> None:
    one = read_spectra(written(tmp_path, amptek([1, 2], calibration="LABEL - Channel\n500 6\n")))
    assert one.calibration == pytest.approx((0.0, 0.012, 0.0))
    assert one.notes == ("calibrated by the 1 points of the file, energies in Channel, taken as keV",)
    same = read_spectra(written(tmp_path, amptek([1, 2], calibration="5 6\n5 7\n")))
    assert same.calibration is None
    assert any("calibration left out" in note for note in same.notes)


def test_spe_spectrum_comes_back(tmp_path: Path) -> None:
    counts = counts_of(2048)
    rest = "$ENER_FIT:\n0.1 0.02\n$MCA_CAL:\n3\n-0.05 0.01 1e-7 keV\n"
    spectra = read_spectra(written(tmp_path, spe(counts, rest=rest)))
    assert spectra.counts.tolist() == [[[counts]]]
    assert (spectra.live_time.item(), spectra.real_time.item()) == (120.0, 203.0)
    assert spectra.calibration == (-0.05, 0.01, 1e-7)


def test_spe_without_coefficients_of_its_own_takes_the_fitted_line(tmp_path: Path) -> None:
    spectra = read_spectra(written(tmp_path, spe([1, 2, 3], rest="$ENER_FIT:\n0.1 0.02\n")))
    assert spectra.calibration == (0.1, 0.02, 0.0)
    blank = read_spectra(written(tmp_path, spe([1, 2, 3], rest="$MCA_CAL:\n2\n0 0\n")))
    assert blank.calibration is None
    assert blank.notes == ("calibration left out, it is none: 0 0 0",)


def test_energy_of_a_channel_does_not_depend_on_the_first_one_kept(tmp_path: Path) -> None:
    counts, rest = counts_of(100), "$MCA_CAL:\n3\n-0.05 0.01 1e-6 keV\n"
    whole = read_spectra(written(tmp_path, spe(counts, rest=rest)))
    part = read_spectra(written(tmp_path, spe(counts[40:], first=40, rest=rest)))
    assert part.counts[0, 0, 0].tolist() == whole.counts[0, 0, 0, 40:].tolist()
    energies = [np.polyval((s.calibration or ())[::-1], np.arange(s.counts.shape[3])) for s in (whole, part)]
    assert energies[1] == pytest.approx(energies[0][40:], abs=1e-12)
    assert any("channel 0 is channel 40" in note for note in part.notes)


def test_energy_of_added_channels_is_that_of_the_first_of_them(tmp_path: Path) -> None:
    head = "#@CHANN 4 10 17 2\n#@CALIB -0.05 0.01 1e-6\n"
    spectra = read_spectra(written(tmp_path, spec_scan([[1, 2, 3, 4]], head=head)))
    energies = np.polyval((spectra.calibration or ())[::-1], np.arange(4))
    assert energies == pytest.approx(np.polyval((1e-6, 0.01, -0.05), 10 + 2 * np.arange(4)), abs=1e-12)


def test_spec_spectra_come_back_by_point_and_detector(tmp_path: Path) -> None:
    blocks = [counts_of(64, seed) for seed in range(6)]
    head = "#@MCA %16C\n#@CHANN 64 0 63 1\n#@CHANN 64 0 63 1\n#@CALIB 0 0.01 0\n#@CALIB 0 0.01 0\n"
    head += "#@CTIME 10 9.5 10.5\n#@CTIME 10 9.25 10.25\n#N 2\n#L samx  ring current\n"
    path = written(tmp_path, spec_scan(blocks, head=head, points=["0.0 101.5", "0.5 101.25", "1.0 101.0"]))
    spectra = read_spectra(path)
    assert spectra.counts.tolist() == np.array(blocks).reshape(1, 3, 2, 64).tolist()
    assert spectra.live_time[0].tolist() == [[9.5, 9.25]] * 3
    assert spectra.real_time[0].tolist() == [[10.5, 10.25]] * 3
    assert spectra.calibration == (0.0, 0.01, 0.0)
    assert {k: v.tolist() for k, v in spectra.scalers.items()} == {
        "samx": [[0.0, 0.5, 1.0]],
        "ring current": [[101.5, 101.25, 101.0]],
    }


def test_detectors_calibrated_differently_have_no_common_calibration(tmp_path: Path) -> None:
    scan = spec_scan([[1, 2], [3, 4]], head="#@CALIB 0 0.01 0\n#@CALIB 0 0.02 0\n")
    spectra = read_spectra(written(tmp_path, scan))
    assert spectra.calibration is None
    assert spectra.notes == ("detectors are calibrated differently, none is taken: 0 0.01 0; 0 0.02 0",)


def test_scan_of_a_spec_file_is_chosen_by_its_number(tmp_path: Path) -> None:
    plain = "#S 1 ascan\n#L x  y\n1 2\n"
    path = written(tmp_path, plain + spec_scan([[1, 2]], number=2) + spec_scan([[3, 4, 5]], number=3))
    assert read_spectra(path).counts.ravel().tolist() == [1, 2]
    assert read_spectra(path).notes == ("this file holds 2 scans with spectra: number 1 is read",)
    assert read_spectra(path, dataset=2).counts.ravel().tolist() == [3, 4, 5]
    with pytest.raises(DataError, match="holds 2 scans with spectra, not number 3"):
        read_spectra(path, dataset=3)


def test_columns_that_do_not_fit_their_labels_are_left_out_and_told(tmp_path: Path) -> None:
    spectra = read_spectra(written(tmp_path, spec_scan([[1, 2]], head="#L samx\n", points=["1 2"])))
    assert spectra.scalers == {}
    assert spectra.notes == ("columns of the scan left out: they do not fit their labels",)


def test_column_of_numbers_is_a_spectrum(tmp_path: Path) -> None:
    text = "# remark\n" + "\n".join(f"{c:.8E}" for c in counts_of(512))
    assert read_spectra(written(tmp_path, text)).counts.ravel().tolist() == counts_of(512)


def test_counts_that_nobody_counted_are_told(tmp_path: Path) -> None:
    assert read_spectra(written(tmp_path, "1\n-2\n3\n")).notes == (
        "1 channels hold negative counts: kept as they are",
    )


def test_times_that_are_none_are_left_out_and_told(tmp_path: Path) -> None:
    spectra = read_spectra(written(tmp_path, amptek([1, 2]).replace("59.5", "0")))
    assert spectra.live_time.shape == (1, 1, 0)
    assert "a time that is not above 0 is left out" in spectra.notes


def test_content_and_not_the_name_tells_the_format(tmp_path: Path) -> None:
    for name in ("a.mda", "b.h5", "c"):
        assert read_spectra(written(tmp_path, amptek([5, 6]), name)).counts.ravel().tolist() == [5, 6]


def test_maps_of_xrf_maps_are_read_whatever_their_name(tmp_path: Path) -> None:
    counts = np.random.default_rng(8).poisson(5.0, (7, 2, 3)).astype(float)
    path = tmp_path / "axo.mda"
    with h5py.File(path, "w") as file:
        file["MAPS/Spectra/mca_arr"] = counts
    np.testing.assert_array_equal(read_spectra(path).counts[:, :, 0], np.moveaxis(counts, 0, -1))
    with pytest.raises(DataError, match="holds 1 dataset, not number 2; mend"):
        read_spectra(path, dataset=2)
    assert "HDF5" in FORMATS


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("<<PMCA SPECTRUM>>\n<<DATA>>\n1\n2\n", "is not whole", id="no end"),
        pytest.param("<<PMCA SPECTRUM>>\n<<DATA>>\n<<END>>\n", "is not whole", id="no data"),
        pytest.param("<<PMCA SPECTRUM>>\n<<DATA>>\n1\nx\n<<END>>\n", "line 4: found 'x'", id="word"),
        pytest.param("<<PMCA SPECTRUM>>\n<<DATA>>\n1 2\n<<END>>\n", "line 3: found '1 2'", id="two a line"),
        pytest.param("<<PMCA SPECTRUM>>\n<<CALIBRATION>>\n1\n<<DATA>>\n", "line 3.*energy", id="pair"),
        pytest.param("$DATA:\n0 3\n1 2 3\n", "3 counts for 4 channels", id="spe too few"),
        pytest.param("$DATA:\n0 1\n1 2 3\n", "3 counts for 2 channels", id="spe too many"),
        pytest.param("$DATA:\n0 1e300\n1 2 3\n", "no first and last channel", id="spe endless"),
        pytest.param("$DATA:\n-5 -3\n1 2 3\n", "no first and last channel", id="spe negative"),
        pytest.param("$SPEC_ID:\nx\n", "no first and last channel", id="spe without data"),
        pytest.param("$DATA:\n0 0\n1\n$DATA:\n0 0\n1\n", "line 4: a second", id="spe twice"),
        pytest.param("$DATA:\n0 0\n1e999\n", "found '1e999'", id="infinite"),
        pytest.param("#S 1 x\n@A 1 2\\\n", "line 2: is not finished", id="spec continued"),
        pytest.param("#S 1 x\n#@CHANN 3 0 2 1\n@A 1 2\n", "2 channels where 3 are told", id="spec short"),
        pytest.param("#S 1 x\n@A 1 2\n@A 1\n", "spectra of 1 and 2 channels", id="spec uneven"),
        pytest.param("#S 1 x\n1\n@A 1 2\n2\n", "1 spectra for 2 points", id="spec points"),
        pytest.param("#S 1 x\n#@CHANN 2 0\n@A 1 2\n", "give number, first, last", id="spec axis"),
        pytest.param("1\n2\nnan\n", "line 3: found 'nan'", id="nan"),
        pytest.param("1\n2 3\n", "line 2: found '2 3'", id="two columns"),
        pytest.param("1\n1_0\n", "line 2: found '1_0'", id="underscore"),
        pytest.param("hello\n", "no known format; mend: give one of MDA", id="prose"),
        pytest.param("", "no known format", id="empty"),
        pytest.param("\x89HDF\r\n\x1a\n\0\0", "cannot be read", id="hdf5"),
        pytest.param("1\n\0\n2\n", "no known format", id="zero byte"),
        pytest.param("1\n" * 3000 + "\0\n", r"line 3001: found '\\x00'", id="zero byte later"),
        pytest.param("9" * 100_000, "give a number", id="endless number"),
    ],
)
def test_fault_is_named_with_a_mend(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        read_spectra(written(tmp_path, text))
    assert "; mend: " in str(caught.value)
    assert len(str(caught.value)) < 600


def test_spectrum_cut_short_is_refused(tmp_path: Path) -> None:
    counts = counts_of(64)
    head = "#@CHANN 64 0 63 1\n"
    for text in (amptek(counts), spe(counts), spec_scan([counts], head=head)):
        end = text.index("<<END>>") if "<<END>>" in text else text.rindex(str(counts[-1]))
        for cut in np.random.default_rng(3).integers(1, end, 60).tolist():
            with pytest.raises(DataError):
                read_spectra(written(tmp_path, text[:cut]))


def test_damaged_text_is_read_or_refused(tmp_path: Path) -> None:
    random, refused = np.random.default_rng(4), 0
    texts = [amptek(counts_of(32)), spe(counts_of(32)), spec_scan([counts_of(32)] * 2)]
    for i in range(900):
        broken = bytearray(texts[i % 3].encode("latin-1"))
        for place in random.integers(0, len(broken), 2).tolist():
            broken[place] = int(random.integers(256))
        path = tmp_path / "broken"
        path.write_bytes(broken)
        try:
            read_spectra(path)
        except DataError:
            refused += 1
    assert 100 < refused < 900


def test_dataset_of_a_file_with_one_is_refused(tmp_path: Path) -> None:
    for text in ("1\n2\n", spe([1, 2]), amptek([1, 2])):
        with pytest.raises(DataError, match="holds 1 dataset, not number 2"):
            read_spectra(written(tmp_path, text), dataset=2)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", "nul\0byte"):
        with pytest.raises(DataError, match="mend"):
            read_spectra(path)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    pixels, timed = np.zeros((2, 3)), np.zeros((2, 3, 4))
    given = dict.fromkeys(("live_time", "real_time", "input_rate", "output_rate"), timed)
    names = ("a", "b", "c", "d")
    whole = Spectra(np.zeros((2, 3, 4, 5)), pixels, pixels, names, "file", **given)
    assert whole.counts.shape == (2, 3, 4, 5)
    for wrong in (np.zeros((2, 3, 5, 5)), np.zeros((3, 2, 4, 5)), np.zeros((2, 3, 4))):
        with pytest.raises(DataError, match="do not belong together"):
            Spectra(wrong, pixels, pixels, names, "file", **given)
    with pytest.raises(DataError, match="do not belong together"):
        Spectra(whole.counts, pixels, pixels, names, "file", **given, scalers={"I0": np.zeros(6)})
