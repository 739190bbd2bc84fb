"""What the analysis logs, as one line per kind with a count: a fault in each event would fill the screen."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from skyloop.errors import SkyloopError

__all__ = ["each_once"]


_LONGEST_NAME = 40
"""Of a uid or the name of a document; a reason is longer."""


class _Kinds(logging.Handler):
    """Keeps the first record of each kind, and how many there were."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kinds: dict[str, tuple[logging.LogRecord, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record; its kind is its message before names and numbers are filled in."""
        first, count = self.kinds.get(str(record.msg), (record, 0))
        self.kinds[str(record.msg)] = (first, count + 1)


@contextmanager
def each_once(console: Console) -> Generator[None]:
    """Print the warnings of skyloop at the end: the first of each kind, and how many more came.

    What the error says that ends the command is not said before it as well.
    """
    kinds, logger = _Kinds(), logging.getLogger("skyloop")
    logger.addHandler(kinds)
    error = ""
    try:
        yield
    except SkyloopError as raised:
        error = str(raised)
        raise
    finally:
        logger.removeHandler(kinds)
        for first, count in kinds.kinds.values():
            more = f" (and {count - 1} more like it; --debug shows all)" if count > 1 else ""
            if _is_said_by(error, first):
                continue
            line = escape(" ".join(first.getMessage().split()) + more)
            console.print(f"[yellow]warning:[/] {line}", soft_wrap=True, highlight=False)


def _is_said_by(error: str, record: logging.LogRecord) -> bool:
    """Whether an error holds what a warning tells: one of its words that is long enough to be a reason."""
    words = record.args if isinstance(record.args, tuple) else ()
    reasons = [word.partition("; mend: ")[0] for word in words if isinstance(word, str)]
    return any(len(reason) > _LONGEST_NAME and reason in error for reason in reasons)
