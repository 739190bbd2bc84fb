"""Parameter files of MAPS, `maps_fit_parameters_override.txt`: read, change, write, with nothing lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyloop.engines.xrf._override_lines import Key, entry, indented, line_of
from skyloop.errors import DataError

__all__ = ["Adjustment", "Override", "read_override", "write_override"]

_MAX_CHARACTERS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Factors on the tabulated lines of one element."""

    tag: str
    """Which factors: a `BRANCHING_...` tag, `WIDTH_MULTIPLIER` or `TAIL_..._ADJUST_SI`."""
    element: str
    """Element and shell, such as `Fe` or `Pt_L`."""
    factors: tuple[float, ...]
    """Factors in the order of the MAPS file: L1, L2, L3; La1 to Ln; Ka1, Ka2, Kb1, Kb2; four M lines."""


@dataclass(frozen=True, slots=True)
class Override:
    """What a parameter file of MAPS says; change it with `dataclasses.replace`.

    Raises:
        DataError: a lower bound lies above the upper one.
    """

    elements: tuple[str, ...] = ()
    """Elements to fit, such as `Fe`, `Au_L`, `Pb_M`; each once, in the order of the file.

    K lines have the name of the element alone, whether a file has `Fe` or `Fe_K`."""
    pileups: tuple[str, ...] = ()
    """Combinations that pile up, such as `Si_Si`."""
    parameters: Mapping[str, float] = field(default_factory=dict[str, float])
    """Value of each parameter under its MAPS name, such as `ENERGY_OFFSET`."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Lowest and highest value by parameter; an infinity where the file gives one of them only."""
    steps: Mapping[str, float] = field(default_factory=dict[str, float])
    """Step size by parameter (`_STEPSIZE`)."""
    fitting: Mapping[str, str] = field(default_factory=dict[str, str])
    """How a parameter is fitted (`_FITTING`): FIXED, LIMITED_LO_HI, LIMITED_LO, LIMITED_HI or FIT."""
    adjustments: tuple[Adjustment, ...] = ()
    """Factors on branching ratios, line widths and tails."""
    detector_material: str = ""
    """`Si` or `Ge`; empty when the file does not say."""
    scalers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name of the process variable by scaler, such as `US_IC`."""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    """Any other tag as the file has it; repeated ones with their name, such as `SUMMED_SCALER:DS_IC`."""
    lines: tuple[str, ...] = ()
    """The lines of the file, remarks included; `write_override` follows them."""
    notes: tuple[str, ...] = ()
    """What looks like a tag and was taken as a remark, and what no MAPS file can hold; one line each."""

    def __post_init__(self) -> None:
        for name, (low, high) in self.bounds.items():
            if not low <= high:
                raise DataError(
                    f"{name}: lower bound {low:g} above upper bound {high:g}; mend: exchange them"
                )


def read_override(source: str | Path) -> Override:
    r"""Read a parameter file, or its text (a string with a line break).

    A tag begins its line and a colon follows it; indented lines are remarks, and a tag that stands
    indented is told in `notes`. A tag given twice must say the same twice.

    Raises:
        DataError: the file cannot be read; an unknown tag, element or word, or a number that is none; the
            message names the line and what is meant probably.

    >>> read_override("   a remark\nELEMENTS_TO_FIT: Ca, Fe\nCAL_OFFSET_[E_OFFSET]: -0.004\n").parameters
    {'ENERGY_OFFSET': -0.004}
    """
    text, name = _text_of(source)
    if len(text) > _MAX_CHARACTERS or "\0" in text:
        fault = "a zero byte" if "\0" in text else f"more than {_MAX_CHARACTERS} characters"
        raise DataError(f"{name}: holds {fault}; mend: give a maps_fit_parameters_override.txt")
    lines = tuple(text.replace("\r\n", "\n").split("\n"))
    found: dict[Key, Any] = {}
    notes: list[str] = []
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        notes += indented(where, line)
        if (said := entry(where, line)) is not None:
            key, value = said
            if found.setdefault(key, value) != value:
                raise DataError(f"{where}: {line.strip():.60} differs from an earlier line; mend: keep one")
    return _assembled(found, lines, tuple(notes))


def write_override(override: Override) -> str:
    r"""Text of a parameter file that reads as this.

    Lines that still hold are written as they were, remarks too; changed values replace the old ones in their
    lines, what is no longer there loses its line, and what is new follows at the end.

    Raises:
        DataError: a name or a value that no line of a MAPS file can say.

    >>> write_override(Override(elements=("Ca", "Fe"), parameters={"ENERGY_OFFSET": -0.004}))
    'ELEMENTS_TO_FIT: Ca, Fe\nCAL_OFFSET_[E_OFFSET]: -0.004\n'
    """
    table = _table(override)
    lines: list[str] = []
    known: set[Key] = set()
    for number, line in enumerate(override.lines, start=1):
        said = entry(f"line {number} of the override", line)
        if said is None or table.get(said[0], ()) == said[1]:
            lines.append(line)
        elif said[0] in table:
            lines.append(line_of(said[0], table[said[0]], line.split(":")[0].rstrip()))
        known.update([said[0]] if said else [])
    added = [line_of(key, value) for key, value in table.items() if key not in known]
    if added:
        lines = [*(lines[:-1] if lines and not lines[-1] else lines), *added, ""]
    return "\n".join(lines)


def _text_of(source: str | Path) -> tuple[str, str]:
    if isinstance(source, str) and "\n" in source:
        return source, "override text"
    try:
        with Path(source).open("rb") as file:
            content = file.read(4 * _MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"{source!s:.200}: cannot be read ({error}); mend: give a parameter file") from error
    try:
        return content.decode("utf-8-sig"), str(source)
    except UnicodeDecodeError:  # remarks such as 24 µm, written on another system
        return content.decode("latin-1"), str(source)


def _assembled(found: Mapping[Key, Any], lines: tuple[str, ...], notes: tuple[str, ...]) -> Override:
    of: dict[str, dict[str, Any]] = {}
    for (kind, name), value in found.items():
        of.setdefault(kind, {})[name] = value
    low, high = of.get("lower", {}), of.get("upper", {})
    return Override(
        elements=found.get(("elements", ""), ()),
        pileups=found.get(("pileups", ""), ()),
        parameters=of.get("parameters", {}),
        bounds={name: (low.get(name, -math.inf), high.get(name, math.inf)) for name in low | high},
        steps=of.get("steps", {}),
        fitting=of.get("fitting", {}),
        adjustments=tuple(_adjusted(key, factors) for key, factors in of.get("adjustments", {}).items()),
        detector_material=found.get(("material", ""), ""),
        scalers=of.get("scalers", {}),
        settings=of.get("settings", {}),
        lines=lines,
        notes=notes,
    )


def _adjusted(key: str, factors: tuple[float, ...]) -> Adjustment:
    tag, element = key.split(" ")
    return Adjustment(tag, element, factors)


def _table(override: Override) -> dict[Key, Any]:
    """The same as `_assembled` was given: one value for each kind and name."""
    lists = {"elements": override.elements, "pileups": override.pileups}
    table: dict[Key, Any] = {(kind, ""): names for kind, names in lists.items() if names}
    table |= {("parameters", name): value for name, value in override.parameters.items()}
    for name, (low, high) in override.bounds.items():
        table |= {("upper", name): high} if high < math.inf else {}
        table |= {("lower", name): low} if low > -math.inf else {}
    for kind in ("steps", "fitting", "scalers", "settings"):
        table |= {(kind, name): value for name, value in getattr(override, kind).items()}
    table |= {("adjustments", f"{a.tag} {a.element}"): a.factors for a in override.adjustments}
    return table | ({("material", ""): override.detector_material} if override.detector_material else {})
