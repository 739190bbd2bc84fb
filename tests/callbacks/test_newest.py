"""The newest good emission of a point counts: a plan is given no older result, and loses none to damage."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import toy
from beam import analyzer
from event_model import pack_event_page

from skyloop.callbacks import Analyzer
from skyloop.callbacks._newest import Newest
from skyloop.documents.inbox import Analysis, Inbox

KEY = ("raw-1", "primary", 1)
DAMAGE: dict[str, dict[str, Any]] = {
    "time is no time": {"uid": "u", "time": float("nan")},
    "missing data": {"uid": "u", "data": {}, "timestamps": {}, "time": 77.0},
    "uid used twice": {"time": 77.0},
    "time is a list": {"uid": "u", "time": [1.0]},
}


@pytest.fixture(params=["inline", "thread"])
def executor(request: pytest.FixtureRequest) -> str:
    return request.param


def found(analysis: Analyzer) -> Any:
    assert analysis.flush(30)
    future = analysis.inbox.future(KEY)
    assert future.done()
    return future.result().result.mean


@pytest.mark.parametrize("fault", DAMAGE)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_damaged_event_takes_no_result_from_a_plan(executor: str, fault: str, at_once: bool) -> None:
    docs: list[Any] = toy.raw_run([1.0], stop=False)
    with analyzer(executor) as analysis:
        for item in docs:
            analysis(*item)
        assert at_once or analysis.flush(30)
        analysis("event", docs[2][1] | DAMAGE[fault])
        assert found(analysis) == 1.0


def test_a_damaged_page_takes_no_result_from_a_plan(executor: str) -> None:
    docs: list[Any] = toy.raw_run([1.0], stop=False)
    page: Any = dict(pack_event_page(docs[2][1] | {"uid": "u", "time": 77.0}))
    with analyzer(executor) as analysis:
        for item in docs:
            analysis(*item)
        analysis("event_page", page | {"time": [float("nan")]})
        assert found(analysis) == 1.0


def test_an_old_emission_that_is_delivered_late_once_more_takes_no_result_from_a_plan(executor: str) -> None:
    docs: list[Any] = toy.raw_run([1.0], stop=False)
    with analyzer(executor) as analysis:
        for item in docs:
            analysis(*item)
        analysis("event", toy.event("raw-1", 1, 5.0, emission="b"))
        analysis(*docs[2])
        assert found(analysis) == 5.0


def test_the_rewound_point_counts_though_a_damaged_event_came_between(executor: str) -> None:
    docs: list[Any] = toy.raw_run([1.0], stop=False)
    broken = docs[2][1] | DAMAGE["missing data"]
    with analyzer(executor) as analysis:
        for item in docs:
            analysis(*item)
        for event in (broken, toy.event("raw-1", 1, 5.0, emission="b"), broken):
            analysis("event", event)
        assert found(analysis) == 5.0


@pytest.mark.parametrize("first", [True, False])
def test_a_damaged_descriptor_does_not_hide_a_rewound_point(first: bool) -> None:
    docs: list[Any] = toy.raw_run([1.0], stop=False)
    inbox = Inbox()
    newest, good = Newest(inbox), docs[1][1]
    damaged = good | {"name": "other"}
    for doc in (damaged, good) if first else (good, damaged):
        newest.judged(newest.see("descriptor", doc), [docs[1]] if doc is good else [])
    newest.judged(newest.see(*docs[2]), [docs[2]])
    newest.give(KEY, docs[2][1]["time"], Analysis("old", "e", 1))
    assert inbox.future(KEY).done()
    newest.see("event", toy.event("raw-1", 1, 5.0, emission="b"))
    assert not inbox.future(KEY).done()


def test_a_point_that_waited_for_its_descriptor_is_no_older_than_it_is() -> None:
    inbox, docs = Inbox(), toy.raw_run([1.0], stop=False)
    newest, again = Newest(inbox), ("event", toy.event("raw-1", 1, 5.0, emission="b"))
    newest.judged(newest.see(*docs[1]), [docs[1]])
    newest.judged(newest.see(*docs[2]), [docs[2]])
    newest.give(KEY, docs[2][1]["time"], Analysis("old", "e", 1))
    newest.judged([], [again])
    assert not inbox.future(KEY).done()
    newest.give(KEY, docs[2][1]["time"], Analysis("old", "e", 1))
    assert not inbox.future(KEY).done()


def test_nothing_is_kept_of_what_was_in_doubt(executor: str) -> None:
    docs: list[Any] = toy.raw_run([1.0, 2.0])
    docs.insert(3, ("event", docs[2][1] | DAMAGE["missing data"]))
    with analyzer(executor) as analysis:
        for item in docs:
            analysis(*item)
        assert analysis.flush(30)
        newest = analysis._pipeline._newest
        assert [newest._times, newest._doubted, newest._held, newest._streams] == [{}, {}, {}, {}]


def test_a_result_is_not_given_while_its_point_is_emitted_again() -> None:
    putting, emitted = threading.Event(), threading.Event()
    taken: list[bool] = []
    with analyzer("thread") as analysis:
        inbox = analysis.inbox
        put = inbox.put

        def slow_put(key: Any, value: Any) -> None:
            putting.set()
            again = emitted.wait(0.5)  # the point is emitted now, unless its caller waits for us
            put(key, value)
            taken.append(again and inbox.future(key).done() and value.result.mean == 1.0)

        inbox.put = slow_put  # type: ignore[method-assign]
        for item in toy.raw_run([1.0], stop=False):
            analysis(*item)
        assert putting.wait(30)
        analysis("event", toy.event("raw-1", 1, 5.0, emission="b"))
        emitted.set()
        assert found(analysis) == 5.0
    assert not any(taken)
