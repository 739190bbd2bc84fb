from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from orsopy import fileio

from skyloop.errors import DataError
from skyloop.storage.curve_run import CurveOptions, curve_run
from skyloop.storage.curves import Curve, read_curve

TABLE = np.array([[0.01, 1.0, 0.02, 1e-4], [0.02, 0.5, 0.01, 2e-4], [0.03, -1e-6, 2e-6, 3e-4]])


def columns(path: Path, table: np.ndarray, header: str = "") -> Path:
    np.savetxt(path, table, header=header)
    return path


def as_table(curve: Curve) -> np.ndarray:
    return np.column_stack([curve.q, curve.reflectivity, curve.reflectivity_sigma, curve.q_sigma])


def orso(
    path: Path, *tables: np.ndarray, unit: str = "1/angstrom", value_is: Literal["sigma", "FWHM"] = "sigma"
) -> Path:
    sets = []
    for i, table in enumerate(tables):
        header = fileio.Orso.empty()
        header.data_set = i
        header.columns = [
            fileio.Column("Qz", unit),
            fileio.Column("R"),
            fileio.ErrorColumn("R", "uncertainty", "sigma"),
            fileio.ErrorColumn("Qz", "resolution", value_is),
        ]
        sets.append(fileio.OrsoDataset(header, table))
    fileio.save_orso(sets, str(path))
    return path


@pytest.mark.parametrize("count", [2, 3, 4])
def test_columns_survive_the_round_trip(tmp_path: Path, count: int) -> None:
    curve = read_curve(columns(tmp_path / "a.dat", TABLE[:, :count], header="q R dR dq"))
    read = as_table(curve)
    missing = np.tile([np.nan, np.nan, np.nan, 0.0], (3, 1))
    np.testing.assert_array_equal(read[:, :count], TABLE[:, :count])
    np.testing.assert_array_equal(read[:, count:], missing[:, count:])


def test_words_above_the_numbers_and_commas_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("q, R\n\n0.01, 1\n0.02; 0.5\n# a remark\n0.03\t0.25")
    np.testing.assert_array_equal(read_curve(path).reflectivity, [1, 0.5, 0.25])


def test_full_widths_become_standard_deviations(tmp_path: Path) -> None:
    path = columns(tmp_path / "a.dat", TABLE)
    ratio = read_curve(path, fwhm=True).q_sigma / read_curve(path).q_sigma
    np.testing.assert_allclose(ratio, 1 / 2.354820045, rtol=1e-9)


def test_orso_files_survive_the_round_trip(tmp_path: Path) -> None:
    path = orso(tmp_path / "a.ort", TABLE, 2 * TABLE)
    curve = read_curve(path, dataset=2)
    read = as_table(curve)
    np.testing.assert_allclose(read, 2 * TABLE, rtol=1e-12)


def test_orso_units_and_widths_are_converted(tmp_path: Path) -> None:
    curve = read_curve(orso(tmp_path / "a.ort", TABLE, unit="1/nm", value_is="FWHM"))
    np.testing.assert_allclose(curve.q, TABLE[:, 0] / 10, rtol=1e-12)
    np.testing.assert_allclose(curve.q_sigma, TABLE[:, 3] / 10 / 2.354820045, rtol=1e-9)


