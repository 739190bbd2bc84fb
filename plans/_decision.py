"""What was decided, why, on which data, and what was done: one event per decision in the raw run."""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from typing import Any, Self, get_type_hints
from uuid import NAMESPACE_URL, uuid5

from bluesky.utils import Msg, MsgGenerator
from event_model import DataKey

from skyloop.errors import DocumentError
from skyloop.plans._numbers import NAN

__all__ = ["STREAM", "DecisionRecord", "Decisions", "decision_uid", "write_decision"]

STREAM = "decision"
"""Name of the stream; its keys begin with it."""

_NAMESPACE = uuid5(NAMESPACE_URL, "skyloop:decision")
_DTYPES = {str: ("string", ""), int: ("integer", "<i8"), float: ("number", "<f8")}
_SECONDS = ("t_data", "t_posterior", "t_decided", "t_executed")
_COUNTING = ("proposed_count_time", "executed_count_time", "spent", "answer_seconds")


def decision_uid(run_uid: str, seq: int) -> str:
    """Uid of a decision, from the raw run and the number of the decision in it."""
    return str(uuid5(_NAMESPACE, f"{run_uid}/{seq}"))


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision as flat scalars; NaN, 0 or empty stands for absent."""

    uid: str
    """From the raw run uid and `seq`."""
    seq: int
    """Number of the decision in the run, from 1."""
    parent_uid: str = ""
    """Uid of the decision before."""
    chain_sha256: str = ""
    """Hash of this record and of the parent's hash: nothing can be changed unseen in the middle."""

    source: str = ""
    """Who chose what was executed: policy, human, guard, fallback, or plan (the fixed scan as it stands)."""
    mode: str = ""
    """shadow, advise, confirm or auto."""
    action: str = ""
    """measure or stop."""
    reason: str = ""
    """Why it was not the policy's point, or why the measurement stops."""

    raw_seq_num: int = 0
    """Number of the last raw event before the decision; 0 before the first."""
    analysis_seq_num: int = 0
    """Number of the analysis event of that raw event; 0 if it could not be used."""
    analysis_event_uid: str = ""
    """Uid of the same; stores may rewrite uids of events, but never their numbers."""
    fault: str = ""
    """What was wrong with the analysis: silent, late, lost, or its outcome; or refused, by the guard."""
    spent: float = NAN
    """Beam time up to here, in s."""

    choice: str = ""
    """What the policy wanted: measure, stop or continue; empty if it was not asked; broken if it raised."""
    choice_reason: str = ""
    """The policy's own reason to stop or to continue, or its error."""
    proposed_position: float = NAN
    """Where the policy wanted to measure."""
    proposed_count_time: float = NAN
    """How long, in s."""
    gain: float = NAN
    """Information the policy expected of it, in nats."""
    target: float = NAN
    """Target value of the analysis."""
    target_sigma: float = NAN
    """Its uncertainty."""

    guard_rule: str = ""
    """Rule by which the guard refused the policy's point, or the point decided before; empty: not refused."""
    guard_message: str = ""
    """What the guard said."""
    answer: str = ""
    """accept, reject, stop or expired in confirm mode; or refused before, in which case nobody was asked."""
    operator: str = ""
    """Who answered."""
    comment: str = ""
    """What they wrote."""
    answer_seconds: float = NAN
    """How long they took."""

    executed_position: float = NAN
    """Where is measured next; NaN at a stop."""
    executed_count_time: float = NAN
    """How long, in s."""

    t_data: float = NAN
    """When the last raw event was read; like all times a label, from which nothing is decided."""
    t_posterior: float = NAN
    """When its analysis was at hand."""
    t_decided: float = NAN
    """When the decision was made."""
    t_executed: float = NAN
    """When its execution was released; NaN at a stop."""

    def chained(self, parent: Self | None) -> Self:
        """The record with its place in the chain."""
        # every field in its declared type: 1 and 1.0 are the same in an event, and not in a hash
        plain = {name: kind(getattr(self, name)) for name, kind in _kinds().items()}
        plain |= {"parent_uid": parent.uid if parent else "", "chain_sha256": ""}
        linked = type(self)(**plain)
        before = parent.chain_sha256 if parent else ""
        return replace(linked, chain_sha256=_digest(before, linked))

    def data(self) -> dict[str, str | int | float]:
        """Values by data key, such as `decision_seq`."""
        return {f"{STREAM}_{f.name}": getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """The record that `data` wrote.

        Raises:
            DocumentError: a key is missing.
        """
        try:
            return cls(**{name: kind(data[f"{STREAM}_{name}"]) for name, kind in _kinds().items()})
        except KeyError as error:
            raise DocumentError(f"a decision event has no {error}") from error


def _kinds() -> dict[str, Any]:
    return get_type_hints(DecisionRecord)


def _digest(before: str, record: DecisionRecord) -> str:
    text = json.dumps([before, record.data()], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Decisions:
    """The newest decision of a run as a readable device, which a plan reads into the stream `decision`."""

    name = STREAM
    parent = None

    def __init__(self) -> None:
        self.written: DecisionRecord | None = None
        self._next = DecisionRecord(uid="", seq=0)

    def put(self, record: DecisionRecord) -> None:
        """Take the decision that is written next."""
        self._next = record

    def read(self) -> dict[str, Any]:
        """The decision."""
        now = self._next.t_decided
        return {key: {"value": value, "timestamp": now} for key, value in self._next.data().items()}

    def describe(self) -> dict[str, DataKey]:
        """Data keys; the same for every decision."""
        return {f"{STREAM}_{name}": _data_key(name, kind) for name, kind in _kinds().items()}

    def read_configuration(self) -> dict[str, Any]:
        """Nothing: the configuration of the policy is in the start document."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def _data_key(name: str, kind: type) -> DataKey:
    dtype, dtype_numpy = _DTYPES[kind]
    key: dict[str, Any] = {"source": "skyloop:decision", "dtype": dtype, "shape": []}
    if dtype_numpy:
        key["dtype_numpy"] = dtype_numpy
    if name in _SECONDS or name in _COUNTING:
        key["units"] = "s"
    return DataKey(**key)


def write_decision(device: Decisions, record: DecisionRecord) -> MsgGenerator[None]:
    """Write a decision as an event, and set a checkpoint: a resumed plan neither repeats nor forgets it."""
    device.put(record)
    yield Msg("create", name=STREAM)
    yield Msg("read", device)
    # an abort reaches the plan after its last message was carried out: what is to be saved now is saved
    device.written = record
    yield Msg("save")
    yield Msg("checkpoint")
