from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from engines.xrf.spectra import Truth, truth

from skyloop.engines.xrf.calibration import Grid, calibrated
from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.setup import wide_problem

ELEMENTS = {"Si": 0.1, "Ca": 0.3, "Ti": 0.2, "Fe": 1.0, "Cu": 0.4}


def at(slope: float = 0.01, offset: float = 0.0, total: float = 1e5) -> Truth:
    values = {"ENERGY_SLOPE": slope, "ENERGY_OFFSET": offset}
    return truth(ELEMENTS, total=total, channels=1500, values=values)


def starts(of: Truth, grid: Grid, best: int = 4) -> list[dict[str, float]]:
    problem = wide_problem(torch.from_numpy(of.counts(0)), of.elements, Config(incident_energy=10.0), grid)
    return calibrated(problem, grid, best=best)


def away(start: dict[str, float], of: Truth, energy: float = 6.4) -> float:
    """How far a calibration has a line from where it is [keV]."""
    channel = (energy - of.values["ENERGY_OFFSET"]) / of.values["ENERGY_SLOPE"]
    return abs(start["ENERGY_OFFSET"] + start["ENERGY_SLOPE"] * channel - energy)


def test_cells_are_equidistant_in_the_logarithm_of_the_slope_and_in_the_offset() -> None:
    grid = Grid(0.02, slope_range=0.1, slope_step=0.01, offset_range=0.05, offset_step=0.025)
    assert grid.cells() == (10, 2)
    slope, offset = grid.at(torch.tensor([[0.0, 0.0], [10.0, -2.0], [0.5, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(slope, 0.02 * torch.tensor([1, math.exp(0.1), math.exp(0.005)]).double())
    torch.testing.assert_close(offset, torch.tensor([0, -0.05, 0.025]).double())


@pytest.mark.parametrize("total", [3e3, 1e5, 1e7])
@pytest.mark.parametrize(("slope", "offset"), [(0.01, 0.0), (0.0092, 0.04), (0.0108, -0.04)])
def test_a_calibration_inside_the_grid_is_found(slope: float, offset: float, total: float) -> None:
    of = at(slope, offset, total)
    best = starts(of, Grid())[0]
    assert away(best, of) < 0.04
    assert away(best, of, 2.0) < 0.04


@pytest.mark.parametrize(("slope", "offset"), [(0.0089, 0.0), (0.0112, 0.0), (0.01, 0.09), (0.01, -0.09)])
def test_a_calibration_beyond_the_grid_is_found_where_the_grid_grows(slope: float, offset: float) -> None:
    of = at(slope, offset)
    assert away(starts(of, Grid())[0], of) < 0.04


def test_what_is_found_does_not_depend_on_the_middle_of_the_grid() -> None:
    of = at(0.0101)
    assert all(away(starts(of, Grid(middle))[0], of) < 0.04 for middle in (0.0095, 0.01, 0.0106))


def test_no_two_starts_are_neighbours() -> None:
    found, grid = starts(at(), Grid()), Grid()
    assert len(found) == 4
    for one, other in combinations(found, 2):
        slopes = abs(math.log(one["ENERGY_SLOPE"] / other["ENERGY_SLOPE"]))
        offsets = abs(one["ENERGY_OFFSET"] - other["ENERGY_OFFSET"])
        assert slopes > 1.3 * grid.slope_step or offsets > 0.99 * grid.offset_step


def test_the_best_one_of_many_is_the_best_one() -> None:
    of = at(0.0097, 0.02)
    assert starts(of, Grid(), best=1)[0] == starts(of, Grid(), best=6)[0]


def test_a_grid_of_one_cell_still_gives_a_start() -> None:
    of = at()
    found = starts(of, Grid(slope_range=0.0, offset_range=0.0))
    assert away(found[0], of) < 0.04
