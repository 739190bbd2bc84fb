"""A person at a terminal: a line answers the question it was typed for; all others are the program's."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_analysis import PATIENT, thread

from skyloop.plans import ApprovalGate, _terminal, answer_from_terminal


class Terminal:
    """A terminal, the gate behind it, and the person before it with the lines that they type."""

    def __init__(self) -> None:
        self.person, self.fd = pty.openpty()
        self.gate, self.done = ApprovalGate(), threading.Event()
        self.messages: list[str] = []
        self.lines: list[str] = []

    def show(self, message: str) -> None:
        self.messages.append(message)
        if "[y: " in message and self.lines:
            self.type(self.lines.pop(0))

    def type(self, line: str) -> None:
        os.write(self.person, f"{line}\n".encode())

    def run(self) -> None:
        answer_from_terminal(self.gate, operator="ada", show=self.show, done=self.done, fd=self.fd)

    @property
    def questions(self) -> list[str]:
        return [message for message in self.messages if "[y: " in message]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.done.set()
    for fd in (made.person, made.fd):
        os.close(fd)


def until(happened: Callable[[], Any]) -> None:
    deadline, tick = time.monotonic() + PATIENT, threading.Event()
    while not happened():
        assert time.monotonic() < deadline
        tick.wait(0.005)


@pytest.mark.parametrize(
    ("lines", "verb"),
    [(["y"], "accept"), ([" N "], "reject"), (["s"], "stop"), (["", "yes", "y"], "accept")],
)
def test_a_line_answers_the_question_it_was_typed_for(
    terminal: Terminal, lines: list[str], verb: str
) -> None:
    terminal.lines = list(lines)
    ticket = terminal.gate.ask("uid", "measure?", seconds=PATIENT)
    with thread(terminal.run):
        answer = ticket.future.result(PATIENT)
        terminal.done.set()
    assert (answer.verb, answer.operator) == (verb, "ada")
    assert len(terminal.questions) == len(lines)
    assert len(terminal.messages) == 2 * len(lines) - 1


def test_the_question_says_what_each_key_does(terminal: Terminal) -> None:
    terminal.gate.ask("uid", "measure at 0.1 for 2 s?", seconds=PATIENT)
    with thread(terminal.run):
        until(lambda: terminal.messages)
        terminal.done.set()
    (question,) = terminal.messages
    assert question.startswith(
        "measure at 0.1 for 2 s? [y: accept, n: refuse and go on with the fixed scan, "
    )
    assert "s: stop the measurement here" in question
    assert question.endswith("no answer in 20 s: the fixed scan goes on]")


def test_a_line_typed_before_the_question_is_no_answer_to_it(terminal: Terminal) -> None:
    terminal.type("y")
    ticket = terminal.gate.ask("uid", "measure?", seconds=PATIENT)
    terminal.lines = ["n"]
    with thread(terminal.run):
        assert ticket.future.result(PATIENT).verb == "reject"
        terminal.done.set()
    assert "dropped" in terminal.messages[0]


def test_a_line_typed_after_the_ticket_was_closed_is_left_to_the_program(terminal: Terminal) -> None:
    ticket = terminal.gate.ask("uid", "measure?", seconds=PATIENT)
    with thread(terminal.run):
        until(lambda: terminal.questions)
        terminal.gate.close("uid")
        terminal.type("hello")
        terminal.done.set()
    assert os.read(terminal.fd, 100) == b"hello\n"
    assert not ticket.future.done()


def test_an_expired_ticket_is_told_and_the_next_line_is_left_to_the_program(terminal: Terminal) -> None:
    terminal.gate.ask("uid", "measure?", seconds=0.2)
    with thread(terminal.run):
        until(lambda: len(terminal.messages) == 2)
        terminal.type("hello")
        terminal.done.set()
    assert terminal.messages[1] == "nobody answered in time: the fixed scan goes on"
    assert os.read(terminal.fd, 100) == b"hello\n"


def test_a_prompt_that_takes_keys_keeps_them(terminal: Terminal) -> None:
    """During a pause IPython reads from the same terminal, key by key."""
    looked = threading.Semaphore(0)

    class Watched(ApprovalGate):
        def wait_pending(self, timeout: float) -> Any:
            looked.release()
            return super().wait_pending(timeout)

    terminal.gate = Watched()
    before = termios.tcgetattr(terminal.fd)
    tty.setraw(terminal.fd)
    ticket = terminal.gate.ask("uid", "measure?", seconds=PATIENT)
    with thread(terminal.run):
        terminal.type("y")
        assert looked.acquire(timeout=PATIENT)
        assert looked.acquire(timeout=PATIENT)
        assert terminal.messages == []
        assert os.read(terminal.fd, 100) == b"y\n"
        termios.tcsetattr(terminal.fd, termios.TCSANOW, before)
        terminal.lines = ["y"]
        assert ticket.future.result(PATIENT).verb == "accept"
        terminal.done.set()


def test_a_program_in_the_background_leaves_its_terminal_alone(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To touch it would stop the whole program (SIGTTOU), with the measurement."""
    assert _terminal._gives_lines(terminal.fd)
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp() + 1)
    assert not _terminal._gives_lines(terminal.fd)


