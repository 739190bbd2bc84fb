"""One thread for small arrays."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Generator[None]:
    """Let torch use one thread in this block.

    The arrays of one analysis are small: handing parts of them to other threads costs up to ten times what
    it brings, more so when the other cores are busy with the measurement.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
