"""What may be read and what not: paths, HDF5 files that nobody vouches for, files that are being written."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from skyloop.documents.external import ExternalData, NotYet, Roots, Unreadable
from skyloop.errors import ConfigError

IMAGE = {"source": "test", "dtype": "array", "shape": [1, 3, 4], "external": "STREAM:"}
SECRET = b"root:x:0:0:root:/root:/bin/bash\n" * 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "passwd").write_bytes(SECRET)
    return folder


@pytest.fixture
def external(root: Path):
    data = ExternalData(Roots({}, [str(root)]))
    yield data
    data.forget([])


def got(reading: Any) -> Any:
    """The value of a reading that succeeded."""
    assert not isinstance(reading, (NotYet, Unreadable)), reading
    return reading


def resource(path: Path | str, dataset: Any = "/entry/data/data", **parameters: Any) -> dict[str, Any]:
    return {
        "uid": "sr",
        "data_key": "det",
        "mimetype": "application/x-hdf5",
        "uri": str(path) if "://" in str(path) else f"file://localhost{path}",
        "parameters": {"dataset": dataset, **parameters},
    }


def write(path: Path, data: np.ndarray[Any, Any], dataset: str = "entry/data/data", **options: Any) -> Path:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(dataset, data=data, **options)
    return path


FRAMES = np.arange(60.0).reshape(5, 3, 4)


# ---------------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("stored", "shape", "parameters"),
    [
        (FRAMES, [1, 3, 4], {}),
        (FRAMES, [3, 4], {}),
        (FRAMES, [None, None], {}),
        (FRAMES, [1, 3, 4], {"join_method": "concat", "chunk_shape": [1, 3, 4]}),
        (FRAMES[:, None], [1, 3, 4], {"join_method": "stack"}),
        (FRAMES, [3, 4], {"multiplier": 1}),
        (FRAMES, [1, 3, 4], {"multiplier": 1}),
    ],
)
def test_each_index_gives_its_frame_in_the_declared_shape(
    root: Path, external: ExternalData, stored: Any, shape: list[Any], parameters: dict[str, Any]
):
    path = write(root / "a.h5", stored)
    for index in (4, 0, 2):
        frame = got(external.frame(resource(path, **parameters), index, {**IMAGE, "shape": shape}))
        assert frame.shape == (FRAMES[0].shape if None in shape else tuple(shape))
        np.testing.assert_array_equal(frame.reshape(3, 4), FRAMES[index])


@pytest.mark.parametrize(("shape", "parameters"), [([2, 3, 4], {}), ([3, 4], {"multiplier": 2})])
def test_several_rows_may_make_one_frame(root: Path, external: ExternalData, shape: Any, parameters: Any):
    path = write(root / "a.h5", FRAMES)
    frame = got(external.frame(resource(path, **parameters), 1, {**IMAGE, "shape": shape}))
    np.testing.assert_array_equal(frame, FRAMES[2:4])
    late = external.frame(resource(path, **parameters), 2, {**IMAGE, "shape": shape})
    assert isinstance(late, NotYet)  # rows 4 and 5 of five


@pytest.mark.parametrize("shape", [[], [1]])
def test_numbers_come_as_numbers(root: Path, external: ExternalData, shape: list[int]):
    path = write(root / "a.h5", np.arange(5.0), "sum")
    value = external.frame(resource(path, "/sum"), 3, {"dtype": "number", "shape": shape})
    assert (value, type(value)) == (3.0, float)


def test_the_path_of_the_dataset_may_be_a_list_and_go_through_a_soft_link(root: Path, external: ExternalData):
    path = root / "a.h5"
    with h5py.File(path, "w") as file:
        file["instrument/detector/data"] = FRAMES
        file["entry/data"] = h5py.SoftLink("/instrument/detector")
        file["instrument/detector/alias"] = h5py.SoftLink("data")
    for dataset in (["entry", "data", "data"], "entry/data/alias"):
        np.testing.assert_array_equal(got(external.frame(resource(path, dataset), 1, IMAGE))[0], FRAMES[1])


@pytest.mark.parametrize(
    ("shape", "parameters", "word"),
    [
        ([4, 3], {}, "no series of frames"),
        ([1, 1, 3, 4, 5], {}, "no series of frames"),
        ([None, 3, 4], {}, "no series of frames"),
        ([-1, 3, 4], {}, "no series of frames"),
        ([1, 3, 4], {"slice": [":"]}, "slice"),
        ([1, 3, 4], {"squeeze": True}, "squeeze"),
        ([1, 3, 4], {"multiplier": "2"}, "multiplier"),
        ([1, 3, 4], {"multiplier": np.ones(2)}, "multiplier"),
        ([1, 3, 4], {"dataset": None}, "dataset"),
    ],
)
def test_what_does_not_fit_is_unreadable(
    root: Path, external: ExternalData, shape: Any, parameters: dict[str, Any], word: str
):
    path = write(root / "a.h5", FRAMES)
    described = resource(path)
    described["parameters"].update(parameters)
    answer = external.frame(described, 0, {**IMAGE, "shape": shape})
    assert isinstance(answer, Unreadable)
    assert word in answer.reason


def test_other_mimetypes_are_unreadable(root: Path, external: ExternalData):
    described = {**resource(root / "a.tif"), "mimetype": "image/tiff"}
    assert "image/tiff" in external.frame(described, 0, IMAGE).reason


# ---------------------------------------------------------------------- paths


def test_nothing_is_read_unless_a_root_is_allowed(root: Path):
    path = write(root / "a.h5", FRAMES)
    answer = ExternalData(Roots({}, ())).frame(resource(path), 0, IMAGE)
    assert isinstance(answer, Unreadable)
    assert "allowed_roots" in answer.reason


def test_a_relative_root_is_refused():
    for root in ("", ".", "data"):
        with pytest.raises(ConfigError, match="absolute"):
            Roots({}, [root])


@pytest.mark.parametrize(
    "uri",
    [
        "file://localhost{root}/../passwd",
        "file://localhost{root}/%2e%2e/passwd",
        "file://localhost{tmp}/passwd",
        "file:///etc/hostname",
        "file://localhost{root}/link",
        "file://localhost{root}/folder_link/passwd",
        "file://localhost{root}2/a.h5",
    ],
)
def test_no_uri_leads_out_of_the_root(root: Path, external: ExternalData, uri: str):
    (root / "link").symlink_to(root.parent / "passwd")
    (root / "folder_link").symlink_to(root.parent)
    (root.parent / "data2").mkdir()
    write(root.parent / "data2" / "a.h5", FRAMES)
    answer = external.frame(resource(uri.format(root=root, tmp=root.parent)), 0, IMAGE)
    assert isinstance(answer, Unreadable)
    assert "outside the allowed roots" in answer.reason


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost{root}/a.h5",
        "file://elsewhere{root}/a.h5",
        "file://localhost:80{root}/a.h5",
        "file://[{root}",
        "file://localhost{root}/a.h5?x=1",
        "file://localhost{root}/a.h5#x",
        "file:a.h5",
        "file://localhost{root}/a%00.h5",
        "a.h5://",
        "://",
    ],
)
def test_only_files_of_this_machine_are_read(root: Path, external: ExternalData, uri: str):
    write(root / "a.h5", FRAMES)
    assert isinstance(external.frame(resource(uri.format(root=root)), 0, IMAGE), Unreadable)


def test_a_link_that_stays_inside_is_followed(root: Path, external: ExternalData):
    write(root / "a b.h5", FRAMES)
    (root / "link.h5").symlink_to(root / "a b.h5")
    for name in ("link.h5", "a%20b.h5"):
        frame = got(external.frame(resource(f"file://localhost{root}/{name}"), 0, IMAGE))
        np.testing.assert_array_equal(frame[0], FRAMES[0])


def test_a_link_to_itself_is_unreadable(root: Path, external: ExternalData):
    (root / "loop.h5").symlink_to(root / "loop.h5")
    assert isinstance(external.frame(resource(root / "loop.h5"), 0, IMAGE), Unreadable | NotYet)


def test_what_is_no_regular_file_is_not_opened(root: Path, external: ExternalData):
    os.mkfifo(root / "pipe.h5")
    assert stat.S_ISFIFO((root / "pipe.h5").stat().st_mode)
    for path in (root / "pipe.h5", root):
        assert "not a regular file" in external.frame(resource(path), 0, IMAGE).reason
    assert isinstance(external.frame(resource(root / ("x" * 300)), 0, IMAGE), Unreadable)


@pytest.mark.parametrize(
    ("old", "uri"),
    [
        ("/beamline/x", "file://localhost/beamline/x/a.h5"),
        ("/beamline/x/", "file:///beamline/x/a.h5"),
        ("C:\\data", "file://localhost/C:/data/a.h5"),
    ],
)
def test_the_root_map_replaces_the_beginning_of_paths(root: Path, old: str, uri: str):
    write(root / "a.h5", FRAMES)
    data = ExternalData(Roots({"/beamline": "/nowhere", old: str(root)}, [str(root)]))
    np.testing.assert_array_equal(got(data.frame(resource(uri), 2, IMAGE))[0], FRAMES[2])
    data.forget([])


def test_the_root_map_replaces_whole_folders_only(root: Path):
    roots = Roots({"/beam": str(root)}, [str(root)])
    assert roots.of_uri("file:///beamline/a.h5") == "/beamline/a.h5"
    assert roots.of_resource({"root": "/beam", "resource_path": "a"}) == f"{root}/a"
    escaped = roots.file(str(roots.of_resource({"root": "/beam", "resource_path": "../passwd"})))
    assert isinstance(escaped, Unreadable)


def test_windows_paths_of_resources_are_mapped(root: Path):
    roots = Roots({"C:/data": str(root)}, [str(root)])
    document = {"root": "C:\\data", "resource_path": "run1\\a.h5", "path_semantics": "windows"}
    assert roots.of_resource(document) == f"{root}/run1/a.h5"


# ---------------------------------------------------------------------- hostile files


def external_storage(path: Path) -> None:
    with h5py.File(path, "w") as file:
        source = str(path.parent.parent / "passwd")
        file.create_dataset("entry/data/data", (5, 3, 4), "u1", external=[(source, 0, 60)])


def external_link(path: Path) -> None:
    write(path.parent.parent / "other.h5", FRAMES)
    with h5py.File(path, "w") as file:
        file["entry/data"] = h5py.ExternalLink(str(path.parent.parent / "other.h5"), "/entry/data")


def external_link_behind_a_soft_link(path: Path) -> None:
    external_link(path)
    with h5py.File(path, "a") as file:
        file.move("entry/data", "hidden")
        file["entry/data"] = h5py.SoftLink("/hidden")


def virtual_dataset(path: Path) -> None:
    write(path.parent.parent / "other.h5", FRAMES)
    layout = h5py.VirtualLayout((5, 3, 4), "f8")
    layout[...] = h5py.VirtualSource(path.parent.parent / "other.h5", "entry/data/data", (5, 3, 4))
    with h5py.File(path, "w") as file:
        file.create_group("entry/data").create_virtual_dataset("data", layout)


def huge_rows(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", (5, 3_000_000, 4_000_000), "f8", chunks=(1, 100, 100))


def huge_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", (10**9, 3, 4), "f8", chunks=(30_000_000, 3, 4))


def text_rows(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.array([b"a", b"b"], dtype=object)


def soft_link_circle(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry"] = h5py.SoftLink("/other")
        file["other"] = h5py.SoftLink("/entry")


def group_at_the_end(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("entry/data/data")


def dataset_on_the_way(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/data"] = FRAMES


def no_rows(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = 3.0


def empty_rows(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.zeros((5, 3, 0))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (external_storage, "stored in another file"),
        (external_link, "external link"),
        (external_link_behind_a_soft_link, "external link"),
        (virtual_dataset, "virtual dataset"),
        (huge_rows, "bytes"),
        (huge_chunks, "bytes"),
        (text_rows, "no numbers"),
        (soft_link_circle, "circles"),
        (group_at_the_end, "not a dataset"),
        (dataset_on_the_way, "not a group"),
        (no_rows, "no rows"),
        (empty_rows, "hold nothing"),
    ],
)
def test_hostile_files_are_refused_for_good(
    root: Path, external: ExternalData, make: Callable[[Path], None], word: str
):
    make(root / "a.h5")
    shape = {"huge_rows": [3_000_000, 4_000_000], "empty_rows": [3, 0]}.get(make.__name__, [1, 3, 4])
    answer = external.frame(resource(root / "a.h5"), 0, {**IMAGE, "shape": shape})
    assert isinstance(answer, Unreadable)
    assert word in answer.reason
    assert str(root / "a.h5") in answer.reason


def test_the_hostile_files_of_these_tests_do_leak_without_the_guard(root: Path):
    external_storage(root / "a.h5")
    with h5py.File(root / "a.h5", "r") as file:
        leaked: Any = file["entry/data/data"]
        assert leaked[0].tobytes() == SECRET[:12]


def test_rows_that_are_declared_and_not_written_are_not_there_yet(root: Path, external: ExternalData):
    with h5py.File(root / "a.h5", "w", libver="latest") as file:
        chunked = file.create_dataset("chunked", (5, 3, 4), "f8", chunks=(2, 3, 4))
        chunked[0:2] = 1.0
        file.create_dataset("plain", (5, 3, 4), "f8")
    assert got(external.frame(resource(root / "a.h5", "chunked"), 1, IMAGE)).max() == 1.0
    assert isinstance(external.frame(resource(root / "a.h5", "chunked"), 2, IMAGE), NotYet)
    assert isinstance(external.frame(resource(root / "a.h5", "plain"), 0, IMAGE), NotYet)


def test_a_file_cut_off_anywhere_gives_the_frame_or_a_reason(root: Path, external: ExternalData):
    whole = write(root / "whole.h5", FRAMES, chunks=(1, 3, 4)).read_bytes()
    for size in range(0, len(whole), 97):
        (root / "cut.h5").write_bytes(whole[:size])
        external.forget([])
        answer = external.frame(resource(root / "cut.h5"), 4, IMAGE)
        if isinstance(answer, np.ndarray):
            np.testing.assert_array_equal(answer[0], FRAMES[4])
        else:
            assert isinstance(answer, NotYet | Unreadable)
            assert answer.reason


@pytest.mark.parametrize("chunks", [(1, 3, 1), (1, 1, 1)])
def test_a_frame_in_tiles_cut_off_anywhere_is_whole_or_not_there(
    root: Path, external: ExternalData, chunks: tuple[int, int, int]
):
    frames = FRAMES.repeat(2, axis=2) + 1.0
    whole = write(root / "whole.h5", frames, chunks=chunks).read_bytes()
    seen = set[bool]()
    for size in range(len(whole) // 2, len(whole) + 1, 8):
        (root / "cut.h5").write_bytes(whole[:size])
        external.forget([])
        answer = external.frame(resource(root / "cut.h5"), 4, {**IMAGE, "shape": [1, 3, 8]})
        seen.add(isinstance(answer, np.ndarray))
        if isinstance(answer, np.ndarray):
            np.testing.assert_array_equal(answer[0], frames[4])
    assert seen == {True, False}


def test_random_damage_never_raises(root: Path, external: ExternalData):
    rng = np.random.default_rng(1)
    whole = write(root / "whole.h5", FRAMES, chunks=(1, 3, 4)).read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] ^= int(rng.integers(1, 256))
        (root / "bad.h5").write_bytes(damaged)
        external.forget([])
        answer = external.frame(resource(root / "bad.h5"), 2, IMAGE)
        assert isinstance(answer, np.ndarray | NotYet | Unreadable)


# ---------------------------------------------------------------------- files that grow


def test_a_growing_file_is_read_as_far_as_it_is_written(root: Path, external: ExternalData):
    path = root / "a.h5"
    assert isinstance(external.frame(resource(path), 0, IMAGE), NotYet)
    with h5py.File(path, "w", libver="latest") as file:
        dataset = file.create_dataset(
            "entry/data/data", (0, 3, 4), "f8", maxshape=(None, 3, 4), chunks=(1, 3, 4)
        )
        file.swmr_mode = True
        for index in range(4):
            external.new_round()
            assert isinstance(external.frame(resource(path), index, IMAGE), NotYet)
            assert isinstance(external.frame(resource(path), index + 1, IMAGE), NotYet)
            dataset.resize(index + 1, axis=0)
            dataset[index] = FRAMES[index]
            dataset.flush()
            external.new_round()
            np.testing.assert_array_equal(got(external.frame(resource(path), index, IMAGE))[0], FRAMES[index])


@pytest.mark.parametrize("tiles", [(1, 8, 4), (1, 1, 2)], ids=["2", "32"])
def test_a_frame_is_there_when_each_of_its_tiles_is(
    root: Path, external: ExternalData, tiles: tuple[int, int, int]
):
    image = {**IMAGE, "shape": [8, 8]}
    with h5py.File(root / "a.h5", "w", libver="latest") as file:
        dataset = file.create_dataset("d", (1, 8, 8), "u2", maxshape=(None, 8, 8), chunks=tiles)
        dataset[0] = 7
        file.swmr_mode = True
        assert got(external.frame(resource(root / "a.h5", "d"), 0, image)).min() == 7
        dataset.resize(2, axis=0)
        for row, column in itertools.product(range(0, 8, tiles[1]), range(0, 8, tiles[2])):
            external.new_round()
            assert isinstance(external.frame(resource(root / "a.h5", "d"), 1, image), NotYet)
            dataset[1, row : row + tiles[1], column : column + tiles[2]] = 7
            dataset.flush()
        external.new_round()
        assert got(external.frame(resource(root / "a.h5", "d"), 1, image)).min() == 7


def test_a_file_replaced_by_a_complete_one_is_read(root: Path, external: ExternalData):
    path = root / "a.h5"
    path.write_bytes(b"not yet")
    assert isinstance(external.frame(resource(path), 0, IMAGE), NotYet)
    write(path, FRAMES)
    external.new_round()
    np.testing.assert_array_equal(got(external.frame(resource(path), 0, IMAGE))[0], FRAMES[0])


def test_few_files_stay_open(root: Path, external: ExternalData):
    for i in range(40):
        path = write(root / f"{i}.h5", FRAMES + i)
        assert got(external.frame(resource(path), 0, IMAGE)).min() == i
    assert len(external._hdf5._files) <= 16


# ---------------------------------------------------------------------- resource and datum


def datum(**kwargs: Any) -> dict[str, Any]:
    return {"datum_id": "r/0", "resource": "r", "datum_kwargs": kwargs}


def plain_resource(spec: str, folder: Path, path: str, **kwargs: Any) -> dict[str, Any]:
    return {"uid": "r", "spec": spec, "root": str(folder), "resource_path": path, "resource_kwargs": kwargs}


@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR"])
@pytest.mark.parametrize("frames", [1, 2])
def test_area_detector_files_are_read(root: Path, external: ExternalData, spec: str, frames: int):
    write(root / "a.h5", FRAMES)
    described = plain_resource(spec, root, "a.h5", frame_per_point=frames)
    value = external.datum(described, datum(point_number=1), {"dtype": "array", "shape": [frames, 3, 4]})
    np.testing.assert_array_equal(value, FRAMES[frames : 2 * frames])


def test_npy_sequences_are_read(root: Path, external: ExternalData):
    described = plain_resource("NPY_SEQ", root, "stem")
    assert isinstance(external.datum(described, datum(index=0), IMAGE), NotYet)
    np.save(root / "stem_0.npy", FRAMES[0])
    np.testing.assert_array_equal(got(external.datum(described, datum(index=0), IMAGE))[0], FRAMES[0])


def test_hostile_npy_files_are_no_values(root: Path, external: ExternalData):
    described = plain_resource("NPY_SEQ", root, "stem")
    np.save(root / "stem_0.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.lib.format.open_memmap(root / "stem_1.npy", mode="w+", dtype="f8", shape=(4,))
    (root / "stem_1.npy").write_bytes((root / "stem_1.npy").read_bytes().replace(b"(4,)", b"(9**9,)"))
    (root / "stem_2.npy").write_bytes(b"")
    (root / "stem_3.npy").symlink_to(root.parent / "passwd")
    for index in (0, 1, 2, 3, -1, "0", None, 10**5000, "../../passwd"):
        answer = external.datum(described, datum(index=index), IMAGE)
        assert isinstance(answer, NotYet | Unreadable)


class Handler:
    """Of event-model's kind: made with a path and keywords, called with the keywords of a datum."""

    def __init__(self, path: str, factor: float = 1.0) -> None:
        self.path, self.factor = path, factor

    def __call__(self, index: int = 0, error: type[Exception] | None = None) -> Any:
        if error:
            raise error("because")
        return [self.factor * index] * 3


