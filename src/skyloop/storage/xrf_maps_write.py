"""Element maps into HDF5 files of XRF-Maps, with the errors and the fit parameters that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from skyloop.errors import DataError
from skyloop.quantities import FloatArray, Quantity
from skyloop.storage._replacing import replacing
from skyloop.storage._spectra import Counts, Spectra
from skyloop.storage.xrf_maps import TIMES, XrfMaps, is_count

__all__ = ["ElementMaps", "IntegratedFit", "write_xrf_maps"]

_ROUTINES = {"Fitted": "XRF_fits", "NNLS": "XRF_roi_plus", "ROI": "XRF_roi", "SVD": "", "Hybrid_NNLS": ""}
"""Groups that XRF-Maps knows, and the name in version 9 of their maps."""
_ALIASES = {
    "x_axis": "Scan/x_axis",
    "y_axis": "Scan/y_axis",
    "scaler_names": "Scalers/Names",
    "scaler_units": "Scalers/Units",
    "scalers": "Scalers/Values",
    "energy": "Spectra/Energy",
    "energy_calib": "Spectra/Energy_Calibration",
    "int_spec": "Spectra/Integrated_Spectra/Spectra",
    "mca_arr": "Spectra/mca_arr",
}
_VERSION = 9.0
_TEXT = 256  # bytes of a name, as XRF-Maps stores it
_CHUNK = 2**20  # bytes; larger ones do not fit into the cache of those who read pixel by pixel
_PACKED: dict[str, Any] = {"compression": "gzip", "compression_opts": 4, "shuffle": True}


@dataclass(frozen=True, slots=True, eq=False)
class IntegratedFit:
    """The fit to the summed spectrum on which maps rest; a parameter that was not fitted has sigma 0."""

    names: tuple[str, ...]
    """Parameters."""
    values: Annotated[FloatArray, Quantity("", ("parameter",))]
    """Their best values, in the units of their names in MAPS."""
    sigmas: Annotated[FloatArray, Quantity("", ("parameter",))]
    """Standard deviations."""
    lower: Annotated[FloatArray, Quantity("", ("parameter",))]
    """Lower bounds, -inf where there is none."""
    upper: Annotated[FloatArray, Quantity("", ("parameter",))]
    """Upper bounds, inf where there is none."""
    spectrum: Annotated[FloatArray, Quantity("count", ("channel",))]
    """Fitted spectrum, background included; NaN outside of the fitted range."""
    background: Annotated[FloatArray, Quantity("count", ("channel",))]
    """Fitted background; NaN outside of the fitted range."""


@dataclass(frozen=True, slots=True, eq=False)
class ElementMaps:
    """Maps of one fitting routine."""

    names: tuple[str, ...]
    """Elements and other components: `"Fe"`, `"Pb_L"`, `"COMPTON_AMPLITUDE"`."""
    counts_per_sec: Annotated[FloatArray, Quantity("1/s", ("element", "y", "x"))]
    """Fitted counts per second of live time, or what `units` say; NaN where a pixel gave no result."""
    sigma: Annotated[FloatArray, Quantity("1/s", ("element", "y", "x"))]
    """Standard deviation of each of them."""
    detection_limit: Annotated[FloatArray, Quantity("1/s", ("element", "y", "x"))]
    """Least value that would have been told from nothing."""
    units: tuple[str, ...]
    """Unit of each map: `"cts/s"`."""
    routine: str = "Fitted"
    """How they were got: `Fitted`, `NNLS`, `ROI`, `SVD` or `Hybrid_NNLS`."""
    fit: IntegratedFit | None = None
    """The fit to the summed spectrum."""


def write_xrf_maps(
    path: str | Path,
    maps: Sequence[ElementMaps],
    *,
    spectra: Spectra | XrfMaps | None = None,
    counts: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write maps, and what was measured, in version 9 of the layout of XRF-Maps.

    Maps are in `/MAPS/XRF_Analyzed/<routine>/Counts_Per_Sec` [element, y, x], and beside them, as XRF-Maps
    has no place for these, `Counts_Per_Sec_Errors` and `Detection_Limit` of the same shape, and
    `Parameters/{Names, Values, Sigmas, Lower_Bounds, Upper_Bounds}`. The names of version 9 are hard links:
    `/MAPS/channel_names` belongs to the first routine, and only routines with the very same channels are
    linked as `XRF_fits` (Fitted), `XRF_roi_plus` (NNLS) and `XRF_roi` (ROI), since readers of version 9 name
    all three after it.

    The file gets its name when it is whole. Maps are stored as float64, counts in the type that they have,
    NaN as NaN. Positions that are no grid are kept in `/MAPS/Scan/{x,y}_positions`, beside the mean axes.

    Args:
        path: the file.
        maps: one for each routine.
        spectra: what was measured, in memory or an open file, which is then copied row by row.
        counts: whether to store the spectrum of each pixel too, not only their sum. Of several detectors
            neither is stored, as each has its own energies, only positions and scalers.
        overwrite: replace a file that has this name.

    Raises:
        DataError: shapes or names do not fit each other; XRF-Maps has one file per detector, not one for all.
        StorageError: there is such a file already, or the disk refuses.

    >>> from tempfile import TemporaryDirectory
    >>> maps = ElementMaps(("Fe",), *np.ones((3, 1, 4, 5)), units=("cts/s",))
    >>> with TemporaryDirectory() as folder:
    ...     write_xrf_maps(f"{folder}/iron.h5", [maps]).name
    'iron.h5'

    References:
        AdvancedPhotonSource/XRF-Maps, `src/core/defines.h` (names); issue 166 (parameters in the file).
    """
    final = Path(path)
    _check(final, maps, spectra, counts=counts)
    with replacing(final, overwrite=overwrite) as part, h5py.File(part, "w", locking=False) as file:
        group = file.create_group("MAPS")
        group["version"] = np.array([_VERSION])
        if spectra is not None:
            _put_scan(group, _about(spectra))
        if spectra is not None and _shape(spectra)[2] == 1:
            _put_spectra(group.create_group("Spectra"), spectra, counts=counts)
        for one in maps:
            _put_maps(group.create_group(f"XRF_Analyzed/{one.routine}"), one)
        _link(group, maps)
    return final


