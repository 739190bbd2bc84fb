from __future__ import annotations

import numpy as np
import pytest

from skyloop.engines.xrf.splines import splines

COUNTS = pytest.mark.parametrize("count", [1, 7, 100, 1001])


@COUNTS
@pytest.mark.parametrize("spacing", [3.0, 75.0, 1e4])
def test_they_add_up_to_one_everywhere(count: int, spacing: float) -> None:
    np.testing.assert_allclose(splines(count, np.full(count, spacing)).sum(0), 1.0, rtol=1e-12)


@COUNTS
def test_none_is_negative_and_each_reaches_a_channel(count: int) -> None:
    found = splines(count, np.full(count, 20.0))
    assert found.min() >= 0
    if count > 80:
        assert found.sum(1).min() > 0


@pytest.mark.parametrize(("count", "spacing", "pieces"), [(100, 25.0, 4), (100, 30.0, 3), (10, 1e4, 1)])
def test_there_are_three_more_than_pieces(count: int, spacing: float, pieces: int) -> None:
    assert splines(count, np.full(count, spacing)).shape == (pieces + 3, count)


def test_they_reach_over_four_pieces_at_most() -> None:
    assert int((splines(400, np.full(400, 20.0)) > 0).sum(1).max()) <= 80


def test_cubic_polynomials_are_among_them() -> None:
    found, x = splines(300, np.full(300, 30.0)), np.linspace(-1, 1, 300)
    cubic = 1 + x - 2 * x**2 + 3 * x**3
    amplitudes = np.linalg.lstsq(found.T, cubic, rcond=None)[0]
    np.testing.assert_allclose(amplitudes @ found, cubic, atol=1e-10)


def test_narrow_spacing_makes_narrow_splines_there_only() -> None:
    spacing = np.where(np.arange(400) < 200, 10.0, 50.0)
    found = splines(400, spacing)
    widths, at = (found > 0).sum(1), found.argmax(1)
    assert int(widths[at < 150].max()) <= 45
    assert int(widths[at > 280].min()) >= 49
    np.testing.assert_allclose(found.sum(0), 1.0, rtol=1e-12)


def test_even_ones_are_their_own_mirror_image() -> None:
    found = splines(200, np.full(200, 20.0))
    np.testing.assert_allclose(found, found[::-1, ::-1], atol=1e-12)
