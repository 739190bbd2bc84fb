from __future__ import annotations

import pytest
from cli.conftest import Command

from skyloop.callbacks import techniques

COMMANDS = ["analyze", "demo", "replay", "simulate", "techniques"]


def test_every_technique_is_listed_with_its_hints(skyloop: Command):
    said = skyloop("techniques")
    assert said.code == 0
    for name, technique in techniques().items():
        assert name in said.out
        assert technique.hints[0] in said.out


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