def _check(
    path: Path, maps: Sequence[ElementMaps], spectra: Spectra | XrfMaps | None, *, counts: bool
) -> None:
    shapes = {one.counts_per_sec.shape[1:] for one in maps} | ({_shape(spectra)[:2]} if spectra else set())
    if len(shapes) > 1:
        raise _misfit(path, f"maps and spectra have different shapes [y, x]: {sorted(shapes)}")
    if spectra and counts and _shape(spectra)[2] != 1:
        mend = "write one file for each, or leave the counts out (counts=False)"
        raise _misfit(path, f"spectra of {_shape(spectra)[2]} detectors", mend)
    routines = [one.routine for one in maps]
    if len(set(routines)) < len(routines) or not set(routines) <= set(_ROUTINES):
        raise _misfit(path, f"routines {routines}", f"give each once, of {', '.join(_ROUTINES)}")
    for one in maps:
        _check_maps(path, one)
    if spectra:
        _texts(path, "scalers", tuple(_about(spectra).scalers))


def _check_maps(path: Path, maps: ElementMaps) -> None:
    shape = maps.counts_per_sec.shape
    arrays = {"sigma": maps.sigma.shape, "detection_limit": maps.detection_limit.shape}
    wrong = [f"{name} {found}" for name, found in arrays.items() if found != shape]
    if len(shape) != 3 or shape[0] != len(maps.names) or len(maps.units) != len(maps.names) or wrong:
        raise _misfit(
            path,
            f"{maps.routine}: {len(maps.names)} names and {len(maps.units)} units for maps of shape {shape}"
            + "".join(f", {text}" for text in wrong),
        )
    _texts(path, maps.routine, maps.names)
    fit = maps.fit
    if fit is None:
        return
    columns = (fit.values, fit.sigmas, fit.lower, fit.upper)
    if any(column.shape != (len(fit.names),) for column in columns):
        raise _misfit(path, f"{maps.routine}: {[c.shape for c in columns]} for {len(fit.names)} parameters")
    _texts(path, f"{maps.routine}/Parameters", fit.names)


def _texts(path: Path, where: str, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names) or not all(0 < len(name.encode()) < _TEXT for name in names):
        raise _misfit(path, f"{where}: names {names}", f"give different ones of 1 to {_TEXT - 1} bytes")


def _misfit(path: Path, what: str, mend: str = "give arrays of one measurement") -> DataError:
    return DataError(f"{path} is not written: {what}; mend: {mend}")


def _shape(spectra: Spectra | XrfMaps) -> tuple[int, ...]:
    """[y, x, detector, channel]."""
    return spectra.shape if isinstance(spectra, XrfMaps) else spectra.counts.shape


def _about(spectra: Spectra | XrfMaps) -> Spectra:
    """All but the counts."""
    return spectra.about if isinstance(spectra, XrfMaps) else spectra


def _rows(spectra: Spectra | XrfMaps) -> Iterator[Counts]:
    return spectra.rows() if isinstance(spectra, XrfMaps) else iter(spectra.counts)


def _put_scan(group: Any, spectra: Spectra) -> None:
    _put_positions(group, "x", spectra.x, spectra.x_unit)
    _put_positions(group, "y", spectra.y.T, spectra.y_unit)
    if spectra.scalers:
        group["Scalers/Names"] = _bytes(spectra.scalers)
        group["Scalers/Units"] = _bytes("" for _ in spectra.scalers)
        group["Scalers/Values"] = np.stack(list(spectra.scalers.values()))


