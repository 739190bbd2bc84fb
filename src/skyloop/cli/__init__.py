"""The command line: `skyloop demo | analyze | replay | simulate | techniques`."""

from __future__ import annotations

from skyloop.cli._app import main

__all__ = ["main"]