def test_an_expired_ticket_is_not_put_to_anybody(terminal: Terminal) -> None:
    terminal.gate.ask("old", "old?", seconds=0.0)
    new = terminal.gate.ask("new", "new?", seconds=PATIENT)
    terminal.lines = ["y"]
    with thread(terminal.run):
        assert new.future.result(PATIENT).verb == "accept"
        terminal.done.set()
    assert len(terminal.questions) == 1
    assert terminal.gate.pending()[0].uid == "old"


def test_what_is_no_terminal_is_told_at_once() -> None:
    gate, messages = ApprovalGate(), list[str]()
    gate.ask("uid", "measure?", seconds=PATIENT)
    out, into = os.pipe()
    answer_from_terminal(gate, operator="ada", show=messages.append, done=threading.Event(), fd=out)
    os.close(out)
    os.close(into)
    assert len(messages) == 1
    assert "no terminal" in messages[0]
    assert "mend: answer with gate.answer(...)" in messages[0]


# as a program ---------------------------------------------------------------------------------------

HEAD = """
import sys
from threading import Event, Thread
from skyloop.plans import ApprovalGate, _terminal, answer_from_terminal

gate, asked = ApprovalGate(), Event()

def show(message):
    asked.set()

Thread(target=answer_from_terminal, args=(gate,), daemon=True,
       kwargs={"operator": "ada", "show": show, "done": Event()}).start()
"""
ENDS_WITH_AN_OPEN_TICKET = (
    HEAD
    + """
gate.ask("uid", "measure?", seconds=1000.0)
assert asked.wait(60)
print("end", flush=True)
"""
)
READS_AFTER_THE_TICKET = (
    HEAD
    + """
ticket = gate.ask("uid", "measure?", seconds=0.3)
assert asked.wait(60)
while ticket.seconds_left > 0:
    Event().wait(0.01)
gate.close("uid")
print("ready", flush=True)
print("the program read", sys.stdin.readline(), flush=True)
"""
)


def program(text: str, typed: str) -> tuple[int, str, str]:
    """Run a program at a terminal, with a line typed as soon as it says that it is ready."""
    person, fd = pty.openpty()
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=fd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        os.write(person, f"{typed}\n".encode())
        out, err = process.communicate(timeout=3 * PATIENT)
    os.close(person)
    os.close(fd)
    return process.returncode, first + out, err


def test_a_program_may_end_while_a_question_is_open() -> None:
    code, out, err = program(ENDS_WITH_AN_OPEN_TICKET, "")
    assert (code, out, err) == (0, "end\n", "")


def test_the_line_after_an_expired_ticket_goes_to_the_program() -> None:
    code, out, err = program(READS_AFTER_THE_TICKET, "hello")
    assert (code, out, err) == (0, "ready\nthe program read hello\n\n", "")
