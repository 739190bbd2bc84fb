"""A background of smooth functions that are nowhere negative."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import BSpline

from skyloop.quantities import FloatArray

__all__ = ["splines"]

_DEGREE = 3


def splines(count: int, spacing: FloatArray) -> FloatArray:
    """Cubic B-splines [spline, channel] over `count` channels, which add up to 1 in every channel.

    Args:
        count: how many channels.
        spacing: [channel], distance between knots there, in channels; the wider, the stiffer.

    >>> splines(100, np.full(100, 25.0)).shape
    (7, 100)
    """
    wound = np.concatenate([[0.0], np.cumsum(1 / spacing)])  # a coordinate in which knots are equidistant
    pieces = max(1, round(wound[-1]))
    knots = np.interp(np.linspace(0, wound[-1], pieces + 1), wound, np.arange(count + 1.0))
    padded = np.concatenate([np.repeat(knots[0], _DEGREE), knots, np.repeat(knots[-1], _DEGREE)])
    design = BSpline.design_matrix(np.arange(count) + 0.5, padded, _DEGREE)
    return np.ascontiguousarray(design.toarray().T)
