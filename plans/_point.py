"""One point of a measurement, as bare messages.

Each plan stub of bluesky writes down its call stack, which costs more than the message itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bluesky import preprocessors as bpp
from bluesky.protocols import Movable, Readable, Reading, Triggerable
from bluesky.utils import (
    IllegalMessageSequence,
    Msg,
    MsgGenerator,
    all_safe_rewind,
    separate_devices,
    short_uid,
)

__all__ = ["drop_open", "move", "read_point"]


def move(targets: Sequence[tuple[Movable[float], float]]) -> MsgGenerator[None]:
    """Set devices, all at once, and wait for them."""
    group = short_uid("move")
    for device, value in targets:
        yield Msg("set", device, value, group=group)
    yield Msg("wait", None, group=group)


def read_point(devices: Sequence[Readable[Any]], stream: str) -> MsgGenerator[dict[str, Reading[Any]]]:
    """Trigger and read devices into one event; an error leaves the event open: `drop_open`."""
    apart = separate_devices(devices)
    reading = _triggered(apart, stream)
    if all_safe_rewind(apart):
        return (yield from reading)
    return (yield from bpp.rewindable_wrapper(reading, rewindable=False))


def _triggered(devices: Sequence[Any], stream: str) -> MsgGenerator[dict[str, Reading[Any]]]:
    triggered = [device for device in devices if isinstance(device, Triggerable)]
    group = short_uid("trigger")
    for device in triggered:
        yield Msg("trigger", device, group=group)
    if triggered:
        yield Msg("wait", None, group=group)
    yield Msg("create", name=stream)
    readings: dict[str, Reading[Any]] = {}
    for device in devices:
        reading: Mapping[str, Reading[Any]] | None = yield Msg("read", device)
        readings |= reading or {}
    yield Msg("save")
    return readings


def drop_open() -> MsgGenerator[None]:
    """Drop the event that was begun, if it still is: the RunEngine itself forgets it as it rewinds."""
    try:
        yield Msg("drop")
    except IllegalMessageSequence:
        return
