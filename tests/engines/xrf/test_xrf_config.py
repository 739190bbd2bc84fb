from __future__ import annotations

from typing import Any

import pytest

from skyloop.engines.xrf.config import Calibration, Config
from skyloop.engines.xrf.joint import Doubts
from skyloop.engines.xrf.parameters import FITTED
from skyloop.engines.xrf.setup import candidates
from skyloop.errors import ConfigError

BAD: list[tuple[str, dict[str, Any]]] = [
    ("incident_energy", {"incident_energy": 0.5}),
    ("incident_energy", {"incident_energy": 10_000.0}),
    ("incident_energy", {"incident_energy": float("nan")}),
    ("incident_energy", {"incident_energy": float("inf")}),
    ("background", {"background": "none"}),
    ("objective", {"objective": "l1"}),
    ("doubts.branching", {"doubts": Doubts(branching=0.2)}),
    ("doubts.branching", {"doubts": Doubts(branching=float("nan"))}),
    ("doubts.position", {"doubts": Doubts(position=-0.001)}),
    ("doubts.width", {"doubts": Doubts(width=1.0)}),
    ("doubts.tail", {"doubts": Doubts(tail=0.5)}),
    ("false_positives", {"false_positives": 0.0}),
    ("false_positives", {"false_positives": 2.0}),
    ("free", {"free": ()}),
    ("free", {"free": ("SLOPE",)}),
    ("SLOPE", {"parameters": {"SLOPE": 1.0}}),
    ("FWHM_OFFSET", {"parameters": {"FWHM_OFFSET": 5.0}}),
    ("ENERGY_SLOPE", {"parameters": {"ENERGY_SLOPE": 0.01}}),
    ("ENERGY_OFFSET", {"parameters": {"ENERGY_OFFSET": 0.0}}),
    ("calibration.offset", {"calibration": Calibration(offset=5.0)}),
    ("energy_range", {"energy_range": (5.0, 2.0)}),
    ("energy_range", {"energy_range": (0.0, 2.0)}),
    ("energy_range", {"energy_range": (1.0, float("nan"))}),
    ("energy_range", {"energy_range": (1.0, float("inf"))}),
    ("calibration.slope", {"calibration": Calibration(slope=10.0)}),
    ("calibration.slope", {"calibration": Calibration(slope=float("nan"))}),
    ("calibration.slope_range", {"calibration": Calibration(slope_range=-0.1)}),
    ("calibration.offset_range", {"calibration": Calibration(offset_range=50.0)}),
]


@pytest.mark.parametrize(("key", "given"), BAD)
def test_what_cannot_be_meant_is_refused_by_name_and_with_a_mend(key: str, given: dict[str, Any]) -> None:
    every: dict[str, Any] = {"incident_energy": 10.0, **given}
    with pytest.raises(ConfigError, match=rf"{key}.*mend"):
        Config(**every)


def test_the_beam_is_all_that_must_be_given() -> None:
    config = Config(incident_energy=12.0)
    assert config.fitted_range == (1.0, 13.0)
    assert config.free == FITTED
    assert config.elements == ()


def test_a_range_that_is_given_is_the_one_fitted() -> None:
    assert Config(incident_energy=12.0, energy_range=(2.0, 9.0)).fitted_range == (2.0, 9.0)


def test_candidates_are_excited_and_inside_the_fitted_range() -> None:
    names = candidates(Config(incident_energy=10.0, energy_range=(2.0, 9.0)))
    assert {"S", "Fe", "Zn", "La_L", "Pb_M"} <= set(names)
    assert not {"Si", "Ga", "Sr", "Pb_L"} & set(names)
    assert len(set(names)) == len(names)


def test_lines_next_to_the_beam_are_no_candidates() -> None:
    assert "Zn" in candidates(Config(incident_energy=10.0))
    assert "Zn" not in candidates(Config(incident_energy=8.7))


def test_excluded_elements_and_families_are_no_candidates() -> None:
    every = set(candidates(Config(incident_energy=20.0)))
    gone = every - set(candidates(Config(incident_energy=20.0, excluded=("Pb", "Fe", "W_M"))))
    assert gone == {"Pb_L", "Pb_M", "Fe", "W_M"}


def test_an_excluded_name_that_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Xx.*mend"):
        candidates(Config(incident_energy=10.0, excluded=("Xx",)))


def test_the_beam_and_the_calibration_are_not_said_twice() -> None:
    for name, value in (("COHERENT_SCT_ENERGY", 12.0), ("ENERGY_SLOPE", 0.01), ("ENERGY_OFFSET", 0.0)):
        with pytest.raises(ConfigError, match=rf"parameters.{name}.*mend: say it"):
            Config(incident_energy=10.0, parameters={name: value})
