"""Both plans under a real queue server in every mode, and the adaptive one paused and resumed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

_spec = spec_from_file_location("queueserver_tests", Path(__file__).with_name("test_queueserver.py"))
assert _spec is not None
assert _spec.loader is not None
base: Any = module_from_spec(_spec)
sys.modules[_spec.name] = base  # its dataclass looks itself up there
_spec.loader.exec_module(base)
queue = base.queue

pytestmark = pytest.mark.timeout(300)

POSITIONS = [0.02, 0.04, 0.06, 0.08]
STARTUP = """
from contextlib import suppress as _suppress
from threading import Thread as _Thread

from qserver_startup import *
from qserver_startup import _analysis
from skyloop.errors import RefusedError as _RefusedError
from skyloop.plans import ApprovalGate as _ApprovalGate

_gate = _ApprovalGate("gate")


def _accept():
    while True:
        for ticket in _gate.wait_pending(1.0):
            with _suppress(_RefusedError):
                _gate.answer(ticket.uid, ticket.nonce, "accept", operator="ada")


_Thread(target=_accept, daemon=True).start()
"""


@pytest.fixture(scope="module", autouse=True)
def a_gate_in_the_startup_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("startup")
    (folder / "with_gate.py").write_text(STARTUP, encoding="utf-8")
    start = base._start

    def with_gate(command: list[str], log: Path, environment: dict[str, str]) -> Any:
        places = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
        words = ["with_gate" if word == "qserver_startup" else word for word in command]
        return start(words, log, environment | {"PYTHONPATH": places})

    base._start = with_gate
    yield
    base._start = start


def decided(queue: Any, name: str) -> list[Any]:
    return [event["data"][f"decision_{name}"] for event in queue.events("decision")]


@pytest.mark.parametrize("mode", ["shadow", "advise", "confirm", "auto"])
def test_stop_when_known_runs_in_every_mode(queue: Any, mode: str) -> None:
    queue.add("stop_when_known", ["detector"], "q", POSITIONS, mode=mode, approval="gate", **base.STOP)
    assert queue.finish()["exit_status"] == "completed"
    assert [event["data"]["q"] for event in queue.events("primary")] == POSITIONS
    assert set(decided(queue, "mode")) == {mode}
    assert queue.verified().differences == ()


@pytest.mark.parametrize("mode", ["shadow", "advise", "confirm"])
def test_adaptive_reflectivity_runs_in_every_mode(queue: Any, mode: str) -> None:
    given = base.ADAPTIVE | {"num": 12, "count_time": 20.0, "seed": 1, "mode": mode, "approval": "gate"}
    queue.add("adaptive_reflectivity", ["detector"], "q", **given)
    assert queue.finish()["exit_status"] == "completed"
    sources, answers = set(decided(queue, "source")), set(decided(queue, "answer"))
    if mode == "confirm":
        assert "policy" in sources
        assert "accept" in answers
        assert set(decided(queue, "operator")) <= {"ada", ""}
    else:
        assert "policy" not in sources
        assert answers == {""}
        assert len(queue.events("primary")) == 12
    assert queue.verified().differences == ()


def test_a_paused_adaptive_run_is_resumed_and_measures_each_point_once(queue: Any) -> None:
    queue.add("adaptive_reflectivity", ["detector"], "q", count_time=20.0, seed=1, **base.ADAPTIVE)
    base._start_and_reach(queue, 4)
    queue.api.re_pause(option="immediate")
    queue.api.wait_for_idle_or_paused(timeout=base.PATIENT)
    assert queue.api.status()["re_state"] == "paused"
    queue.api.re_resume()
    queue.api.wait_for_idle(timeout=base.PATIENT)
    assert queue.last()["exit_status"] == "completed"
    assert queue.verified().differences == ()
    points = {event["seq_num"] for event in queue.events("primary")}
    assert points == set(range(1, len(points) + 1))
    assert decided(queue, "reason")[-1] == "target_reached"
