"""The plans under a real queue server: listed, submitted, paused, resumed, aborted, refused."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import zmq
from waiting import until

from skyloop.plans import VerifyReport, verify

pytestmark = pytest.mark.timeout(300)

PATIENT = 60
SPEED = 200.0
"""How much faster than beam time the simulated devices are: a point of 20 s takes 0.1 s."""

PERMISSIONS = """
user_groups:
  root: &all
    allowed_plans: [null]
    forbidden_plans: [":^_"]
    allowed_devices: [null]
    forbidden_devices: [":^_:?.*"]
    allowed_functions: [null]
    forbidden_functions: [":^_"]
  primary:
    allowed_plans: [":^adaptive_reflectivity$", ":^stop_when_known$"]
    forbidden_plans: [":^_"]
    allowed_devices: [":?.*:depth=5"]
    forbidden_devices: [":^_:?.*"]
    allowed_functions: []
    forbidden_functions: [":^_"]
"""

STOP = {"analysis": "film", "target_sigma": 1e-6, "count_time": 20.0}
ADAPTIVE = {"analysis": "film", "start": 0.008, "stop": 0.2, "num": 41}


def _missing() -> str:
    if shutil.which("redis-server") is None:
        return "redis-server is not installed"
    return "" if find_spec("bluesky_queueserver_api") else "bluesky-queueserver is not installed"


@dataclass
class Queue:
    """A running queue server and the documents of its runs."""

    api: Any
    folder: Path

    def add(self, plan: str, *args: Any, **kwargs: Any) -> None:
        from bluesky_queueserver_api import BPlan

        self.api.item_add(BPlan(plan, *args, **kwargs))

    def finish(self) -> dict[str, Any]:
        """Run the queue to its end; the result of the last item."""
        self.api.queue_start()
        self.api.wait_for_idle(timeout=PATIENT)
        return self.last()

    def last(self) -> dict[str, Any]:
        return self.api.history_get()["items"][-1]["result"]

    def documents(self, kind: str) -> list[Any]:
        """Documents of the last run."""
        path = self.folder / f"{kind}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        starts = [number for number, (name, _) in enumerate(lines) if name == "start"]
        return lines[starts[-1] :] if starts else []

    def events(self, stream: str) -> list[dict[str, Any]]:
        documents = self.documents("raw")
        streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
        return [d for name, d in documents if name == "event" and streams[d["descriptor"]] == stream]

    def verified(self) -> VerifyReport:
        """The last run verified, when its analysis has ended."""
        until(lambda: "stop" in [name for name, _ in self.documents("analysis")])
        return verify(self.documents("raw"), self.documents("analysis"))


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    missing = _missing()
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    from bluesky_queueserver_api.zmq import REManagerAPI

    folder, before = tmp_path_factory.mktemp("queue"), _contexts()
    redis_port, control, info = (_free_port() for _ in range(3))
    processes = [_start_redis(folder, redis_port)]
    try:
        until(lambda: _answers(redis_port))
        processes.append(_start_manager(folder, redis_port, control, info))
        api = REManagerAPI(
            zmq_control_addr=f"tcp://127.0.0.1:{control}",
            zmq_info_addr=f"tcp://127.0.0.1:{info}",
            status_expiration_period=0.02,
            status_polling_period=0.03,
        )
        try:
            until(lambda: _opened(api))
            api.wait_for_idle(timeout=PATIENT)
            yield Queue(api, folder)
        finally:
            api.close()
            _close_contexts(before)
    finally:
        for process in reversed(processes):
            _end(process)


def _contexts() -> list[Any]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), zmq.Context) and not thing.closed]


def _close_contexts(before: list[Any]) -> None:
    """The client leaves its zmq contexts open; unclosed ones are warnings, and warnings are errors here."""
    for context in _contexts():
        if not any(context is known for known in before):
            context.destroy(linger=0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _opened(api: Any) -> bool:
    from bluesky_queueserver_api.comm_base import RequestTimeoutError

    try:
        return api.environment_open()["success"]
    except RequestTimeoutError:
        return False


def _start_redis(folder: Path, port: int) -> subprocess.Popen[bytes]:
    listen = ["--port", str(port), "--bind", "127.0.0.1"]
    keep = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    return _start(["redis-server", *listen, *keep], folder / "redis.log", dict(os.environ))


def _start_manager(folder: Path, redis: int, control: int, info: int) -> subprocess.Popen[bytes]:
    permissions = folder / "permissions.yaml"
    permissions.write_text(PERMISSIONS)
    here = Path(__file__).parent
    root = here.parents[1]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(root / "src"), str(here)]),
        "SKYLOOP_TEST_DOCUMENTS": str(folder),
        "SKYLOOP_TEST_SPEED": str(SPEED),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        str(Path(sys.executable).parent / "start-re-manager"),
        *("--startup-module", "qserver_startup"),
        *("--existing-plans-devices", str(folder / "existing.yaml")),
        *("--user-group-permissions", str(permissions)),
        *("--zmq-control-addr", f"tcp://127.0.0.1:{control}"),
        *("--zmq-info-addr", f"tcp://127.0.0.1:{info}"),
        *("--redis-addr", f"127.0.0.1:{redis}"),
        *("--redis-name-prefix", "skyloop_test"),
    ]
    return _start(command, folder / "manager.log", environment)


def _start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=log.parent, start_new_session=True
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started: they are a session of their own."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def test_both_plans_are_listed_with_devices_as_arguments(queue: Queue) -> None:
    plans = queue.api.plans_allowed()["plans_allowed"]
    assert set(plans) == {"adaptive_reflectivity", "stop_when_known"}
    for plan in plans.values():
        detectors, axis = plan["parameters"][:2]
        assert detectors["annotation"]["type"] == "collections.abc.Sequence[__READABLE__]"
        assert axis["annotation"]["type"] == "__MOVABLE__"
        assert detectors["convert_device_names"] is True
        assert axis["convert_device_names"] is True


def test_a_scan_that_was_submitted_is_measured(queue: Queue) -> None:
    positions = [0.02, 0.04, 0.06, 0.08]
    queue.add("stop_when_known", ["detector"], "q", positions, **STOP)
    assert queue.finish()["exit_status"] == "completed"
    assert [event["data"]["q"] for event in queue.events("primary")] == positions


def test_an_adaptive_run_that_was_submitted_reaches_its_target_and_verifies(queue: Queue) -> None:
    queue.add("adaptive_reflectivity", ["detector"], "q", count_time=20.0, seed=1, **ADAPTIVE)
    assert queue.finish()["exit_status"] == "completed"
    report = queue.verified()
    assert report.differences == ()
    assert report.decisions > 8
    last = queue.events("decision")[-1]["data"]
    assert (last["decision_action"], last["decision_reason"]) == ("stop", "target_reached")
    assert abs(last["decision_target"] - 300.0) < 4 * last["decision_target_sigma"]


def test_pause_and_resume_measure_each_point_once(queue: Queue) -> None:
    positions = [round(0.02 + 0.01 * i, 3) for i in range(10)]
    queue.add("stop_when_known", ["detector"], "q", positions, **STOP)
    _start_and_reach(queue, 3)
    queue.api.re_pause(option="immediate")
    queue.api.wait_for_idle_or_paused(timeout=PATIENT)
    assert queue.api.status()["re_state"] == "paused"
    queue.api.re_resume()
    queue.api.wait_for_idle(timeout=PATIENT)
    assert queue.last()["exit_status"] == "completed"
    measured = {event["seq_num"]: event["data"]["q"] for event in queue.events("primary")}
    assert list(measured.values()) == positions
    assert queue.verified().differences == ()


def test_abort_is_the_last_decision_of_the_run(queue: Queue) -> None:
    queue.add("stop_when_known", ["detector"], "q", [0.02, 0.04] * 20, **STOP)
    _start_and_reach(queue, 3)
    queue.api.re_pause(option="immediate")
    queue.api.wait_for_idle_or_paused(timeout=PATIENT)
    queue.api.re_abort()
    queue.api.wait_for_idle(timeout=PATIENT)
    queue.api.queue_clear()
    assert queue.last()["exit_status"] == "aborted"
    last = queue.events("decision")[-1]["data"]
    assert (last["decision_action"], last["decision_reason"]) == ("stop", "operator")
    assert queue.documents("raw")[-1][1]["exit_status"] == "abort"


def _start_and_reach(queue: Queue, points: int) -> None:
    before = {doc["uid"] for name, doc in queue.documents("raw") if name == "start"}
    queue.api.queue_start()

    def reached() -> bool:
        started = [doc["uid"] for _, doc in queue.documents("raw")[:1]]  # the file may still be empty
        return started != [] and started[0] not in before and len(queue.events("primary")) >= points

    until(reached)


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "wild"},
        {"target_sigma": "small"},
        {"limits": [0, "x"]},
        {"nonsense": 1},
        {"count_time": None},
    ],
)
def test_arguments_of_a_wrong_type_are_refused_at_submission(queue: Queue, given: dict[str, Any]) -> None:
    from bluesky_queueserver_api.comm_base import RequestFailedError

    with pytest.raises(RequestFailedError, match=next(iter(given))):
        queue.add("stop_when_known", ["detector"], "q", [0.02], **(STOP | given))


@pytest.mark.parametrize(
    ("args", "given", "message"),
    [
        ((["nobody"], "q", [0.02]), {}, "detectors[0]: 'nobody' (str) cannot be read"),
        ((["detector"], "detector", [0.02]), {}, "cannot be moved"),
        ((["detector"], "q", [0.02]), {"analysis": "nobody"}, "no analysis is named 'nobody' (known: film)"),
        ((["detector"], "q", [0.02]), {"target_sigma": 2.0}, "target_sigma: found 2, but the analysis takes"),
        ((["detector"], "q", [0.02]), {"mode": "confirm"}, "confirm mode has no approval gate"),
        ((["detector"], "q", [5.0]), {}, "device_limits: position 5 is outside the limits"),
        ((["detector"], "q", []), {}, "positions"),
    ],
)
def test_what_a_queue_does_not_check_fails_readably_before_a_run_is_opened(
    queue: Queue, args: Any, given: dict[str, Any], message: str
) -> None:
    before = queue.documents("raw")
    queue.add("stop_when_known", *args, **(STOP | given))
    result = queue.finish()
    queue.api.queue_clear()
    assert result["exit_status"] == "failed"
    assert message in result["msg"]
    assert queue.documents("raw") == before
