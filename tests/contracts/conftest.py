"""Every technique that is found, folded once for all laws."""

from __future__ import annotations

import pytest
from contracts.cases import Case, case_of

from skyloop.callbacks import techniques


@pytest.fixture(scope="session", params=sorted(techniques()))
def case(request: pytest.FixtureRequest) -> Case:
    """A technique at work."""
    return case_of(techniques()[request.param])
