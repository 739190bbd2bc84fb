"""MAPS parameter files: read, changed, written, with nothing lost and no slip unseen."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skyloop.engines.xrf.override import Adjustment, Override, read_override, write_override
from skyloop.engines.xrf.rows import pair_of
from skyloop.errors import DataError


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Path:
    return shared_data / "xrf" / "maps_fit_parameters_override.txt"


def _without_lines(override: Override) -> Override:
    return replace(override, lines=(), notes=())


def test_real_file_says_what_is_known_of_it(real: Path) -> None:
    found = read_override(real)
    assert " ".join(found.elements) == "Si P S Cl Ar K Ca Ti Cr Mn Fe Co Ni Cu Zn"
    assert found.pileups == ()
    assert found.detector_material == "Si"
    known = {
        "ENERGY_OFFSET": -0.0041840752,
        "ENERGY_SLOPE": 0.0095216077,
        "ENERGY_QUADRATIC": 0.0,
        "FWHM_OFFSET": 0.09721764,
        "FWHM_FANOPRIME": 0.00022440446,
        "COHERENT_SCT_ENERGY": 10.0,
        "COMPTON_ANGLE": 87.274598,
        "COMPTON_FWHM_CORR": 1.5730172,
        "COMPTON_F_STEP": 0.0,
        "COMPTON_F_TAIL": 0.13308163,
        "COMPTON_GAMMA": 3.0,
        "COMPTON_HI_F_TAIL": 0.0039171793,
        "COMPTON_HI_GAMMA": 3.0,
        "F_TAIL_OFFSET": 0.003,
        "F_TAIL_LINEAR": 1.6940659e-21,
        "KB_F_TAIL_OFFSET": 0.05,
        "GAMMA_OFFSET": 2.2101209,
        "SNIP_WIDTH": 0.5,
        "SI_ESCAPE": 0.0,
        "MIN_ENERGY_TO_FIT": 1.0,
        "MAX_ENERGY_TO_FIT": 11.0,
    }
    assert {name: found.parameters[name] for name in known} == known
    assert found.bounds["COHERENT_SCT_ENERGY"] == (9.699999, 10.599999)
    assert found.bounds["COMPTON_ANGLE"] == (70.0, 170.0)
    assert found.bounds["ENERGY_OFFSET"] == (-0.5, 0.5)
    assert found.scalers["US_IC"] == "2xfm:scaler3_cts1.B"
    assert found.scalers["SRCURRENT"] == "S:SRcurrentAI"
    assert found.settings["DATE"] == "2015-11-04 15:32:58.832000"
    assert found.settings["US_AMP_SENS_NUM"] == "5"
    kinds = [adjustment.tag for adjustment in found.adjustments]
    assert [kinds.count(tag) for tag in sorted(set(kinds))] == [4, 19, 4]
    assert Adjustment("BRANCHING_RATIO_ADJUSTMENT_K", "Na", (1.0, 1.0, 4.0, 1.0)) in found.adjustments
    assert Adjustment("BRANCHING_FAMILY_ADJUSTMENT_L", "Pt_L", (0.0, 1.0, 1.0)) in found.adjustments
    assert found.notes == ()


def test_every_tag_of_the_real_file_is_kept_somewhere(real: Path) -> None:
    found = read_override(real)
    held = len(found.parameters) + 2 * len(found.bounds) + len(found.adjustments) + len(found.scalers)
    held += len(found.settings) + 3  # two lists and the material
    tagged = [line for line in real.read_text().splitlines() if ":" in line and not line[:1].isspace()]
    assert held == len(tagged)


def test_real_file_is_written_as_it_was(real: Path) -> None:
    assert write_override(read_override(real)) == real.read_text()


def test_file_written_afresh_says_the_same(real: Path) -> None:
    bare = _without_lines(read_override(real))
    text = write_override(bare)
    assert _without_lines(read_override(text)) == bare
    assert write_override(read_override(text)) == text


def test_change_replaces_its_own_line_and_no_other(real: Path) -> None:
    found = read_override(real)
    changed = replace(
        found,
        elements=(*found.elements, "La_L"),
        parameters={**found.parameters, "ENERGY_SLOPE": 0.00958},
        bounds={**found.bounds, "COMPTON_ANGLE": (80.0, 100.0)},
        detector_material="Ge",
    )
    before, after = real.read_text().splitlines(), write_override(changed).splitlines()
    assert [new for old, new in zip(before, after, strict=True) if old != new] == [
        "ELEMENTS_TO_FIT: Si, P, S, Cl, Ar, K, Ca, Ti, Cr, Mn, Fe, Co, Ni, Cu, Zn, La_L",
        "CAL_SLOPE_[E_LINEAR]: 0.00958",
        "COMPTON_ANGLE_MAX: 100.0",
        "COMPTON_ANGLE_MIN: 80.0",
        "DETECTOR_MATERIAL: 0",
    ]
    assert _without_lines(read_override(write_override(changed))) == _without_lines(changed)


def test_what_is_new_follows_and_what_is_gone_has_no_line(real: Path) -> None:
    found = read_override(real)
    changed = replace(
        found,
        pileups=("Si_Si",),
        fitting={"ENERGY_SLOPE": "FIXED"},
        steps={"COMPTON_ANGLE": 0.5},
        adjustments=(*found.adjustments[1:], Adjustment("WIDTH_MULTIPLIER", "Fe", (1.5,))),
        settings={**found.settings, "TIME_NORMALIZED_SCALER;US_IC": "2xfm:mcs:mca2.VAL"},
        scalers={},
    )
    text = write_override(changed)
    assert _without_lines(read_override(text)) == _without_lines(changed)
    assert "ELEMENTS_WITH_PILEUP: Si_Si\n" in text
    assert "US_IC: 2xfm:scaler3_cts1.B" not in text
    assert text.endswith(
        "COMPTON_ANGLE_STEPSIZE: 0.5\nCAL_SLOPE_[E_LINEAR]_FITTING: FIXED\n"
        "TIME_NORMALIZED_SCALER: US_IC;2xfm:mcs:mca2.VAL\nWIDTH_MULTIPLIER: Fe, 1.5\n"
    )


def test_any_number_survives_writing_and_reading() -> None:
    numbers = np.random.default_rng(5).normal(size=200) * 10.0 ** np.random.default_rng(6).integers(
        -300, 300, 200
    )
    for number in numbers.tolist():
        override = Override(parameters={"ENERGY_QUADRATIC": number})
        assert read_override(write_override(override)).parameters == override.parameters


def test_names_of_other_programs_mean_the_same() -> None:
    for tag in ("CAL_OFFSET_[E_OFFSET]", "ENERGY_OFFSET", "e_offset", "energy_offset"):
        found = read_override(
            f"{tag}: 0.1\n{tag}_MIN:-1\n{tag}_MAX:1\n{tag}_STEPSIZE:0.01\n{tag}_FITTING: fixed\n"
        )
        assert found.parameters == {"ENERGY_OFFSET": 0.1}
        assert found.bounds == {"ENERGY_OFFSET": (-1.0, 1.0)}
        assert found.steps == {"ENERGY_OFFSET": 0.01}
        assert found.fitting == {"ENERGY_OFFSET": "FIXED"}


def test_one_bound_alone_leaves_the_other_side_open() -> None:
    override = read_override("COMPTON_ANGLE_MIN: 70\n")
    assert override.bounds == {"COMPTON_ANGLE": (70.0, math.inf)}
    assert write_override(_without_lines(override)) == "COMPTON_ANGLE_MIN: 70.0\n"


def test_scatter_among_the_elements_is_no_element_and_stays_in_its_line() -> None:
    text = "ELEMENTS_TO_FIT: COHERENT_SCT_AMPLITUDE , COMPTON_AMPLITUDE , Ca , Fe , Ca , \n"
    found = read_override(text)
    assert found.elements == ("Ca", "Fe")
    assert write_override(found) == text


def test_k_lines_have_the_name_of_their_element() -> None:
    text = "ELEMENTS_TO_FIT: Ca_K, Fe_K, Fe, Pt_L, K_K\nBRANCHING_RATIO_ADJUSTMENT_K: Fe_K, 1, 1, 1.2, 1\n"
    found = read_override(text)
    assert found.elements == ("Ca", "Fe", "Pt_L", "K")
    assert not any(pair_of(name) for name in found.elements)
    assert found.adjustments == (Adjustment("BRANCHING_RATIO_ADJUSTMENT_K", "Fe", (1.0, 1.0, 1.2, 1.0)),)
    assert write_override(found) == text
    assert write_override(replace(found, lines=())).startswith("ELEMENTS_TO_FIT: Ca, Fe, Pt_L, K\n")
    assert read_override("ELEMENTS_WITH_PILEUP: Fe_K\n").pileups == ("Fe_K",)


def test_scalers_of_any_beamline_are_kept() -> None:
    text = "\n".join(
        [
            "SRCURRENT:S:SRcurrentAI",
            "ABS_IC: 26idc:scaler1_cts1.D",
            "ELT2:21:D3win:mca2.ELTM",
            "SUMMED_SCALER:DS_IC:CFG_2,CFG_3",
            "TIME_NORMALIZED_SCALER:CFG_2;21:D3:scaler1:mca2.VAL",
            "TIME_NORMALIZED_SCALER:CFG_3;21:D3:scaler1:mca3.VAL",
            "US_AMP_SENS_NUM: 5 %",
            "",
        ]
    )
    found = read_override(text)
    assert found.scalers == {
        "SRCURRENT": "S:SRcurrentAI",
        "ABS_IC": "26idc:scaler1_cts1.D",
        "ELT2": "21:D3win:mca2.ELTM",
    }
    assert found.settings == {
        "SUMMED_SCALER:DS_IC": "CFG_2,CFG_3",
        "TIME_NORMALIZED_SCALER;CFG_2": "21:D3:scaler1:mca2.VAL",
        "TIME_NORMALIZED_SCALER;CFG_3": "21:D3:scaler1:mca3.VAL",
        "US_AMP_SENS_NUM": "5 %",
    }
    assert write_override(found) == text


def test_tag_that_is_indented_is_a_remark_and_told() -> None:
    text = "US_IC:21:D3:cts2.B\n\tDS_IC:21:D3:cts3.A\n  note: this\n"
    found = read_override(text)
    assert list(found.scalers) == ["US_IC"]
    assert found.notes == ("override text, line 2: DS_IC is indented: taken as a remark",)
    assert write_override(found) == text


def test_words_that_begin_a_remark_are_no_tags() -> None:
    text = "thickness of the chip\nlinear part of the escape: see above\n\nset FWHM_OFFSET to 1: bad\n"
    assert read_override(text) == Override(lines=tuple(text.split("\n")))


def test_equal_lines_are_one_and_different_ones_are_refused() -> None:
    assert read_override("FWHM_OFFSET: 0.1\nFWHM_OFFSET: 0.10\n").parameters == {"FWHM_OFFSET": 0.1}
    for text in (
        "FWHM_OFFSET: 0.1\nFWHM_OFFSET: 0.2\n",
        "ENERGY_OFFSET: 0.1\nCAL_OFFSET_[E_OFFSET]: 0.2\n",
        "ELEMENTS_TO_FIT: Ca\nELEMENTS_TO_FIT: Fe\n",
        "US_IC: a:b\nUS_IC: a:c\n",
        "BRANCHING_FAMILY_ADJUSTMENT_L: Pt_L, 0, 1, 1\nBRANCHING_FAMILY_ADJUSTMENT_L: Pt_L, 1, 1, 1\n",
    ):
        with pytest.raises(DataError, match=r"line 2: .* differs from an earlier line; mend"):
            read_override(text)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("CAL_OFSET_[E_OFFSET]: 1", r"CAL_OFSET_\[E_OFFSET\] is no tag.*CAL_OFFSET_\[E_OFFSET\] or"),
        ("COMPTON_ANGEL: 90", "COMPTON_ANGLE or .*may be meant"),
        ("Fwhm_Offset: 0.1", "FWHM_OFFSET.*may be meant"),
        ("FWHM_OFFSET 0.1", "write FWHM_OFFSET: and its value"),
        ("FWHM_OFFSET = 0.1", "write FWHM_OFFSET: and its value"),
        ("FWHM OFFSET: 0.1", "write FWHM_OFFSET: and its value"),
        ("FWHM_OFFSET: ", "found ''; mend: give a number"),
        ("FWHM_OFFSET: 0,1", "found '0,1'; mend: give a number"),
        ("FWHM_OFFSET: nan", "found 'nan'"),
        ("FWHM_OFFSET: 1e999", "found '1e999'"),
        ("FWHM_OFFSET: " + "9" * 10_000, "mend: give a number"),
        ("FWHM_OFFSET_FITTING: free", "give one of FIXED"),
        ("ELEMENTS_TO_FIT: Ca, FE", "FE is no element; mend: Fe may be meant"),
        ("ELEMENTS_TO_FIT: Ca, Au_N", "Au_N is no element"),
        ("ELEMENTS_TO_FIT: Ca Fe", "Ca Fe is no element"),
        ("ELEMENTS_WITH_PILEUP: Si", "Si is no pile-up"),
        ("ELEMENTS_WITH_PILEUP: Si_Xx", "Si_Xx is no pile-up"),
        ("DETECTOR_MATERIAL: 2", "give 0 for germanium or 1 for silicon"),
        ("BRANCHING_RATIO_ADJUSTMENT_K: Na, 1., 1., 4.0", "found 3 factors; mend: .* 4 factors"),
        ("BRANCHING_RATIO_ADJUSTMENT_K: Na, 1., 1., x, 1.", "found 'x'"),
        ("BRANCHING_RATIO_ADJUSTMENT_K: Nx, 1., 1., 4., 1.", "Nx is no element"),
        ("US_IC: ", "give a process variable"),
        ("BE_WINDOW_THICKNESS: thin", "found 'thin'"),
        ("TIME_NORMALIZED_SCALER: US_IC", "give a name"),
    ],
)
def test_slip_is_named_with_its_line_and_mend(line: str, fault: str) -> None:
    with pytest.raises(DataError, match=f"line 2.*{fault}") as caught:
        read_override(f"   a remark\n{line}\n")
    assert "mend" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_bounds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(DataError, match="lower bound 2 above upper bound 1"):
        read_override("COMPTON_ANGLE_MIN: 2\nCOMPTON_ANGLE_MAX: 1\n")


@pytest.mark.parametrize(
    "override",
    [
        Override(parameters={"ENERGY_OFSET": 0.1}),
        Override(parameters={"ENERGY_OFFSET": math.nan}),
        Override(scalers={"US_IC": "a:b\nDS_IC: c:d"}),
        Override(settings={"ELEMENTS_TO_FIT": "Fe"}),
        Override(settings={"UNHEARD_OF": "1"}),
        Override(elements=("Fe", "Xx")),
        Override(elements=("Fe_K",)),
        Override(detector_material="CdTe"),
        Override(adjustments=(Adjustment("BRANCHING_RATIO_ADJUSTMENT_K", "Fe", (1.0,)),)),
    ],
)
def test_nothing_is_written_that_would_not_read_back(override: Override) -> None:
    with pytest.raises(DataError, match="mend"):
        write_override(override)


def test_hostile_text_is_refused_at_once(tmp_path: Path) -> None:
    for text in ("FWHM_OFFSET: 1\n" * 1_000_000, "A" * 2_000_000 + "\n", "FWHM_OFFSET: 1\0\n"):
        with pytest.raises(DataError, match="mend"):
            read_override(text)
    path = tmp_path / "override.txt"
    path.write_bytes(b"FWHM_OFFSET: 1\n" * 1_000_000)
    with pytest.raises(DataError, match="more than 1048576 characters"):
        read_override(path)


def test_damaged_file_is_read_or_refused(real: Path, tmp_path: Path) -> None:
    content, random, refused = real.read_bytes(), np.random.default_rng(7), 0
    path = tmp_path / "override.txt"
    for _ in range(300):
        broken = bytearray(content)
        for place in random.integers(0, len(content), 3).tolist():
            broken[place] = int(random.integers(256))
        path.write_bytes(broken)
        try:
            found = read_override(path)
        except DataError:
            refused += 1
        else:
            assert read_override(write_override(found)) == replace(found, notes=read_override(path).notes)
    assert 20 < refused < 300


def test_file_of_another_coding_and_line_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "override.txt"
    path.write_bytes("   24 µm\r\nFWHM_OFFSET: 0.1\r\n".encode("latin-1"))
    found = read_override(path)
    assert found.parameters == {"FWHM_OFFSET": 0.1}
    assert write_override(found) == "   24 µm\nFWHM_OFFSET: 0.1\n"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", "nul\0byte"):
        with pytest.raises(DataError, match="cannot be read"):
            read_override(path)
