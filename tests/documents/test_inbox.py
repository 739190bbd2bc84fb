from __future__ import annotations

import gc
from threading import Thread

import pytest

from skyloop.documents.inbox import Analysis, Inbox, inbox_named
from skyloop.errors import ConfigError

KEY = ("run", "primary", 1)


def test_an_inbox_tells_the_configuration_of_its_analysis_and_nothing_where_it_is_not_known() -> None:
    assert Inbox(config={"target_sigma": 0.5}).config == {"target_sigma": 0.5}
    assert Inbox().config == {}


def test_a_future_asked_for_early_resolves_when_the_result_is_put() -> None:
    inbox = Inbox()
    future = inbox.future(KEY)
    Thread(target=inbox.put, args=(KEY, Analysis(42, "e", 1))).start()
    assert future.result(timeout=5).result == 42
    assert inbox.future(KEY) is future


def test_a_point_measured_again_is_pending_again() -> None:
    inbox = Inbox()
    old = Analysis("old", "e1", 1)
    inbox.put(KEY, old)
    assert inbox.renew(KEY) is old
    assert not inbox.future(KEY).done()
    inbox.put(KEY, Analysis("new", "e2", 2))
    assert inbox.future(KEY).result(0).result == "new"


def test_a_later_result_takes_the_place_of_the_older() -> None:
    inbox = Inbox()
    inbox.put(KEY, Analysis("old", "e1", 1))
    inbox.put(KEY, Analysis("new", "e2", 2))
    assert inbox.future(KEY).result(0).result == "new"


def test_renewing_leaves_a_pending_future_to_those_who_wait_for_it() -> None:
    inbox = Inbox()
    future = inbox.future(KEY)
    assert inbox.renew(KEY) is None
    assert inbox.future(KEY) is future


def test_a_result_that_comes_after_its_future_was_cancelled_can_still_be_found() -> None:
    inbox = Inbox()
    inbox.future(KEY).cancel()
    inbox.put(KEY, Analysis(1, "e", 1))
    assert inbox.future(KEY).result(0).result == 1


def test_closing_a_run_cancels_what_is_pending_in_it_and_nothing_else() -> None:
    inbox = Inbox()
    pending, other = inbox.future(KEY), inbox.future(("other", "primary", 1))
    inbox.put(("run", "primary", 2), Analysis("kept", "e", 1))
    inbox.close("run")
    assert pending.cancelled()
    assert not other.done()
    assert inbox.future(("run", "primary", 2)).result(0).result == "kept"


def test_the_oldest_results_are_forgotten_first() -> None:
    inbox = Inbox(capacity=2)
    for number in (1, 2, 3):
        inbox.put(("run", "primary", number), Analysis(number, "e", number))
    assert inbox.future(("run", "primary", 3)).result(0).result == 3
    assert not inbox.future(("run", "primary", 1)).done()


def test_a_named_inbox_is_found_as_long_as_it_is_held() -> None:
    inbox = Inbox("film")
    assert inbox_named("film") is inbox
    del inbox
    gc.collect()
    with pytest.raises(ConfigError, match="no analysis is named 'film'"):
        inbox_named("film")
