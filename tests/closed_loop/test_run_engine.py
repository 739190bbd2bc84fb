"""A RunEngine, real plans and the analyzer together: the scan never notices, the analysis misses nothing."""

from __future__ import annotations

import copy
import gc
import io
import logging
import re
from collections.abc import Iterator
from threading import Event
from typing import Any

import matplotlib as mpl
import numpy as np
import ophyd.sim
import pytest
import toy
from beam import Number, analyzer, count, one_by_one
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.callbacks import LiveTable
from bluesky.callbacks.best_effort import BestEffortCallback
from bluesky.utils import RunEngineInterrupted
from fake_analysis import engine
from listener import Listener

from skyloop.callbacks import Analyzer

sim: Any = ophyd.sim


@pytest.fixture(scope="module", params=["inline", "thread", "process"])
def analysis(request: pytest.FixtureRequest) -> Iterator[Analyzer]:
    with analyzer(request.param) as made:  # one for all tests of this file: it must not mind
        yield made


def heard(analysis: Analyzer) -> Listener:
    listener = Listener()
    analysis.subscribe(listener)
    return listener


def settled(analysis: Analyzer) -> None:
    assert analysis.flush(60)
    assert analysis.health.faults == ()


def test_each_event_of_a_scan_leaves_one_result_in_a_valid_analysis_run(analysis: Analyzer) -> None:
    listener, raw = heard(analysis), Listener()
    result = engine(analysis, raw)(count([1.0, 2.0, 6.0]))
    settled(analysis)
    run = listener.run()
    assert (result.exit_status, run.raw_uid) == ("success", result.run_start_uids[0])
    assert run.spots() == [1, 2, 3]
    assert run.final().mean == 3.0
    assert run.start["scan_id"] == raw.of("start")[0]["scan_id"]
    assert run.stop is not None
    assert run.stop["exit_status"] == "success"


def test_no_document_is_changed_for_those_who_come_after(analysis: Analyzer) -> None:
    before: list[Any] = []
    after: list[Any] = []
    run_engine = engine(
        lambda name, doc: before.append((name, copy.deepcopy(doc))),
        analysis,
        lambda name, doc: after.append((name, doc)),
    )
    run_engine(count([1.0, toy.RAISES, 3.0]))
    settled(analysis)
    assert before == after


def test_the_analysis_lives_on_when_nobody_else_holds_it() -> None:
    analysis = analyzer("thread")
    listener, run_engine = heard(analysis), engine()
    flush, close = analysis.flush, analysis.close
    run_engine.subscribe(analysis)
    del analysis
    gc.collect()
    run_engine(count([2.0, 4.0]))
    assert flush(60)
    assert listener.run().final().mean == 3.0
    close()


def test_two_analyses_of_one_scan_do_not_meet() -> None:
    once = analyzer("thread")
    with once, Analyzer(toy.TECHNIQUE, toy.Config(10.0), once._pipeline._options) as tenfold:
        listeners = [heard(once), heard(tenfold)]
        engine(once, tenfold)(count([1.0, 3.0]))
        settled(once)
        settled(tenfold)
    one, ten = (listener.run() for listener in listeners)
    assert (one.final().mean, ten.final().mean) == (2.0, 20.0)
    assert one.start["uid"] != ten.start["uid"]
    assert one.raw_uid == ten.raw_uid


def test_two_analyses_may_share_one_sink() -> None:
    listener, once = Listener(), analyzer("thread")
    with once, Analyzer(toy.TECHNIQUE, toy.Config(10.0), once._pipeline._options) as tenfold:
        tenfold.subscribe(once.subscribe(listener))
        engine(once, tenfold)(count([1.0, 3.0]))
        settled(once)
        settled(tenfold)
    assert sorted(run.final().mean for run in listener.runs()) == [2.0, 20.0]


def test_runs_that_are_open_at_once_are_analysed_apart(analysis: Analyzer) -> None:
    listener = heard(analysis)

    def nested() -> Any:
        inner, outer = Number([10.0, 30.0]), Number([1.0, 3.0])
        yield from bps.open_run(md={"which": "outer"})
        yield from bps.trigger_and_read([outer])
        yield from bpp.set_run_key_wrapper(bps.open_run(md={"which": "inner"}), "inner")
        yield from bpp.set_run_key_wrapper(bps.trigger_and_read([inner]), "inner")
        yield from bps.trigger_and_read([outer])
        yield from bpp.set_run_key_wrapper(bps.trigger_and_read([inner]), "inner")
        yield from bps.close_run()
        yield from bpp.set_run_key_wrapper(bps.close_run(), "inner")

    engine(analysis)(nested())
    settled(analysis)
    assert [run.final().mean for run in listener.runs()] == [2.0, 20.0]
    assert all(run.spots() == [1, 2] for run in listener.runs())


