from __future__ import annotations

import threading
from typing import Any

import pytest
from bluesky import plan_stubs as bps
from bluesky.utils import RunEngineInterrupted
from fake_analysis import PATIENT, FakeAnalysis, FakeResult, det, engine, thread

from skyloop.plans._wait import peek, wait_result


def one_point(analysis: FakeAnalysis, found: list[Any], timeout: float = PATIENT) -> Any:
    uid = yield from bps.open_run()
    yield from bps.checkpoint()
    yield from bps.trigger_and_read([det])
    yield from bps.checkpoint()
    found.append((yield from wait_result(analysis.inbox, (uid, "primary", 1), timeout)))
    yield from bps.checkpoint()
    yield from bps.trigger_and_read([det])
    yield from bps.close_run()


def test_a_result_that_comes_later_is_waited_for() -> None:
    analysis, found = FakeAnalysis(lambda _: None), []
    run_engine = engine(analysis)

    def answer() -> None:
        assert analysis.inbox.asked(1).wait(PATIENT)
        analysis.deliver(1, FakeResult(target=7.0))

    with thread(answer):
        run_engine(one_point(analysis, found))
    assert found[0].result.target == 7.0


def test_a_late_result_is_none_and_the_plan_goes_on() -> None:
    analysis, found = FakeAnalysis(lambda _: None), []
    engine(analysis)(one_point(analysis, found, timeout=0.01))
    assert found == [None]
    assert [event["seq_num"] for event in analysis.events("primary")] == [1, 2]
    assert analysis.stop["exit_status"] == "success"


@pytest.mark.parametrize("spoil", ["cancel", "exception"])
def test_a_job_that_breaks_is_none_and_never_raises(spoil: str) -> None:
    analysis, found = FakeAnalysis(lambda _: None), []
    run_engine = engine(analysis)

    def break_it() -> None:
        assert analysis.inbox.asked(1).wait(PATIENT)
        future = analysis.inbox.future((analysis.run_uid, "primary", 1))
        assert future.cancel() if spoil == "cancel" else not future.set_exception(RuntimeError("bug"))

    with thread(break_it):
        run_engine(one_point(analysis, found))
    assert found == [None]


def test_pause_and_resume_during_the_wait_measures_each_point_once() -> None:
    analysis, found = FakeAnalysis(lambda _: None), []
    run_engine = engine(analysis)
    _pause_while_waiting(run_engine, one_point(analysis, found), analysis, 1)
    assert found == []
    analysis.deliver(1, FakeResult(target=8.0))
    run_engine.resume()
    assert found[0].result.target == 8.0
    assert [event["seq_num"] for event in analysis.events("primary")] == [1, 2]


def test_a_pause_is_honoured_before_the_result_comes() -> None:
    analysis, found = FakeAnalysis(lambda _: None), []
    run_engine = engine(analysis)
    states: list[str] = []
    paused = threading.Event()

    def hook(new: str, _: str) -> None:
        states.append(str(new))
        if new == "paused":
            paused.set()

    run_engine.state_hook = hook

    def pause_then_answer() -> None:
        assert analysis.inbox.asked(1).wait(PATIENT)
        run_engine.request_pause()
        # the result is given only once the RunEngine is paused: a plan that blocks would never get there
        assert paused.wait(PATIENT)
        states.append("answered")
        analysis.deliver(1, FakeResult())

    with thread(pause_then_answer), pytest.raises(RunEngineInterrupted):
        run_engine(one_point(analysis, found))
    assert states == ["running", "pausing", "paused", "answered"]
    run_engine.resume()
    assert len(found) == 1


def test_a_result_put_again_during_a_pause_is_the_one_that_counts() -> None:
    analysis, found = FakeAnalysis(lambda _: None), []
    run_engine = engine(analysis)
    _pause_while_waiting(run_engine, one_point(analysis, found), analysis, 1)
    analysis.deliver(1, FakeResult(target=1.0))
    analysis.inbox.renew((analysis.run_uid, "primary", 1))
    analysis.deliver(1, FakeResult(target=2.0))
    run_engine.resume()
    assert found[0].result.target == 2.0


def test_abort_during_the_wait_leaves_nothing_pending() -> None:
    analysis, found = FakeAnalysis(lambda _: None), []
    run_engine = engine(analysis)
    _pause_while_waiting(run_engine, one_point(analysis, found), analysis, 1)
    run_engine.abort()
    assert found == []
    assert analysis.stop["exit_status"] == "abort"
    assert analysis.inbox.future((analysis.run_uid, "primary", 1)).cancelled()


def test_a_result_may_come_after_its_wait_was_given_up() -> None:
    analysis = FakeAnalysis(lambda _: None)
    key = ("run", "primary", 1)
    assert peek(analysis.inbox, key) is None
    analysis.inbox.future(key).cancel()
    analysis("start", {"uid": "3f3c1d2e-7a5b-4c8d-9e0f-112233445566", "time": 0.0})
    analysis.run_uid = "run"
    analysis.deliver(1, FakeResult(target=9.0))
    found = peek(analysis.inbox, key)
    assert found is not None
    assert found.result.target == 9.0


def _pause_while_waiting(run_engine: Any, plan: Any, analysis: FakeAnalysis, seq_num: int) -> None:
    def pause() -> None:
        assert analysis.inbox.asked(seq_num).wait(PATIENT)
        run_engine.request_pause()

    with thread(pause), pytest.raises(RunEngineInterrupted):
        run_engine(plan)
