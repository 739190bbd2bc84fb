from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from engines.xrf.spectra import KNOWN, truth
from scipy.stats import binom, poisson

from skyloop.engines.xrf.config import Config
from skyloop.engines.xrf.elements import Selection, select, threshold
from skyloop.engines.xrf.evidence import Evidence, Pool, evidence
from skyloop.engines.xrf.joint import Doubts
from skyloop.engines.xrf.setup import SCATTER, candidates, fit_problem, needs
from skyloop.engines.xrf.spectrum import SpectrumFit, fit_spectra, fit_spectrum

NAMES = ("a", "b", "c", "d")


def pool(*significance: float) -> Pool:
    """Four candidates of that significance, which have nothing in common, and a column of background."""
    return Pool((Evidence(NAMES, np.eye(5), np.array([*significance, 3.0])),))


def chosen(of: Pool, least: float = 4.0) -> tuple[str, ...]:
    return select(of, least=least).names


def test_components_above_the_threshold_are_kept_and_others_are_not() -> None:
    assert chosen(pool(10.0, 3.9, 4.1, -5.0)) == ("a", "c")
    assert chosen(pool(10.0, 3.9, 4.1, -5.0), least=11.0) == ()


def test_selection_tells_the_significance_of_what_it_keeps() -> None:
    found = select(pool(10.0, 0.0, 5.0, 0.0), least=4.0)
    assert found.significance == pytest.approx({"a": 10.0, "c": 5.0})


@pytest.mark.parametrize("start", [(), ("d",), NAMES, ("a", "c")])
def test_the_selection_does_not_depend_on_its_start(start: tuple[str, ...]) -> None:
    assert select(pool(10.0, 1.0, 5.0, 0.0), least=4.0, start=start).names == ("a", "c")


def test_what_is_kept_stays_whatever_the_evidence_is() -> None:
    assert select(pool(10.0, 0.0, 0.0, 0.0), least=4.0, kept=("d",)).names == ("a", "d")


def test_what_needs_another_is_there_only_with_it() -> None:
    assert select(pool(1.0, 20.0, 0.0, 0.0), least=4.0, needs={"b": "a"}).names == ()
    assert select(pool(9.0, 20.0, 0.0, 0.0), least=4.0, needs={"b": "a"}, start=()).names == ("a", "b")


def test_what_is_rarer_needs_more() -> None:
    of = pool(4.5, 4.5, 0.0, 0.0)
    assert select(of, least=4.0, rarer={"b": 6.0}).names == ("a",)
    assert select(of, least=4.0, rarer={"b": 4.0}).names == ("a", "b")


def test_the_one_of_two_alike_that_fits_better_is_kept_and_the_other_one_is_named() -> None:
    gram = np.eye(4)
    gram[0, 1] = gram[1, 0] = 0.98
    projected = gram @ np.array([0.0, 8.0, 6.0, 0.0])
    of = Pool((Evidence(NAMES[:3], gram, projected),))
    for start in ((), ("a",), ("a", "b", "c")):
        found = select(of, least=4.0, start=start)
        assert found.names == ("b", "c")
        assert found.alike == {"b": ("a",)}


def test_of_two_alike_the_common_one_is_meant() -> None:
    gram = np.eye(4)
    gram[0, 1] = gram[1, 0] = 0.98
    of = Pool((Evidence(NAMES[:3], gram, gram @ np.array([0.0, 8.0, 6.0, 0.0])),))
    assert select(of, least=4.0, rarer={"b": 10.0}).names == ("a", "c")


@pytest.mark.parametrize("detectors", [1, 4])
def test_the_threshold_is_passed_by_nothing_at_the_stated_level(detectors: int) -> None:
    n, level = 400_000, 0.01
    z = np.maximum(np.random.default_rng(0).standard_normal((n, detectors)), 0)
    false = int((np.sqrt((z**2).sum(1)) > threshold(1.0, round(1 / level), detectors)).sum())
    low, high = binom.interval(1 - 1e-4, n, level)
    assert low <= false <= high


def test_more_candidates_need_a_higher_threshold() -> None:
    assert threshold(0.01, 100) > threshold(0.01, 10) > threshold(0.1, 10) > threshold(1.0, 1) == 0


def test_lower_families_need_the_highest_that_is_excited() -> None:
    assert needs(("Fe", "Pb_L", "Pb_M", "La_L", "W_M", "Fe_Fe", *SCATTER)) == {"Pb_M": "Pb_L"}
    assert needs(("La", "La_M", "La_L")) == {"La_L": "La", "La_M": "La"}


def found_in(
    elements: Mapping[str, float], *, total: float = 1e5, beam: float = 10.0, seed: int = 1
) -> SpectrumFit:
    of = truth(elements, total=total, beam=beam, channels=int(100 * beam) + 200)
    return fit_spectrum(of.counts(seed), Config(incident_energy=beam, calibration=KNOWN))