def test_an_old_orso_file_is_read_as_columns(shared_data: Path) -> None:
    curve = read_curve(shared_data / "reflectometry" / "nr" / "ORSO_example.ort")
    assert len(curve) == 408
    assert 0.0174 < np.median(curve.q_sigma / curve.q) < 0.0207


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.1 1\n0.2 x\n", "line 2: '0.2 x'; mend: give 2 numbers as above"),
        ("# q\n0.1\n", "line 2: '0.1'; mend: give 2 to 4 numbers"),
        ("0.1 1\n0.2 1 2\n", "line 2"),
        ("0.1 1 --\n0.2 1 0.1\n", "line 1: '0.1 1 --'; mend: give 2 to 4 numbers, nan for a missing one"),
        ("q R\n172 points\n0.2 1\n", "line 2: '172 points'; mend: give 2 to 4 numbers"),
        ("0.1,1,,0.1\n", "line 1: '0.1,1,,0.1'; mend: give 2 to 4 numbers, nan for a missing one"),
        ("q R\n0,0100 0,979320\n", "line 2: '0,0100 0,979320' has a decimal comma; mend: write the numbers"),
        ("0,01 0,98 0,01 0,001\n", "line 1: '0,01 0,98 0,01 0,001' has a decimal comma"),
        ("0,01\t9,8E-1\n", "has a decimal comma"),
        ("0,01;0,98;0,01\n", "has a decimal comma"),
        ("0,01, 0,98\n", "has a decimal comma"),
        ("0,01 0,98 --\n", "has a decimal comma"),
        ("# nothing\n", "no line with numbers"),
        ("# # ORSO reflectivity data file | 9 nonsense\n", "not ORSO text"),
        ("# a remark\n# # ORSO reflectivity data file | 1.1 standard\n0.1 1\n", "not ORSO text"),
        ("# # ORSO reflectivity data file | 1.1 standard\n0.1 1 --\n", "line 2: '0.1 1 --'; mend: give num"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_mend(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.dat"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_curve(path)
    assert told in str(caught.value)
    assert "bad.dat" in str(caught.value)
    assert "mend:" in str(caught.value)


@pytest.mark.parametrize("before", ["\ufeff", "\n", "\ufeff\n  \n\n", "\r\n", "  "])
def test_what_editors_put_above_the_first_line_changes_nothing(tmp_path: Path, before: str) -> None:
    """Taken for plain columns, 1/nm would be 1/angstrom, full widths sigmas, and two datasets one."""
    one = orso(tmp_path / "a.ort", TABLE, 2 * TABLE, unit="1/nm", value_is="FWHM")
    for path in (one, columns(tmp_path / "a.dat", TABLE)):
        curve = read_curve(path)
        path.write_bytes(before.encode() + path.read_bytes())
        np.testing.assert_array_equal(as_table(read_curve(path)), as_table(curve))


def test_numbers_as_fortran_writes_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_text("1.0D-02 9.0d-01 1D-3\n2.0D-02  .8D+00 1D-3\n")
    np.testing.assert_array_equal(as_table(read_curve(path))[:, :3], [[0.01, 0.9, 1e-3], [0.02, 0.8, 1e-3]])


@pytest.mark.parametrize(
    "heading",
    ["Q (1/A)  R  dR  dQ", "q,R,dR", "D17 run 4, 25 C", "-- q -- R --", "[1/nm] [] []", "Infinite film"],
)
def test_headings_above_the_numbers_are_skipped(tmp_path: Path, heading: str) -> None:
    path = tmp_path / "a.dat"
    path.write_text(f"{heading}\n\n0.01,0.98,0.01\n")
    np.testing.assert_array_equal(as_table(read_curve(path)), [[0.01, 0.98, 0.01, 0.0]])


def test_separators_at_the_end_of_a_line_are_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("q,R,,\n0.01,0.98,,\n0.02 , 0.5,\n")
    np.testing.assert_array_equal(as_table(read_curve(path))[:, :2], [[0.01, 0.98], [0.02, 0.5]])


@pytest.mark.parametrize("magic", ["", "# # ORSO reflectivity data file | 1.1 standard\n"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused_with_the_one_that_is_needed(
    tmp_path: Path, magic: str, encoding: str
) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(f"{magic}# q in 1/\xc5\n0.01 1\n".encode(encoding))
    with pytest.raises(DataError, match=r"a\.dat, line \d: byte 0x.. is not UTF-8; mend: .* in UTF-8"):
        read_curve(path)


@pytest.mark.parametrize("file", ["nr/D17_SiO.dat", "nr/Ni500.dat", "orso/unpolarised/data/test4.dat"])
def test_no_row_of_a_measured_file_is_lost(shared_data: Path, file: str) -> None:
    path = shared_data / "reflectometry" / file
    assert len(read_curve(path)) == len(np.loadtxt(path))


def test_an_unknown_unit_or_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Qz is in furlong"):
        read_curve(orso(tmp_path / "a.ort", TABLE, unit="furlong"))
    with pytest.raises(DataError, match=r"not number 3; mend: give a dataset from 1 to 1 \(--dataset\)"):
        read_curve(orso(tmp_path / "b.ort", TABLE), dataset=3)
    for number in (0, 2):
        with pytest.raises(DataError, match=f"1 datasets, not number {number}"):
            read_curve(columns(tmp_path / "a.dat", TABLE), dataset=number)


def test_of_several_datasets_one_is_analysed_and_the_others_are_told(tmp_path: Path) -> None:
    path = orso(tmp_path / "a.ort", TABLE[:2], 2 * TABLE[:2])
    for number in (1, 2):
        documents, notes = curve_run(path, CurveOptions(dataset=number))
        (event,) = (doc for name, doc in documents if name == "event")
        np.testing.assert_allclose(event["data"]["q"], number * TABLE[:2, 0], rtol=1e-12)
        told = f"this file holds 2 datasets: number {number} is analysed; dataset chooses another (--dataset)"
        assert notes == (told,)
    assert curve_run(path, CurveOptions())[0][0] != curve_run(path, CurveOptions(dataset=2))[0][0]
    assert curve_run(orso(tmp_path / "b.ort", TABLE[:2]), CurveOptions())[1] == ()


def test_a_width_that_means_nothing_is_told(tmp_path: Path) -> None:
    fwhm, plain = CurveOptions(fwhm=True), columns(tmp_path / "a.dat", TABLE[:2, :3])
    assert "fwhm (--fwhm) changes nothing: this file has no resolution" in curve_run(plain, fwhm)[1]
    notes = curve_run(orso(tmp_path / "a.ort", TABLE[:2]), fwhm)[1]
    assert notes == ("fwhm (--fwhm) changes nothing: an ORSO file says itself what its resolution is",)
    assert curve_run(columns(tmp_path / "b.dat", TABLE[:2]), fwhm)[1] == ()


def test_a_missing_error_asks_for_it_by_its_name_in_python_and_on_the_command_line(tmp_path: Path) -> None:
    told = r"mend: give relative_sigma, such as 0.05 .* \(--relative-sigma\)"
    with pytest.raises(DataError, match=told):
        curve_run(columns(tmp_path / "a.dat", TABLE[:, :2]), CurveOptions())


def uid_of(path: Path, options: CurveOptions) -> str:
    return curve_run(path, options)[0][0][1]["uid"]


def test_equal_options_give_the_same_run_however_they_are_written(tmp_path: Path) -> None:
    path = columns(tmp_path / "a.dat", TABLE[:2])
    plain = uid_of(path, CurveOptions())
    for low in (0, -0.0, np.float64(0.0)):
        assert uid_of(path, CurveOptions(q_min=low)) == plain
    assert uid_of(path, CurveOptions(q_max=1)) == uid_of(path, CurveOptions(q_max=1.0)) != plain
    assert uid_of(path, CurveOptions(fwhm=True)) != plain


def test_a_file_is_read_and_understood_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, done = orso(tmp_path / "a.ort", TABLE[:2], 2 * TABLE[:2]), list[str]()
    load, read = fileio.load_orso, Path.read_bytes
    monkeypatch.setattr(fileio, "load_orso", lambda text: done.append("understood") or load(text))
    monkeypatch.setattr(Path, "read_bytes", lambda self: done.append("read") or read(self))
    curve_run(path, CurveOptions())
    assert done == ["read", "understood"]


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    for path in (orso(tmp_path / "a.ort", TABLE), columns(tmp_path / "a.dat", TABLE)):
        unix = read_curve(path)
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        np.testing.assert_array_equal(read_curve(path).reflectivity, unix.reflectivity)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.ort"):
        read_curve(tmp_path / "nowhere.ort")