def test_baselines_and_monitors_are_no_frames(analysis: Analyzer) -> None:
    listener, watched = heard(analysis), sim.SynSignal(name="watched")
    preparation = bpp.SupplementalData(baseline=[Number([7.0] * 9, name="x")], monitors=[watched])
    run_engine = engine(analysis)
    run_engine.preprocessors.append(preparation)
    run_engine(one_by_one([1.0, 2.0, 3.0], after={2: lambda: watched.put(5)}))
    settled(analysis)
    run = listener.run()
    assert {event["data"]["raw_stream"] for event in run.stream("primary")} == {"primary"}
    assert run.spots() == [1, 2, 3]
    assert run.final().mean == 2.0


def test_a_device_configured_in_mid_scan_changes_nothing_for_the_analysis(analysis: Analyzer) -> None:
    listener, raw = heard(analysis), Listener()
    motor = sim.SynAxis(name="motor")
    x = sim.SynGauss("x", motor, "motor", center=0, Imax=1)

    def reconfigured() -> Any:
        yield from bps.open_run()
        for height in (1, 2, 3):
            yield from bps.configure(x, {"x_Imax": height})
            yield from bps.trigger_and_read([x])
        yield from bps.close_run()

    x.configure = lambda d: (x.Imax.put(d["x_Imax"]), ({}, {}))[1]
    engine(analysis, raw)(reconfigured())
    settled(analysis)
    assert len(raw.of("descriptor")) == 3
    assert listener.run().spots() == [1, 2, 3]
    assert listener.run().final().mean == 2.0


def test_a_point_measured_again_after_a_pause_counts_once(analysis: Analyzer) -> None:
    listener, raw = heard(analysis), Listener()
    paused: list[bool] = []

    def pause_once() -> Any:
        # the checkpoint lies before the point, so that it is measured again
        return None if paused else (paused.append(True), bps.pause())[1]

    run_engine = engine(analysis, raw)
    with pytest.raises(RunEngineInterrupted):
        run_engine(one_by_one([1.0, 50.0, 2.0, 3.0], after={2: pause_once}, points=3))
    run_engine.resume()
    settled(analysis)
    assert [event["seq_num"] for event in raw.of("event")][:3] == [1, 2, 2]
    run = listener.run()
    assert run.spots() == [event["seq_num"] for event in raw.of("event")]
    newest = {event["seq_num"]: event["data"]["x"] for event in raw.of("event")}
    assert run.final().values == len(newest)
    assert run.final().mean == sum(newest.values()) / len(newest)


@pytest.mark.parametrize(("end", "status"), [("abort", "abort"), ("halt", "abort"), ("stop", "success")])
def test_a_scan_that_an_operator_ends_ends_its_analysis(analysis: Analyzer, end: str, status: str) -> None:
    listener, run_engine = heard(analysis), engine(analysis)
    with pytest.raises(RunEngineInterrupted):
        run_engine(one_by_one([1.0, 2.0, 3.0], after={2: bps.pause}))
    getattr(run_engine, end)()
    settled(analysis)
    run = listener.run()
    assert run.stop is not None
    assert run.stop["exit_status"] == status
    assert run.final().mean == 1.5
    run_engine(count([4.0]))
    settled(analysis)
    assert listener.runs()[1].final().mean == 4.0


def test_a_plan_that_fails_ends_its_analysis_with_the_reason(analysis: Analyzer) -> None:
    def explode() -> Any:
        raise RuntimeError("the sample fell off")

    listener, run_engine = heard(analysis), engine(analysis)
    with pytest.raises(RuntimeError, match="fell off"):
        run_engine(one_by_one([1.0, 2.0], after={1: explode}))
    settled(analysis)
    run = listener.run()
    assert run.stop is not None
    assert run.spots() == [1]
    assert (run.stop["exit_status"], run.stop["reason"]) == ("fail", "the sample fell off")


@pytest.mark.parametrize("document", ["start", "descriptor", "event", "stop"])
def test_a_callback_ahead_of_ours_that_raises_harms_no_analysis(document: str) -> None:
    armed = [True]

    def rude(name: str, doc: dict[str, Any]) -> None:
        if name == document and armed:
            armed.clear()
            raise RuntimeError("rude")

    with analyzer("thread") as analysis:
        listener, run_engine = heard(analysis), engine(rude, analysis)
        with pytest.raises(RuntimeError, match="rude"):
            run_engine(count([1.0, 2.0]))
        run_engine(count([5.0]))
        settled(analysis)
        assert analysis.close()
        assert analysis._pipeline._newest._streams == {}
    *_, last = listener.runs()
    assert last.final().mean == 5.0


