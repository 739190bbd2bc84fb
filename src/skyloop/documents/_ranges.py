"""Frames announced in ranges, kept as ranges: a replayed stream is one range of a million frames."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Announced", "common"]


@dataclass(frozen=True, slots=True)
class _Piece:
    start: int
    stop: int
    offset: int
    source: str


class Announced:
    """Which frame of which source belongs to which event number; the newest word counts."""

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []

    def put(self, seq_nums: range, first_index: int, source: str) -> None:
        """Announce frames `first_index`, ... of a source for these event numbers."""
        if not seq_nums:
            return
        self._cut(seq_nums)
        piece = _Piece(seq_nums.start, seq_nums.stop, first_index - seq_nums.start, source)
        at = bisect.bisect(self._pieces, piece.start, key=lambda p: p.start)
        before = self._pieces[at - 1] if at else None
        if before and (before.stop, before.offset, before.source) == (piece.start, piece.offset, source):
            self._pieces[at - 1] = _Piece(before.start, piece.stop, piece.offset, source)
        else:
            self._pieces.insert(at, piece)

    def find(self, seq_num: int) -> tuple[str, int] | None:
        """Source and frame index of an event number."""
        at = bisect.bisect(self._pieces, seq_num, key=lambda p: p.start) - 1
        if at < 0 or seq_num >= self._pieces[at].stop:
            return None
        return self._pieces[at].source, seq_num + self._pieces[at].offset

    def take(self, seq_num: int) -> None:
        """Forget one event number."""
        self._cut(range(seq_num, seq_num + 1))

    def ranges(self) -> list[range]:
        """All event numbers, ascending."""
        return [range(p.start, p.stop) for p in self._pieces]

    def _cut(self, hole: range) -> None:
        first = bisect.bisect(self._pieces, hole.start, key=lambda p: p.stop)
        last = bisect.bisect_left(self._pieces, hole.stop, key=lambda p: p.start)
        ends = [
            _Piece(start, stop, p.offset, p.source)
            for p in self._pieces[first:last]
            for start, stop in ((p.start, hole.start), (hole.stop, p.stop))
            if start < stop
        ]
        self._pieces[first:last] = ends


def common(within: range, lists: Sequence[list[range]]) -> list[range]:
    """Parts of a range that all lists of ascending ranges cover."""
    parts = [within] if within else []
    for ranges in lists:
        parts = [
            range(max(a.start, b.start), min(a.stop, b.stop))
            for a in parts
            for b in ranges
            if a.start < b.stop and b.start < a.stop
        ]
    return parts
