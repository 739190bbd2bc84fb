"""What every test may use: shared data, seeds, and one torch thread."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured curves and reference arrays; in CI its absence is a failure."""
    given = os.environ.get("SKYLOOP_TEST_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if folder.is_dir():
        return folder
    message = f"no reference data in {folder}: set SKYLOOP_TEST_DATA to their folder"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
