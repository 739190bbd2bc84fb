"""The frozen table says what xraylib says, and nothing is dropped from it unseen."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import xraylib

from recipes import xrf_lines
from skyloop.engines.xrf.lines import Lines, LineTable, line_table
from skyloop.errors import ConfigError
from skyloop.quantities import FloatArray

ENERGIES = np.exp(np.random.default_rng(1).uniform(np.log(1.0), np.log(100.0), 25))
TABLE = line_table()
ALL = tuple(TABLE.families)


def every_line(incident_energy: float) -> Lines:
    return TABLE.lines(excited(incident_energy), incident_energy)


def excited(incident_energy: float) -> tuple[str, ...]:
    return TABLE.components(incident_energy, 0.0, np.inf)


def has_shells(component: str, incident_energy: float) -> bool:
    """Whether xraylib's cross sections by shell reach to this energy: above, they fall exponentially."""
    return incident_energy < 28.0 * xraylib.EdgeEnergy(number_of(component), xraylib.K_SHELL)


def number_of(component: str) -> int:
    return xraylib.SymbolToAtomicNumber(component.split("_")[0])


def told_by_xraylib(component: str, label: str, incident_energy: float) -> float:
    """Cross section of a line; a transition that does not exist gives nothing."""
    total = 0.0
    for transition in xrf_lines.LINES[label]:
        line = getattr(xraylib, f"{transition}_LINE")
        with suppress(ValueError):
            total += xraylib.CS_FluorLine_Kissel_Cascade(number_of(component), line, incident_energy)
    return total


@pytest.mark.parametrize("incident_energy", ENERGIES.round(3).tolist())
def test_cross_sections_are_those_of_xraylib(incident_energy: float) -> None:
    lines = TABLE.lines(
        [n for n in excited(incident_energy) if has_shells(n, incident_energy)], incident_energy
    )
    names = [lines.names[i] for i in lines.of]
    told = [told_by_xraylib(n, s, incident_energy) for n, s in zip(names, lines.labels, strict=True)]
    assert np.allclose(lines.cross_section[lines.of] * lines.ratio, told, rtol=0.01, atol=0.0)


def test_far_above_the_k_edge_cross_sections_are_those_of_the_jump_ratios() -> None:
    """xraylib's other way to them; its sum over the shells is far below its own photo-absorption there."""
    compared = 0
    for energy in (12.0, 30.0, 60.0, 100.0):
        for name in (n for n in excited(energy) if not has_shells(n, energy)):
            told = xraylib.CS_FluorLine(number_of(name), xraylib.KL3_LINE, energy)
            assert np.isclose(TABLE.lines([name], energy).cross_section[0], told, rtol=0.03), name
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("component", ["Ca", "Fe", "La_L", "Pb_L", "Pb_M", "U_M"])
def test_cross_sections_are_those_of_xraylib_on_both_sides_of_every_edge(component: str) -> None:
    edges = [e for e in TABLE.families[component].edge if e > 0.5]
    for energy in [e + side for e in np.unique(edges) for side in (-1e-4, 1e-4)]:
        if energy > TABLE.families[component].edge[0]:
            lines = TABLE.lines([component], energy)
            told = [told_by_xraylib(component, label, energy) for label in lines.labels]
            assert np.allclose(lines.cross_section * lines.ratio, told, rtol=0.01, atol=0.0)


def test_no_line_that_xraylib_knows_of_is_missing() -> None:
    """Of the transitions in the table; the weakest share is the only reason to leave one out."""
    for component in excited(50.0):
        lines = TABLE.lines([component], 50.0)
        letter = [*component.split("_"), "K"][1]
        told = {t: told_by_xraylib(component, t, 50.0) for t in xrf_lines.LINES if t.startswith(letter)}
        strong = {t for t, value in told.items() if value > 1.03e-4 * max(told.values())}
        missing = strong - set(lines.labels)
        assert not missing, component


def test_energies_and_edges_are_exactly_those_of_xraylib() -> None:
    compared = 0
    for name, family in TABLE.families.items():
        z = number_of(name)
        for label, energy, edge, shell in zip(
            family.labels, family.energy, family.edge, family.shell, strict=True
        ):
            assert edge == xraylib.EdgeEnergy(z, int(shell))
            transitions = xrf_lines.LINES[label]
            with suppress(ValueError):  # lines whose energy xraylib does not know, and doublets
                (transition,) = transitions
                assert energy == xraylib.LineEnergy(z, getattr(xraylib, f"{transition}_LINE"))
                compared += 1
    assert compared > 1500


