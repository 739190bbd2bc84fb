"""Reflectometry beside refnx and reflectorch: forward model, real curves, adaptive measurement."""

from __future__ import annotations

from benchmarks import _adaptive, _curves, _forward, _oxide
from benchmarks._command import run

if __name__ == "__main__":
    run(__doc__ or "", [_forward.measure, _curves.measure, _adaptive.measure, _oxide.measure])
