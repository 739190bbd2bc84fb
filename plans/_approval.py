"""The approval gate: in `confirm` mode a person answers a one-use, expiring ticket per decision."""

import asyncio
import secrets
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition
from typing import Literal
from weakref import WeakValueDictionary

from bluesky import plan_stubs as bps
from bluesky.utils import MsgGenerator

from skyloop.errors import ConfigError, RefusedError

__all__ = ["Answer", "ApprovalGate", "Ticket", "confirm", "gate_named"]

Verb = Literal["accept", "reject", "stop"]
VERBS: tuple[Verb, ...] = ("accept", "reject", "stop")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a ticket."""

    verb: Verb | Literal["expired", "refused before"]
    """A person's word. No acceptance either: nobody answered in time; nobody was asked again."""
    operator: str = ""
    """Who answered, or refused the same before."""
    comment: str = ""
    """What they wrote with it."""
    seconds: float = 0.0
    """Time from the question to the answer."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One question to a person."""

    uid: str
    """Uid of the decision that is asked about."""
    nonce: str
    """Secret of this very question: an answer to another one does not fit."""
    question: str
    """What is proposed, in words."""
    asked: float
    """Monotonic time of the question; a pause of the plan does not stop this clock."""
    deadline: float
    """Monotonic time after which no answer counts."""
    future: Future[Answer] = field(default_factory=Future[Answer], repr=False)
    """Resolves to the answer."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the ticket expires; negative afterwards."""
        return self.deadline - time.monotonic()


# Weak entries, as with inboxes: a queue server can only send a name.
_named: WeakValueDictionary[str, "ApprovalGate"] = WeakValueDictionary()


def gate_named(name: str) -> "ApprovalGate":
    """The gate of that name.

    Raises:
        ConfigError: no gate that somebody holds has that name.
    """
    gate = _named.get(name)
    if gate is None:
        known = ", ".join(sorted(_named)) or "none"
        raise ConfigError(
            f"no approval gate is named '{name}' (known: {known}); "
            f"mend: make it in the same process, and keep it: gate = ApprovalGate('{name}')"
        )
    return gate


class ApprovalGate:
    """Open tickets, and who may answer them; safe to use from any thread.

    Args:
        name: makes the gate findable by `gate_named` as long as somebody holds it.
    """

    def __init__(self, name: str = "") -> None:
        self._tickets: dict[str, Ticket] = {}
        self._changed = Condition()
        if name:
            _named[name] = self

    def ask(self, uid: str, question: str, *, seconds: float) -> Ticket:
        """Open a ticket, or return the open one of that uid (a plan that resumes asks again)."""
        with self._changed:
            if uid not in self._tickets:
                now = time.monotonic()
                nonce = secrets.token_urlsafe(16)
                self._tickets[uid] = Ticket(uid, nonce, question, now, now + seconds)
                self._changed.notify_all()
            return self._tickets[uid]

    def pending(self) -> list[Ticket]:
        """Open tickets, oldest first; one that expired during a pause stays until the plan resumes."""
        with self._changed:
            return [t for t in self._tickets.values() if not t.future.done()]

    def wait_pending(self, timeout: float) -> list[Ticket]:
        """Open tickets, after waiting for one at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(self.pending, timeout)
            return self.pending()

    def answer(self, uid: str, nonce: str, verb: str, *, operator: str, comment: str = "") -> None:
        """Answer a ticket, once: accept, reject (the fixed scan goes on) or stop (the measurement ends here).

        Raises:
            RefusedError: unknown or closed uid, wrong nonce, expired, answered already, or an unknown verb;
                checked in this order.
        """
        with self._changed:
            ticket = self._tickets.get(uid)
            now = time.monotonic()
            refusal = _refusal(ticket, nonce, verb, now)
            if ticket is None or refusal:
                raise RefusedError(f"the answer to {uid!r} does not count: {refusal}")
            word = VERBS[VERBS.index(verb)]
            ticket.future.set_result(Answer(word, operator, comment, now - ticket.asked))

    def close(self, uid: str) -> None:
        """Forget a ticket: no answer to it counts any more."""
        with self._changed:
            self._tickets.pop(uid, None)


def _refusal(ticket: Ticket | None, nonce: str, verb: str, now: float) -> str:
    if ticket is None:
        return "no such ticket is open"
    if not secrets.compare_digest(nonce.encode(), ticket.nonce.encode()):
        return "it was meant for another question"
    if now >= ticket.deadline:
        return "the ticket has expired"
    if ticket.future.done():
        return "the ticket is answered already"
    if verb not in VERBS:
        return f"{verb!r} is none of {', '.join(VERBS)}"
    return ""


def confirm(gate: ApprovalGate, uid: str, question: str, *, timeout: float) -> MsgGenerator[Answer]:
    """Ask a person and wait for the answer; it never accepts by itself.

    The checkpoint stands before this stub. A deferred pause is honoured at the next checkpoint only, so pause
    with `RE.request_pause()` while a ticket is open.

    Yields:
        One `wait_for` message.
    """
    ticket = gate.ask(uid, question, seconds=timeout)

    async def waiter() -> None:
        # called again after a rewind: the same ticket, and the time that is left of it
        left = max(0.0, ticket.seconds_left)
        await asyncio.wait([asyncio.wrap_future(ticket.future)], timeout=left)

    try:
        yield from bps.wait_for([waiter])
        return ticket.future.result() if ticket.future.done() else Answer("expired")
    finally:
        gate.close(uid)