def test_no_line_lies_above_the_edge_of_its_shell() -> None:
    """On it, where the outer shell is bound by less than xraylib says."""
    for name, family in TABLE.families.items():
        assert np.all(family.energy <= family.edge), name
        assert family.energy[0] < family.edge[0], name
        assert np.all(family.energy > 0.0), name


def test_an_unresolved_doublet_lies_between_its_lines() -> None:
    line = TABLE.families["Pb"].labels.index("Kb2")
    ends = [xraylib.LineEnergy(82, t) for t in (xraylib.KN2_LINE, xraylib.KN3_LINE)]
    assert ends[0] < TABLE.families["Pb"].energy[line] < ends[1]


def test_attenuation_is_that_of_xraylib() -> None:
    energies = np.exp(np.random.default_rng(2).uniform(np.log(0.1), np.log(120.0), 300))
    for z in range(1, 93):
        told = [xraylib.CS_Total(z, e) for e in energies]
        ours = TABLE.attenuation(xraylib.AtomicNumberToSymbol(z), energies)
        assert np.allclose(ours, told, rtol=0.01, atol=0.0), z


def test_attenuation_jumps_at_the_edge_as_in_xraylib() -> None:
    energies = 7.112 + np.array([-2e-3, -1e-4, 1e-4, 2e-3])
    told = [xraylib.CS_Total(26, e) for e in energies]
    assert told[2] > 5 * told[1]
    assert np.allclose(TABLE.attenuation("Fe", energies), told, rtol=0.01)


def test_attenuation_keeps_the_shape_of_the_energies() -> None:
    assert TABLE.attenuation("Si", 5.0).shape == ()
    assert TABLE.attenuation("Si", np.full((2, 3), 5.0)).shape == (2, 3)


@pytest.mark.parametrize("incident_energy", ENERGIES[:8].round(3).tolist())
def test_the_main_line_is_the_unit_and_comes_first(incident_energy: float) -> None:
    lines = every_line(incident_energy)
    first = np.flatnonzero(np.diff(lines.of, prepend=-1))
    assert len(first) == len(lines.names)
    assert {lines.labels[i] for i in first} <= {"Ka1", "La1", "Ma1"}
    assert np.array_equal(lines.ratio[first], np.ones(len(first)))
    assert np.all(lines.cross_section > 0.0)


@pytest.mark.parametrize("incident_energy", ENERGIES.round(3).tolist())
def test_only_shells_below_the_incident_energy_emit(incident_energy: float) -> None:
    lines = every_line(incident_energy)
    assert np.all(lines.edge < incident_energy)
    assert np.all(lines.ratio > 0.0)


def test_k_ratios_do_not_depend_on_the_incident_energy() -> None:
    names = [n for n in TABLE.components(10.0, 0.0, np.inf) if "_" not in n]
    low, high = TABLE.lines(names, 10.0), TABLE.lines(names, 70.0)
    assert low.labels == high.labels
    assert np.allclose(low.ratio, high.ratio, rtol=1e-12)


def test_between_the_l3_and_l2_edges_only_l3_emits() -> None:
    labels = set(TABLE.lines(["Pb_L"], 14.0).labels)
    assert labels == {"La1", "La2", "Lb2", "Lb5", "Lb6", "Lb15", "Ll"}
    assert "Lb1" in TABLE.lines(["Pb_L"], 15.5).labels
    assert "Lb3" not in TABLE.lines(["Pb_L"], 15.5).labels
    assert "Lb3" in TABLE.lines(["Pb_L"], 16.0).labels


def test_l_ratios_within_one_shell_do_not_depend_on_the_incident_energy() -> None:
    low, high = (TABLE.lines(["Pb_L"], e) for e in (14.0, 40.0))
    later = dict(zip(high.labels, high.ratio, strict=True))
    assert np.allclose([later[label] for label in low.labels], low.ratio, rtol=1e-12)


def test_l_ratios_of_other_shells_depend_on_the_incident_energy() -> None:
    ratios = [
        lines.ratio[lines.labels.index("Lb1")] for lines in (TABLE.lines(["La_L"], e) for e in (7.0, 30.0))
    ]
    assert abs(ratios[0] / ratios[1] - 1.0) > 0.05


@pytest.mark.parametrize("incident_energy", [0.6, 3.0, 12.0, 60.0, 119.0])
def test_every_component_found_can_be_asked_for(incident_energy: float) -> None:
    found = TABLE.components(incident_energy, 0.4, 20.0)
    lines = TABLE.lines(found, incident_energy)
    assert lines.names == found
    main = lines.energy[np.flatnonzero(np.diff(lines.of, prepend=-1))]
    assert np.all((main >= 0.4) & (main <= 20.0))


