"""What a plan is given is looked at before anything moves."""

from __future__ import annotations

import pytest
import toy
from listener import Listener

from skyloop.callbacks import Analyzer, Options
from skyloop.documents.inbox import Inbox
from skyloop.errors import ConfigError
from skyloop.plans._arguments import inbox_of, target_sigma_of


def test_an_analysis_that_was_closed_is_refused() -> None:
    analysis = Analyzer(toy.TECHNIQUE, toy.Config(), Options(executor="thread"), name="film")
    assert inbox_of(analysis) is inbox_of("film")
    analysis.close()
    for given in (analysis, analysis.inbox, "film"):
        with pytest.raises(ConfigError, match="it was closed"):
            inbox_of(given)


def test_an_analysis_tells_plans_the_configuration_that_is_in_its_start_document() -> None:
    listener = Listener()
    with Analyzer(toy.TECHNIQUE, toy.Config(), Options(executor="inline")) as analysis:
        analysis.subscribe(listener)
        for name, doc in toy.raw_run([1.0]):
            analysis(name, doc)
    (start,) = listener.of("start")
    assert start["analysis"]["config"]
    assert analysis.inbox.config == start["analysis"]["config"]


def test_the_target_sigma_of_a_plan_may_only_be_stricter_than_that_of_the_analysis() -> None:
    inbox = Inbox(config={"target_sigma": 0.5})
    assert target_sigma_of(None, inbox) == 0.5
    assert target_sigma_of(0.5, inbox) == 0.5
    assert target_sigma_of(0.1, inbox) == 0.1
    assert target_sigma_of(7, Inbox()) == 7.0
    with pytest.raises(ConfigError, match=r"found 0\.6, but the analysis takes a target for known at 0\.5"):
        target_sigma_of(0.6, inbox)
    with pytest.raises(ConfigError, match="tells no target_sigma"):
        target_sigma_of(None, Inbox())


def test_what_has_no_inbox_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no inbox"):
        inbox_of(42)
    assert isinstance(inbox_of(Inbox()), Inbox)