def _put_positions(group: Any, axis: str, lines: FloatArray, unit: str) -> None:
    """The axis that XRF-Maps knows, and the positions themselves [y, x] where no axis says all of them."""
    known = np.isfinite(lines)
    if not known.any():
        return
    is_grid = np.array_equal(lines, np.broadcast_to(lines[0], lines.shape), equal_nan=True)
    with np.errstate(invalid="ignore"):  # 0 / 0 where all are unknown is NaN
        means = np.where(known, lines, 0.0).sum(axis=0) / known.sum(axis=0)
    group[f"Scan/{axis}_axis"] = lines[0] if is_grid else means
    group[f"Scan/{axis}_axis"].attrs["units"] = unit
    if not is_grid:
        group[f"Scan/{axis}_positions"] = lines if axis == "x" else lines.T


def _put_spectra(group: Any, spectra: Spectra | XrfMaps, *, counts: bool) -> None:
    """Spectra and their sum over the pixels that hold counts, in the type that they have."""
    n_y, n_x, _, n_channels = _shape(spectra)
    width = min(n_x, max(1, _CHUNK // (8 * n_channels)))
    dtype = spectra.dtype if isinstance(spectra, XrfMaps) else spectra.counts.dtype
    stored: Any = counts and group.create_dataset(
        "mca_arr", (n_channels, n_y, n_x), dtype, chunks=(n_channels, 1, width), **_PACKED
    )
    total, good = np.zeros(n_channels), np.zeros((n_y, n_x), dtype=bool)
    for i, row in enumerate(_rows(spectra)):
        good[i] = is_count(row)[:, 0]
        total += row[good[i], 0].sum(axis=0, dtype=np.float64)
        if counts:
            stored[:, i] = row[:, 0].T
    group["Integrated_Spectra/Spectra"] = total
    group["Integrated_Spectra/Spectra"].attrs["pixels_left_out"] = good.size - int(good.sum())
    _put_times(group, _about(spectra), good)
    _put_energy(group, _about(spectra), n_channels)


def _put_times(group: Any, spectra: Spectra, good: NDArray[np.bool_]) -> None:
    """Times and rates of the pixels and of their sum; NaN for none, since XRF-Maps reads no file without."""
    values = (spectra.live_time, spectra.real_time, spectra.input_rate, spectra.output_rate)
    for name, each in zip(TIMES, values, strict=True):
        known = each[:, :, 0] if each.size else np.full(good.shape, np.nan)
        group[name] = known
        group[f"Integrated_Spectra/{name}"] = np.array([known[good].sum()])


def _put_energy(group: Any, spectra: Spectra, n_channels: int) -> None:
    if spectra.calibration is None:
        return
    offset, slope, quadratic = spectra.calibration
    channel = np.arange(n_channels)
    group["Energy_Calibration"] = np.array(spectra.calibration)
    group["Energy"] = offset + slope * channel + quadratic * channel**2


def _put_maps(group: Any, maps: ElementMaps) -> None:
    arrays = {
        "Counts_Per_Sec": maps.counts_per_sec,
        "Counts_Per_Sec_Errors": maps.sigma,
        "Detection_Limit": maps.detection_limit,
    }
    for name, values in arrays.items():
        options = {"chunks": (1, *values.shape[1:]), **_PACKED} if values.size else {}
        group.create_dataset(name, data=values, dtype=np.float64, **options)
    group["Channel_Names"], group["Channel_Units"] = _bytes(maps.names), _bytes(maps.units)
    if maps.fit is not None:
        group["Fitted_Integrated_Spectra"] = maps.fit.spectrum
        group["FIT_Integrated_Background"] = maps.fit.background
        _put_parameters(group.create_group("Parameters"), maps.fit)


def _put_parameters(group: Any, fit: IntegratedFit) -> None:
    group["Names"] = _bytes(fit.names)
    group["Values"], group["Sigmas"] = fit.values, fit.sigmas
    group["Lower_Bounds"], group["Upper_Bounds"] = fit.lower, fit.upper


def _link(group: Any, maps: Sequence[ElementMaps]) -> None:
    """Names of version 9 for what is there."""
    targets = dict(_ALIASES)
    if maps:
        targets["channel_names"] = f"XRF_Analyzed/{maps[0].routine}/Channel_Names"
    for one in maps:
        if _ROUTINES[one.routine] and one.names == maps[0].names:
            targets[_ROUTINES[one.routine]] = f"XRF_Analyzed/{one.routine}/Counts_Per_Sec"
    for alias, target in targets.items():
        if target in group:
            group[alias] = group[target]


def _bytes(texts: Iterable[str]) -> Any:
    """Texts of a fixed length: readers in C++ ask for these."""
    return np.array([text.encode() for text in texts], dtype=f"S{_TEXT}")
