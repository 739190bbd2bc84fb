"""Events of a reflectometer, in the words of any beamline, to frames; what is no frame says why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from bluesky import plans
from event_model import compose_run
from fake_analysis import end_engines, engine
from listener import AnalysisOf, Listener
from tally import Config, Tallied, tally

from skyloop.callbacks import Analyzer, Options, techniques
from skyloop.callbacks.reflectometry import TECHNIQUE, Keys, frame_of, reflectometry
from skyloop.documents.frames import Point
from skyloop.documents.inbox import inbox_named
from skyloop.errors import ConfigError, DataError, Outcome
from skyloop.sim.probe import PROBES
from skyloop.sim.reflectometer import Fault
from skyloop.sim.reflectometer import reflectometer as instrument

bp: Any = plans
COUNTED = {"q": 0.05, "counts": 40.0, "exposure": 1e4}
MEASURED = {"q": 0.05, "reflectivity": 1e-3, "reflectivity_sigma": 1e-4}


def point(data: Mapping[str, Any], stream: str = "primary", number: int = 7) -> Point:
    return Point({"uid": "raw"}, stream, number, 1.0, data, {})


def frame(data: Mapping[str, Any], keys: Keys | None = None) -> Any:
    made = frame_of(point(data), keys)
    assert made is not None
    return made


# words of a beamline ----------------------------------------------------------------------------------


def test_counts_with_their_exposure_are_a_counted_point() -> None:
    made = frame(COUNTED | {"q_sigma": 1e-3, "count_time": 2.0})
    assert made.is_counted.all()
    assert (made.q[0], made.counts[0], made.exposure[0], made.q_sigma[0]) == (0.05, 40.0, 1e4, 1e-3)


def test_a_reflectivity_with_its_sigma_is_a_measured_point() -> None:
    made = frame(MEASURED)
    assert not made.is_counted.any()
    assert (made.reflectivity[0], made.reflectivity_sigma[0], made.q_sigma[0]) == (1e-3, 1e-4, 0.0)


def test_the_exposure_follows_from_the_monitor_where_none_is_recorded() -> None:
    data = {"q": 0.05, "counts": 40.0, "i0": 500.0, "att": 0.1}
    keys = Keys(monitor="i0", transmission="att", per_monitor=20.0)
    assert frame(data, keys).exposure[0] == pytest.approx(1000.0)
    assert frame({k: v for k, v in data.items() if k != "att"}, keys).exposure[0] == 10_000.0
    assert frame(data | {"exposure": 3.0}, keys).exposure[0] == 3.0


def test_q_follows_from_the_scattering_angle_where_the_wavelength_is_given() -> None:
    data = {"tth": 2.0, "counts": 1.0, "exposure": 10.0}
    made = frame(data, Keys(two_theta="tth", wavelength=1.54))
    assert made.q[0] == pytest.approx(4 * math.pi / 1.54 * math.sin(math.radians(1.0)))
    assert frame(data | {"q": 0.3}, Keys(two_theta="tth", wavelength=1.54)).q[0] == 0.3


def test_all_keys_can_be_renamed() -> None:
    keys = Keys(q="Q", counts="roi", exposure="I0", q_sigma="dQ")
    made = frame({"Q": 0.1, "roi": 5.0, "I0": 50.0, "dQ": 2e-3, "q": 9.0, "counts": 9.0}, keys)
    assert (made.q[0], made.counts[0], made.exposure[0], made.q_sigma[0]) == (0.1, 5.0, 50.0, 2e-3)


def test_an_event_may_hold_a_whole_curve() -> None:
    q = np.linspace(0.01, 0.2, 5)
    made = frame({"q": q, "counts": np.arange(5), "exposure": 100.0, "q_sigma": 0.02 * q})
    assert len(made) == 5
    np.testing.assert_array_equal(made.exposure, 100.0)
    listed = frame({"q": q.tolist(), "reflectivity": (q**-4).tolist(), "reflectivity_sigma": [1e-3] * 5})
    assert len(listed) == 5


@pytest.mark.parametrize(
    "box", [float, np.float32, np.float64, np.array, lambda v: [v], lambda v: np.array([v])]
)
def test_a_number_may_come_in_any_box(box: Any) -> None:
    assert len(frame({key: box(value) for key, value in COUNTED.items()})) == 1


def test_the_event_is_not_changed() -> None:
    data = {"q": np.linspace(0.1, 0.2, 3), "counts": np.ones(3), "exposure": np.full(3, 9.0)}
    before = {key: value.copy() for key, value in data.items()}
    made = frame(data)
    made.counts[0] = 77.0
    for key, value in before.items():
        np.testing.assert_array_equal(data[key], value)


# what is no frame --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "stream"),
    [(COUNTED, "baseline"), ({"temperature": 3.0}, "primary"), ({"q": 0.1}, "primary"), ({}, "primary")],
)
def test_what_holds_no_curve_is_no_frame(data: dict[str, Any], stream: str) -> None:
    assert frame_of(point(data, stream)) is None


@pytest.mark.parametrize(
    ("data", "keys", "words"),
    [
        ({"counts": 1.0, "exposure": 9.0}, Keys(), ["'q'", "'counts'", "Keys"]),
        ({"counts": 1.0, "q": 0.1}, Keys(), ["'exposure'", "'monitor'", "Keys"]),
        ({"reflectivity": 1.0, "q": 0.1}, Keys(), ["'reflectivity_sigma'", "Keys"]),
        ({"reflectivity": 1.0, "reflectivity_sigma": 0.1}, Keys(), ["'q'", "'reflectivity'"]),
        ({"counts": 1.0, "exposure": 9.0, "two_theta": 1.0}, Keys(), ["'q'", "Keys"]),
    ],
)
def test_what_lacks_a_part_names_it_and_the_mend(data: dict[str, Any], keys: Keys, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        frame_of(point(data), keys)
    text = str(caught.value)
    assert all(word in text for word in [*words, "event 7", "mend"]), text


NEGATIVE = -1.0
BAD: list[Any] = [
    math.nan, math.inf, -math.inf, NEGATIVE, None, "text", "", b"x", 1j, [], {}, object, 10**400,
    [[1.0]], [1.0, [2.0]], np.array([None]), np.zeros((2, 2)), np.array(["a"]),
]  # fmt: skip


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("key", ["q", "counts", "exposure", "q_sigma", "monitor", "two_theta"])
def test_values_that_cannot_be_are_refused_as_data_and_never_as_a_bug(key: str, value: Any) -> None:
    data: dict[str, Any] = COUNTED | {"q_sigma": 1e-3, key: value}
    keys = Keys(wavelength=1.0)
    if key == "monitor":
        data.pop("exposure")
    if key == "two_theta":
        data.pop("q")
    with pytest.raises(DataError):
        frame_of(point(data), keys)


MEASURED_BAD = [(k, v) for k in MEASURED for v in BAD if not (k == "reflectivity" and v is NEGATIVE)]


@pytest.mark.parametrize(("key", "value"), MEASURED_BAD, ids=repr)
def test_reflectivities_that_cannot_be_are_refused_as_data(key: str, value: Any) -> None:
    with pytest.raises(DataError):
        frame_of(point(MEASURED | {key: value}))


def test_a_reflectivity_may_be_negative_as_it_is_after_subtraction_of_a_background() -> None:
    assert frame(MEASURED | {"reflectivity": NEGATIVE}).reflectivity == NEGATIVE


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(3,\).*\(2,\)"):
        frame_of(point({"q": [0.1, 0.2, 0.3], "counts": [1.0, 2.0], "exposure": 5.0}))


# through the analyzer --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def engines_end():
    yield
    end_engines()


def analysed(docs: Any, keys: Keys | None = None, **options: Any) -> list[AnalysisOf]:
    """Analysis runs of documents, or of what a plan emits."""
    listener = Listener()
    with Analyzer(tally(keys), Config(), Options(executor="inline", **options)) as analysis:
        analysis.subscribe(listener)
        if isinstance(docs, list):
            for name, doc in docs:
                analysis(name, doc)
        else:
            assert engine(analysis)(docs).exit_status == "success"
        assert analysis.flush(30)
        assert analysis.health.faults == ()
        assert analysis.health.quarantined == {}
    return listener.runs()


def run_of(rows: list[dict[str, Any]], stream: str = "primary", **entries: dict[str, Any]) -> list[Any]:
    """Documents of a run with one event per row."""
    run = compose_run()
    keys = {key: {"source": "test", "dtype": "number", "shape": []} | entries.get(key, {}) for key in rows[0]}
    stream_of = run.compose_descriptor(name=stream, data_keys=keys)  # type: ignore[arg-type]
    docs: list[Any] = [("start", run.start_doc), ("descriptor", stream_of.descriptor_doc)]
    for row in rows:
        held = {k: v for k, v in row.items() if not keys[k].get("external")}
        times = dict.fromkeys(held, 1.0)
        docs.append(("event", stream_of.compose_event(data=held, timestamps=times, validate=False)))
    return [*docs, ("stop", run.compose_stop())]


class Mirror:
    def reflectivity(self, q: Any, q_sigma: Any, time: float) -> Any:
        return np.full_like(q, 0.1)


@pytest.mark.parametrize("fault", [Fault.NAN, Fault.SATURATED])
@pytest.mark.parametrize("probe", ["neutron", "xray"])
def test_an_exposure_that_went_wrong_is_rejected_and_the_curve_goes_on(fault: Fault, probe: Any) -> None:
    devices = instrument(Mirror(), seed=1, probe=probe, faults={2: fault})
    low, high = PROBES[probe].limits
    (run,) = analysed(bp.scan([devices.detector], devices.q, max(low, 0.02), min(high, 0.2), 5))
    assert run.outcomes() == {1: "ok", 2: "ok", 3: "rejected", 4: "ok", 5: "ok"}
    assert "event 3: counts[0] = nan" in run.reasons()[3]
    assert "saturated" in run.reasons()[3]
    assert run.final(Tallied).points == 4
    assert math.isnan(run.by_spot(Tallied)[3].q)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"counts": math.nan}, {"counts": math.inf}, {"counts": -3.0}, {"exposure": 0.0}, {"exposure": -1.0},
        {"q": 0.0}, {"q": -0.1}, {"q": math.nan}, {"q": math.inf}, {"q_sigma": -1e-3}, {"q_sigma": math.inf},
        {"counts": 9.97e36}, {"exposure": 1e20}, {"q": 1e200},
    ],
)  # fmt: skip
def test_each_bad_value_is_rejected_with_its_name_and_costs_only_its_point(spoilt: dict[str, float]) -> None:
    good = COUNTED | {"q_sigma": 1e-3}
    (run,) = analysed(run_of([good, good | spoilt, good | {"q": 0.06}]))
    assert run.outcomes() == {1: "ok", 2: "rejected", 3: "ok"}
    assert f"{next(iter(spoilt))}[0]" in run.reasons()[2]
    assert "mend" in run.reasons()[2]
    assert run.final(Tallied).points == 2
    assert run.stream("summary")[0]["data"]["not_analysed"] == 1


def test_a_run_of_something_else_leaves_no_analysis() -> None:
    assert analysed(run_of([{"temperature": 1.0}, {"temperature": 2.0}])) == []
    assert analysed(run_of([COUNTED], stream="baseline")) == []


def image(**entry: Any) -> dict[str, Any]:
    return {"dtype": "array", "shape": [1, 4, 4], "external": "STREAM:", **entry}


def test_a_camera_beside_the_curve_is_not_read_and_needs_no_roots() -> None:
    rows = [COUNTED | {"camera": None}, COUNTED | {"q": 0.06, "camera": None}]
    (run,) = analysed(run_of(rows, camera=image()))
    assert run.outcomes() == {1: "ok", 2: "ok"}


def test_a_run_of_images_alone_leaves_no_analysis() -> None:
    assert analysed(run_of([{"camera": None, "temperature": 3.0}], camera=image())) == []
    assert analysed(run_of([{"camera": None}], camera=image())) == []


def test_counts_in_a_file_are_wanted() -> None:
    docs = run_of([COUNTED], counts={"external": "STREAM:"})
    (run,) = analysed(docs)
    assert run.outcomes() == {1: "failed"}  # announced by nobody
    assert "stream_datum" in run.reasons()[1]


def test_the_words_of_the_beamline_reach_the_analysis() -> None:
    keys = Keys(q="Q", counts="roi", monitor="i0", per_monitor=2.0)
    (run,) = analysed(run_of([{"Q": 0.1, "roi": 4.0, "i0": 50.0}]), keys)
    result = run.final(Tallied)
    assert (result.q, result.counts, result.exposure) == (0.1, 4.0, 100.0)
    assert analysed(run_of([COUNTED]), keys) == []


# the real engine, once -------------------------------------------------------------------------------

MODEL = """
sample:
  layers:
    - {name: film, thickness: [200, 400], roughness: 5, sld: 4.0}
  backing: {name: Si, sld: 2.07, roughness: 3}
target: film.thickness
target_sigma: 1.0
particles: 200
q_grid: {start: 0.01, stop: 0.2, num: 20}
"""


def test_the_technique_is_found_and_its_factory_analyses_a_scan_with_a_fault() -> None:
    assert techniques()["reflectometry"] is TECHNIQUE
    devices = instrument(Mirror(), seed=2, faults={1: Fault.NAN})
    listener = Listener()
    with reflectometry(MODEL, options=Options(executor="thread"), name="real") as analysis:
        assert inbox_named("real") is analysis.inbox
        analysis.subscribe(listener)
        result = engine(analysis)(bp.scan([devices.detector], devices.q, 0.02, 0.1, 3))
        assert result.exit_status == "success"
        assert analysis.flush(60)
        assert analysis.health.faults == ()
    run = listener.run()
    assert sorted(run.spots()) == [1, 2, 3]
    assert run.outcomes()[2] == Outcome.REJECTED
    final = run.final(analysis.engine.result_type)
    assert final.n_points == 2
    assert 200 <= final.target <= 400


def test_a_model_that_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(ConfigError):
        reflectometry("sample: {}")
