"""Live analysis and adaptive plans for Bluesky beamlines."""

from importlib.metadata import version

__version__ = version("skyloop")

__all__ = ["__version__"]
