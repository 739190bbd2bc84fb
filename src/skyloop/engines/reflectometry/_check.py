"""What a configuration is refused for: with its key, what was found there and the mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyloop.errors import ConfigError

if TYPE_CHECKING:
    from skyloop.engines.reflectometry.config import Config, Entry, Sample

SLD = "1e-6/angstrom^2"
# No sample and no instrument needs more, and all that is computed from it stays finite.
MOST_LENGTH, MOST_SLD, MOST_Q, MOST_FACTOR = 1e6, 1e3, 100.0, 1e12
_MOST_REPEATS, _MOST_LAYERS, _MOST_PARTICLES, _MOST_CANDIDATES = 10_000, 20_000, 100_000, 100_000
_MOST_TOGETHER = 100_000_000
"""Particles times candidates, and particles times layers: tables of 0.8 GB."""
_LEAST_LOG = 1e-30
"""Where a log-uniform prior may start."""
_LEAST_SLD = 1e-3
"""Of anything denser than a gas; what is smaller was written in another unit."""


def check(config: Config) -> None:
    """Refuse what cannot be meant.

    Raises:
        ConfigError: names the key, what was found there and the mend.
    """
    _check_sizes(config, _n_layers(config.sample))
    _check_stack(config.sample)
    for entry in config.entries():
        _check_entry(entry)
    _check_target(config)
    _check_rest(config)


def _check_stack(sample: Sample) -> None:
    if (sample.fronting.roughness, sample.fronting.isld) != (0, 0):
        raise ConfigError(
            "sample.fronting: has a roughness or absorption; mend: give the roughness to the first "
            "layer, and leave absorption to scale"
        )
    names = [layer.name for layer in sample.named_layers()]
    names += [sample.fronting_name, sample.backing_name]
    twice = sorted(name for name in names if names.count(name) > 1)
    if twice:
        raise ConfigError(f"sample: the name {twice[0]} is used twice; mend: rename one of them")
    wrong = [name for name in names if not name.isidentifier()]
    if wrong:
        raise ConfigError(f"sample: the name {wrong[0]!r} is no word; mend: letters, digits, _")


def _n_layers(sample: Sample) -> int:
    """How many layers there are when all repeats are written out."""
    groups = sample.groups()
    for i, group in enumerate(groups):
        _check_count(f"sample.layers[{i}].repeat", group.repeat, 1, _MOST_REPEATS)
        if not group.layers:
            raise ConfigError(f"sample.layers[{i}].layers: found none; mend: give at least one layer")
    total = sum(group.repeat * len(group.layers) for group in groups)
    if total > _MOST_LAYERS:
        raise ConfigError(f"sample.layers: found {total} in all; mend: give at most {_MOST_LAYERS}")
    return total


def _check_sizes(config: Config, n_layers: int) -> None:
    _check_count("q_grid.num", config.q_grid.num, 2, _MOST_CANDIDATES)
    _check_count("particles", config.particles, 100, _MOST_PARTICLES)
    for what, count in {"candidates (q_grid.num)": config.q_grid.num, "layers": n_layers}.items():
        if config.particles * count > _MOST_TOGETHER:
            raise ConfigError(
                f"particles: found {config.particles} for {count} {what}; "
                f"mend: give at most {_MOST_TOGETHER // count} particles"
            )


def _check_count(key: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{key}: found {value!r:.80}; mend: give a whole number from {least} to {most}")


def _check_entry(entry: Entry) -> None:
    for value in (entry.low, entry.high):
        if not entry.least <= value <= entry.most:
            mend = f"give {entry.least:g} to {entry.most:g}{entry.unit and f' in {entry.unit}'}"
            found = f"{value!r:.80}".removesuffix(".0")
            raise ConfigError(f"{entry.name}: found {found}; mend: {mend}")
    if isinstance(entry.value, tuple) and not entry.low < entry.high:
        raise ConfigError(
            f"{entry.name}: low {entry.low:g} is not below high {entry.high:g}; mend: swap or widen"
        )
    if entry.name.endswith(".sld") and 0 < max(abs(entry.low), abs(entry.high)) < _LEAST_SLD:
        raise ConfigError(
            f"{entry.name}: found {entry.value}, a vacuum in {SLD}; mend: write 2.07 for 2.07e-6/angstrom^2"
        )
    if entry.is_log and entry.is_free and entry.low < _LEAST_LOG:
        raise ConfigError(
            f"{entry.name}: its prior is log-uniform and starts at {entry.low:g}; "
            f"mend: start at {_LEAST_LOG:g} or above"
        )


def _check_target(config: Config) -> None:
    free = [entry.name for entry in config.entries() if entry.is_free]
    if not config.target or config.target in free:
        return
    known = config.target in [entry.name for entry in config.entries()]
    what = "is known, not free" if known else "is no parameter"
    others = f"choose one of {', '.join(free)}" if free else ""
    mends = " or ".join(mend for mend in (others, "give it a range [low, high]" if known else "") if mend)
    raise ConfigError(
        f"target: {config.target} {what}; mend: {mends or 'give a parameter a range [low, high]'}"
    )


def _check_rest(config: Config) -> None:
    grid = config.q_grid
    if not 0 < grid.start < grid.stop <= MOST_Q:
        raise ConfigError(f"q_grid: found {grid!r:.160}; mend: 0 < start < stop <= {MOST_Q:g}")
    if not 0 < config.target_sigma < float("inf"):
        raise ConfigError(f"target_sigma: found {config.target_sigma}; mend: it must be above 0")
    if not 0 <= config.systematic < 1:
        raise ConfigError(f"systematic: found {config.systematic}; mend: 0 or more, and below 1")