def test_subscribed_in_mid_run_it_says_so_once_and_takes_the_next_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with analyzer("thread") as analysis:
        listener, run_engine = heard(analysis), engine()
        late = {1: lambda: [run_engine.subscribe(analysis)][1:]}
        run_engine(one_by_one([1.0, 2.0, 3.0], after=late))
        run_engine(count([4.0]))
        settled(analysis)
        quarantined = analysis.health.quarantined
    assert [run.final().mean for run in listener.runs()] == [4.0]
    assert sum(quarantined.values()) == 2
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(told) == 1
    assert "subscribed" in told[0]


# what people look at ----------------------------------------------------------------------------------


def test_a_live_table_of_results_has_a_row_per_point() -> None:
    out: list[str] = []
    with analyzer("thread") as analysis:
        table = LiveTable(["raw_seq_num", "toy_mean", "toy_mean_sigma", "toy_outcome"], out=out.append)
        sink = analysis.subscribe(table)
        engine(analysis)(count([1.0, toy.RAISES, 4.0]))
        settled(analysis)
        assert sink.failed == 0, sink.last_failure
    text = "\n".join(out)
    assert "toy_mean" in text
    assert text.count("failed") == 1
    assert "2.500" in text
    assert "analysis:toy" in text


def test_what_is_shown_has_a_row_per_result_and_none_for_frames_that_a_later_row_holds() -> None:
    out: list[str] = []
    asked, go_on = Event(), Event()
    with analyzer("thread") as analysis:
        step = analysis.engine.step

        def slow(*args: Any) -> Any:
            asked.set()
            assert go_on.wait(60)
            return step(*args)

        def begun() -> None:
            assert asked.wait(60)

        analysis.engine.step = slow  # type: ignore[method-assign]
        sink = analysis.show(LiveTable(["toy_mean", "toy_outcome"], out=out.append))
        listener = heard(analysis)
        # the first point is being analysed while the others come
        engine(analysis)(one_by_one([1.0, 2.0, 3.0, 6.0], after={1: begun}))
        go_on.set()
        settled(analysis)
        assert sink.failed == 0, sink.last_failure
    assert listener.run().spots() == [1, 2, 3, 4]
    text = "\n".join(out)
    assert re.findall(r"\| +(\d+) \|.*\| +([\d.]+) \| +ok \|", text) == [("1", "1.000"), ("4", "3.000")]
    assert "nan" not in text
    assert "superseded" not in text


def test_what_is_shown_tells_a_frame_that_could_not_be_analysed() -> None:
    out: list[str] = []
    with analyzer("inline") as analysis:
        analysis.show(LiveTable(["toy_mean", "toy_outcome"], out=out.append))
        engine(analysis)(count([1.0, toy.RAISES, 4.0]))
        settled(analysis)
    assert re.findall(r"\| +(\d+) \|.*\| +(ok|failed) \|", "\n".join(out)) == [
        ("1", "ok"),
        ("2", "failed"),
        ("3", "ok"),
    ]


def test_a_live_plot_of_results_has_a_point_per_result() -> None:
    mpl.use("Agg")
    from bluesky.callbacks.mpl_plotting import LivePlot
    from matplotlib import pyplot as plt

    _, axes = plt.subplots()
    with analyzer("thread") as analysis:
        plot = LivePlot("toy_mean", x="raw_seq_num", ax=axes)
        sink = analysis.subscribe(plot)
        engine(analysis)(one_by_one([1.0, 2.0, 6.0], after={n: lambda: settled(analysis) for n in (1, 2)}))
        settled(analysis)
        assert sink.failed == 0, sink.last_failure
    (line,) = axes.get_lines()
    assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3]
    assert np.asarray(line.get_ydata()).tolist() == [1.0, 1.5, 3.0]
    plt.close("all")


def test_the_best_effort_callback_shows_the_analysis(capsys: pytest.CaptureFixture[str]) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    best = BestEffortCallback()
    with analyzer("thread") as analysis:
        sink = analysis.subscribe(best)
        engine(analysis)(one_by_one([1.0, 2.0, 6.0], after={n: lambda: settled(analysis) for n in (1, 2)}))
        settled(analysis)
        assert sink.failed == 0, sink.last_failure
    shown = capsys.readouterr().out
    assert "toy_mean" in shown
    assert "3.000" in shown
    plt.close("all")


def test_a_table_that_somebody_wrote_wrongly_costs_only_the_table(caplog: pytest.LogCaptureFixture) -> None:
    with analyzer("thread") as analysis:
        listener = heard(analysis)
        analysis.subscribe(LiveTable(["no_such_key"], out=io.StringIO().write))
        assert engine(analysis)(count([1.0, 2.0])).exit_status == "success"
        settled(analysis)
        assert listener.run().spots() == [1, 2]