def test_components_are_those_whose_main_line_is_excited_and_in_the_window() -> None:
    found = set(TABLE.components(10.0, 1.0, 9.0))
    assert {"Ca", "Fe", "Cu", "La_L", "Pd_L", "Mo_L", "Pb_M"} <= found
    assert not {"Ga", "Pb_L", "Pb", "As", "C"} & found  # above the window or not excited or below the window


def test_lines_follow_the_order_of_the_components() -> None:
    lines = TABLE.lines(["Pb_M", "Fe"], 10.0)
    assert lines.names == ("Pb_M", "Fe")
    assert lines.labels[0] == "Ma1"
    assert np.all(np.diff(lines.of) >= 0)


def test_taking_some_components_is_asking_for_them() -> None:
    taken = TABLE.lines(["Ca", "Fe", "La_L", "Pb_M"], 10.0).take(["Pb_M", "Fe"])
    asked = TABLE.lines(["Pb_M", "Fe"], 10.0)
    assert taken.names == asked.names
    assert taken.labels == asked.labels
    for field in ("of", "energy", "ratio", "edge", "cross_section"):
        assert np.array_equal(getattr(taken, field), getattr(asked, field))


def test_no_components_have_no_lines() -> None:
    lines = TABLE.lines([], 10.0)
    assert lines.labels == ()
    assert len(lines.of) == len(lines.energy) == len(lines.cross_section) == 0
    assert lines.take([]).names == ()


def test_an_element_that_is_not_excited_is_an_error_with_the_edge_and_the_mend() -> None:
    with pytest.raises(ConfigError, match=r"Pb_L.*La1.*13\.0352 keV.*10\.0000 keV.*mend: use 'Pb_M'"):
        TABLE.lines(["Fe", "Pb_L"], 10.0)
    with pytest.raises(ConfigError, match="mend: take Zn out"):
        TABLE.lines(["Zn"], 1.0)


@pytest.mark.parametrize(
    ("name", "close"), [("fe", "Fe"), ("Pb_K", "Pb_L"), ("Lx_L", "La_L"), ("La_M", "La_L"), ("", "Fe")]
)
def test_an_unknown_component_is_an_error_with_close_names(name: str, close: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'.*mend: .*{close}"):
        TABLE.lines(["Ca", name], 10.0)


def test_a_component_given_twice_is_an_error() -> None:
    lines = TABLE.lines(["Fe"], 10.0)
    for ask in (lambda: TABLE.lines(["Fe", "Ca", "Fe"], 10.0), lambda: lines.take(["Fe", "Fe"])):
        with pytest.raises(ConfigError, match="twice: Fe; mend"):
            ask()


def test_taking_what_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'Ca'.*mend"):
        TABLE.lines(["Fe"], 10.0).take(["Ca"])


@pytest.mark.parametrize("energy", [0.0, -1.0, 0.3, 121.0, 10_000.0, np.nan, np.inf])
def test_an_incident_energy_outside_the_table_is_an_error(energy: float) -> None:
    with pytest.raises(ConfigError, match=r"0\.5 to 120 keV; mend"):
        TABLE.lines(["Fe"], energy)
    with pytest.raises(ConfigError, match=r"0\.5 to 120 keV; mend"):
        TABLE.components(energy, 1.0, 10.0)


@pytest.mark.parametrize("energy", [0.05, 121.0, np.nan, [5.0, 500.0]])
def test_an_attenuation_outside_the_table_is_an_error(energy: FloatArray) -> None:
    with pytest.raises(ConfigError, match=r"Si at .* keV.*mend"):
        TABLE.attenuation("Si", energy)


def test_the_attenuation_of_an_unknown_element_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'Sii'.*Si"):
        TABLE.attenuation("Sii", 5.0)


def test_the_table_is_one_and_names_its_source() -> None:
    assert line_table() is TABLE
    assert isinstance(TABLE, LineTable)
    assert f"xraylib {xraylib.__version__}" in TABLE.provenance


def test_the_recipe_rebuilds_the_shipped_file() -> None:
    built = xrf_lines.table()
    assert xrf_lines.FILE.stat().st_size <= 500_000
    with np.load(xrf_lines.FILE, allow_pickle=False) as shipped:
        assert set(shipped.files) == set(built)
        for name in shipped.files:
            same = np.array_equal if shipped[name].dtype.kind in "Ui" else close
            assert same(shipped[name], built[name]), name


def close(a: FloatArray, b: FloatArray) -> bool:
    """Equal but for the rounding of another processor's logarithm."""
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=0.0, equal_nan=True)
