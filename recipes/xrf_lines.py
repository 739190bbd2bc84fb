"""Build `lines.npz`, the frozen table of emission lines: `python -m recipes.xrf_lines [FILE]`.

All numbers come from xraylib, which is needed here and in the tests of the table, not by users.

References:
    T. Schoonjans et al., Spectrochim. Acta B 66, 776 (2011), doi:10.1016/j.sab.2011.09.011.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xraylib
from numpy.typing import NDArray

from skyloop.quantities import FloatArray

__all__ = ["FILE", "LINES", "SHELLS", "main", "table"]

FILE = Path(__file__).parents[1] / "src" / "skyloop" / "engines" / "xrf" / "lines.npz"

SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
"""In xraylib's order: the index of a shell is xraylib's number of it."""

LINES: dict[str, tuple[str, ...]] = {
    "Ka1": ("KL3",),
    "Ka2": ("KL2",),
    "Kb1": ("KM3",),
    "Kb2": ("KN3", "KN2"),
    "Kb3": ("KM2",),
    "La1": ("L3M5",),
    "La2": ("L3M4",),
    "Lb1": ("L2M4",),
    "Lb2": ("L3N5",),
    "Lb3": ("L1M3",),
    "Lb4": ("L1M2",),
    "Lb5": ("L3O45",),
    "Lb6": ("L3N1",),
    "Lb9": ("L1M5",),
    "Lb10": ("L1M4",),
    "Lb15": ("L3N4",),
    "Lg1": ("L2N4",),
    "Lg2": ("L1N2",),
    "Lg3": ("L1N3",),
    "Lg4": ("L1O3", "L1O2"),
    "Lg5": ("L2N1",),
    "Lg6": ("L2O4",),
    "Ll": ("L3M1",),
    "Ln": ("L2M1",),
    "Ma1": ("M5N7",),
    "Ma2": ("M5N6",),
    "Mb": ("M4N6",),
    "Mg": ("M3N5",),
    "Mz1": ("M5N3",),
    "Mz2": ("M4N2",),
    "M1N2": ("M1N2",),
    "M1N3": ("M1N3",),
    "M1O23": ("M1O3", "M1O2"),
    "M2N1": ("M2N1",),
    "M2N4": ("M2N4",),
    "M2O4": ("M2O4",),
    "M3N1": ("M3N1",),
    "M3N4": ("M3N4",),
    "M3O1": ("M3O1",),
    "M3O45": ("M3O5", "M3O4"),
}
"""Transitions of each line; those that no detector parts are one line."""

_ELEMENTS = range(1, 93)
_INCIDENT = (0.5, 120.0)
"""keV, range of the partial photo-ionisation cross sections."""
_PASSING = (0.1, 120.0)
"""keV, range of the total attenuation coefficients."""
_LEAST_EDGE = 0.1
"""keV, below the edge of every shell that feeds a line."""
_END_OF_SHELLS = 28.0
"""K edges, up to which the cross sections by shell are sound."""
_ERROR = 0.004
"""Greatest relative error of the log-log interpolation."""
_JUMP = 0.02
_EDGE_WIDTH = 1e-9
"""Relative; both sides of an edge become one energy in float32."""
_FINEST = 1e-6
"""Relative width of the finest interval; float32 keeps its ends apart."""
_PROBES = 16
_FAR_ABOVE_L = 50.0
"""keV, above every L and M edge and inside the tables of every element."""


def main() -> None:
    """Write the table to the file named on the command line, or to its place in the package."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    np.savez_compressed(file, allow_pickle=False, **table())


