"""A technique whose frames are images in files: its result is the mean of their means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import toy

from skyloop.documents.frames import Point
from skyloop.errors import DataError


def mean_of(point: Point) -> float | None:
    """The frame of an image is its mean."""
    if "det" not in point.data:
        return None
    image = np.asarray(point.data["det"], dtype=float)
    if image.size != 240 * 320:
        raise DataError(f"image {point.seq_num} has shape {image.shape}")
    return float(image.mean())


IMAGES = replace(toy.TECHNIQUE, frame_of=mean_of, wanted=lambda descriptor: {"det"})
