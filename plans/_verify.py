"""Recompute every decision of a stored run from its documents, and report each that differs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import skyloop.plans
from skyloop.documents.schema import decode
from skyloop.errors import DataError, DocumentError
from skyloop.plans._course import Action, Course, Policy, Reason, Situation
from skyloop.plans._decision import STREAM, DecisionRecord, decision_uid
from skyloop.plans._guard import ACCEPTED, PLAIN_RULES, Verdict, within
from skyloop.plans._settle import (
    REFUSED,
    REFUSED_AGAIN,
    REFUSED_BEFORE,
    Asked,
    Facts,
    known,
    propose,
    settle,
)
from skyloop.plans._stored import NamedDocument, Stored
from skyloop.plans._watch import STREAM as POINTS
from skyloop.plans._words import point

__all__ = ["Difference", "Policies", "VerifyReport", "verify"]

_READBACK = 0.01
"""Share of the range of a scan that a readback may be away from its setpoint: more is another point."""
_ROUNDING = 1e-6
"""Share of the largest position that it may be away besides: devices tell what a float of 32 bits holds."""


@dataclass(frozen=True)
class Policies:
    """What a technique's plans choose by; its plan module holds one as `POLICIES`."""

    result_type: type
    """Result dataclass that the policies read."""
    classes: tuple[type[Any], ...]
    """Policy classes, found by their `name`."""

    def make(self, told: Mapping[str, Any]) -> Policy:
        """The policy that a start document tells of.

        Raises:
            DataError: there is none of that name, or it is of another version.
        """
        for policy in self.classes:
            if policy.name == told["policy"]:
                if policy.version != told["policy_version"]:
                    raise DataError(
                        f"policy {policy.name} is of version {policy.version}, the run was measured with "
                        f"{told['policy_version']}; mend: verify with the release that measured it"
                    )
                return policy(**told["parameters"])
        raise DataError(f"no policy is named {told['policy']!r}")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something in a stored run that does not follow from the rest of it."""

    seq: int
    """Number of the decision; 0 for the run as a whole."""
    field: str
    """What differs."""
    recorded: str
    """As stored."""
    recomputed: str
    """As it should be."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Outcome of a verification."""

    decisions: int
    """How many decisions were recomputed."""
    differences: tuple[Difference, ...]
    """Empty if every one is as recorded."""

    @property
    def verified(self) -> bool:
        """Whether there was anything to verify, and nothing differs."""
        return self.decisions > 0 and not self.differences


def verify(
    raw_documents: Iterable[NamedDocument],
    analysis_documents: Iterable[NamedDocument],
    *,
    policies: Policies | None = None,
) -> VerifyReport:
    """Recompute every decision of a run.

    The numbers are recomputed: the policy's choice, the verdict on the user's limits, and what was executed.
    What came from outside is taken from the record: that an analysis was late, what a person answered, what
    a device refused. Uids and the hash chain are checked, and that the points measured are those decided on.

    Args:
        raw_documents: (name, document) pairs of the raw run, single events or pages.
        analysis_documents: those of its analysis run.
        policies: of the technique; found by its name in the start document if not given.

    Raises:
        DataError: the run is not adaptive, its policy is not known in this version, or it is damaged.
    """
    try:
        return _verified(raw_documents, analysis_documents, policies)
    except (DocumentError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"the stored run is damaged or not complete ({type(error).__name__}: {error}); "
            "mend: verify another copy of it, from the store that it was written to first"
        ) from error


def _verified(
    raw_documents: Iterable[NamedDocument],
    analysis_documents: Iterable[NamedDocument],
    policies: Policies | None,
) -> VerifyReport:
    raw, analysis = Stored.read(raw_documents), Stored.read(analysis_documents)
    told = raw.start.get("adaptive")
    if told is None:
        raise DataError(f"run {raw.start.get('uid', '?')} was not measured by an adaptive plan")
    known = policies or _policies_of(told["technique"])
    check = _Check(raw, analysis, told, known)
    records = [DecisionRecord.from_data(dict(data)) for data in raw.data(STREAM)]
    return VerifyReport(len(records), tuple(check.run(records)))


def _policies_of(technique: str) -> Policies:
    found = [m.name for m in iter_modules(skyloop.plans.__path__) if not m.name.startswith("_")]
    if technique not in found:
        raise DataError(f"no plans for {technique!r} (known: {', '.join(found)})")
    return import_module(f"skyloop.plans.{technique}").POLICIES


