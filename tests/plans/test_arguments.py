"""What a plan is given is looked at before anything moves."""

from __future__ import annotations

import pytest
import toy

from skyloop.callbacks import Analyzer, Options
from skyloop.documents.inbox import Inbox
from skyloop.errors import ConfigError
from skyloop.plans._arguments import inbox_of


def test_an_analysis_that_was_closed_is_refused() -> None:
    analysis = Analyzer(toy.TECHNIQUE, toy.Config(), Options(executor="thread"), name="film")
    assert inbox_of(analysis) is inbox_of("film")
    analysis.close()
    for given in (analysis, analysis.inbox, "film"):
        with pytest.raises(ConfigError, match="it was closed"):
            inbox_of(given)


def test_what_has_no_inbox_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no inbox"):
        inbox_of(42)
    assert isinstance(inbox_of(Inbox()), Inbox)
