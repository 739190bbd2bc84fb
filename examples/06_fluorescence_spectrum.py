"""Fluorescence: a spectrum of unknown elements is fitted from the energy of the beam alone, then a small map.

The spectrum is simulated, so that the truth is known. Give a folder to keep the figure.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from skyloop.engines.xrf import Config, SpectrumFit, fit_spectrum
from skyloop.engines.xrf.features import theta_of
from skyloop.engines.xrf.forward import Span, energies, shapes
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.panels import spectrum_panels
from skyloop.engines.xrf.parameters import defaults
from skyloop.engines.xrf.pixels import Pixels, PixelSolver, basis_of
from skyloop.engines.xrf.rows import rows_of
from skyloop.figures.pen import draw, save

BEAM = 10.0  # keV
SIDE, CHANNELS = 20, 1100  # pixels along each side of the map; channels of the detector
COUNTS = {  # in the main line, mean of a pixel
    "Ca": 60.0,
    "Ti": 4.0,
    "Fe": 150.0,
    "Cu": 40.0,
    "COHERENT_SCT_AMPLITUDE": 80.0,
    "COMPTON_AMPLITUDE": 150.0,
}
BACKGROUND = 400.0  # counts per pixel
# of these the fit is told the energy of the beam only
DETECTOR = {"ENERGY_OFFSET": 0.012, "ENERGY_SLOPE": 0.0097, "COHERENT_SCT_ENERGY": BEAM}


def true_maps() -> dict[str, np.ndarray]:
    """Counts in the main line [y, x]: iron is a disc and copper a stripe, the others are everywhere."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    where = {"Fe": (x - 0.6) ** 2 + (y - 0.5) ** 2 < 0.1, "Cu": np.abs(x - 0.2) < 0.12}
    maps = {name: where.get(name, np.ones((SIDE, SIDE))).astype(float) for name in COUNTS}
    return {name: COUNTS[name] * each / each.mean() for name, each in maps.items()}


def measured(maps: dict[str, np.ndarray]) -> np.ndarray:
    """What a detector counts [pixel, channel]."""
    rows = rows_of(tuple(maps), line_table(), incident_energy=BEAM)
    theta, span = theta_of(defaults(DETECTOR)), Span(0, CHANNELS)
    smooth = np.exp(-energies(theta, span).numpy() / 4)
    peaks = np.stack([each.ravel() for each in maps.values()]).T @ shapes(rows, theta, span).numpy()
    return np.random.default_rng(6).poisson(peaks + BACKGROUND * smooth / smooth.sum())


def table(fit: SpectrumFit, maps: dict[str, np.ndarray]) -> Table:
    """What was found beside the truth."""
    told = Table("component", "counts in main line", "truth", "significance", "may be")
    for name, amplitude, sigma in zip(fit.names, fit.amplitudes, fit.sigmas, strict=True):
        truth = f"{maps[name].sum():.0f}" if name in maps else "not there"
        found, alike = fit.significance[name], ", ".join(fit.alike.get(name, ()))
        told.add_row(name, f"{amplitude:.0f} ± {sigma:.0f}", truth, f"{found:.1f}", alike)
    return told


def mapped(fit: SpectrumFit, counts: np.ndarray) -> Pixels:
    """The amplitudes of each pixel, with the shapes that the fit of the sum has found."""
    solver = PixelSolver(basis_of(fit))
    return solver.solve(torch.from_numpy(counts[:, fit.first : fit.first + len(fit.counts)]))


def main(folder: Path) -> None:
    maps = true_maps()
    counts = measured(maps)
    fit = fit_spectrum(counts.sum(0), Config(incident_energy=BEAM))
    console = Console()
    console.print(table(fit, maps))
    console.print(": ".join(filter(None, (fit.outcome, fit.reason))))
    slope, sigma = fit.values["ENERGY_SLOPE"], fit.value_sigmas["ENERGY_SLOPE"]
    truth = DETECTOR["ENERGY_SLOPE"]
    console.print(f"{1e3 * slope:.3f} ± {1e3 * sigma:.3f} eV/channel, truth {1e3 * truth:.3f}")
    figure = draw(spectrum_panels(fit), title="simulated spectrum, sum of 400 pixels")
    console.print(f"figure {save(figure, folder / 'spectrum.png')}")

    pixels = mapped(fit, counts)
    for name in ("Ca", "Ti", "Fe", "Cu"):
        k = fit.names.index(name)
        off = (pixels.amplitudes[:, k].numpy() - maps[name].ravel()) / pixels.sigma[:, k].numpy()
        seen = int((pixels.amplitudes[:, k] > pixels.detection_limit[:, k]).sum())
        console.print(
            f"map of {name}: {np.mean(np.abs(off) < 1):.0%} within 1 sigma of the truth, "
            f"{np.mean(np.abs(off) < 2):.0%} within 2; in {np.sum(maps[name] > 0)} pixels, seen in {seen}"
        )
        assert np.mean(np.abs(off) < 2) > 0.9
    assert set(fit.names) == set(maps)
    assert abs(slope - truth) < 4 * sigma


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as name:
            main(Path(name))
