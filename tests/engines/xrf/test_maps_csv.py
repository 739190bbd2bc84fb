"""A MAPS line library of the user: ratios of its yields, and errors that name the line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.maps_csv import maps_csv_table
from skyloop.errors import ConfigError, DataError

LABELS = (
    *("Ka1", "Ka2", "Kb1", "Kb2", "La1", "La2", "Lb1", "Lb2", "Lb3", "Lb4", "Lg1", "Lg2", "Lg3", "Lg4"),
    *("Ll", "Ln", "Ma1", "Ma2", "Mb", "Mg"),
)
EDGES = ("1s", "2s", "2p1/2", "2p3/2", "3s", "3p1/2", "3p3/2", "3d3/2", "3d5/2")
HEADER = [
    *("Z", "Symbol", *LABELS),
    *("w_K", "W_L1", "w_L2", "w_L3", "w_M"),
    *LABELS,
    *("density g/cc", "atomic mass [g/mol]", *EDGES, "4s"),
]
IRON = {"Ka1": (6.4, 0.2), "Ka2": (6.39, 0.1), "Kb1": (7.06, 0.034)}
LEAD = {
    "Ka1": (74.97, 0.46),
    "La1": (10.55, 0.25),
    "Lb1": (12.61, 0.3),
    "Lb3": (12.79, 0.1),
    "Lg2": (0.0, 0.01),
    "Ma1": (2.35, 0.03),
    "Mg": (2.65, 0.003),
}
IRON_EDGES = (7.112, 0.846, 0.720, 0.707, 0.09, 0.05, 0.05, 0.0, 0.0)
LEAD_EDGES = (88.0, 15.86, 15.2, 13.04, 3.85, 3.55, 3.07, 2.59, 2.48)


def row(z: int, symbol: str, lines: dict[str, tuple[float, float]], edges: tuple[float, ...]) -> list[str]:
    energies, yields = ([lines.get(label, (0.0, 0.0))[i] for label in LABELS] for i in (0, 1))
    numbers = [*energies, *[0.1] * 5, *yields, 7.87, 55.8, *edges, 0.0]
    return [str(z), symbol, *map(str, numbers)]


def library() -> list[list[str]]:
    return [
        ["version:", "1.2", "fluorescence lines K series"],
        ["aprrox intensity", "-", "100%"],
        ["transition", "-", "K-L3"],
        list(HEADER),
        row(26, "Fe", IRON, IRON_EDGES),
        row(82, "Pb", LEAD, LEAD_EDGES),
        ["", "", ""],
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[list[str]]], Path]:
    def written(rows: list[list[str]]) -> Path:
        file = tmp_path / "library.csv"
        file.write_text("\r\n".join(",".join(cells) for cells in rows))
        return file

    return written


Write = Callable[[list[list[str]]], Path]


def test_ratios_are_those_of_the_absolute_yields(write: Write) -> None:
    lines = maps_csv_table(write(library())).lines(["Fe", "Pb_M"], 10.0)
    assert lines.labels == ("Ka1", "Ka2", "Kb1", "Ma1", "Mg")
    assert np.allclose(lines.ratio, [1.0, 0.5, 0.17, 1.0, 0.1])
    assert lines.energy.tolist() == [6.4, 6.39, 7.06, 2.35, 2.65]
    assert lines.edge.tolist() == [7.112, 7.112, 7.112, 2.48, 3.07]
    assert lines.of.tolist() == [0, 0, 0, 1, 1]


def test_ratios_do_not_depend_on_the_incident_energy(write: Write) -> None:
    table = maps_csv_table(write(library()))
    low, high = (table.lines(["Pb_L"], e) for e in (16.0, 90.0))
    assert low.labels == high.labels == ("La1", "Lb1", "Lb3")
    assert np.array_equal(low.ratio, high.ratio)


def test_each_line_waits_for_the_edge_of_its_own_shell(write: Write) -> None:
    table = maps_csv_table(write(library()))
    assert table.lines(["Pb_L"], 14.0).labels == ("La1",)
    assert table.lines(["Pb_L"], 15.5).labels == ("La1", "Lb1")


def test_the_file_has_no_cross_sections(write: Write) -> None:
    assert np.isnan(maps_csv_table(write(library())).lines(["Fe", "Pb_M"], 10.0).cross_section).all()


def test_attenuation_is_that_of_the_frozen_table(write: Write) -> None:
    energies = np.array([1.0, 5.0, 50.0])
    ours = maps_csv_table(write(library())).attenuation("Si", energies)
    assert np.array_equal(ours, line_table().attenuation("Si", energies))


def test_components_are_those_with_an_excited_main_line(write: Write) -> None:
    table = maps_csv_table(write(library()))
    assert table.components(10.0, 1.0, 12.0) == ("Fe", "Pb_M")
    assert table.components(90.0, 1.0, 12.0) == ("Fe", "Pb_L", "Pb_M")
    with pytest.raises(ConfigError, match=r"Pb_L.*13\.04.*mend: use 'Pb_M'"):
        table.lines(["Pb_L"], 10.0)
    with pytest.raises(ConfigError, match=r"'Fe_L'.*mend: did you mean Fe"):
        table.lines(["Fe_L"], 10.0)


def test_a_main_line_without_an_edge_makes_no_component(write: Write) -> None:
    rows = library()
    rows[5] = row(93, "Np", LEAD, (0.0,) * 9)
    assert maps_csv_table(write(rows)).components(90.0, 0.0, 100.0) == ("Fe",)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "library.csv"
    file.write_text("\n".join(",".join(cells) for cells in library()), encoding="utf-8-sig")
    assert maps_csv_table(file).components(10.0, 1.0, 12.0) == ("Fe", "Pb_M")


def changed(row: int, column: int, cell: str) -> list[list[str]]:
    rows = library()
    rows[row][column] = cell
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "line 1: starts with ''"),
        (changed(0, 1, "1.1"), "line 1: starts with 'version:,1.1'"),
        (library()[:3], "no line starts with 'Z,Symbol'"),
        (changed(3, 3, "other"), "line 4: column Ka2 is not in its place"),
        (changed(3, 27, "other"), "line 4: no two columns Ka1"),
        (changed(3, 49, "other"), "line 4: no two columns Ka1 .* and a column 1s"),
        ([*library()[:3], [*HEADER[:40], "1s"]], "line 4: column Lg4 is not in its place"),
        (changed(4, 2, "six"), "line 5, column 3: 'six' is not a number"),
        (changed(4, 2, "nan"), "line 5, column 3: 'nan' is not a number"),
        (changed(5, 27, "-1"), "line 6, column 28: '-1' is not a number from zero up"),
        (changed(4, 0, "iron"), "line 5: not an atomic number"),
        ([*library()[:4], library()[4][:30]], "line 5: not an atomic number, a symbol and 56 numbers"),
        ([*library(), library()[4]], "line 8: Fe again"),
        (library()[:4], "no element with a line in it"),
    ],
)
def test_a_wrong_file_is_an_error_with_line_and_mend(
    write: Write, rows: list[list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=f"{message}.*mend: use xrf_library.csv version 1.2"):
        maps_csv_table(write(rows))


def test_a_file_that_is_not_there_or_no_text_is_an_error(tmp_path: Path) -> None:
    binary = tmp_path / "library.csv"
    binary.write_bytes(bytes(range(256)))
    for file in (binary, tmp_path / "none.csv"):
        with pytest.raises(DataError, match=r"cannot be read as a csv file.*mend"):
            maps_csv_table(file)
