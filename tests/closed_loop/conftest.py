"""RunEngines of a test end with it; devices that write files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine
from fake_analysis import end_engines


@pytest.fixture(autouse=True)
def engines_end() -> Iterator[None]:
    yield
    end_engines()


@pytest.fixture(name="RE")
def run_engine() -> Iterator[Any]:
    """With context managers, which ophyd-async wants."""
    run_engine: Any = RunEngine({}, call_returns_result=True)
    yield run_engine
    run_engine.loop.call_soon_threadsafe(run_engine.loop.stop)
    run_engine._th.join(timeout=10)
    run_engine.loop.close()


@pytest.fixture
def devices(RE: Any, tmp_path: Path) -> Any:
    """A detector that writes files, and a motor."""
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
    from ophyd_async.sim import PatternGenerator, SimBlobDetector, SimMotor

    (tmp_path / "data").mkdir()
    paths = StaticPathProvider(UUIDFilenameProvider(), tmp_path / "data")
    with init_devices():
        det = SimBlobDetector(paths, pattern_generator=PatternGenerator())
        motor = SimMotor()
    return det, motor