def table() -> dict[str, NDArray[Any]]:
    """Every array of the frozen table, by name.

    `edge`, `fluorescence_yield` [element, shell]; `energy`, `rate` [element, line], NaN where there is none;
    `line_shell` [line], the shell that is filled; `transfer` [element, shell, shell] turns partial cross
    sections into vacancies; `partial_*` (curve = 9 element + shell) and `total_*` (curve = element) are the
    knots of log-log interpolations, those of curve i from `start[i]` to `start[i + 1]`.
    """
    shells = range(len(SHELLS))
    lines = np.array([[_line(z, ts) for ts in LINES.values()] for z in _ELEMENTS])
    partial = [_partial(z, s) for z in _ELEMENTS for s in shells]
    total = [_knots(lambda e, z=z: xraylib.CS_Total(z, e), *_PASSING) for z in _ELEMENTS]
    return {
        "provenance": np.array(_provenance()),
        "symbol": np.array([xraylib.AtomicNumberToSymbol(z) for z in _ELEMENTS]),
        "shell": np.array(SHELLS),
        "label": np.array(list(LINES)),
        "line_shell": np.array([_shell(ts[0]) for ts in LINES.values()], dtype=np.int8),
        "edge": np.array([[_known(xraylib.EdgeEnergy, z, s) for s in shells] for z in _ELEMENTS]),
        "fluorescence_yield": np.array(
            [[_known(xraylib.FluorYield, z, s) for s in shells] for z in _ELEMENTS]
        ),
        "energy": lines[..., 0],
        "rate": lines[..., 1],
        "transfer": np.array([_transfer(z) for z in _ELEMENTS], dtype=np.float32),
        **_curves("partial", partial),
        **_curves("total", total),
    }


def _provenance() -> str:
    return (
        f"xraylib {xraylib.__version__} (BSD), doi:10.1016/j.sab.2011.09.011: EdgeEnergy, FluorYield,"
        " RadRate, LineEnergy (where it has none: the difference of the edges), CS_Photo_Partial (above"
        f" {_END_OF_SHELLS:g} times the K edge: with the slope of CS_Photo), the constants of"
        f" PL1 ... PM5_full_cascade_kissel, CS_Total; curves interpolated within {_ERROR:.1%};"
        " built by recipes/xrf_lines.py"
    )


def _known(function: Callable[..., float], *arguments: float) -> float:
    """What xraylib says, or NaN where it has nothing."""
    try:
        return function(*arguments)
    except ValueError:
        return np.nan


def _line(z: int, transitions: tuple[str, ...]) -> tuple[float, float]:
    """Energy and rate of a line: the mean by rate and the sum over its transitions."""
    rates = np.array([_known(xraylib.RadRate, z, _number(t)) for t in transitions])
    there = rates > 0.0
    if not there.any():
        return np.nan, np.nan
    known = [t for t, is_there in zip(transitions, there, strict=True) if is_there]
    energies, weights = np.array([_energy(z, t) for t in known]), rates[there]
    mean = energies[0] + weights @ (energies - energies[0]) / weights.sum()  # exact for a single transition
    return float(mean), float(weights.sum())


def _number(transition: str) -> int:
    return getattr(xraylib, f"{transition}_LINE")


def _energy(z: int, transition: str) -> float:
    known = _known(xraylib.LineEnergy, z, _number(transition))
    return known if known > 0.0 else _difference(z, transition)


def _difference(z: int, transition: str) -> float:
    """Line energy from the edges; an outer shell without one is bound by a few eV."""
    inner = _shell(transition)
    outer = getattr(xraylib, f"{transition.removeprefix(SHELLS[inner])[:2]}_SHELL")
    return _known(xraylib.EdgeEnergy, z, inner) - float(np.nan_to_num(_known(xraylib.EdgeEnergy, z, outer)))


def _shell(transition: str) -> int:
    """Number of the shell whose vacancy a transition such as KL3 or L3O45 fills."""
    return next(i for i, shell in enumerate(SHELLS) if transition.startswith(shell))


def _transfer(z: int) -> FloatArray:
    """Vacancies per primary vacancy, [of, from]: Coster-Kronig, Auger and radiative, from K down to M5."""
    direct = np.zeros((len(SHELLS), len(SHELLS)))
    for of, shell in enumerate(SHELLS[1:], start=1):
        function = getattr(xraylib, f"P{shell}_full_cascade_kissel")
        inner = np.eye(_feeding(shell))
        none = _known(function, z, _FAR_ABOVE_L, *np.zeros(len(inner)))
        direct[of, : len(inner)] = [_known(function, z, _FAR_ABOVE_L, *one) - none for one in inner]
    return np.asarray(np.linalg.inv(np.eye(len(SHELLS)) - np.nan_to_num(direct)), dtype=np.float64)


