from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
import xraylib
from scipy.integrate import quad

from skyloop.engines.xrf.detector import Material
from skyloop.engines.xrf.features import features, theta_of
from skyloop.engines.xrf.lines import line_table
from skyloop.engines.xrf.parameters import FITTED, PARAMETERS, checked, defaults
from skyloop.engines.xrf.rows import COMPTON, COMPTON_ROWS, ELASTIC, Rows, pair_of, rows_of
from skyloop.errors import ConfigError

TABLE = line_table()


def rows(*names: str, energy: float = 12.0, detector: Literal["Si", "Ge"] = "Si") -> Rows:
    return rows_of(names, TABLE, incident_energy=energy, detector=detector)


def own(of: Rows, name: str) -> list[int]:
    """The rows of a component that are no scatter."""
    return (of.of[: len(of.ratio)] == of.names.index(name)).nonzero()[:, 0].tolist()


def test_lines_of_a_component_are_those_of_the_table() -> None:
    of, lines = rows("Pb_M", "Fe", "La_L"), TABLE.lines(["Pb_M", "Fe", "La_L"], 12.0)
    is_escape = torch.cat([torch.zeros(of.n_tailed, dtype=torch.bool), of.is_escape])
    for k, name in enumerate(of.names):
        mine = [i for i in own(of, name) if not is_escape[i]]
        theirs = np.flatnonzero(lines.of == k)
        np.testing.assert_array_equal(of.energy[mine], lines.energy[theirs])
        np.testing.assert_array_equal(of.ratio[mine], lines.ratio[theirs])
        symbol = name.partition("_")[0]
        assert [of.labels[i] for i in mine] == [f"{symbol} {lines.labels[i]}" for i in theirs]


def test_the_first_row_of_a_component_is_its_main_line() -> None:
    of = rows("Pb_M", "Fe", "La_L", "Si_Cl", ELASTIC, COMPTON)
    assert [of.labels[own(of, n)[0]] for n in of.names[:4]] == ["Pb Ma1", "Fe Ka1", "La La1", "Si+Cl Ka1+Ka1"]
    assert [float(of.ratio[own(of, n)[0]]) for n in of.names[:4]] == [1.0] * 4


def test_the_order_of_components_changes_nothing_but_the_order() -> None:
    names = ("Fe", COMPTON, "Pb_M", "Si_Cl", ELASTIC, "La_L")
    one, other = rows(*names), rows(*names[::-1])
    p = theta_of(defaults())
    for name in names:
        first, second = (
            torch.stack(features(of, p).tuple(), -1)[of.of == of.names.index(name)] for of in (one, other)
        )
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_pile_up_is_at_the_sums_of_two_lines_with_the_product_of_their_intensities() -> None:
    of = rows("Fe_Ca")
    iron, calcium = TABLE.lines(["Fe"], 12.0), TABLE.lines(["Ca"], 12.0)
    sums = [
        (float(x + y), float(r * s))
        for x, r in zip(iron.energy, iron.ratio, strict=True)
        for y, s in zip(calcium.energy, calcium.ratio, strict=True)
    ]
    sums.sort(key=lambda line: -line[1])
    assert len(of.ratio) == min(len(sums), 12)
    np.testing.assert_allclose(of.energy, [x for x, _ in sums[: len(of.ratio)]])
    np.testing.assert_allclose(of.ratio, [r for _, r in sums[: len(of.ratio)]])
    assert of.n_tailed == 0


def test_pile_up_of_an_element_with_itself_counts_both_orders() -> None:
    of, lines = rows("Fe_Fe"), TABLE.lines(["Fe"], 12.0)
    at = [i for i, label in enumerate(of.labels) if label in ("Fe+Fe Ka1+Ka2", "Fe+Fe Ka2+Ka1")]
    assert len(at) == 2
    np.testing.assert_allclose(of.energy[at], lines.energy[0] + lines.energy[1])


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("Si_Si", ("Si", "Si")),
        ("Au_L_Si", ("Au_L", "Si")),
        ("Si_Au_L", ("Si", "Au_L")),
        ("Au_L_Pb_M", ("Au_L", "Pb_M")),
        ("K_K", ("K", "K")),
        ("Fe", None),
        ("K_L", None),
        ("Pb_M", None),
        (ELASTIC, None),
        (COMPTON, None),
    ],
)
def test_names_of_pile_up_name_two_components(name: str, pair: tuple[str, str] | None) -> None:
    assert pair_of(name) == pair


@pytest.mark.parametrize("detector", ["Si", "Ge"])
def test_escapes_lie_the_detectors_k_line_below_their_line(detector: Literal["Si", "Ge"]) -> None:
    of = rows("Sr", energy=20.0, detector=detector)
    number = {"Si": 14, "Ge": 32}[detector]
    k_line = xraylib.LineEnergy(number, xraylib.KL3_LINE)
    at = [of.n_tailed + i for i in of.is_escape.nonzero()[:, 0].tolist()]
    assert at
    for i in at:
        line = of.labels.index(of.labels[i].removesuffix(" escape"))
        assert float(of.energy[line] - of.energy[i]) == pytest.approx(k_line, abs=1e-3)
        assert float(of.ratio[line]) == float(of.ratio[i])


