from __future__ import annotations

import logging
from io import StringIO

import pytest
from cli.conftest import Command
from rich.console import Console

from skyloop import __version__
from skyloop.callbacks import techniques
from skyloop.cli._warnings import each_once
from skyloop.errors import DataError

COMMANDS = ["analyze", "demo", "replay", "simulate", "techniques"]


def test_every_technique_is_listed_with_its_hints(skyloop: Command):
    said = skyloop("techniques")
    assert said.code == 0
    for name, technique in techniques().items():
        assert name in said.out
        assert technique.hints[0] in said.out


def test_the_version_is_told(skyloop: Command):
    said = skyloop("--version")
    assert (said.code, said.out) == (0, f"skyloop {__version__}\n")


def test_no_word_shows_the_commands(skyloop: Command):
    said = skyloop()
    assert all(command in said.out + said.err for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(skyloop: Command, command: str):
    said = skyloop(command, "--help")
    assert said.code == 0
    assert "Usage" in said.out


@pytest.mark.parametrize(
    "words", [["analyse"], ["analyze"], ["analyze", "x.dat", "--modle", "m"], ["simulate", "--points", "2"]]
)
def test_a_command_line_that_cannot_be_is_refused(skyloop: Command, words: list[str]):
    said = skyloop(*words)
    assert said.code == 2
    assert "Traceback" not in said.err


def test_a_warning_that_the_error_says_is_not_said_twice():
    screen, logger = StringIO(), logging.getLogger("skyloop.of.this.test")
    reason = "the file holds this run with other content; mend: compare them"

    def lost() -> None:
        logger.error("a sink lost a %s document: %s", "stop", reason)
        logger.error("the disk is slow: %s", "something else of which no error speaks at all")
        raise DataError(f"not stored: {reason}")

    with pytest.raises(DataError), each_once(Console(file=screen, width=40)):
        lost()
    (line,) = screen.getvalue().splitlines()
    assert line.startswith("warning: the disk is slow")


def test_warnings_of_one_kind_are_one_line_with_a_count():
    screen, logger = StringIO(), logging.getLogger("skyloop.of.this.test")
    logger.info("all is well")
    with each_once(Console(file=screen, width=40)):
        for number in range(1000):
            logger.warning("point %d: a fault of [this] technique", number)
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            logger.exception("another\nfault")
    assert screen.getvalue().splitlines() == [
        "warning: point 0: a fault of [this] technique (and 999 more like it; --debug shows all)",
        "warning: another fault",
    ]
