"""Answers from a terminal: a line is read only when it is there, and only for the question on the screen."""

import os
import select
import termios
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from skyloop.errors import RefusedError
from skyloop.plans._approval import ApprovalGate, Ticket

__all__ = ["answer_from_terminal"]

_LOOK_AGAIN_SECONDS = 0.1
_VERBS = {"y": "accept", "n": "reject", "s": "stop"}
_KEYS = "y: accept, n: refuse and go on with the fixed scan, s: stop the measurement here"


def answer_from_terminal(
    gate: ApprovalGate, *, operator: str, show: Callable[[str], None], done: Event, fd: int = 0
) -> None:
    """Put open tickets to a person, one at a time, until `done` is set; run it in a thread of its own.

    It takes a line only while a question is open and the terminal gives whole lines. What is typed at other
    times, or at the prompt of IPython during a pause, is left to the program. What was typed before a
    question came up is no answer to it: it is dropped, and that is said.

    Args:
        gate: whose tickets are answered.
        operator: name under which the answers are recorded.
        show: shows a message.
        done: ends the loop.
        fd: file descriptor of the terminal; 0 is the standard input.
    """
    if not os.isatty(fd):
        show("the standard input is no terminal: nobody can answer here; mend: answer with gate.answer(...)")
        return
    person = _Person(gate, operator, show, done, fd)
    while not done.is_set():
        # an expired ticket stays open while its plan is paused: nothing to do but wait
        alive = [ticket for ticket in gate.wait_pending(_LOOK_AGAIN_SECONDS) if ticket.seconds_left > 0]
        if alive and _gives_lines(fd):
            person.put(alive[0])
        else:
            done.wait(_LOOK_AGAIN_SECONDS)


@dataclass(frozen=True, slots=True)
class _Person:
    gate: ApprovalGate
    operator: str
    show: Callable[[str], None]
    done: Event
    fd: int

    def put(self, ticket: Ticket) -> None:
        """Ask, and give the answer to the gate if there is one."""
        if _drop_typed(self.fd):
            self.show("what was typed before the question is no answer to it, and was dropped")
        silence = f"no answer in {ticket.seconds_left:.0f} s: the fixed scan goes on"
        self.show(f"{ticket.question} [{_KEYS}; {silence}]")
        line = self._line(ticket)
        if line is not None:
            self._answer(ticket, line.strip())
        elif ticket.seconds_left <= 0:
            self.show("nobody answered in time: the fixed scan goes on")

    def _line(self, ticket: Ticket) -> str | None:
        """The next line that is typed while the ticket is open; None if it closed before one was.

        It never blocks in a read: a thread that does takes the line after its question too, and holds the
        lock of `sys.stdin`, over which the interpreter dies when it ends.
        """
        while self._is_open(ticket) and _gives_lines(self.fd):
            if _is_ready(self.fd, 0.0):
                return os.read(self.fd, 4096).decode(errors="replace")
            _is_ready(self.fd, _LOOK_AGAIN_SECONDS)
        return None

    def _is_open(self, ticket: Ticket) -> bool:
        return ticket.seconds_left > 0 and ticket in self.gate.pending() and not self.done.is_set()

    def _answer(self, ticket: Ticket, line: str) -> None:
        verb = _VERBS.get(line.lower())
        if verb is None:
            self.show(f"{line!r} is none of y, n, s: nothing is decided")
            return
        try:
            self.gate.answer(ticket.uid, ticket.nonce, verb, operator=self.operator)
        except RefusedError as error:
            self.show(str(error))


def _is_ready(fd: int, seconds: float) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def _gives_lines(fd: int) -> bool:
    """Whether the terminal is ours and nobody edits a line at it; a prompt takes each key as it comes.

    A program in the background that touches its terminal is stopped whole, measurement and all.
    """
    if _is_in_background(fd):
        return False
    local = termios.tcgetattr(fd)[3]
    return bool(local & termios.ICANON)


def _is_in_background(fd: int) -> bool:
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:  # not the terminal that controls this program: nothing stops it
        return False


def _drop_typed(fd: int) -> bool:
    """Drop what was typed and not read yet; true if there was a whole line of it."""
    was_ready = _is_ready(fd, 0.0)
    termios.tcflush(fd, termios.TCIFLUSH)
    return was_ready
