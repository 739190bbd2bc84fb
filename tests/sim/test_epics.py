"""The reflectometer behind EPICS measures what the simulated one does, within its limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from skyloop.engines.reflectometry.config import load
from skyloop.errors import MissingExtraError
from skyloop.sim import ioc as module
from skyloop.sim.counting import Counting
from skyloop.sim.ioc import running_ioc
from skyloop.sim.probe import NEUTRON
from skyloop.sim.sample import TrueSample

SAMPLE = "sample:\n  layers: [{thickness: 150, sld: 3.47}]\n  backing: {sld: 2.07}\n"
CLIENT = Path(__file__).with_name("_epics_client.py")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("epics") / "sample.yaml"
    file.write_text(SAMPLE)
    return file


def need_epics() -> None:
    for package in ("caproto", "epics"):
        if find_spec(package) is None:
            message = f"{package} is not installed: the extra 'epics'"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)


@pytest.fixture(scope="module")
def seen(sample: Path) -> dict[str, Any]:
    """What a client in its own process saw of a scan over five points."""
    need_epics()
    with running_ioc(sample, seed=5, speed=1000.0) as ioc:
        client = subprocess.run(
            [sys.executable, str(CLIENT), ioc.prefix],
            env=os.environ | ioc.environment,
            capture_output=True,
            timeout=90,
            check=False,
        )
    assert client.returncode == 0, client.stderr.decode()
    with pytest.raises(ProcessLookupError):
        os.kill(ioc.pid, 0)
    return json.loads(client.stdout)


def test_a_scan_reads_the_keys_of_the_simulated_devices(seen: dict[str, Any]) -> None:
    keys = {"q", "counts", "exposure", "count_time", "monitor", "transmission", "q_sigma"}
    assert [set(event) for event in seen["events"]] == [keys] * 5
    assert seen["hints"] == {"q": {"fields": ["q"]}, "detector": {"fields": ["counts"]}}
    assert seen["units"]["counts"] == "count"
    assert seen["units"]["count_time"] == "s"


def test_a_scan_counts_what_the_simulated_detector_counts(seen: dict[str, Any]) -> None:
    counting = Counting(TrueSample(load(SAMPLE)), NEUTRON, seed=5)
    for number, event in enumerate(seen["events"]):
        expected = counting.expose(event["q"], 20.0, number=number, time=0.0)
        assert event["q"] == pytest.approx(0.02 * (number + 1))
        assert event["counts"] == pytest.approx(expected.counts)
        assert event["exposure"] == pytest.approx(expected.exposure)
        assert event["count_time"] == 20.0


def test_limits_reach_the_client_and_nothing_moves_beyond(seen: dict[str, Any]) -> None:
    assert seen["limits"] == list(NEUTRON.limits)
    assert seen["start"] == NEUTRON.limits[0]
    assert seen["refused"] == [True] * 4
    assert seen["time_refused"] == [True] * 2
    assert seen["position"] == pytest.approx(0.1)


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="needs the /proc of Linux")
def test_the_ioc_is_reached_from_this_machine_alone(sample: Path) -> None:
    need_epics()
    with running_ioc(sample) as ioc:
        mine = {os.readlink(fd) for fd in Path(f"/proc/{ioc.pid}/fd").iterdir()}
        rows = [
            line.split()
            for kind in ("tcp", "udp", "tcp6", "udp6")
            for line in Path(f"/proc/{ioc.pid}/net/{kind}").read_text().splitlines()[1:]
        ]
        bound = [row[1].split(":") for row in rows if f"socket:[{row[9]}]" in mine]
    assert {address for address, _ in bound} == {"0100007F"}  # 127.0.0.1, lowest byte first
    assert int(ioc.environment["EPICS_CAS_SERVER_PORT"]) in {int(port, 16) for _, port in bound}


def test_an_ioc_that_does_not_start_says_why(tmp_path: Path) -> None:
    need_epics()
    (tmp_path / "sample.yaml").write_text(SAMPLE.replace("150", "[100, 200]"))
    with (
        pytest.raises(RuntimeError, match=r"layer1\.thickness: a range"),
        running_ioc(tmp_path / "sample.yaml"),
    ):
        pass


def test_a_missing_extra_is_told(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        return None

    monkeypatch.setattr(module, "find_spec", missing)
    with pytest.raises(MissingExtraError, match=r"skyloop\[epics\]"), running_ioc(sample):
        pass
