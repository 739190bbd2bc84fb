"""Pictures of a reflectivity analysis as data: the curve, its residuals, and the target over the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from skyloop.engines.panel import Axis, Band, Curve, Fact, Facts, Log, Panel, Plot, Trace
from skyloop.engines.reflectometry.config import Config, Entry
from skyloop.engines.reflectometry.frame import Frame, join
from skyloop.engines.reflectometry.likelihood import gather
from skyloop.engines.reflectometry.model import Parameters
from skyloop.engines.reflectometry.result import Result
from skyloop.engines.reflectometry.smearing import model_curve
from skyloop.quantities import FloatArray, quantities

__all__ = ["panels"]

_TWO_SIDED_95 = 1.96
_Q = Axis("q", "1/angstrom")
_POINTS = Axis("points")
_POSITION = Axis("position")


def panels(
    frames: Sequence[Frame],
    result: Result,
    *,
    history: Sequence[Result] = (),
    decisions: Sequence[Mapping[str, Any]] = (),
    config: Config | None = None,
    moved: Axis = _POSITION,
    truth: float = np.nan,
) -> tuple[Panel, ...]:
    """The panels of a run so far; pure, so that live and stored documents give the same pictures.

    Args:
        frames: the points measured.
        result: what they say.
        history: earlier results, for the target over the points.
        decisions: data of the decision stream, to be marked and listed.
        config: sample model; with it come residuals, and the names of the parameters.
        moved: what the decisions move, with its unit.
        truth: the target's true value, where it is known: of a simulated sample.
    """
    points = join(list(frames)) if frames else None
    shown: list[Panel] = [_reflectivity(points, result)]
    if config is not None and points is not None and np.isfinite(result.target):
        shown.append(_residuals(points, result, config))
    told = [one for one in (*history, result) if np.isfinite(one.target)]
    shown += [_target(told, decisions, config, truth), _uncertainty(told, config)]
    shown.append(_facts(result, config))
    if decisions:
        shown.append(_log(decisions, moved))
    return tuple(shown)


def _reflectivity(points: Frame | None, result: Result) -> Plot:
    mean, sigma = result.prediction, result.prediction_sigma
    # On a logarithmic axis a band of mean - 2 sigma may have no lower end: that of the logarithm has one.
    width = np.exp(_TWO_SIDED_95 * np.sqrt(np.log1p((sigma / mean) ** 2)))
    items: list[Band | Curve] = [
        Band("95 %", result.q_grid, mean / width, mean * width),
        Curve("model", result.q_grid, mean),
    ]
    if points is not None:
        value, error = _values(points)
        items.insert(1, Curve("data", points.q, value, error))
    y = Axis("reflectivity", is_log=True)
    return Plot("reflectivity", _Q, y, tuple(items))


def _residuals(points: Frame, result: Result, config: Config) -> Plot:
    data = gather(points, systematic=config.systematic, tolerance=0.0)
    slabs = Parameters.of(config).slabs(torch.from_numpy(_theta(result, config))[None])
    model = model_curve(torch.from_numpy(data.q), torch.from_numpy(data.q_sigma), slabs)[0].numpy()
    off = data.residuals(model)
    title = "data - model, at the mean of each parameter"
    curve = Curve("residuals", data.group_q, off, np.ones_like(off))
    return Plot(title, _Q, Axis("residual", "standard deviations"), (curve,))


def _target(
    told: Sequence[Result], decisions: Sequence[Mapping[str, Any]], config: Config | None, truth: float
) -> Plot:
    decided = [d["decision_raw_seq_num"] for d in decisions if d["decision_source"] != "plan"]
    trace = Trace(
        label="mean ± standard deviation",
        x=_counts(told),
        y=np.array([result.target for result in told], dtype=np.float64),
        y_sigma=np.array([result.target_sigma for result in told], dtype=np.float64),
        marks=np.array(decided, dtype=np.float64),
    )
    known = () if np.isnan(truth) else (Curve("truth", trace.x, np.full(len(told), truth)),)
    axis = Axis(_target_name(config), _target_unit(config))
    return Plot("target", _POINTS, axis, (*known, trace))


def _uncertainty(told: Sequence[Result], config: Config | None) -> Plot:
    sigma = np.array([result.target_sigma for result in told], dtype=np.float64)
    items: list[Trace | Curve] = [Trace("standard deviation", _counts(told), sigma)]
    if config is not None:
        wanted = np.full(len(told), config.target_sigma)
        items.insert(0, Curve("known well enough", _counts(told), wanted))
    axis = Axis(f"sigma of {_target_name(config)}", _target_unit(config), is_log=True)
    return Plot("its uncertainty", _POINTS, axis, tuple(items))


def _counts(told: Sequence[Result]) -> FloatArray:
    return np.array([result.n_points for result in told], dtype=np.float64)


def _facts(result: Result, config: Config | None) -> Facts:
    if config is None:
        named = [Fact("target", result.target, result.target_sigma)]
    else:
        named = [_fact(result, entry, config) for entry in config.entries() if entry.is_free]
    checks = [
        Fact("points", float(result.n_points)),
        Fact("chi2", result.chi2),
        Fact("p value", result.p_value),
        Fact("other mode mass", result.other_mode_mass),
        Fact("confirmed", result.confirmed),
    ]
    rows = (*named, *_further(result, config), *checks)
    return Facts("what is believed now", rows, result.outcome, result.reason)


def _further(result: Result, config: Config | None) -> tuple[Fact, ...]:
    """What the target would be if the sample has a thin layer that the model lacks, when that was asked."""
    if np.isnan(result.further_layer_target):
        return ()
    target = Fact("target, a layer more", result.further_layer_target, unit=_target_unit(config))
    return target, Fact("its log likelihood", result.further_layer_gain)


def _log(decisions: Sequence[Mapping[str, Any]], moved: Axis) -> Log:
    place = f"{moved.label} [{moved.unit}]" if moved.unit else moved.label
    columns = ("after point", "source", "action", place, "time [s]", "gain [nat]", "why")
    return Log("decisions", columns, tuple(_row(decision) for decision in decisions))


def _row(decision: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(decision["decision_raw_seq_num"]),
        str(decision["decision_source"]),
        str(decision["decision_action"]),
        _written(decision["decision_executed_position"], ".4g"),
        _written(decision["decision_executed_count_time"], ".3g"),
        _written(decision["decision_gain"], ".2g"),
        str(decision["decision_reason"]),
    )


def _written(value: float, digits: str) -> str:
    return "" if np.isnan(value) else f"{value:{digits}}"


def _values(points: Frame) -> tuple[FloatArray, FloatArray]:
    """Reflectivity and its standard deviation of each point; that of no counts is that of one."""
    error = np.sqrt(np.maximum(points.counts, 1.0)) / points.exposure
    value = np.where(points.is_counted, points.counts / points.exposure, points.reflectivity)
    return value, np.where(points.is_counted, error, points.reflectivity_sigma)


def _target_entry(config: Config) -> Entry:
    parameters = Parameters.of(config)
    name = parameters.names[parameters.target]
    return next(entry for entry in config.entries() if entry.name == name)


def _target_unit(config: Config | None) -> str:
    return _target_entry(config).unit if config else ""


def _target_name(config: Config | None) -> str:
    return _target_entry(config).name if config else "target"


def _fact(result: Result, entry: Entry, config: Config) -> Fact:
    value, sigma = (_told(result, entry.name, config, suffix) for suffix in ("", "_sigma"))
    return Fact(entry.name, value, sigma, entry.unit)


def _theta(result: Result, config: Config) -> FloatArray:
    return np.array([_told(result, name, config, "") for name in Parameters.of(config).names])


def _told(result: Result, name: str, config: Config, suffix: str) -> float:
    """What a result says of a parameter by name, for example `"film.sld"`."""
    owner, _, kind = name.rpartition(".")
    layers = [layer.name for layer in config.sample.named_layers()]
    if owner in layers:
        return float(getattr(result, kind + suffix)[layers.index(owner)])
    medium = {config.sample.fronting_name: "fronting_", config.sample.backing_name: "backing_"}
    field = medium.get(owner, "") + kind + suffix
    if field not in quantities(Result):
        raise KeyError(f"a result has no field for {name}")
    return float(getattr(result, field))
