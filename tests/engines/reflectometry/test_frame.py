from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

from skyloop.engines.reflectometry.frame import Frame, join
from skyloop.errors import DataError

NAN = float("nan")


def test_a_point_is_a_frame_of_length_one() -> None:
    point = Frame.counted(0.1, 5, 1e4)
    assert len(point) == 1
    assert point.is_counted.all()
    assert np.isnan(point.reflectivity).all()


def test_joined_frames_keep_order_and_kind() -> None:
    whole = join([Frame.counted([0.1, 0.2], [5, 0], 1e4), Frame.measured(0.3, -1e-6, 1e-6, 1e-3)])
    np.testing.assert_array_equal(whole.q, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(whole.is_counted, [True, True, False])
    np.testing.assert_array_equal(whole.q_sigma, [0, 0, 1e-3])


def test_a_frame_survives_a_pickle() -> None:
    frame = Frame.measured([0.1, 0.2], [1e-3, -1e-4], 1e-5)
    copy = pickle.loads(pickle.dumps(frame))
    np.testing.assert_array_equal(copy.reflectivity, frame.reflectivity)


def test_a_frame_does_not_share_the_callers_array() -> None:
    q = np.array([0.1, 0.2])
    frame = Frame.measured(q, 1e-3, 1e-4)
    q[0] = 9
    assert frame.q[0] == 0.1


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (([0.0], [0.0], [1], [9], [NAN], [NAN]), r"q\[0\] = 0 must be positive"),
        (([NAN], [0.0], [1], [9], [NAN], [NAN]), r"q\[0\] = nan"),
        (([0.1], [-1.0], [1], [9], [NAN], [NAN]), r"q_sigma\[0\] = -1"),
        (([0.1], [0.0], [-1], [9], [NAN], [NAN]), r"counts\[0\] = -1 must be >= 0"),
        (([0.1], [0.0], [1], [0], [NAN], [NAN]), r"exposure\[0\] = 0 must be positive"),
        (([0.1], [0.0], [1], [NAN], [NAN], [NAN]), r"exposure\[0\]"),
        (([0.1], [0.0], [1], [9], [0.1], [0.1]), r"reflectivity\[0\]"),
        (([0.1], [0.0], [NAN], [NAN], [NAN], [NAN]), r"reflectivity\[0\]"),
        (([0.1], [0.0], [NAN], [NAN], [0.1], [0.0]), r"reflectivity_sigma\[0\] = 0 must be positive"),
        (([0.1], [0.0], [NAN], [9], [0.1], [0.1]), r"exposure\[0\]"),
        (([0.1, 0.2], [0.0], [1], [9], [NAN], [NAN]), "differ in shape"),
    ],
)
def test_a_point_that_is_none_is_refused(columns: tuple[list[float], ...], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Frame(*(np.array(c) for c in columns))


LARGEST = float(np.finfo(float).max)
LARGEST_OF_ALL = {
    "q": 10.0,
    "q_sigma": 10.0,
    "counts": 1e18,
    "exposure": 1e18,
    "reflectivity": 1e12,
    "reflectivity_sigma": 1e12,
}


def with_one(name: str, value: float) -> Frame:
    counted = name in ("counts", "exposure")
    given = {"q": 0.1, "q_sigma": 0.001, "counts": NAN, "exposure": NAN}
    given |= {"reflectivity": 1e-3, "reflectivity_sigma": 1e-4}
    if counted:
        given |= {"counts": 5.0, "exposure": 1e4, "reflectivity": NAN, "reflectivity_sigma": NAN}
    columns = {key: np.full(3, number) for key, number in given.items()}
    columns[name][1] = value
    return Frame(**columns)


@pytest.mark.parametrize("value", [LARGEST, 1e200, 9.97e36, 1e20])
@pytest.mark.parametrize("name", list(LARGEST_OF_ALL))
def test_what_no_instrument_gives_is_refused_with_its_name_its_value_and_a_mend(
    name: str, value: float
) -> None:
    with pytest.raises(DataError) as refused:
        with_one(name, value)
    told = str(refused.value)
    assert told.startswith(f"{name}[1] = {value:g} must be from ")
    assert "(1 of 3 points); mend: a fill value, or another unit? leave" in told


@pytest.mark.parametrize(
    ("name", "value"), [("reflectivity", -1e20), ("reflectivity_sigma", 1e-160), ("exposure", 1e-300)]
)
def test_what_is_far_too_small_is_refused(name: str, value: float) -> None:
    with pytest.raises(DataError, match=re.escape(f"{name}[1] = {value:g} must be from ")):
        with_one(name, value)


@pytest.mark.parametrize(("name", "value"), LARGEST_OF_ALL.items())
def test_what_an_instrument_may_give_is_taken(name: str, value: float) -> None:
    assert getattr(with_one(name, value), name)[1] == value


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="make no frame"):
        Frame.counted([0.1, 0.2], [1, 2, 3], 9)


def test_joining_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no frames"):
        join([])
