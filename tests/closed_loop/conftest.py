"""RunEngines of a test end with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_analysis import end_engines


@pytest.fixture(autouse=True)
def engines_end() -> Iterator[None]:
    yield
    end_engines()
