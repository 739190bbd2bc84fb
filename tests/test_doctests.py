"""The examples in docstrings are true; a run of the tests without options would pass them over."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "skyloop"
FILES = [path for folder in ("", "callbacks", "plans") for path in (PACKAGE / folder).rglob("*.py")]


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = sorted({module_of(path) for path in FILES if "\n    >>> " in path.read_text(encoding="utf-8")})


def test_there_are_examples_in_many_modules() -> None:
    assert len(MODULES) >= 20


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    ended = doctest.testmod(import_module(name))
    assert ended.attempted > 0
    assert ended.failed == 0