def _feeding(shell: str) -> int:
    """How many shells lie deeper than this one."""
    return SHELLS.index(shell)


def _partial(z: int, shell: int) -> FloatArray:
    """Knots of the photo-ionisation cross section of one shell; none if it feeds no line in the table."""
    edge = _known(xraylib.EdgeEnergy, z, shell)
    if not edge >= _LEAST_EDGE:
        return np.empty((0, 2))
    return _knots(lambda e: _photo(z, shell, e), max(edge, _INCIDENT[0]), _INCIDENT[1])


def _photo(z: int, shell: int, energy: float) -> float:
    """Photo-ionisation cross section; far above the K edge (Z < 20 only) it falls as that of the whole atom.

    There the tables by shell end: above 30 times the K edge xraylib's sum over the shells falls
    exponentially, to less than 1e-9 of its own photo-absorption, while the shares of the shells in the whole
    should hardly change.
    """
    end = min(energy, _END_OF_SHELLS * xraylib.EdgeEnergy(z, 0))
    whole = xraylib.CS_Photo(z, energy) / xraylib.CS_Photo(z, end) if end < energy else 1.0
    return _known(xraylib.CS_Photo_Partial, z, shell, end) * whole


def _knots(f: Callable[[float], float], low: float, high: float) -> FloatArray:
    """Knots [knot, (energy, value)] of a log-log interpolation; an edge is two knots at one energy."""
    knots = [(low, f(low))]
    for a, b in _pieces(f, low, high):
        inner = _halved(f, a, b)
        knots += [(a, f(a))] if a > knots[-1][0] else []
        knots += inner
    return np.array(knots)


def _pieces(f: Callable[[float], float], low: float, high: float) -> list[tuple[float, float]]:
    """Parts of the range within which f does not jump."""
    grid = np.geomspace(low, high, 2000)
    grid[-1] = high
    values = np.array([f(e) for e in grid])
    ends: list[tuple[float, float]] = []
    start = low
    for i in np.flatnonzero(np.abs(np.diff(np.log(values))) > _JUMP):
        below, above = _jump(f, float(grid[i]), float(grid[i + 1]))
        if abs(np.log(f(above) / f(below))) > 0.5 * _JUMP:
            ends.append((start, below))
            start = above
    return [*ends, (start, high)]


def _jump(f: Callable[[float], float], a: float, b: float) -> tuple[float, float]:
    """Where f jumps most between a and b."""
    while b - a > _EDGE_WIDTH * b:
        middle = 0.5 * (a + b)
        left = abs(np.log(f(middle) / f(a))) > abs(np.log(f(b) / f(middle)))
        a, b = (a, middle) if left else (middle, b)
    return a, b


def _halved(f: Callable[[float], float], a: float, b: float) -> list[tuple[float, float]]:
    """Knots after a up to b: the interval is parted where the line between its ends is worst."""
    inside = np.geomspace(a, b, _PROBES + 2)[1:-1]
    line = np.interp(np.log(inside), np.log([a, b]), np.log([f(a), f(b)]))
    error = np.abs(line - np.log([f(e) for e in inside]))
    worst = int(error.argmax())
    if error[worst] <= _ERROR or b - a <= _FINEST * b:
        return [(b, f(b))]
    middle = float(inside[worst])
    return _halved(f, a, middle) + _halved(f, middle, b)


def _curves(name: str, curves: list[FloatArray]) -> dict[str, NDArray[Any]]:
    """All curves in one array each of energies and values, and where each starts."""
    start = np.cumsum([0, *(len(c) for c in curves)]).astype(np.int32)
    knots = np.concatenate(curves).astype(np.float32)
    return {f"{name}_start": start, f"{name}_energy": knots[:, 0], f"{name}_value": knots[:, 1]}


if __name__ == "__main__":
    main()
