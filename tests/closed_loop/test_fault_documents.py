"""Documents malformed, out of order or measured again: what is bad is put aside, and a line says why."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import faulty
import pytest
import toy
from beam import Documents, analyzer, lines, play
from event_model import pack_event_page
from listener import Listener


def without(doc: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in doc.items() if k != key}


MALFORMED: dict[str, Callable[[Documents], tuple[Any, Any]]] = {
    "unknown name": lambda docs: ("evnt", docs[2][1]),
    "no dictionary": lambda docs: ("event", [1, 2]),
    "no name": lambda docs: (None, docs[2][1]),
    "no uid": lambda docs: ("event", without(docs[2][1], "uid")),
    "uid is a path": lambda docs: ("event", docs[2][1] | {"uid": "../../etc/passwd"}),
    "seq_num -5": lambda docs: ("event", docs[2][1] | {"uid": "u", "seq_num": -5}),
    "time is no time": lambda docs: ("event", docs[2][1] | {"uid": "u", "time": float("nan")}),
    "time is huge": lambda docs: ("event", docs[2][1] | {"uid": "u", "time": 10**400}),
    "undeclared key": lambda docs: ("event", docs[2][1] | {"uid": "u", "data": {"y": 1.0}}),
    "missing data": lambda docs: ("event", docs[2][1] | {"uid": "u", "data": {}, "timestamps": {}}),
    "uid used twice": lambda docs: ("event", docs[2][1] | {"seq_num": 7}),
    "torn page": lambda docs: ("event_page", {"uid": ["a"], "descriptor": docs[1][1]["uid"]}),
    "second start": lambda docs: ("start", docs[0][1] | {"plan_name": "another"}),
    "second descriptor": lambda docs: ("descriptor", docs[1][1] | {"name": "another"}),
    "wrong axes": lambda docs: ("event", docs[2][1] | {"uid": "u", "data": {"x": [[1.0]]}}),
}


@pytest.mark.parametrize("fault", MALFORMED)
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_malformed_document_is_put_aside_with_its_reason_and_the_run_goes_on(
    fault: str, executor: str, caplog: pytest.LogCaptureFixture
) -> None:
    docs: Documents = toy.raw_run([1.0, 3.0])
    docs.insert(3, MALFORMED[fault](docs))
    with analyzer(executor) as analysis:
        run = play(analysis, docs).run()
        assert sum(analysis.health.quarantined.values()) == 1
    assert sorted(run.spots()) == [1, 2]
    assert set(run.outcomes().values()) <= {"ok", "superseded"}
    assert run.final().mean == 2.0
    (line,) = lines(caplog)
    (reason,) = analysis.health.quarantined
    assert reason
    assert reason in line
    assert "\n" not in line


def test_the_reason_of_a_thousand_bad_documents_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    docs: Documents = toy.raw_run([1.0])
    bad = [("event", docs[2][1] | {"uid": f"u{n}", "seq_num": 0}) for n in range(1000)]
    with analyzer("inline") as analysis:
        run = play(analysis, [*docs[:3], *bad, docs[-1]]).run()
    assert sum(analysis.health.quarantined.values()) == 1000
    assert len(lines(caplog)) == 1
    assert run.stream("summary")[0]["data"]["quarantined"] == 1000


def test_events_ahead_of_their_descriptor_are_analysed_when_it_comes() -> None:
    docs = toy.raw_run([1.0, 2.0, 6.0])
    docs = [docs[2], docs[0], docs[3], docs[1], *docs[4:]]
    with analyzer("inline") as analysis:
        run = play(analysis, docs).run()
    assert sorted(run.spots()) == [1, 2, 3]
    assert run.final().mean == 3.0


@pytest.mark.parametrize("seed", range(5))
def test_the_final_result_does_not_depend_on_the_order_of_the_events(seed: int) -> None:
    docs = toy.raw_run([0.1, 0.2, 0.7, 1e-9, 5.0])
    middle = docs[2:-1]
    random.Random(seed).shuffle(middle)
    with analyzer("inline") as ordered, analyzer("inline") as shuffled:
        a = play(ordered, docs).run()
        b = play(shuffled, [*docs[:2], *middle, docs[-1]]).run()
    assert sorted(b.spots()) == a.spots()
    assert (b.final().mean, b.final().values) == (a.final().mean, 5)


def test_an_event_after_the_stop_is_put_aside_and_nothing_is_written_after_the_stop() -> None:
    docs = toy.raw_run([1.0, 2.0])
    with analyzer("inline") as analysis:
        listener = play(analysis, [*docs[:3], docs[-1], docs[3]])
    assert listener.run().spots() == [1]
    (reason,) = analysis.health.quarantined
    assert "has stopped" in reason


def test_pages_give_the_same_documents_bit_for_bit() -> None:
    values = [0.1, 0.2, toy.RAISES, 0.7, "text", 1e-300]
    docs = toy.raw_run(values)
    events: list[Any] = [doc for name, doc in docs if name == "event"]
    page: Any = ("event_page", dict(pack_event_page(*events)))
    pages: Any = [("event_page", dict(pack_event_page(event))) for event in events]

    def results(given: Any) -> Any:
        # one document at a time, so that the batches of the engine are the same
        with analyzer("inline") as analysis:
            found = play(analysis, given).run()
        return (
            found.start["uid"],
            [
                {k: v for k, v in event["data"].items() if not k.endswith("_seconds")}
                for event in found.events
            ],
            [event["uid"] for event in found.events],
        )

    singles = repr(results(docs))
    assert repr(results([*docs[:2], *pages, docs[-1]])) == singles
    with analyzer("inline") as analysis:
        whole = play(analysis, [*docs[:2], page, docs[-1]]).run()
        assert sorted(whole.spots()) == [1, 2, 3, 4, 5, 6]
    with analyzer("inline") as analysis:
        assert repr(play(analysis, docs).run().final()) == repr(whole.final())


# rewound points --------------------------------------------------------------------------------------


def again(number: int, value: Any, emission: str = "b") -> tuple[str, Any]:
    return "event", toy.event("raw-1", number, value, emission=emission)


@pytest.mark.parametrize("fault", [toy.RAISES, "text"])
@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_point_measured_again_that_cannot_be_analysed_leaves_no_old_value_behind(
    executor: str, fault: Any
) -> None:
    docs = toy.raw_run([1.0, 50.0, 3.0])
    docs.insert(4, again(2, fault))
    with analyzer(executor) as analysis:
        run = play(analysis, docs).run()
    assert sorted(run.spots()) == [1, 2, 2, 3]
    assert (run.final().mean, run.final().values) == (2.0, 2)


def test_a_bad_point_beside_one_measured_again_costs_only_itself() -> None:
    technique, gated = faulty.gated()
    docs = toy.raw_run([1.0, 50.0, 3.0, toy.RAISES, 5.0])
    with analyzer("thread", technique) as analysis:
        listener = Listener()
        analysis.subscribe(listener)
        gated.gate.set()
        for item in docs[:5]:
            analysis(*item)
            assert analysis.flush(30)
        gated.gate.clear()
        gated.entered.clear()
        analysis(*again(1, 1.0))  # holds the engine, while the next two come in together
        assert gated.entered.wait(30)
        analysis(*again(2, 2.0))
        analysis(*docs[5])
        gated.gate.set()
        assert analysis.flush(30)
        for item in docs[6:]:
            analysis(*item)
        assert analysis.flush(30)
    run = listener.run()
    assert run.spots() == [1, 2, 3, 1, 2, 4, 5]
    outcomes = [str(result.outcome) for result in run.results()]
    assert outcomes == ["ok", "ok", "ok", "ok", "ok", "failed", "ok"]
    assert run.results()[-1].mean == run.final().mean == 2.75
    assert run.final().values == 4


def test_a_point_measured_again_while_it_waits_gives_each_emission_its_result() -> None:
    technique, gated = faulty.gated()
    with analyzer("thread", technique) as analysis:
        listener = Listener()
        analysis.subscribe(listener)
        docs = toy.raw_run([1.0, 50.0, 3.0])
        for item in docs[:3]:
            analysis(*item)
        assert gated.entered.wait(30)
        for item in (docs[3], again(2, 2.0), *docs[4:]):
            analysis(*item)
        key = ("raw-1", "primary", 2)
        future = analysis.inbox.future(key)
        gated.gate.set()
        assert analysis.flush(30)
        assert future.done()
    run = listener.run()
    assert sorted(run.spots()) == [1, 2, 2, 3]
    assert run.final().mean == 2.0
