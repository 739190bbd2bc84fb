"""X-ray fluorescence: calibration, elements and element maps from energy-dispersive spectra."""

from __future__ import annotations

from skyloop.engines.xrf.config import Calibration, Config
from skyloop.engines.xrf.joint import Doubts
from skyloop.engines.xrf.spectrum import SpectrumFit, fit_spectra, fit_spectrum

__all__ = ["Calibration", "Config", "Doubts", "SpectrumFit", "fit_spectra", "fit_spectrum"]
