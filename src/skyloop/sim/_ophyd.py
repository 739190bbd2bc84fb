"""What is used of ophyd, without its annotations: they contradict the bluesky protocols that it fulfils."""

from __future__ import annotations

from typing import Any

import ophyd
import ophyd.status

Device: Any = ophyd.Device
Signal: Any = ophyd.Signal
Component: Any = ophyd.Component
DeviceStatus: Any = ophyd.status.DeviceStatus
SignalStatus: Any = ophyd.status.Status
