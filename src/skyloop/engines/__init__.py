"""Analysis engines: arrays in, frozen dataclasses out, and nothing else.

An engine is a fold over frames. All that it knows of a run is in its state, so the same frames in the
same batches give the same results: live, in another process, or replayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from skyloop.quantities import Sizes

__all__ = ["Batched", "Engine"]

F = TypeVar("F", contravariant=True)
S = TypeVar("S")
R = TypeVar("R", covariant=True)
F_ = TypeVar("F_", contravariant=True)
R_ = TypeVar("R_", covariant=True)


class Engine(Protocol[F, S, R]):
    """What every technique provides: `Engine(config)`, then start, step ... step, finish."""

    version: ClassVar[str]
    """Changes whenever the same frames may give other numbers."""

    result_type: ClassVar[type]
    """The frozen dataclass that `step` and `finish` return."""

    @property
    def config(self) -> Any:
        """The frozen dataclass this engine was made from."""
        ...

    @property
    def sizes(self) -> Sizes:
        """How long each dimension of the result is."""
        ...

    @property
    def units(self) -> Mapping[str, str]:
        """Units of those result fields whose unit depends on the configuration."""
        ...

    def start(self, key: int, /) -> S:
        """State before the first frame; `key` seeds all randomness of the run."""
        ...

    def step(self, state: S, frames: Sequence[F], /) -> tuple[S, R]:
        """Fold frames into the state; pure: no I/O, clock, globals or change in place."""
        ...

    def finish(self, state: S, /) -> R:
        """The final word on the run, independent of the batches it came in."""
        ...


class Batched(Protocol[F_, R_]):
    """Opt-in: analyse many independent frames at once."""

    def many(self, frames: Sequence[F_], /) -> Sequence[R_]:
        """One result per frame."""
        ...
