"""How long a detector could count: dead time from rates in and out.

All functions take single numbers or arrays, a number per pixel; what cannot be a rate gives NaN there, and a
pixel with such a dead time is rejected by `PixelSolver`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from skyloop.quantities import FloatArray

__all__ = ["dead_time_share", "input_rate", "live_time"]


def input_rate(output_rate: ArrayLike, dead_time: float) -> FloatArray:
    """Counts that arrive per second, r / (1 - r τ), at a counter that is blind for τ after each it takes.

    NaN where r is negative, or 1/τ or more, which such a counter cannot give.

    Args:
        output_rate: r, counts taken per second of real time.
        dead_time: τ [s].

    References:
        G. F. Knoll, Radiation Detection and Measurement, 4th ed. (2010), chapter 4 (nonparalyzable).

    >>> float(input_rate(50_000.0, 2e-6).round())
    55556.0
    """
    rate = np.asarray(output_rate, dtype=np.float64)
    rate = np.where((rate >= 0) & (rate * dead_time < 1), rate, np.nan)
    return rate / (1 - rate * dead_time)


def dead_time_share(input_counts: ArrayLike, output_counts: ArrayLike) -> FloatArray:
    """Share of the real time that was dead, 1 - OCR/ICR; 0 where nothing arrived.

    NaN where a number is negative or not finite, or more came out than went in.

    Args:
        input_counts: ICR, counts or rate of the fast channel.
        output_counts: OCR, counts or rate of the spectrum.

    >>> float(dead_time_share(8000.0, 6000.0))
    0.25
    """
    icr, ocr = np.asarray(input_counts, dtype=np.float64), np.asarray(output_counts, dtype=np.float64)
    share = 1 - ocr / np.where(icr > 0, icr, 1.0)
    return np.where((ocr >= 0) & (ocr <= icr) & np.isfinite(icr), np.where(icr > 0, share, 0.0), np.nan)


def live_time(real_time: ArrayLike, input_counts: ArrayLike, output_counts: ArrayLike) -> FloatArray:
    """Real time times OCR/ICR, in the unit of the real time; arguments as in `dead_time_share`.

    >>> float(live_time(2.0, 8000.0, 6000.0))
    1.5
    """
    return np.asarray(real_time, dtype=np.float64) * (1 - dead_time_share(input_counts, output_counts))
