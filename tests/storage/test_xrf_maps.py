"""Files of XRF-Maps: what is written is read again bit by bit, and nothing leads out of a file."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import h5py.h5o
import numpy as np
import pytest

from skyloop.errors import DataError, StorageError
from skyloop.storage import _xrf_counts, xrf_maps, xrf_maps_write
from skyloop.storage._spectra import Spectra, nothing
from skyloop.storage.spectra import read_spectra
from skyloop.storage.xrf_maps import open_xrf_maps, read_xrf_maps
from skyloop.storage.xrf_maps_write import ElementMaps, IntegratedFit, write_xrf_maps

N_Y, N_X, N_C = 5, 4, 7
COUNTS = np.random.default_rng(1).poisson(3.0, (N_Y, N_X, N_C)).astype(float)
STORED = np.moveaxis(COUNTS, -1, 0)
"""[channel, y, x], as XRF-Maps stores it."""
Change = Callable[[Any], object]


def maps_file(path: Path, *changes: Change, old: bool = False, **options: Any) -> Path:
    """A file as XRF-Maps writes it, and then changed."""
    with h5py.File(path, "w") as file:
        group = file.create_group("MAPS" if old else "MAPS/Spectra")
        group.create_dataset("mca_arr", data=STORED, **options)
        group["int_spec" if old else "Integrated_Spectra/Spectra"] = COUNTS.sum(axis=(0, 1))
        for change in changes:
            change(file)
    return path


def put(name: str, value: Any, **options: Any) -> Change:
    """Store something under `/MAPS`, in the place of what is there."""

    def change(file: Any) -> None:
        if f"MAPS/{name}" in file:
            del file[f"MAPS/{name}"]
        if isinstance(value, (h5py.SoftLink, h5py.ExternalLink)):
            file[f"MAPS/{name}"] = value
        else:
            file.create_dataset(f"MAPS/{name}", data=value, **options)

    return change


def drop(name: str) -> Change:
    return lambda file: file.__delitem__(f"MAPS/{name}")


def declare(shape: tuple[int, ...], dtype: Any = "f4", **options: Any) -> Change:
    """Counts of a shape that is only claimed."""

    def change(file: Any) -> None:
        del file["MAPS/Spectra/mca_arr"]
        file.create_dataset("MAPS/Spectra/mca_arr", shape, dtype, **options)

    return change


def refusal(path: Path) -> str:
    """What a reader says of a file that it does not read."""
    with pytest.raises(DataError, match="; mend: ") as caught:
        read_xrf_maps(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def spectra(counts: np.ndarray = COUNTS, **changes: Any) -> Spectra:
    rng = np.random.default_rng(2)
    live, real, incoming, outgoing = rng.uniform(0.1, 1, (4, N_Y, N_X, 1))
    given = Spectra(
        counts=counts[:, :, None],
        x=np.tile(rng.normal(size=N_X), (N_Y, 1)),
        y=np.tile(rng.normal(size=N_Y), (N_X, 1)).T,
        detectors=("mca",),
        source="memory",
        live_time=live,
        real_time=real,
        input_rate=incoming,
        output_rate=outgoing,
        scalers={"US_IC": rng.normal(size=(N_Y, N_X)), "µ": rng.normal(size=(N_Y, N_X))},
        calibration=(-0.004, 0.0095, 1e-9),
        x_unit="mm",
        y_unit="µm",
    )
    return dataclasses.replace(given, **changes)


def element_maps(*names: str, routine: str = "Fitted", fit: IntegratedFit | None = None) -> ElementMaps:
    values, sigma, limit = np.random.default_rng(3).normal(size=(3, len(names), N_Y, N_X))
    values[0, 1, 2] = np.nan
    return ElementMaps(names, values, sigma, limit, ("cts/s",) * len(names), routine, fit)


def fit_of(number: int = 3) -> IntegratedFit:
    values, sigmas = np.random.default_rng(4).normal(size=(2, number))
    names = tuple(f"P{i}" for i in range(number))
    spectrum, background = np.random.default_rng(5).normal(size=(2, N_C))
    return IntegratedFit(names, values, sigmas, values - 1, np.full(number, np.inf), spectrum, background)


# ---------------------------------------------------------------------- layouts


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (N_C, 1, 1), "compression": "gzip"},
        {"chunks": (1, N_Y, N_X), "shuffle": True, "compression": "lzf"},
        {"chunks": (3, 2, 3)},
        {"dtype": "u2"},
        {"dtype": "i4"},
        {"dtype": ">f4"},
    ],
)
@pytest.mark.parametrize("block", [1, 8 * N_X * N_C * 3, 2**26])
def test_counts_are_read_whatever_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool, options: dict[str, Any], block: int
):
    monkeypatch.setattr(_xrf_counts, "_BLOCK", block)
    path = maps_file(tmp_path / "a.h5", old=old, **options)
    read = read_xrf_maps(path)
    np.testing.assert_array_equal(read.counts[:, :, 0], COUNTS)
    assert read.counts.dtype == ("f4" if options.get("dtype") in ("u2", ">f4") else "f8")
    with open_xrf_maps(path) as file:
        assert file.shape == read.counts.shape
        np.testing.assert_array_equal(np.stack(list(file.rows())), read.counts)
        summed = file.sum_spectrum()
    np.testing.assert_array_equal(summed.counts, COUNTS.sum(axis=(0, 1))[None])
    assert (summed.n_pixels, summed.n_left_out) == (N_Y * N_X, 0)


def test_channels_on_the_last_axis_are_known_by_the_sum(tmp_path: Path):
    read = read_xrf_maps(maps_file(tmp_path / "a.h5", put("mca_arr", COUNTS), drop("Spectra/mca_arr")))
    np.testing.assert_array_equal(read.counts[:, :, 0], COUNTS)
    assert "[y, x, channel]" in " ".join(read.notes)


def test_what_nothing_tells_is_noted(tmp_path: Path):
    read = read_xrf_maps(maps_file(tmp_path / "a.h5", drop("Spectra/Integrated_Spectra")))
    np.testing.assert_array_equal(read.counts[:, :, 0], COUNTS)
    assert "nothing in the file tells" in " ".join(read.notes)


def test_the_newer_place_goes_first(tmp_path: Path):
    read = read_xrf_maps(maps_file(tmp_path / "a.h5", put("mca_arr", STORED + 1)))
    np.testing.assert_array_equal(read.counts[:, :, 0], COUNTS)


@pytest.mark.parametrize("names", [np.array([b"US_IC", b"DS_IC   "], dtype="S256"), ["US_IC", "DS_IC"]])
@pytest.mark.parametrize("places", [("Scalers/Names", "Scalers/Values"), ("scaler_names", "scalers")])
def test_scalers_are_read_with_names_of_bytes_or_text(tmp_path: Path, names: Any, places: tuple[str, str]):
    values = np.random.default_rng(0).normal(size=(2, N_Y, N_X))
    path = maps_file(tmp_path / "a.h5", put(places[0], names), put(places[1], values))
    read = read_xrf_maps(path).scalers
    assert list(read) == ["US_IC", "DS_IC"]
    np.testing.assert_array_equal(list(read.values()), values)


def test_no_scaler_is_lost_to_a_name_that_is_taken_or_empty(tmp_path: Path):
    values = np.random.default_rng(0).normal(size=(3, N_Y, N_X))
    path = maps_file(tmp_path / "a.h5", put("Scalers/Names", ["I", "I", ""]), put("Scalers/Values", values))
    read = read_xrf_maps(path)
    np.testing.assert_array_equal(list(read.scalers.values()), values)
    assert sum("is called" in note for note in read.notes) == 2


@pytest.mark.parametrize("prefix", ["Scan/", ""])
def test_axes_times_and_calibration_are_read(tmp_path: Path, prefix: str):
    times = np.random.default_rng(0).uniform(size=(2, N_Y, N_X))
    path = maps_file(
        tmp_path / "a.h51",
        put(f"{prefix}x_axis", np.arange(N_X) * 0.5),
        put(f"{prefix}y_axis", np.arange(N_Y) + 9.0),
        put("Spectra/Elapsed_Livetime", times[0]),
        put("Spectra/Elapsed_Realtime", times[1]),
        put("Spectra/Input_Counts", times[1] * 10),
        put("Spectra/Energy_Calibration", [0.1, 0.01, 1e-8]),
    )
    read = read_xrf_maps(path)
    np.testing.assert_array_equal(read.x, np.tile(np.arange(N_X) * 0.5, (N_Y, 1)))
    np.testing.assert_array_equal(read.y, np.tile(np.arange(N_Y) + 9.0, (N_X, 1)).T)
    np.testing.assert_array_equal(read.live_time[:, :, 0], times[0])
    np.testing.assert_array_equal(read.real_time[:, :, 0], times[1])
    np.testing.assert_array_equal(read.input_rate[:, :, 0], times[1] * 10)
    assert read.output_rate.size == 0
    assert read.calibration == (0.1, 0.01, 1e-8)
    assert read.detectors == ("mca2",)
    assert read.notes == ()


def test_axes_that_are_missing_or_do_not_fit_leave_positions_unknown_with_a_note(tmp_path: Path):
    read = read_xrf_maps(maps_file(tmp_path / "a.h5", put("x_axis", np.zeros(N_X + 2))))
    assert np.isnan(read.x).all()
    assert np.isnan(read.y).all()
    assert any(f"x_axis has {N_X + 2} values" in note for note in read.notes)
    assert any("y_axis is missing" in note for note in read.notes)


def test_a_calibration_of_zeros_is_none_with_a_note(tmp_path: Path):
    read = read_xrf_maps(maps_file(tmp_path / "a.h5", put("energy_calib", np.zeros(3))))
    assert read.calibration is None
    assert any("calibration" in note for note in read.notes)


@pytest.mark.parametrize("old", [False, True])
def test_a_sum_alone_is_a_map_of_one_pixel(tmp_path: Path, old: bool):
    place = "mca_arr" if old else "Spectra/mca_arr"
    read = read_xrf_maps(maps_file(tmp_path / "a.h5", drop(place), old=old))
    np.testing.assert_array_equal(read.counts, COUNTS.sum(axis=(0, 1))[None, None, None])
    assert any("map of one pixel" in note for note in read.notes)


# ---------------------------------------------------------------------- bad numbers


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (-1.0, "negative"), (np.inf, "infinite")])
def test_bad_counts_stay_and_are_told_and_left_out_of_the_sum(tmp_path: Path, bad: float, word: str):
    stored = STORED.copy()
    stored[2, 3, 1] = bad
    path = maps_file(tmp_path / "a.h5", put("Spectra/mca_arr", stored))
    read = read_xrf_maps(path)
    np.testing.assert_array_equal(read.counts[:, :, 0], np.moveaxis(stored, 0, -1))
    assert any(note.startswith("1 ") and word in note for note in read.notes)
    with open_xrf_maps(path) as file:
        summed = file.sum_spectrum()
    np.testing.assert_array_equal(summed.counts[0], COUNTS.sum(axis=(0, 1)) - COUNTS[3, 1])
    assert summed.n_left_out == 1


@pytest.mark.parametrize("chunks", [(N_C, 1, 1), (2, 2, 3)])
def test_pixels_that_were_never_written_are_nan_not_zero(tmp_path: Path, chunks: tuple[int, int, int]):
    def fill(file: Any) -> None:
        file["MAPS/Spectra/mca_arr"][:, :2] = STORED[:, :2]

    path = maps_file(tmp_path / "a.h5", declare(STORED.shape, chunks=chunks), fill)
    read = read_xrf_maps(path)
    np.testing.assert_array_equal(read.counts[:2, :, 0], COUNTS[:2])
    assert np.isnan(read.counts[2:]).all()
    assert any("12 pixels of 20 were never written" in note for note in read.notes)


def test_scalers_that_were_never_written_are_nan_not_zero(tmp_path: Path):
    def scalers(file: Any) -> None:
        values = file.create_dataset("MAPS/Scalers/Values", (2, N_Y, N_X), "f8", chunks=(1, N_Y, N_X))
        values[0] = 1.0

    read = read_xrf_maps(maps_file(tmp_path / "a.h5", put("Scalers/Names", ["a", "b"]), scalers)).scalers
    assert (read["a"] == 1).all()
    assert np.isnan(read["b"]).all()


# ---------------------------------------------------------------------- hostile files


def secret(folder: Path) -> Path:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["data"], file["MAPS/Spectra/mca_arr"] = STORED, STORED
    return folder / "secret.h5"


def virtual(file: Any) -> None:
    del file["MAPS/Spectra/mca_arr"]
    layout = h5py.VirtualLayout(STORED.shape, "f8")
    layout[:] = h5py.VirtualSource("secret.h5", "data", STORED.shape)
    file.create_virtual_dataset("MAPS/Spectra/mca_arr", layout)


def external_storage(file: Any) -> None:
    del file["MAPS/Spectra/mca_arr"]
    raw = [("secret.h5", 0, STORED.nbytes)]
    file.create_dataset("MAPS/Spectra/mca_arr", STORED.shape, "f8", external=raw)


def whole_group_elsewhere(file: Any) -> None:
    del file["MAPS"]
    file["MAPS"] = h5py.ExternalLink("secret.h5", "/MAPS")


@pytest.mark.parametrize(
    "change",
    [
        put("Spectra/mca_arr", h5py.ExternalLink("secret.h5", "/data")),
        put("Spectra", h5py.ExternalLink("secret.h5", "/MAPS/Spectra")),
        put("x_axis", h5py.ExternalLink("secret.h5", "/data")),
        put("scaler_names", h5py.ExternalLink("secret.h5", "/data")),
        put("Spectra/mca_arr", h5py.SoftLink("/MAPS/Spectra/mca_arr")),
        virtual,
        external_storage,
        whole_group_elsewhere,
    ],
)
def test_nothing_leads_out_of_the_file(tmp_path: Path, change: Change):
    secret(tmp_path)
    assert "link" in refusal(maps_file(tmp_path / "a.h5", change))


def test_soft_links_inside_the_file_are_followed(tmp_path: Path):
    path = maps_file(
        tmp_path / "a.h5", put("real", STORED), put("Spectra/mca_arr", h5py.SoftLink("/MAPS/real"))
    )
    np.testing.assert_array_equal(read_xrf_maps(path).counts[:, :, 0], COUNTS)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (put("Spectra/mca_arr", STORED[0]), "shape (5, 4)"),
        (put("Spectra/mca_arr", STORED[None]), "shape (1, 7, 5, 4)"),
        (put("Spectra/mca_arr", STORED[:-1]), "no axis of 7 channels"),
        (put("Spectra/mca_arr", STORED + 1j), "complex128"),
        (put("Spectra/mca_arr", np.full(STORED.shape, b"9")), "S1"),
        (put("Spectra/mca_arr", h5py.Empty("f4")), "shape ()"),
        (put("Spectra/mca_arr", np.zeros((N_C, 0, N_X))), "shape (7, 0, 4)"),
        (put("Spectra/Elapsed_Livetime", np.ones(N_X)), "shape (5, 4)"),
        (put("Spectra/Energy_Calibration", np.ones(2)), "shape (3)"),
        (put("x_axis", np.ones((2, N_X))), "x_axis"),
        (put("scalers", np.ones((2, N_Y, N_X))), "shape (0, 5, 4)"),
        (put("scaler_names", ["a", "b"]), "names what is not there"),
        (put("scaler_names", np.arange(3)), "int64"),
        (put("scaler_names", np.full(5000, b"a")), "at most 4096 names"),
        (declare(STORED.shape), "never written"),
        (declare(STORED.shape, chunks=True), "never written"),
        (declare((N_C, 2**13, 2**13), "f8", chunks=(1, 2**13, 2**13)), "never written"),
        (declare((N_C, 2**13, 2**13), chunks=(N_C, 2**13, 2**13)), "one read"),
    ],
)
def test_what_cannot_be_a_map_is_refused(tmp_path: Path, change: Change, word: str):
    assert word in refusal(maps_file(tmp_path / "a.h5", change))


@pytest.mark.parametrize(
    ("shape", "word"), [((N_C, 2**13, 2**13), "never written"), ((N_C, 2**30, 2**30), "pixels")]
)
def test_a_claim_that_is_hardly_stored_is_refused(tmp_path: Path, shape: tuple[int, ...], word: str):
    def one_value(file: Any) -> None:
        file["MAPS/Spectra/mca_arr"][0, 0, 0] = 1

    assert word in refusal(maps_file(tmp_path / "a.h5", declare(shape, chunks=(1, 1, 1)), one_value))


def test_a_map_too_large_for_memory_is_read_by_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = maps_file(tmp_path / "a.h5")
    monkeypatch.setattr(xrf_maps, "_MOST_BYTES", COUNTS.nbytes - 1)
    assert "open_xrf_maps" in refusal(path)
    with open_xrf_maps(path) as file:
        np.testing.assert_array_equal(np.stack(list(file.rows()))[:, :, 0], COUNTS)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, part: float):
    path = maps_file(tmp_path / "a.h5", chunks=(N_C, 1, 1))
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert "cannot be read" in refusal(path)


def test_damaged_chunks_are_refused_where_they_are_met(tmp_path: Path):
    path = maps_file(tmp_path / "a.h5", chunks=(N_C, 1, 1), compression="gzip")
    with h5py.File(path) as file:
        chunk: Any = file["MAPS/Spectra/mca_arr"].id.get_chunk_info_by_coord((0, 3, 0))
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(data)
    assert "cannot be read" in refusal(path)


def test_a_dataset_whose_header_is_damaged_is_not_taken_for_missing(tmp_path: Path):
    path = maps_file(tmp_path / "a.h5", put("x_axis", np.arange(float(N_X))))
    with h5py.File(path) as file:
        header = h5py.h5o.get_info(file["MAPS/x_axis"].id).addr
    data = bytearray(path.read_bytes())
    data[header : header + 16] = bytes(16)
    path.write_bytes(data)
    assert "/MAPS/x_axis cannot be read" in refusal(path)


@pytest.mark.parametrize("content", [None, b"", b"Fe 1 2 3\n" * 99])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes | None):
    path = tmp_path / "a.h5"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    refusal(path)


def test_a_file_without_spectra_is_refused(tmp_path: Path):
    path = maps_file(tmp_path / "a.h5", drop("Spectra"))
    assert "/MAPS/Spectra/mca_arr, /MAPS/mca_arr" in refusal(path)


# ---------------------------------------------------------------------- writing


ARRAYS = ("counts", "x", "y", "live_time", "real_time", "input_rate", "output_rate")


def assert_same(read: Spectra, written: Spectra) -> None:
    """All arrays agree bit by bit, and what belongs to them."""
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name), strict=True)
    assert list(read.scalers) == list(written.scalers)
    np.testing.assert_array_equal(list(read.scalers.values()), list(written.scalers.values()))
    for name in ("calibration", "x_unit", "y_unit"):
        assert getattr(read, name) == getattr(written, name)


def test_spectra_survive_the_round_trip(tmp_path: Path):
    given = spectra()
    path = write_xrf_maps(tmp_path / "a.h5", [element_maps("Fe", "Cu")], spectra=given)
    read = read_xrf_maps(path)
    assert_same(read, given)
    assert read.notes == ()


def test_each_detector_of_a_measured_map_survives_the_round_trip(tmp_path: Path, shared_data: Path):
    measured = read_spectra(shared_data / "xrf" / "axo_std.mda")
    for i, name in enumerate(measured.detectors):
        own = {field: getattr(measured, field)[:, :, i : i + 1] for field in ("counts", *ARRAYS[3:])}
        given = dataclasses.replace(measured, detectors=(name,), **own)
        read = read_xrf_maps(write_xrf_maps(tmp_path / f"axo.h5{i}", [], spectra=given))
        assert_same(read, given)
        assert read.counts.sum() == (895_788, 844_397, 593_359, 696_070)[i]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_counts_keep_their_type(tmp_path: Path, dtype: str):
    given = spectra((COUNTS + 0.1).astype(dtype))
    assert_same(read_xrf_maps(write_xrf_maps(tmp_path / "a.h5", [], spectra=given)), given)


def test_what_is_not_known_is_not_known_after_the_round_trip(tmp_path: Path):
    empty = nothing((N_Y, N_X))
    unknown = np.full((N_Y, N_X), np.nan)
    given = spectra(
        x=unknown, y=unknown, live_time=empty, real_time=empty, input_rate=empty, output_rate=empty,
        scalers={}, calibration=None, x_unit="", y_unit="",
    )  # fmt: skip
    assert_same(read_xrf_maps(write_xrf_maps(tmp_path / "a.h5", [], spectra=given)), given)


def test_positions_that_are_no_grid_survive_beside_their_mean(tmp_path: Path):
    x, y = np.random.default_rng(0).normal(size=(2, N_Y, N_X))
    x[1, 2], y[4] = np.nan, np.nan
    given = spectra(x=x, y=y)
    path = write_xrf_maps(tmp_path / "a.h5", [], spectra=given)
    assert_same(read_xrf_maps(path), given)
    with h5py.File(path) as file:
        axes = [np.asarray(file[f"MAPS/{name}"]) for name in ("x_axis", "y_axis")]
    np.testing.assert_allclose(axes[0], np.nanmean(x, axis=0), rtol=1e-14)
    np.testing.assert_allclose(axes[1][:4], y[:4].mean(axis=1), rtol=1e-13)
    assert np.isnan(axes[1][4])


def test_bad_pixels_survive_the_round_trip_and_stay_out_of_the_sum(tmp_path: Path):
    counts = COUNTS + 0.1
    counts[0, 1, 2], counts[4, 3, 0] = np.nan, -2.5
    given = spectra(counts)
    path = write_xrf_maps(tmp_path / "a.h5", [], spectra=given)
    assert_same(read_xrf_maps(path), given)
    with h5py.File(path) as file:
        total: Any = file["MAPS/int_spec"]
        np.testing.assert_allclose(total[()], (COUNTS + 0.1).sum(axis=(0, 1)) - counts_of((0, 1), (4, 3)))
        assert total.attrs["pixels_left_out"] == 2


def counts_of(*pixels: tuple[int, int]) -> np.ndarray:
    return sum((COUNTS[pixel] + 0.1 for pixel in pixels), np.zeros(N_C))


def test_an_open_file_is_copied_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = spectra()
    first = write_xrf_maps(tmp_path / "a.h5", [], spectra=given)
    monkeypatch.setattr(xrf_maps, "_MOST_BYTES", 0)
    with open_xrf_maps(first) as file:
        second = write_xrf_maps(tmp_path / "b.h5", [element_maps("Fe")], spectra=file)
    monkeypatch.undo()
    assert_same(read_xrf_maps(second), given)


def test_without_counts_the_sum_is_kept(tmp_path: Path):
    given = spectra()
    read = read_xrf_maps(write_xrf_maps(tmp_path / "a.h5", [], spectra=given, counts=False))
    np.testing.assert_array_equal(read.counts[0, 0, 0], COUNTS.sum(axis=(0, 1)))
    np.testing.assert_allclose(read.live_time, [[[given.live_time.sum()]]], rtol=1e-14)


def test_maps_and_their_errors_keep_their_places(tmp_path: Path):
    maps = element_maps("Fe", "Pb_L", "COMPTON_AMPLITUDE", fit=fit_of())
    path = write_xrf_maps(tmp_path / "a.h5", [maps])
    with h5py.File(path) as file:
        group: Any = file["MAPS/XRF_Analyzed/Fitted"]
        np.testing.assert_array_equal(group["Counts_Per_Sec"][()], maps.counts_per_sec, strict=True)
        np.testing.assert_array_equal(group["Counts_Per_Sec_Errors"][()], maps.sigma, strict=True)
        np.testing.assert_array_equal(group["Detection_Limit"][()], maps.detection_limit, strict=True)
        assert [name.decode() for name in group["Channel_Names"]] == list(maps.names)
        assert [unit.decode() for unit in group["Channel_Units"]] == ["cts/s"] * 3


def test_parameters_are_kept_with_their_sigmas_and_bounds(tmp_path: Path):
    fit = fit_of()
    path = write_xrf_maps(tmp_path / "a.h5", [element_maps("Fe", fit=fit)])
    with h5py.File(path) as file:
        group: Any = file["MAPS/XRF_Analyzed/Fitted"]
        stored = {name: group[f"Parameters/{name}"][()] for name in group["Parameters"]}
        np.testing.assert_array_equal(group["Fitted_Integrated_Spectra"][()], fit.spectrum)
        np.testing.assert_array_equal(group["FIT_Integrated_Background"][()], fit.background)
    assert [name.decode() for name in stored["Names"]] == list(fit.names)
    np.testing.assert_array_equal(stored["Values"], fit.values)
    np.testing.assert_array_equal(stored["Sigmas"], fit.sigmas)
    np.testing.assert_array_equal(stored["Lower_Bounds"], fit.lower)
    np.testing.assert_array_equal(stored["Upper_Bounds"], fit.upper)


def test_the_names_of_version_9_are_the_same_data(tmp_path: Path):
    maps = [element_maps("Fe", "Cu", routine=routine) for routine in ("Fitted", "NNLS", "ROI")]
    path = write_xrf_maps(tmp_path / "a.h5", maps, spectra=spectra())
    pairs = {
        "channel_names": "XRF_Analyzed/Fitted/Channel_Names",
        "XRF_fits": "XRF_Analyzed/Fitted/Counts_Per_Sec",
        "XRF_roi_plus": "XRF_Analyzed/NNLS/Counts_Per_Sec",
        "XRF_roi": "XRF_Analyzed/ROI/Counts_Per_Sec",
        "mca_arr": "Spectra/mca_arr",
        "scalers": "Scalers/Values",
    }
    with h5py.File(path) as file:
        group: Any = file["MAPS"]
        assert all(group[alias] == group[target] for alias, target in pairs.items())
        assert group["version"][()] == [9.0]


def test_no_map_is_named_after_the_channels_of_another(tmp_path: Path):
    maps = [element_maps("Fe", "Cu"), element_maps("Cu", "Fe", routine="NNLS")]
    with h5py.File(write_xrf_maps(tmp_path / "a.h5", maps)) as file:
        group: Any = file["MAPS"]
        assert group["XRF_fits"] == group["XRF_Analyzed/Fitted/Counts_Per_Sec"]
        assert "XRF_roi_plus" not in group


def test_a_file_is_replaced_only_when_asked(tmp_path: Path):
    path = write_xrf_maps(tmp_path / "a.h5", [element_maps("Fe")])
    before = path.read_bytes()
    with pytest.raises(StorageError, match="mend: choose another name"):
        write_xrf_maps(path, [element_maps("Cu")])
    assert path.read_bytes() == before
    write_xrf_maps(path, [element_maps("Cu")], overwrite=True)
    with h5py.File(path) as file:
        names: Any = file["MAPS/channel_names"]
        assert list(names) == [b"Cu"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, overwrite: bool
):
    path, maps = tmp_path / "a.h5", [element_maps("Fe")]
    before = write_xrf_maps(path, maps).read_bytes() if overwrite else None

    def fails(*_: object) -> None:
        assert list(tmp_path.glob("*.part"))
        raise error

    monkeypatch.setattr(xrf_maps_write, "_put_maps", fails)
    with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
        write_xrf_maps(path, maps, spectra=spectra(), overwrite=overwrite)
    assert list(tmp_path.iterdir()) == ([path] if overwrite else [])
    assert before is None or path.read_bytes() == before


def test_damage_in_the_source_leaves_no_file(tmp_path: Path):
    source = maps_file(tmp_path / "a.h5", chunks=(N_C, 1, 1), compression="gzip")
    with h5py.File(source) as file:
        chunk: Any = file["MAPS/Spectra/mca_arr"].id.get_chunk_info_by_coord((0, 3, 0))
    data = bytearray(source.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    source.write_bytes(data)
    with open_xrf_maps(source) as file, pytest.raises(DataError, match="cannot be read"):
        write_xrf_maps(tmp_path / "b.h5", [], spectra=file)
    assert list(tmp_path.iterdir()) == [source]


def test_what_a_dead_writer_left_is_cleared(tmp_path: Path):
    (tmp_path / "a.99-1.h5.part").write_bytes(b"half")
    path = write_xrf_maps(tmp_path / "a.h5", [element_maps("Fe")])
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(StorageError, match="mend: check that its folder is there"):
        write_xrf_maps(tmp_path / "no" / "a.h5", [])


def changed(**changes: Any) -> ElementMaps:
    return dataclasses.replace(element_maps("Fe", "Cu", fit=fit_of()), **changes)


@pytest.mark.parametrize(
    ("maps", "word"),
    [
        ([changed(sigma=np.ones((2, N_Y, N_X + 1)))], "sigma"),
        ([changed(detection_limit=np.ones((N_Y, N_X)))], "detection_limit"),
        ([changed(names=("Fe",))], "1 names"),
        ([changed(names=("Fe", "Fe"))], "names"),
        ([changed(names=("Fe", ""))], "names"),
        ([changed(names=("Fe", "x" * 256))], "names"),
        ([changed(units=("cts/s",))], "1 units"),
        ([changed(routine="../Fitted")], "routines"),
        ([changed(), changed()], "routines"),
        ([changed(fit=dataclasses.replace(fit_of(), sigmas=np.ones(4)))], "3 parameters"),
        ([changed(counts_per_sec=np.ones((2, 1, 1)))], "shape"),
    ],
)
def test_maps_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, maps: list[ElementMaps], word: str
):
    with pytest.raises(DataError, match="mend: ") as caught:
        write_xrf_maps(tmp_path / "a.h5", maps, spectra=spectra())
    assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_several_detectors_have_no_common_spectrum(tmp_path: Path):
    both = {name: np.concatenate([getattr(spectra(), name)] * 2, axis=2) for name in ("counts", *ARRAYS[3:])}
    two = dataclasses.replace(spectra(), detectors=("a", "b"), **both)
    with pytest.raises(DataError, match="write one file for each"):
        write_xrf_maps(tmp_path / "a.h5", [], spectra=two)
    with h5py.File(write_xrf_maps(tmp_path / "a.h5", [], spectra=two, counts=False)) as file:
        group: Any = file["MAPS"]
        np.testing.assert_array_equal(group["scalers"][()], list(two.scalers.values()))
        assert "Spectra" not in group
