"""The soft IOC that `running_ioc` starts: `python -m skyloop.sim._ioc sample.yaml --seed 1 ...`."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from pathlib import Path
from typing import Any

from caproto import SubscriptionType
from caproto.asyncio.server import run
from caproto.ioc_examples.fake_motor_record import FakeMotor
from caproto.server import PVGroup, SubGroup, pvproperty

from skyloop.engines.reflectometry.config import load
from skyloop.sim.counting import KEYS, Counting
from skyloop.sim.probe import PROBES, Probe
from skyloop.sim.sample import TrueSample

_LONGEST = 1e5  # [s] longest exposure


class _Instrument(PVGroup):
    """An axis with the motor record, and a detector that counts when `acquire` is put to 1."""

    q = SubGroup(FakeMotor, prefix="q", precision=6, tick_rate_hz=200.0)
    count_time = pvproperty(value=1.0, name="det:count_time", precision=3)
    acquire = pvproperty(value=0, name="det:acquire")
    counts = pvproperty(value=math.nan, name="det:counts", precision=6, read_only=True)
    exposure = pvproperty(value=math.nan, name="det:exposure", precision=6, read_only=True)
    measured = pvproperty(value=math.nan, name="det:measured_time", precision=6, read_only=True)
    monitor = pvproperty(value=math.nan, name="det:monitor", precision=6, read_only=True)
    transmission = pvproperty(value=math.nan, name="det:transmission", precision=6, read_only=True)
    q_sigma = pvproperty(value=math.nan, name="det:q_sigma", precision=6, read_only=True)

    def __init__(self, counting: Counting, speed: float, prefix: str) -> None:
        super().__init__(prefix=prefix)
        self.counting, self.speed = counting, speed
        self.exposures = 0
        self.started = time.monotonic()
        probe = counting.probe
        self.q.defaults |= {"velocity": probe.speed * speed, "user_limits": probe.limits}

    @acquire.putter
    async def acquire(self, instance: Any, value: int) -> int:
        """Count once; the put is complete when the exposure has ended."""
        if value:
            await instance.write(1, verify_value=False)
            await self._count()
        return 0

    async def _count(self) -> None:
        number, self.exposures = self.exposures, self.exposures + 1
        count_time = self.count_time.value
        exposure = self.counting.expose(
            self.q.motor.field_inst.user_readback_value.value,
            count_time,
            number=number,
            time=(time.monotonic() - self.started) * self.speed,
        )
        await asyncio.sleep(count_time / self.speed)
        readings = (self.counts, self.exposure, self.measured, self.monitor, self.transmission, self.q_sigma)
        for key, pv in zip(KEYS, readings, strict=True):
            await pv.write(getattr(exposure, key))

    async def begin(self, _: Any) -> None:
        """Tell ophyd the limits, put the axis within them, and say when all is ready."""
        probe = self.counting.probe
        await self._describe(probe)
        fields = self.q.motor.field_inst
        while fields.velocity.value != probe.speed * self.speed:
            await asyncio.sleep(0.01)
        await fields.user_readback_value.write(probe.limits[0])
        await self.q.motor.write(probe.limits[0])
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await self._repeat()

    async def _repeat(self) -> None:
        """Tell the state of the axis again each second.

        caproto 1.3 forgets what it had queued for a client that turns events off because it is busy; without
        the first word on the axis ophyd waits for the connection in vain.
        """
        fields = self.q.motor.field_inst
        while True:
            await asyncio.sleep(1.0)
            for pv in (fields.user_readback_value, fields.done_moving_to_value):
                await pv.publish(SubscriptionType.DBE_VALUE)

    async def _describe(self, probe: Probe) -> None:
        # Units of channel access have eight characters at the most.
        low, high = probe.limits
        axis = {"lower_ctrl_limit": low, "upper_ctrl_limit": high, "units": "1/A", "precision": 6}
        await self.q.motor.write_metadata(**axis)
        await self.q.motor.field_inst.user_readback_value.write_metadata(**axis)
        await self.count_time.write_metadata(lower_ctrl_limit=1e-3, upper_ctrl_limit=_LONGEST, units="s")
        for pv in (self.counts, self.exposure, self.monitor):
            await pv.write_metadata(units="count")
        await self.measured.write_metadata(units="s")
        await self.q_sigma.write_metadata(units="1/A")


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sample", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--probe", choices=sorted(PROBES), default="neutron")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--prefix", default="SKY:")
    given = parser.parse_args()
    counting = Counting(TrueSample(load(given.sample)), PROBES[given.probe], given.seed)
    instrument = _Instrument(counting, given.speed, given.prefix)
    run(instrument.pvdb, interfaces=["127.0.0.1"], startup_hook=instrument.begin)


if __name__ == "__main__":
    main()
