"""What a beamline calls its data is part of the analysis: in its uid, its start document and its replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import toy
from listener import AnalysisOf, Listener
from tally import Config, Tallied, tally

from skyloop.callbacks import Analyzer, Options
from skyloop.callbacks.reflectometry import TECHNIQUE, Keys, frame_of, reflectometry
from skyloop.documents.frames import Point
from skyloop.errors import ConfigError

KEYS = Keys(q="qz", counts="pilatus", monitor="i0", per_monitor=1e3)
MODEL = "sample: {backing: {name: Si, sld: 2.07, roughness: [2, 8]}}\n"


def raw_run() -> list[tuple[str, dict[str, Any]]]:
    entry = {"source": "test", "dtype": "number", "shape": []}
    start, (_, descriptor), stop = toy.raw_run([])
    docs = [start, ("descriptor", descriptor | {"data_keys": dict.fromkeys(("qz", "pilatus", "i0"), entry)})]
    for number in range(1, 4):
        data = {"qz": 0.02 * number, "pilatus": 100.0 / number, "i0": 10.0}
        event = toy.event("raw-1", number, 0.0) | {"data": data, "timestamps": dict.fromkeys(data, 1.0)}
        docs.append(("event", event))
    return [*docs, stop]


def analysed(keys: Keys) -> AnalysisOf:
    listener = Listener()
    with Analyzer(tally(keys), Config(), Options(executor="inline")) as analysis:
        analysis.subscribe(listener)
        for name, doc in raw_run():
            analysis(name, doc)
    return listener.run()


def test_another_calibration_is_another_analysis() -> None:
    one, two = analysed(KEYS), analysed(replace(KEYS, per_monitor=5e3))
    assert one.final(Tallied).exposure != two.final(Tallied).exposure
    assert one.start["uid"] != two.start["uid"]
    assert one.start["analysis"]["config_sha256"] == two.start["analysis"]["config_sha256"]


def test_the_start_document_tells_the_keys() -> None:
    assert analysed(KEYS).start["analysis"]["keys"] == asdict(KEYS)


@pytest.mark.parametrize("same", [1000, np.float32(1000.0), np.int64(1000), "1e3"])
def test_the_same_calibration_in_another_box_is_the_same_analysis(same: Any) -> None:
    again = analysed(replace(KEYS, per_monitor=same))
    assert again.start["uid"] == analysed(KEYS).start["uid"]
    assert again.start["analysis"]["keys"] == asdict(KEYS)


def test_keys_that_nobody_gave_are_told_as_well() -> None:
    assert TECHNIQUE.keys == asdict(Keys())
    for keys in (None, Keys()):
        with reflectometry(MODEL, keys=keys, options=Options(executor="inline"), name="") as analysis:
            assert analysis.technique.keys == TECHNIQUE.keys


def test_the_keys_of_a_start_document_give_the_technique_back() -> None:
    again = TECHNIQUE.called(analysed(KEYS).start["analysis"]["keys"])
    data = {"qz": 0.1, "pilatus": 5.0, "i0": 2.0}
    point = Point({"uid": "raw"}, "primary", 1, 1.0, data, {})
    made, meant = again.frame_of(point), frame_of(point, KEYS)
    assert meant is not None
    assert (made.q[0], made.counts[0], made.exposure[0]) == (meant.q[0], meant.counts[0], meant.exposure[0])
    assert again.keys == asdict(KEYS)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"count": "pilatus"}, "keys: found 'count', which is none; mend: one of stream, q, "),
        ({"counts": 3}, "keys: counts: found 3; mend: give the name of a key"),
        ({"q": None}, "keys: q: found None; mend"),
        ({"per_monitor": "many"}, "keys: per_monitor: found 'many'; mend: give a finite number"),
        ({"per_monitor": float("nan")}, "keys: per_monitor: found nan; mend"),
        ({"wavelength": -1.0}, "keys: wavelength: found -1.0; mend"),
        ({"wavelength": True}, "keys: wavelength: found True; mend"),
    ],
)
def test_keys_that_cannot_be_are_refused_with_the_mend(told: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TECHNIQUE.called(told)
    assert str(caught.value).startswith(words)


def test_a_technique_without_a_choice_refuses_keys() -> None:
    assert toy.TECHNIQUE.called({}) is toy.TECHNIQUE
    with pytest.raises(ConfigError, match="lets nobody choose keys"):
        toy.TECHNIQUE.called({"x": "y"})
