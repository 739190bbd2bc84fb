"""Datasets that lie in an HDF5 file itself: no link, and no way of storing data, leads to another file."""

from __future__ import annotations

from collections import deque
from typing import Any

import h5py

__all__ = ["LeadsOutError", "NoGroupError", "NotThereError", "dataset_inside"]

_MOST_LINKS = 16


class LeadsOutError(Exception):
    """What is at a path is no data of the file; says why."""


class NotThereError(KeyError):
    """There is nothing at a path."""


class NoGroupError(NotThereError):
    """A step of the path is not a group, so that nothing ever is below it."""


def dataset_inside(file: Any, path: str) -> Any:
    """The dataset at a path, when each step to it stays in the file.

    External links, external storage and virtual datasets lead to any file that this process can read, and
    virtual datasets fill in values where a file is missing.

    Args:
        file: an open `h5py.File`.
        path: from its root.

    Raises:
        LeadsOutError: it is not a dataset, or not in the file.
        NotThereError: there is nothing at that path.
        KeyError: the file is damaged there, as for the other errors of h5py.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, h5py.File(f"{folder}/a.h5", "w") as file:
    ...     file["data"], file["here"] = 1.0, h5py.SoftLink("/data")
    ...     dataset_inside(file, "here").name
    '/data'
    """
    node, steps, links = file, deque(_steps(path)), 0
    while steps:
        if not isinstance(node, h5py.Group):
            raise NoGroupError("a step of the path is not a group")
        link = node.get(steps[0], getlink=True)
        if link is None:
            raise NotThereError(f"there is no '{steps[0]}'")
        if isinstance(link, h5py.SoftLink):
            if (links := links + 1) > _MOST_LINKS:
                raise LeadsOutError("its soft links go round in circles")
            node = file if link.path.startswith("/") else node
            steps.popleft()
            steps.extendleft(reversed(_steps(link.path)))
        elif isinstance(link, h5py.HardLink):
            node = node[steps.popleft()]
        else:
            raise LeadsOutError("an external link leads to another file")
    return _own(node)


def _steps(path: str) -> list[str]:
    return [step for step in path.split("/") if step not in ("", ".")]


def _own(node: Any) -> Any:
    if not isinstance(node, h5py.Dataset):
        raise LeadsOutError("it is not a dataset")
    if node.is_virtual:
        raise LeadsOutError("a virtual dataset takes its data from other files")
    if node.external:
        raise LeadsOutError("its data are stored in another file")
    return node
