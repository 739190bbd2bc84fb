"""The same documents by way of a RunRouter, or without hints, give the same analysis."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import toy
from beam import Documents, analyzer, play
from bluesky import plans as bp
from event_model import RunRouter, pack_event_page
from images import IMAGES
from listener import Listener
from tally import Config as TallyConfig
from tally import tally

from skyloop.callbacks import Analyzer, Options
from skyloop.callbacks.reflectometry import wanted

CLOCKS = ("time", "timestamps")
SECONDS = ("queue_seconds", "compute_seconds")
Router = Callable[[Callable[[], Analyzer]], RunRouter]


def said(listener: Listener) -> dict[str, list[Any]]:
    """What each analysis run says, without what the clocks of this computer add."""
    runs: dict[str, list[Any]] = {run.start["uid"]: [] for run in listener.runs()}
    owner = {doc["uid"]: doc["run_start"] for doc in listener.of("descriptor")}
    for name, doc in listener.docs:
        run = doc["uid"] if name == "start" else doc.get("run_start") or owner[doc["descriptor"]]
        kept = {key: value for key, value in doc.items() if key not in CLOCKS}
        if name == "event":
            kept["data"] = {key: value for key, value in doc["data"].items() if key not in SECONDS}
        runs[run].append((name, repr(kept)))
    return runs


def interleaved(docs: Documents, others: Documents) -> Documents:
    return [document for pair in zip(docs, others, strict=True) for document in pair]


def two_runs() -> Documents:
    return interleaved(toy.raw_run([1.0, 2.0, 6.0], "one"), toy.raw_run([5.0, 7.0, 7.0], "two"))


def in_pages() -> Documents:
    docs = toy.raw_run([1.0, 2.0, 6.0])
    page: Any = pack_event_page(*[doc for name, doc in docs if name == "event"])  # type: ignore[arg-type]
    return [*docs[:2], ("event_page", page), docs[-1]]


def with_a_baseline() -> Documents:
    docs = toy.raw_run([1.0, 2.0, 6.0])
    baseline = docs[1][1] | {"uid": "baseline", "name": "baseline"}
    event = toy.event("raw-1", 1, 50.0) | {"uid": "once", "descriptor": "baseline"}
    return [docs[0], ("descriptor", baseline), ("event", event), *docs[1:]]


def one_for_all(make: Callable[[], Analyzer]) -> RunRouter:
    analysis = make()
    return RunRouter([lambda name, doc: ([analysis], [])])


def one_for_each_run(make: Callable[[], Analyzer]) -> RunRouter:
    return RunRouter([lambda name, doc: ([make()], [])])


def one_for_each_primary(make: Callable[[], Analyzer]) -> RunRouter:
    def subfactory(name: str, doc: Any) -> list[Analyzer]:
        return [make()] if doc["name"] == "primary" else []

    return RunRouter([lambda name, doc: ([], [subfactory])])


def routed(router: Router, docs: Documents, technique: Any = toy.TECHNIQUE, **options: Any) -> Listener:
    listener, made = Listener(), list[Analyzer]()

    def make() -> Analyzer:
        made.append(analyzer("inline", technique, **options))
        made[-1].subscribe(listener)
        return made[-1]

    route, before = router(make), copy.deepcopy(docs)
    for name, doc in docs:
        route(name, doc)
    assert docs == before
    for analysis in made:
        assert analysis.flush(60)
        assert analysis.health.faults == ()
        assert not analysis.health.quarantined
        analysis.close()
    return listener


@pytest.mark.parametrize("router", [one_for_all, one_for_each_run, one_for_each_primary])
@pytest.mark.parametrize("made", [two_runs, in_pages, with_a_baseline])
def test_an_analysis_behind_a_run_router_says_the_same_as_one_subscribed_directly(
    router: Router, made: Callable[[], Documents]
) -> None:
    with analyzer("inline") as analysis:
        direct = said(play(analysis, made()))
    assert said(routed(router, made())) == direct


@pytest.mark.parametrize("router", [one_for_all, one_for_each_run, one_for_each_primary])
def test_images_in_files_behind_a_run_router_give_the_same(
    router: Router, RE: Any, devices: Any, tmp_path: Any
) -> None:
    raw, (det, motor) = Listener(), devices
    RE(bp.scan([det], motor, 0, 0.02, 3), raw)
    assert raw.of("stream_datum")
    with analyzer("inline", IMAGES, allowed_roots=[str(tmp_path)]) as analysis:
        direct = said(play(analysis, raw.docs))
    assert said(routed(router, raw.docs, IMAGES, allowed_roots=[str(tmp_path)])) == direct


def test_a_run_without_hints_gives_the_same_results_as_one_with_them() -> None:
    with_hints = toy.raw_run([1.0, 2.0, 6.0])
    with_hints[0][1]["hints"] = {"dimensions": [[["x"], "primary"]]}
    with_hints[1][1]["hints"] = {"x": {"fields": ["x"]}}
    without: Documents = copy.deepcopy(with_hints)
    for _, doc in without:
        doc.pop("hints", None)
    told: list[dict[str, list[Any]]] = []
    for docs in (with_hints, without):
        with analyzer("inline") as analysis:
            told.append(said(play(analysis, docs)))
            assert not analysis.health.quarantined
    assert told[0] == told[1]


@pytest.mark.parametrize("hints", [None, {}, {"detector": {"fields": []}}])
def test_reflectometry_finds_its_frames_without_hints(hints: dict[str, Any] | None) -> None:
    assert wanted(reflectivity_points(hints)[1][1]) == {"q", "counts", "exposure"}
    told: list[dict[str, list[Any]]] = []
    for given in ({"q": {"fields": ["q"]}, "detector": {"fields": ["counts"]}}, hints):
        with Analyzer(tally(), TallyConfig(), Options(executor="inline")) as analysis:
            told.append(said(play(analysis, reflectivity_points(given))))
    assert told[0] == told[1]
    assert len(next(iter(told[0].values()))) == 3 + 3 + 2  # start and descriptors, points, summary and stop


def reflectivity_points(hints: dict[str, Any] | None) -> Documents:
    docs: Documents = toy.raw_run([0.01, 0.02, 0.03])
    units = {"q": "1/angstrom", "counts": "count", "exposure": "count"}
    docs[1][1]["data_keys"] = {
        key: {"source": "s", "dtype": "number", "shape": [], "units": unit} for key, unit in units.items()
    }
    docs[1][1].pop("hints")
    docs[1][1].update({} if hints is None else {"hints": hints})
    for name, doc in docs:
        if name == "event":
            doc["data"] = {"q": doc["data"]["x"], "counts": 100.0, "exposure": 1e6}
            doc["timestamps"] = dict.fromkeys(doc["data"], 1.0)
    return docs
