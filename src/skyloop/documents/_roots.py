"""Which files documents may refer to: paths are mapped to this machine and must lie under an allowed root."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote, urlsplit

from skyloop.documents._loaded import NotYet, Unreadable
from skyloop.errors import ConfigError

__all__ = ["Roots"]


class Roots:
    """The allowed folders and the map of path beginnings.

    Args:
        root_map: old beginning of a path to its new one; the longest that fits counts, whole folders only.
        allowed: absolute folders; nothing is read outside them, nor through a link that leads out.

    Raises:
        ConfigError: an allowed root is not an absolute path.
    """

    def __init__(self, root_map: Mapping[str, str], allowed: Sequence[str]) -> None:
        for root in allowed:
            if not Path(root).is_absolute():
                raise ConfigError(f"allowed root '{root}' is not an absolute path; mend: write it in full")
        self._allowed = tuple(Path(root).resolve() for root in allowed)
        plain = {_slashes(old).rstrip("/"): new for old, new in root_map.items()}
        self._map = sorted(plain.items(), key=lambda item: -len(item[0]))

    def of_uri(self, uri: str) -> str | Unreadable:
        """Path on this machine that a `file` uri names; nothing is looked up."""
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            return Unreadable(f"uri {uri[:100]!r} cannot be read: {error}")
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            return Unreadable(f"uri {uri[:100]!r} is not a file of this machine (file://localhost/...)")
        if parts.query or parts.fragment:
            return Unreadable(f"uri {uri[:100]!r} has a query or a fragment")
        path = unquote(parts.path)
        return self._mapped(path[1:] if re.match(r"/[A-Za-z]:/", path) else path)

    def of_resource(self, resource: Mapping[str, Any]) -> str:
        """Path on this machine that a `resource` document names; nothing is looked up."""
        windows = resource.get("path_semantics") == "windows"
        pure = PureWindowsPath if windows else PurePosixPath
        return self._mapped((pure(resource["root"]) / resource["resource_path"]).as_posix())

    def _mapped(self, path: str) -> str:
        for old, new in self._map:
            if path == old or path.startswith(f"{old}/"):
                return new.rstrip("/") + path[len(old) :]
        return path

    def file(self, path: str) -> Path | NotYet | Unreadable:
        """The file itself: links followed, under an allowed root, existing and regular."""
        real = self._resolved(path)
        if not isinstance(real, Path):
            return real
        try:
            if not real.exists():
                return NotYet(f"there is no file {path}")
            return real if real.is_file() else Unreadable(f"{path} is not a regular file")
        except OSError as error:
            return Unreadable(f"{path} cannot be looked up: {error}")

    def stem(self, path: str) -> Path | Unreadable:
        """A path that names no file by itself, such as the common beginning of file names."""
        return self._resolved(path)

    def _resolved(self, path: str) -> Path | Unreadable:
        if not self._allowed:
            return Unreadable(f"{path} is not read: no folder is allowed; mend: allowed_roots=['/data/...']")
        if "\0" in path or not Path(path).is_absolute():
            return Unreadable(f"{path!r:.100} is not an absolute path")
        try:
            real = Path(path).resolve()
        except (OSError, RuntimeError) as error:
            return Unreadable(f"{path} cannot be resolved: {error}")
        if any(real.is_relative_to(root) for root in self._allowed):
            return real
        roots = ", ".join(map(str, self._allowed))
        return Unreadable(f"{path} is outside the allowed roots ({roots}); mend: allowed_roots or root_map")


def _slashes(path: str) -> str:
    return path.replace("\\", "/")
