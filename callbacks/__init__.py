"""Bluesky callbacks, one per technique: raw documents in, analysis documents out."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from skyloop.callbacks._analyzer import Analyzer
from skyloop.callbacks._options import Executor, Health, Options
from skyloop.callbacks._technique import Prior, Technique

__all__ = ["Analyzer", "Executor", "Health", "Options", "Prior", "Technique", "techniques"]


def techniques() -> dict[str, Technique]:
    """Every technique found: the modules of this package that hold a `TECHNIQUE`."""
    names = [m.name for m in iter_modules(__path__) if not m.name.startswith("_")]
    return {name: import_module(f"{__name__}.{name}").TECHNIQUE for name in names}