class _Check:
    """Goes through the decisions of one run in their order."""

    def __init__(self, raw: Stored, analysis: Stored, told: Mapping[str, Any], known: Policies) -> None:
        self._raw, self._analysis, self._told, self._known = raw, analysis, told, known
        self._policy = known.make(told)
        self._course = Course.from_description(dict(told))
        self._measured: list[Action] = []
        self._results: list[Any] = []
        self._refusals: set[Action | str] = set()

    def run(self, records: Sequence[DecisionRecord]) -> Iterable[Difference]:
        last: DecisionRecord | None = None
        for number, record in enumerate(records, start=1):
            yield from self._identity(number, record, last)
            if _is_broken_off(record) and number == len(records):
                break  # nothing was decided: nothing to recompute
            after = records[number] if number < len(records) else None
            yield from self._decision(record)
            self._execute(record, after)
            last = record
        yield from self._points(records)

    def _identity(
        self, number: int, record: DecisionRecord, last: DecisionRecord | None
    ) -> Iterable[Difference]:
        expected = record.chained(last)
        uid = decision_uid(self._raw.start["uid"], number)
        yield from _differences(record.seq, seq=(record.seq, number), uid=(record.uid, uid))
        for name in ("parent_uid", "chain_sha256"):
            pair = getattr(record, name), getattr(expected, name)
            yield from _differences(record.seq, **{name: pair})

    def _decision(self, record: DecisionRecord) -> Iterable[Difference]:
        yield from self._take(record)
        situation = self._course.situation(self._measured)
        asked = Asked()
        if not record.fault:
            asked = propose(self._policy, tuple(self._results), situation)
        verdict = self._verdict(record, asked, situation)
        proposed, last = asked.proposal.action if asked.proposal else None, known(self._results)
        answer = self._answer(record, asked, verdict)
        settled = settle(self._course, situation, asked, Facts(record.fault, verdict, answer))
        yield from _differences(
            record.seq,
            raw_seq_num=(record.raw_seq_num, len(self._measured)),
            spent=(record.spent, situation.spent),
            choice=(record.choice, asked.word),
            choice_reason=(record.choice_reason, asked.reason),
            gain=(record.gain, asked.proposal.gain if asked.proposal else math.nan),
            target=(record.target, last["target"]),
            target_sigma=(record.target_sigma, last["target_sigma"]),
            guard_rule=(record.guard_rule, verdict.rule),
            answer=(record.answer, answer),
            source=(record.source, settled.source),
            reason=(record.reason, str(settled.reason)),
            action=(record.action, "measure" if settled.executed else "stop"),
            **_compared("proposed", record, proposed),
            **_compared("executed", record, settled.executed),
        )

    def _take(self, record: DecisionRecord) -> Iterable[Difference]:
        """Take the analysis that the decision stands on."""
        if record.fault or not record.raw_seq_num:
            return
        event = self._analysis.events.get(POINTS, {}).get(record.analysis_seq_num)
        if event is None:
            yield Difference(record.seq, "analysis_seq_num", repr(record.analysis_seq_num), "not stored")
            return
        data, technique = event["data"], self._told["technique"]
        wanted = record.raw_seq_num
        if self._told.get("lag"):  # a plan that leaves the points as they are may look at an earlier one
            wanted = min(wanted, data["raw_seq_num"])
        found = (data["raw_stream"], data["raw_seq_num"])
        yield from _differences(record.seq, analysis_seq_num=(found, (POINTS, wanted)))
        self._results.append(decode(self._known.result_type, data, prefix=technique))

    def _verdict(self, record: DecisionRecord, asked: Asked, situation: Situation) -> Verdict:
        if record.fault in (REFUSED, REFUSED_AGAIN):  # at the last moment, of the point decided before
            return Verdict(record.guard_rule, record.guard_message)
        if asked.proposal is None:
            return ACCEPTED
        course = self._course
        verdict = within(course.limits, course.pace, asked.proposal.action, situation)
        if not verdict.accepted or record.guard_rule in PLAIN_RULES:
            return verdict
        # what the user's limits allow a device may still refuse: that is a fact, known from the record alone
        return Verdict(record.guard_rule, record.guard_message)

    def _answer(self, record: DecisionRecord, asked: Asked, verdict: Verdict) -> str:
        """What a person answered, from the record; whether they had to be asked is recomputed."""
        about = asked.about
        if self._course.mode == "confirm" and verdict.accepted and about in self._refusals:
            return REFUSED_BEFORE
        if about is not None and record.answer == "reject":
            self._refusals.add(about)
        return "" if record.answer == REFUSED_BEFORE else record.answer

    def _execute(self, record: DecisionRecord, after: DecisionRecord | None) -> None:
        refused = after is not None and after.fault in (REFUSED, REFUSED_AGAIN)
        if record.action == "measure" and not refused:
            self._measured.append(Action(record.executed_position, record.executed_count_time))

    def _points(self, records: Sequence[DecisionRecord]) -> Iterable[Difference]:
        """The points in the raw run are those that were decided on."""
        stored = self._raw.events.get(POINTS, {})
        expected = len(self._measured)
        complete = bool(records) and records[-1].action == "stop" and not _is_broken_off(records[-1])
        # a run that was broken off may lack the point of its last decision
        if complete or len(stored) != expected - 1:
            yield from _differences(0, points=(len(stored), expected))
        for seq_num, event in stored.items():
            if seq_num <= len(self._measured):
                yield from self._place(seq_num, event["data"])

    def _place(self, seq_num: int, data: Mapping[str, Any]) -> Iterable[Difference]:
        axis = self._told["axis"]
        if axis not in data:
            return
        position, decided = data[axis], self._measured[seq_num - 1].position
        positions = [action.position for action in (*self._course.fixed, *self._measured)]
        allowed = _READBACK * (max(positions) - min(positions)) + _ROUNDING * max(map(abs, positions))
        if not abs(position - decided) <= allowed:
            yield Difference(0, f"{axis} of point {seq_num}", repr(position), repr(decided))


def _is_broken_off(record: DecisionRecord) -> bool:
    """Whether a person ended the run from outside, and not by an answer."""
    return record.reason == Reason.OPERATOR and not record.answer


def _compared(prefix: str, record: DecisionRecord, action: Action | None) -> dict[str, tuple[Any, Any]]:
    return {name: (getattr(record, name), value) for name, value in point(prefix, action).items()}


def _differences(number: int, /, **pairs: tuple[Any, Any]) -> Iterable[Difference]:
    for name, (recorded, recomputed) in pairs.items():
        if not _same(recorded, recomputed):
            yield Difference(number, name, repr(recorded), repr(recomputed))


def _same(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return both_nan or a == b