def test_handlers_read_further_specs(root: Path):
    data = ExternalData(Roots({}, [str(root)]), {"MINE": Handler})
    described = plain_resource("MINE", root, "stem", factor=2.0)
    entry = {"dtype": "array", "shape": [3]}
    np.testing.assert_array_equal(data.datum(described, datum(index=4), entry), [8.0, 8.0, 8.0])
    assert isinstance(data.datum(described, datum(error=FileNotFoundError), entry), NotYet)
    for error in (KeyError, ValueError, TypeError, ZeroDivisionError, RuntimeError, IndexError):
        answer = data.datum(described, datum(error=error), entry)
        assert isinstance(answer, Unreadable)
        assert "because" in answer.reason
    assert isinstance(data.datum(plain_resource("MINE", root, "../x"), datum(), entry), Unreadable)
    unmade = {**plain_resource("MINE", root, "x", wrong=1), "uid": "other"}
    assert "wrong" in data.datum(unmade, datum(), entry).reason


def test_unknown_specs_are_unreadable_and_say_the_mend(root: Path, external: ExternalData):
    answer = external.datum(plain_resource("XYZ", root, "a"), datum(), IMAGE)
    assert "handlers={'XYZ'" in answer.reason
    bad = external.datum(plain_resource("AD_HDF5", root, "a"), datum(point_number="1"), IMAGE)
    assert isinstance(bad, NotYet | Unreadable)
