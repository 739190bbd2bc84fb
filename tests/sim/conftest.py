"""A RunEngine that ends with its test, and what it emits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bluesky import RunEngine

Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture(name="RE")
def run_engine() -> Iterator[RunEngine]:
    engine = RunEngine({}, call_returns_result=True)
    yield engine
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join(timeout=10)
    engine.loop.close()


@pytest.fixture
def documents(RE: RunEngine) -> Documents:
    received: Documents = []
    RE.subscribe(lambda name, doc: received.append((name, doc)))
    return received