def test_only_lines_above_the_edge_and_no_weak_ones_leave_escapes() -> None:
    of = rows("Al", "Si", "P", "Fe")
    escaped = {
        of.labels[of.n_tailed + i].removesuffix(" escape") for i in of.is_escape.nonzero()[:, 0].tolist()
    }
    lines = range(of.n_tailed)
    strong = {of.labels[i] for i in lines if of.energy[i] > 1.839 and of.ratio[i] >= 0.01}
    assert escaped == strong
    assert {label.split()[0] for label in escaped} == {"P", "Fe"}


@pytest.mark.parametrize(
    ("detector", "energy"), [("Si", 3.7), ("Si", 6.4), ("Si", 10.0), ("Ge", 12.0), ("Ge", 20.0)]
)
def test_the_escape_probability_is_that_of_photons_sent_out_evenly(
    detector: Literal["Si", "Ge"], energy: float
) -> None:
    number = {"Si": 14, "Ge": 32}[detector]
    material = Material(detector, TABLE)
    share = xraylib.FluorYield(number, xraylib.K_SHELL) * (
        1 - 1 / xraylib.JumpFactor(number, xraylib.K_SHELL)
    )
    mu, own_mu = (float(material.attenuation(np.array([e]))[0]) for e in (energy, material.shift))
    # absorbed at depth x, sent out within the cosine c: exp(-own x / c) of it gets out

    def at_cosine(c: float) -> float:
        return mu / (mu + own_mu / c)

    escaped = share * 0.5 * quad(at_cosine, 0, 1)[0]
    assert float(material.escaping(np.array([energy]))[0]) == pytest.approx(escaped, rel=0.2)
    # the law of depth and angle is exact, the yield is another measurement
    ratio = material.escaping(np.array([energy, 1.3 * energy]))
    mu = float(material.attenuation(np.array([1.3 * energy]))[0])
    again = share * 0.5 * quad(at_cosine, 0, 1)[0]
    assert float(ratio[1] / ratio[0]) == pytest.approx(again / escaped, rel=1e-9)


def test_nothing_escapes_below_the_edge() -> None:
    material = Material("Si", TABLE)
    below, above = material.escaping(np.array([1.8, 1.85]))
    assert below == 0 < above


@pytest.mark.parametrize(("detector", "number"), [("Si", 14), ("Ge", 32)])
def test_detectors_absorb_as_xraylib_says(detector: Literal["Si", "Ge"], number: int) -> None:
    energy = np.array([2.0, 6.4, 12.0])
    wanted = [xraylib.CS_Total(number, float(e)) for e in energy]
    np.testing.assert_allclose(Material(detector, TABLE).attenuation(energy), wanted, rtol=0.01)


def test_scatter_has_its_own_rows_at_the_end() -> None:
    of = rows(COMPTON, "Fe", ELASTIC)
    assert of.scatter == (ELASTIC, COMPTON)
    assert of.of.tolist()[-COMPTON_ROWS:] == [0] * COMPTON_ROWS
    assert of.of.tolist()[-COMPTON_ROWS - 2 : -COMPTON_ROWS] == [2, 2]
    assert of.mirror.tolist()[-COMPTON_ROWS:] == [1, 1, -1, 1]
    assert bool((of.mirror[:-COMPTON_ROWS] == 1).all())


def test_minor_lines_are_all_lines_but_the_main_ones() -> None:
    of = rows("Fe", "La_L", "Pb_M", "Si_Cl", COMPTON)
    labels = {of.labels[i] for i in of.minor_lines.tolist()}
    assert {"Fe Ka2", "Fe Kb1", "La Lb1", "Pb Mb"} <= labels
    assert not labels & {"Fe Ka1", "La La1", "Pb Ma1"}
    assert not [label for label in labels if "escape" in label or "+" in label]


def test_each_line_is_on_only_if_its_own_edge_is_below_the_incident_energy() -> None:
    below, above = (
        {x.split()[1] for x in rows("Pb_L", energy=energy).labels if "escape" not in x}
        for energy in (14.0, 16.5)
    )
    assert "La1" in below
    assert "Lb1" not in below
    assert {"La1", "Lb1", "Lb3"} <= above


def test_a_component_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'Fe' is named twice; mend"):
        rows("Fe", "Ca", "Fe")


@pytest.mark.parametrize("names", [("Sr",), ("Fe", "Sr_Fe")])
def test_a_component_that_is_not_excited_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"Sr: .* edge .*mend"):
        rows(*names)


@pytest.mark.parametrize("name", ["Xx", "fe", "Fe_Q", "Si_Cl_Ar", "COMPTON", "", "Fe_"])
def test_an_unknown_component_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="mend"):
        rows(name)


def test_parameters_have_defaults_within_their_ranges() -> None:
    assert all(p.low <= p.default <= p.high for p in PARAMETERS.values())
    assert list(defaults()) == list(PARAMETERS)
    assert len(FITTED) == 13
    assert theta_of(defaults({"ENERGY_SLOPE": 0.02}))[list(PARAMETERS).index("ENERGY_SLOPE")] == 0.02


@pytest.mark.parametrize("given", [{"SLOPE": 1.0}, {"ENERGY_SLOPE": 1.0}, {"ENERGY_SLOPE": float("nan")}])
def test_parameters_unknown_or_out_of_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"SLOPE.*mend"):
        checked(given)


@pytest.mark.parametrize("name", ["Fe_K", "La_L_K"])
def test_what_may_be_k_lines_or_pile_up_with_potassium_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"two ways; mend: .*K lines.*pile-up with potassium"):
        rows_of([name], line_table(), incident_energy=12.0)
