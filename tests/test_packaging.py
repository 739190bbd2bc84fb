"""The wheel and the sdist hold the two linked packages; nothing of the tests travels."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("callbacks/_analyzer.py", "callbacks/reflectometry.py", "plans/_steer.py", "plans/reflectometry.py")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.timeout(300)
def test_the_wheel_holds_callbacks_and_plans(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = archive.namelist()
    for needed in NEEDED:
        assert f"skyloop/{needed}" in names
    assert "skyloop/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "callbacks/", "plans/"))]


@pytest.mark.timeout(300)
def test_the_sdist_holds_callbacks_and_plans(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = archive.getnames()
    for needed in NEEDED:
        assert any(name.endswith(f"src/skyloop/{needed}") for name in names)


def test_the_version_is_written_once() -> None:
    import skyloop

    assert f'version = "{skyloop.__version__}"' in (ROOT / "pyproject.toml").read_text()
