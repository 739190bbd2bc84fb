"""Reflectometry: layers from specular X-ray and neutron reflectivity, point by point or curve by curve."""

from __future__ import annotations

from skyloop.engines.reflectometry.config import Config
from skyloop.engines.reflectometry.engine import Engine
from skyloop.engines.reflectometry.example import example
from skyloop.engines.reflectometry.frame import Frame
from skyloop.engines.reflectometry.panels import panels
from skyloop.engines.reflectometry.result import Result
from skyloop.engines.reflectometry.state import State

__all__ = ["Config", "Engine", "Frame", "Result", "State", "example", "panels"]