def elements_of(fit: SpectrumFit) -> set[str]:
    return set(fit.names) - set(SCATTER)


def test_elements_of_clear_cases_are_found_and_no_others() -> None:
    sample = {"Si": 0.1, "Ca": 0.3, "Ti": 0.2, "Fe": 1.0, "Cu": 0.4, "Pb_M": 0.15}
    fit = found_in(sample, total=1e6)
    assert elements_of(fit) == set(sample)
    assert min(fit.significance[name] for name in sample) > 5
    for name in sample:
        amplitude, sigma = fit.amplitude(name)
        assert amplitude > 5 * sigma


def test_weak_lines_between_strong_ones_are_found() -> None:
    assert elements_of(found_in({"Cr": 1.0, "Mn": 0.03, "Fe": 1.0, "Co": 0.1}, total=3e5)) == {
        "Cr",
        "Mn",
        "Fe",
        "Co",
    }


def test_no_elements_are_invented_in_continuum_and_scatter() -> None:
    of = truth({}, total=1e5, beam=6.0, channels=720)
    config = Config(incident_energy=6.0, calibration=KNOWN)
    false = sum(len(elements_of(fit_spectrum(of.counts(seed), config))) for seed in range(20))
    assert false <= poisson.ppf(0.999, 20 * config.false_positives)


def test_false_positives_are_no_more_than_stated_and_not_none_at_a_high_level() -> None:
    of, draws = truth({"Fe": 1.0}, total=1e5), 40
    config = Config(incident_energy=10.0)
    names = (*(name for name in candidates(config) if name != "Fe"), "Fe", *SCATTER)
    carried = torch.zeros(len(names), dtype=torch.float64)
    for name, amplitude in of.amplitudes.items():
        carried[names.index(name)] = amplitude
    false = 0
    for seed in range(draws):
        problem = fit_problem(torch.from_numpy(of.counts(seed)), names, config, of.values)
        rest = problem.counts.mean() * torch.ones(len(problem.background), dtype=torch.float64) / 10
        part = evidence(problem, problem.start, torch.cat([carried, rest]), Doubts())
        kept = ("Fe", *SCATTER)
        found = select(
            Pool((part,)), least=threshold(1.0, len(names)), kept=kept, needs=needs(names), start=kept
        )
        false += len(found.names) - len(kept)
    assert draws / 10 < false <= poisson.ppf(0.999, draws)


@pytest.mark.parametrize(("one", "other", "share"), [("Al", "Br_L", 0.02), ("Si", "Rb_L", 0.02)])
def test_what_may_be_another_element_is_reported(one: str, other: str, share: float) -> None:
    fit = found_in({one: share, "Fe": 1.0}, total=2e4)
    assert one in fit.names
    assert other not in fit.names
    assert other in fit.alike[one]


def test_what_is_clear_is_not_reported_as_something_else() -> None:
    assert found_in({"Ti": 0.2, "Fe": 1.0}, total=1e6).alike == {}


def test_excluded_elements_stay_out() -> None:
    of = truth({"Mn": 0.1, "Fe": 1.0, "Cu": 0.3}, total=1e5)
    fit = fit_spectrum(of.counts(0), Config(incident_energy=10.0, calibration=KNOWN, excluded=("Cu", "Mn")))
    assert "Fe" in fit.names
    assert not {"Cu", "Mn"} & {part for name in fit.names for part in name.split("_")}


def test_a_lower_family_comes_with_the_higher_one() -> None:
    fit = found_in({"Fe": 0.5, "Pb_L": 1.0, "Pb_M": 0.3}, total=3e5, beam=16.0)
    assert elements_of(fit) == {"Fe", "Pb_L", "Pb_M"}


def test_detectors_together_find_what_one_alone_does_not() -> None:
    of = truth({"Mn": 0.0035, "Fe": 1.0}, total=2e4)
    config = Config(incident_energy=10.0, calibration=KNOWN, energy_range=(3.0, 11.0))
    counts = np.stack([of.counts(seed) for seed in range(4)])
    alone = fit_spectrum(counts[0], config)
    together = fit_spectra(counts, config)
    assert "Mn" not in alone.names
    assert all("Mn" in fit.names for fit in together)
    assert len({fit.names for fit in together}) == 1


def test_nothing_is_said_of_significance_where_the_user_named_the_elements() -> None:
    of = truth({"Fe": 1.0})
    fit = fit_spectrum(of.counts(0), Config(incident_energy=10.0, elements=("Fe",), calibration=KNOWN))
    assert (fit.significance, fit.alike) == ({}, {})


def test_a_selection_of_nothing_is_one() -> None:
    assert select(pool(0.0, 0.0, 0.0, 0.0), least=4.0) == Selection((), {}, {})
