"""YAML from a user: plain values only, no aliases, no key twice, no endless nesting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from skyloop.errors import ConfigError

_MAX_CHARACTERS = 64 * 1024
_MAX_DEPTH = 16
_NUMBER = r"([-+]?[0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]+)?)"
_RANGE = re.compile(rf"{_NUMBER}\s*[:-]\s*{_NUMBER}")
_PLAIN = re.compile(r"[-+]?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[a-zA-Z]+")
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def text_of(source: str | Path) -> tuple[str, str]:
    """The text of a YAML file and its name, or YAML text (a string with a line break) and no name.

    Raises:
        ConfigError: the file cannot be read.
    """
    if isinstance(source, str) and "\n" in source:
        return source, ""
    try:
        with Path(source).open(encoding="utf-8") as file:
            return file.read(_MAX_CHARACTERS + 1), str(source)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source}: cannot be read ({error}); mend: give a YAML file in UTF-8") from error


def read_yaml(text: str) -> Any:
    """Plain values in YAML text.

    Raises:
        ConfigError: names the line, what was found and the mend.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"more than {_MAX_CHARACTERS} characters; mend: shorten the sample model")
    try:
        _refuse_tricks(text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _refuse_doubles(node)
        _refuse_other_numbers(node)
        return loader.construct_document(node) if node else None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: the date 2026-13-45, an endless number
        raise ConfigError(f"{_where(error)}; mend: correct the text there") from error


def _where(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: not YAML: {error.problem}"
    return f"not YAML: {' '.join(str(error).split())}"


def _refuse_tricks(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1  # pyright: ignore[reportOptionalMemberAccess]
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"line {line}: alias *{event.anchor}; mend: write the value out")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise ConfigError(f"line {line}: tag {tag}; mend: leave it out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ConfigError(f"line {line}: nested deeper than {_MAX_DEPTH}; mend: flatten it")


def _refuse_other_numbers(node: yaml.Node | None) -> None:
    """YAML 1.1 reads 2:4 as 124, to the base of 60, 010 as 8 and 1_00 as 100; 300-700 is a mere word."""
    if isinstance(node, yaml.ScalarNode) and node.style is None:
        line, found = node.start_mark.line + 1, str(node.value)
        if pair := _RANGE.fullmatch(found):
            raise ConfigError(f"line {line}: found {found}; mend: write a range as [{pair[1]}, {pair[2]}]")
        if node.tag in _NUMBER_TAGS and not _PLAIN.fullmatch(found):
            raise ConfigError(f"line {line}: found {found:.80}; mend: write a decimal number, such as 10.5")
    elif isinstance(node, yaml.SequenceNode | yaml.MappingNode):
        inner = node.value if isinstance(node, yaml.SequenceNode) else [v for _, v in node.value]
        for part in inner:
            _refuse_other_numbers(part)


def _refuse_doubles(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubles(item)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if (name := str(key.value)) in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"line {line}: {name} is given twice; mend: keep one")
            seen.add(name)
            _refuse_doubles(value)
