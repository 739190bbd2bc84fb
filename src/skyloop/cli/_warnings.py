"""What the analysis logs, as one line per kind with a count: a fault in each event would fill the screen."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

__all__ = ["each_once"]


class _Kinds(logging.Handler):
    """Keeps the first record of each kind, and how many there were."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kinds: dict[str, tuple[str, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record; its kind is its message before names and numbers are filled in."""
        first, count = self.kinds.get(str(record.msg), (record.getMessage(), 0))
        self.kinds[str(record.msg)] = (first, count + 1)


@contextmanager
def each_once(console: Console) -> Generator[None]:
    """Print the warnings of skyloop at the end: the first of each kind, and how many more came."""
    kinds, logger = _Kinds(), logging.getLogger("skyloop")
    logger.addHandler(kinds)
    try:
        yield
    finally:
        logger.removeHandler(kinds)
        for first, count in kinds.kinds.values():
            more = f" (and {count - 1} more like it; --debug shows all)" if count > 1 else ""
            line = escape(" ".join(first.split()) + more)
            console.print(f"[yellow]warning:[/] {line}", soft_wrap=True, highlight=False)
