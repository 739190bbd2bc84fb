"""X-ray fluorescence beside MapsTorch, scipy, scikit-beam and PyMca: fits, draws, maps, a standard."""

from __future__ import annotations

from benchmarks import _xrf_draws, _xrf_maps, _xrf_speed, _xrf_standard
from benchmarks._command import run

if __name__ == "__main__":
    run(__doc__ or "", [_xrf_speed.measure, _xrf_draws.measure, _xrf_maps.measure, _xrf_standard.measure])
