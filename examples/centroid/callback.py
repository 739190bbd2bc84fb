"""The callback: which events are frames, and what to show of the results."""

from pathlib import Path

import yaml

from centroid.engine import Config, Engine, Frame
from skyloop.callbacks import Analyzer, Options, Technique
from skyloop.documents.frames import Point
from skyloop.errors import DataError

__all__ = ["TECHNIQUE", "centroid", "frame_of"]


def frame_of(point: Point) -> Frame | None:
    if "motor" not in point.data or "det" not in point.data:
        return None
    if point.data["det"] < 0:
        raise DataError(f"event {point.seq_num}: {point.data['det']} counts cannot be")
    return Frame(float(point.data["motor"]), float(point.data["det"]))


def load(source: str | Path) -> Config:
    text = source.read_text() if isinstance(source, Path) else source
    return Config(**yaml.safe_load(text))


TECHNIQUE = Technique(
    name="centroid", load=load, engine=Engine, frame_of=frame_of, hints=("target", "target_sigma")
)


def centroid(
    config: Config | None = None, options: Options | None = None, *, name: str = "centroid"
) -> Analyzer:
    return Analyzer(TECHNIQUE, config or Config(), options, name=name)
