"""A wire from a RunEngine, on which documents are lost, doubled, swapped and damaged."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from event_model import DocumentNames
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

RUNS = ("run-0", "run-1", "run-2")
UIDS = [*RUNS, "run-0-primary", "run-1-image", "run-1-d"]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**63, 10**400]),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=3),
    st.sampled_from(["", "..", "a/b", "x\x00", "\ud800", *UIDS]),
    st.sampled_from([np.int64(3), np.float32(2.5), np.float64(math.nan), np.bool_(True), np.str_("uid")]),
    st.sampled_from([np.arange(3), np.zeros((2, 2)), np.array(1.0), np.array([None])]),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-2, 2), max_size=2),
    st.dictionaries(st.integers(), st.integers(), max_size=2),
)
KEYS = st.one_of(st.text(max_size=3), st.sampled_from(["uid", "time", "data", "x", "filled"]))
SETTINGS = settings(
    max_examples=100,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


class Wire(RuleBasedStateMachine):
    """Documents lie on the wire until they are delivered; what lies there may be changed in any way."""

    def __init__(self) -> None:
        super().__init__()
        self.wire: list[tuple[Any, Any]] = []

    def hear(self, name: Any, doc: Any) -> None:
        """What the end of the wire does with a document."""
        raise NotImplementedError

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        self.wire.append(data.draw(st.sampled_from(self.wire)))

    @precondition(lambda self: len(self.wire) > 1)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        i, j = (data.draw(st.integers(0, len(self.wire) - 1)) for _ in range(2))
        self.wire[i], self.wire[j] = self.wire[j], self.wire[i]

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), value=JUNK, key=KEYS)
    def mutate(self, data: st.DataObject, value: Any, key: str) -> None:
        at = data.draw(st.integers(0, len(self.wire) - 1))
        name, doc = self.wire[at]
        changed: Any = copy.deepcopy(doc)
        target = changed
        while data.draw(st.booleans()):  # anywhere in the document, not only at its top
            inner = [v for v in target.values() if isinstance(v, dict)]
            if not inner:
                break
            target = data.draw(st.sampled_from(inner))
        where = data.draw(st.sampled_from([*target, key]))
        if data.draw(st.booleans()):
            target[where] = value
        else:
            target.pop(where, None)
        self.wire[at] = (name, changed)

    @rule(name=st.one_of(JUNK, st.sampled_from([n.name for n in DocumentNames])), doc=JUNK)
    def rubbish(self, name: Any, doc: Any) -> None:
        self.deliver_one(name, doc)

    @precondition(lambda self: self.wire)
    @rule(count=st.integers(1, 15))
    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            self.deliver_one(*self.wire.pop(0))

    def deliver_all(self) -> None:
        """What still lies on the wire."""
        while self.wire:
            self.deliver_one(*self.wire.pop(0))

    def deliver_one(self, name: Any, doc: Any) -> None:
        before = repr(doc)
        self.hear(name, doc)
        assert repr(doc) == before
