"""Laws of the truth behind the simulated devices."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from skyloop.engines.reflectometry.config import Config, load
from skyloop.engines.reflectometry.forward import stack
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.smearing import model_curve
from skyloop.errors import ConfigError
from skyloop.sim.sample import TrueSample, known

Q = np.linspace(0.008, 0.25, 122)
NOTHING = np.zeros_like(Q)


@pytest.fixture
def config() -> Config:
    return load(
        """
        sample:
          layers:
            - {name: film, thickness: [100, 500], roughness: [2, 15], sld: [0, 6.5]}
            - {repeat: 3, layers: [{thickness: 20, sld: 4}, {name: spacer, thickness: 30, sld: 1}]}
          backing: {name: Si, sld: 2.07, roughness: [2, 8]}
        background: [1e-8, 1e-5]
        """
    )


FILM = {
    "film.thickness": 250.0,
    "film.roughness": 6.0,
    "film.sld": 4.5,
    "Si.roughness": 3.0,
    "background": 1e-6,
}


def test_the_truth_is_the_curve_of_the_engine_at_the_same_parameters(config: Config) -> None:
    parameters = Parameters.of(config)
    theta = torch.tensor([[FILM[name] for name in parameters.names]], dtype=torch.float64)
    sigma = 0.02 * Q
    expected = model_curve(torch.as_tensor(Q), torch.as_tensor(sigma), parameters.slabs(theta))
    truth = TrueSample(known(config, FILM)).reflectivity(Q, sigma)
    assert np.array_equal(truth, expected[0].numpy())


def test_the_truth_is_the_reflectivity_of_its_layers() -> None:
    config = load("sample:\n  layers: [{thickness: 150, sld: 3.47}]\n  backing: {sld: 2.07}\n")
    slabs = stack([150.0], [0.0, 3.47, 2.07])
    expected = model_curve(torch.as_tensor(Q), torch.as_tensor(NOTHING), slabs)[0].numpy()
    assert np.allclose(TrueSample(config).reflectivity(Q, NOTHING), expected, rtol=1e-12)


def test_a_growing_layer_is_a_thicker_layer_later(config: Config) -> None:
    growing = TrueSample(known(config, FILM), growth={"film": 0.05, "spacer": -0.01})
    later = TrueSample(known(config, FILM | {"film.thickness": 300.0, "spacer.thickness": 20.0}))
    assert growing.thickness("film", 1000.0) == 300.0
    assert np.array_equal(growing.reflectivity(Q, NOTHING, 1000.0), later.reflectivity(Q, NOTHING))
    assert not np.array_equal(growing.reflectivity(Q, NOTHING), later.reflectivity(Q, NOTHING))


def test_a_sample_that_does_not_grow_does_not_change(config: Config) -> None:
    sample = TrueSample(known(config, FILM))
    assert np.array_equal(sample.reflectivity(Q, NOTHING, 0.0), sample.reflectivity(Q, NOTHING, 1e6))


def test_fringes_of_a_growing_film_shrink_as_one_over_its_thickness() -> None:
    config = load("sample:\n  layers: [{name: film, thickness: 200, sld: 4}]\n  backing: {sld: 2}\n")
    growing = TrueSample(config, growth={"film": 1.0})
    q = np.linspace(0.1, 0.3, 4001)

    def period(time: float) -> float:
        curve = growing.reflectivity(q, np.zeros_like(q), time) * q**4
        minima = q[1:-1][(curve[1:-1] < curve[:-2]) & (curve[1:-1] < curve[2:])]
        return float(np.diff(minima).mean())

    assert period(0.0) == pytest.approx(2 * math.pi / 200, rel=0.01)
    assert period(200.0) == pytest.approx(2 * math.pi / 400, rel=0.01)


def test_a_target_that_became_known_is_no_target_any_more(config: Config) -> None:
    assert known(replace(config, target="film.thickness"), FILM).target == ""
    half = known(replace(config, target="film.thickness"), {"film.sld": 4.0})
    assert half.target == "film.thickness"


def test_a_range_is_no_truth(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"film\.thickness: a range"):
        TrueSample(config)


def test_what_does_not_exist_can_neither_be_known_nor_grow(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"cap\.sld: no such parameter"):
        known(config, {"cap.sld": 1.0})
    with pytest.raises(ConfigError, match=r"cap\.thickness: no such layer"):
        TrueSample(known(config, FILM), growth={"cap": 1.0})


def test_a_layer_that_would_vanish_is_refused_when_it_does(config: Config) -> None:
    shrinking = TrueSample(known(config, FILM), growth={"film": -1.0})
    with pytest.raises(ConfigError, match=r"film\.thickness"):
        shrinking.reflectivity(Q, NOTHING, 251.0)
