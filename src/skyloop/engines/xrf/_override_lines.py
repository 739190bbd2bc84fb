"""One line of a MAPS parameter file: which tag, which value, what is wrong with it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

from skyloop.errors import DataError

Key = tuple[str, str]
"""Kind of a value and its name: `("parameters", "ENERGY_OFFSET")`."""

_SYMBOL_WORDS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm "
    "Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm"
)
_SYMBOLS = frozenset(_SYMBOL_WORDS.split())
# XRF-Maps writes its two scatter amplitudes into the list of elements and passes over them when it reads.
_SCATTER = frozenset({"COHERENT_SCT_AMPLITUDE", "COMPTON_AMPLITUDE"})
_RENAMED = {
    "CAL_OFFSET_[E_OFFSET]": "ENERGY_OFFSET",
    "CAL_SLOPE_[E_LINEAR]": "ENERGY_SLOPE",
    "CAL_QUAD_[E_QUADRATIC]": "ENERGY_QUADRATIC",
    "COMPTON_STEP": "COMPTON_F_STEP",
    "STEP_OFFSET": "F_STEP_OFFSET",
    "STEP_LINEAR": "F_STEP_LINEAR",
    "STEP_QUADRATIC": "F_STEP_QUADRATIC",
    "SI_ESCAPE_FACTOR": "SI_ESCAPE",
    "GE_ESCAPE_FACTOR": "GE_ESCAPE",
    "LINEAR_ESCAPE_FACTOR": "ESCAPE_LINEAR",
}
_UNRENAMED_TEXT = (
    "FWHM_OFFSET FWHM_FANOPRIME FWHM_FANO_COEFF COHERENT_SCT_ENERGY COHERENT_SCT_AMPLITUDE "
    "COMPTON_ANGLE COMPTON_AMPLITUDE COMPTON_FWHM_CORR COMPTON_F_TAIL COMPTON_GAMMA COMPTON_HI_F_TAIL "
    "COMPTON_HI_GAMMA F_TAIL_OFFSET F_TAIL_LINEAR F_TAIL_QUADRATIC KB_F_TAIL_OFFSET KB_F_TAIL_LINEAR "
    "KB_F_TAIL_QUADRATIC GAMMA_OFFSET GAMMA_LINEAR GAMMA_QUADRATIC SNIP_WIDTH MIN_ENERGY_TO_FIT "
    "MAX_ENERGY_TO_FIT"
)
_UNRENAMED = tuple(_UNRENAMED_TEXT.split())
_PLAIN = _RENAMED | {name: name for name in _UNRENAMED}
_TAG_OF = {name: tag for tag, name in _PLAIN.items()}
# MapsTorch writes the parameters under their own names, XRF-Maps also reads them in small letters.
_PARAMETERS = (
    _PLAIN
    | {name: name for name in _TAG_OF}
    | {name.lower(): name for name in _TAG_OF}
    | {
        "e_offset": "ENERGY_OFFSET",
        "e_linear": "ENERGY_SLOPE",
        "e_quadratic": "ENERGY_QUADRATIC",
        "linear": "ESCAPE_LINEAR",
    }
)
_LIMITS = {"_MIN": "lower", "_MAX": "upper", "_STEPSIZE": "steps", "_FITTING": "fitting"}
_SUFFIX = {kind: suffix for suffix, kind in _LIMITS.items()}
_FITTING = ("FIXED", "LIMITED_LO_HI", "LIMITED_LO", "LIMITED_HI", "FIT")
_FACTORS = {
    "BRANCHING_FAMILY_ADJUSTMENT_L": 3,
    "BRANCHING_RATIO_ADJUSTMENT_L": 12,
    "BRANCHING_RATIO_ADJUSTMENT_K": 4,
    "BRANCHING_RATIO_ADJUSTMENT_M": 4,
    "WIDTH_MULTIPLIER": 1,
    "TAIL_FRACTION_ADJUST_SI": 0,
    "TAIL_WIDTH_ADJUST_SI": 0,
}
_KEYED = {
    "TIME_NORMALIZED_SCALER": ";",
    "SUMMED_SCALER": ":",
    "TIME_NORMALIZED_SUMMED_SCALER": ":",
    "SCALING_FACTOR": ",",
}
_NUMBERS_TEXT = (
    "DETECTOR_ELEMENTS FIT_SNIP_WIDTH SNIP_USE_SINGLE_LOG SNIP_USE_FWHM_WIDTH SNIP_USE_FULL_SPECTRUM "
    "BE_WINDOW_THICKNESS DET_CHIP_THICKNESS GE_DEAD_LAYER AIRPATH SI_ESCAPE_ENABLE GE_ESCAPE_ENABLE "
    "TIME_SCALER_CLOCK US_AMP_SENS_NUM US_AMP_SENS_UNIT DS_AMP_SENS_NUM DS_AMP_SENS_UNIT US_AMP_NUM "
    "DS_AMP_NUM"
)
_NUMBERS = tuple(_NUMBERS_TEXT.split())
_WORDS_TEXT = (
    "VERSION DATE IDENTIFYING_NAME_[WHATEVERE_YOU_LIKE] TIME_SCALER_PV THETA_PV US_AMP_UNIT "
    "DS_AMP_UNIT US_AMP_SENS_NUM_PV US_AMP_SENS_UNIT_PV DS_AMP_SENS_NUM_PV DS_AMP_SENS_UNIT_PV"
)
_WORDS = tuple(_WORDS_TEXT.split())
_SCALERS = ("SRCURRENT", "US_IC", "DS_IC", "DPC1_IC", "DPC2_IC")
_NUMBERED_SCALER = re.compile(r"(?:CFG_|ELT|ERT|ICR|OCR)[0-9]{1,3}")
_LISTS = {"ELEMENTS_TO_FIT": "elements", "ELEMENTS_WITH_PILEUP": "pileups"}
_MATERIAL = "DETECTOR_MATERIAL"
_MATERIALS = {"0": "Ge", "1": "Si", "Ge": "Ge", "Si": "Si"}
_DIGIT_OF = {"Ge": "0", "Si": "1"}
_LIMITED = (tag + suffix for tag in _PARAMETERS for suffix in _LIMITS)
_KNOWN = (*_LISTS, *_PARAMETERS, *_LIMITED, *_FACTORS, *_KEYED, *_NUMBERS, *_WORDS, *_SCALERS, _MATERIAL)
_KNOWN_SET = frozenset(_KNOWN)
_TAG = re.compile(r"([A-Za-z][\w\[\]]*)[ \t]*:(.*)")
_PV = re.compile(r"[^\s:,;]+(?::[^\s:,;]+)+")


def indented(where: str, line: str) -> list[str]:
    match = _TAG.match(line.lstrip()) if line[:1].isspace() else None
    if match and (match[1] in _KNOWN_SET or _NUMBERED_SCALER.fullmatch(match[1])):
        return [f"{where}: {match[1]} is indented: taken as a remark"]
    return []


def entry(where: str, line: str) -> tuple[Key, Any] | None:
    """What a line says; nothing when it is a remark."""
    match = _TAG.match(line)
    if match is None:
        _refuse_slip(where, line)
        return None
    tag, text = match[1], match[2].strip()
    where = f"{where}: {tag:.60}"
    if tag in _LISTS:
        return (_LISTS[tag], ""), _listed(where, tag, text)
    if tag in _PARAMETERS:
        return ("parameters", _PARAMETERS[tag]), _number(where, text)
    if tag in _FACTORS:
        return _adjustment(where, tag, text)
    if tag in _KEYED:
        name, separator, rest = (part.strip() for part in text.partition(_KEYED[tag]))
        if not (name and rest):
            raise DataError(f"{where}: found {text!r:.60}; mend: give a name, {_KEYED[tag]!r} and a value")
        return ("settings", f"{tag}{separator}{name}"), rest
    return _limit(where, tag, text) or _single(where, tag, text)


def _limit(where: str, tag: str, text: str) -> tuple[Key, Any] | None:
    head, mark, tail = tag.rpartition("_")
    if head not in _PARAMETERS or mark + tail not in _LIMITS:
        return None
    kind = _LIMITS[mark + tail]
    if kind != "fitting":
        return (kind, _PARAMETERS[head]), _number(where, text)
    if text.upper() not in _FITTING:
        raise DataError(f"{where}: found {text!r:.60}; mend: give one of {', '.join(_FITTING)}")
    return (kind, _PARAMETERS[head]), text.upper()


def _single(where: str, tag: str, text: str) -> tuple[Key, Any]:
    if tag == _MATERIAL:
        if text not in _MATERIALS:
            raise DataError(f"{where}: found {text!r:.60}; mend: give 0 for germanium or 1 for silicon")
        return ("material", ""), _MATERIALS[text]
    if tag in _WORDS:
        return ("settings", tag), text
    if tag in _NUMBERS:
        if text:
            _number(where, text.rstrip("%"))  # 0.0 % follows the sensitivity in files of some beamlines
        return ("settings", tag), text
    # any name may stand for a scaler, and what it stands for is the name of a process variable
    if _PV.fullmatch(text):
        return ("scalers", tag), text
    if tag in _SCALERS or _NUMBERED_SCALER.fullmatch(tag):
        raise DataError(f"{where}: found {text!r:.60}; mend: give a process variable, such as 2xfm:scaler.B")
    near = _near(tag, _KNOWN)
    raise DataError(f"{where} is no tag of MAPS; mend: {near}indent the line if it is a remark")


def _refuse_slip(where: str, line: str) -> None:
    """A line that begins with a tag and is none: the colon is missing, or blanks stand for underscores."""
    if line[:1].isspace():
        return
    words = re.split(r"[:=\s]", line[:200], maxsplit=1)
    spelled = "_".join(line[:200].split(":")[0].split()).upper()
    meant = words[0] if words[0] in _KNOWN_SET else spelled
    if meant in _KNOWN_SET and ("_" in meant or meant.isupper()):  # "linear" may begin a remark
        remedy = f"write {meant}: and its value, or indent the line if it is a remark"
        raise DataError(f"{where}: found {line:.60}; mend: {remedy}")


def _listed(where: str, tag: str, text: str) -> tuple[str, ...]:
    names = (name.strip() for name in text.split(",") if name.strip())
    check = _checked_element if tag == "ELEMENTS_TO_FIT" else _checked_pileup
    return tuple(dict.fromkeys(check(where, name) for name in names if name not in _SCATTER))


def _checked_element(where: str, name: str) -> str:
    """The name of its component: `Fe` for `Fe_K` too, which elsewhere is iron piled up with potassium."""
    symbol, _, shell = name.partition("_")
    if symbol not in _SYMBOLS or ("_" in name and shell not in ("K", "L", "M")):
        near = _near(symbol, sorted(_SYMBOLS)) if symbol not in _SYMBOLS else ""
        raise DataError(f"{where}: {name:.60} is no element; mend: {near}write Fe, Au_L or Pb_M")
    return symbol if shell == "K" else name


def _checked_pileup(where: str, name: str) -> str:
    parts = name.split("_")
    symbols = [part for part in parts if part not in ("L", "M")]
    wrong = any(part not in _SYMBOLS for part in symbols) or parts[0] in ("L", "M")
    if wrong or len(symbols) < 2:
        raise DataError(f"{where}: {name:.60} is no pile-up; mend: write Si_Si or Au_L_Si")
    return name


def _adjustment(where: str, tag: str, text: str) -> tuple[Key, Any]:
    element, *words = (word.strip() for word in text.rstrip(", \t").split(","))
    factors = tuple(_number(where, word) for word in words)
    count = _FACTORS[tag]
    if not factors or (count and len(factors) != count):
        wanted = f"{count} factors" if count else "factors"
        raise DataError(f"{where}: found {len(factors)} factors; mend: give the element and {wanted}")
    return ("adjustments", f"{tag} {_checked_element(where, element)}"), factors


def _number(where: str, text: str) -> float:
    try:
        value = float(text) if "_" not in text and len(text) < 64 else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: found {text!r:.60}; mend: give a number, such as 0.0095")
    return value


def _near(word: str, known: Sequence[str]) -> str:
    by_capitals = {name.upper(): name for name in reversed(known)}
    near = difflib.get_close_matches(word[:60].upper(), by_capitals, n=3, cutoff=0.7)
    return f"{' or '.join(by_capitals[name] for name in near)} may be meant; " if near else ""


def has_tag(name: str) -> bool:
    """Whether a MAPS file can hold a parameter of this name."""
    return name in _TAG_OF


def line_of(key: Key, value: Any, tag: str = "") -> str:
    """The line that says this value, under the tag it had or the one that MAPS writes.

    Raises:
        DataError: no line can say it.
    """
    line = _written(key, value, tag)
    if entry("override", line) != (key, value):
        raise DataError(
            f"override: {key[1]:.60} cannot be {value!r:.60}; mend: give what a line of MAPS can say"
        )
    return line


def _written(key: Key, value: Any, tag: str) -> str:
    kind, name = key
    if kind == "adjustments":
        head, element = name.split(" ", 1)
        return f"{head}: {', '.join([element, *map(_plain, value)])}"
    if kind == "settings":
        head = next((known for known in _KEYED if name.startswith(known + _KEYED[known])), "")
        return f"{head}: {name[len(head) + 1 :]}{_KEYED[head]}{value}" if head else f"{name}: {value}"
    if kind == "material":
        return f"{_MATERIAL}: {_DIGIT_OF.get(value, value)}"
    return f"{tag or _tag_of(kind, name)}: {_plain(value)}".rstrip(" ")


def _tag_of(kind: str, name: str) -> str:
    if kind in _LISTS.values():
        return next(tag for tag, listed in _LISTS.items() if listed == kind)
    if kind == "scalers":
        return name
    if name not in _TAG_OF:
        known = "; mend: " + _near(name, list(_TAG_OF)) + "use the MAPS names"
        raise DataError(f"{name:.60} is no parameter of MAPS{known}")
    return _TAG_OF[name] + _SUFFIX.get(kind, "")


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_plain, value))  # pyright: ignore[reportUnknownArgumentType]
    return repr(float(value)) if isinstance(value, int | float) else str(value)
