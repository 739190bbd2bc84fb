"""What the command line asks of a measured curve: a grid that covers it, what is assumed, the priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skyloop.callbacks._technique import Prior
from skyloop.engines.reflectometry import Config, Frame
from skyloop.engines.reflectometry.config import Entry, QGrid
from skyloop.engines.reflectometry.model import Parameters

__all__ = ["assumed", "covering", "priors"]

_PER_FRINGE = 12
"""Points of the grid per fringe of the thickest sample: fewer draw a saw."""
_MOST = 1000


def covering(config: Config, frames: Sequence[Frame]) -> Config:
    """The configuration with a grid over the data, unless the user gave one."""
    q = np.concatenate([frame.q for frame in frames]) if frames else np.empty(0)
    if config.q_grid != QGrid() or not q.size or q.min() == q.max():
        return config
    low, high = float(q.min()), float(q.max())
    fringes = (high - low) * _thickest(config) / (2 * np.pi)
    num = int(np.clip(math.ceil(_PER_FRINGE * fringes), QGrid().num, _MOST))
    return replace(config, q_grid=QGrid(low, high, num))


def _thickest(config: Config) -> float:
    of = {entry.name: entry.high for entry in config.entries()}
    groups = config.sample.groups()
    return sum(group.repeat * of[f"{layer.name}.thickness"] for group in groups for layer in group.layers)


def assumed(config: Config) -> list[str]:
    """What the model holds fixed: one line for the sample, one for the instrument.

    That nothing absorbs is said once; where something does, the absorption of each part is listed.
    """
    entries = config.entries()
    is_clear = not any(entry.high for entry in entries if entry.name.endswith(".isld"))
    held: dict[str, list[str]] = {config.sample.fronting_name: []}  # from where the beam comes
    for entry in entries:
        owner, _, kind = entry.name.rpartition(".")
        if not (entry.is_free or (is_clear and kind == "isld")):
            held.setdefault(owner, []).append(f"{kind} {entry.low:g}")
    instrument = [*held.pop("", []), f"systematic {config.systematic:g}"]
    sample = [f"{owner} {', '.join(kinds)}" for owner, kinds in held.items() if kinds]
    sample += ["no absorption"] if is_clear else []
    lines = {"sample": "; ".join(sample), "instrument": ", ".join(instrument)}
    return [f"taken as exactly known, {of}: {told}" for of, told in lines.items() if told]


def priors(config: Config) -> dict[str, Prior]:
    """Prior of each free parameter."""
    parameters = Parameters.of(config)
    target = parameters.names[parameters.target]
    return {e.name: _prior(e, is_target=e.name == target) for e in config.entries() if e.is_free}


def _prior(entry: Entry, *, is_target: bool) -> Prior:
    is_instrument = "." not in entry.name  # those of the sample begin with the name of a layer
    return Prior(entry.low, entry.high, _sigma(entry), entry.is_log, is_target, is_instrument)


def _sigma(entry: Entry) -> float:
    """Standard deviation of a uniform prior, or of one that is uniform in the logarithm."""
    low, high = entry.low, entry.high
    if not entry.is_log:
        return (high - low) / math.sqrt(12)
    log_range = math.log(high / low)
    return math.sqrt((high**2 - low**2) / (2 * log_range) - ((high - low) / log_range) ** 2)
