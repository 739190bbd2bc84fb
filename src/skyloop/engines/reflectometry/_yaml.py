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


def read_yaml(source: str | Path) -> Any:
    """Plain values in a YAML file, or in YAML text (a string with a line break).

    Raises:
        ConfigError: names the file or the line, what was found and the mend.
    """
    text = source if isinstance(source, str) and "\n" in source else _text(Path(source))
    return _plain(text)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); mend: give a YAML file") from error


def _plain(text: str) -> Any:
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"more than {_MAX_CHARACTERS} characters; mend: shorten the sample model")
    try:
        _refuse_tricks(text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _refuse_doubles(node)
        _refuse_ranges_in_words(node)
        return loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}; mend: correct the text there") from error


def _refuse_tricks(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1  # pyright: ignore[reportOptionalMemberAccess]
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"line {line}: alias *{event.anchor}; mend: write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ConfigError(f"line {line}: nested deeper than {_MAX_DEPTH}; mend: flatten it")


def _refuse_ranges_in_words(node: yaml.Node | None) -> None:
    """YAML 1.1 reads 2:4 as 124, a number to the base of 60; 300-700 would be a mere word."""
    if isinstance(node, yaml.ScalarNode):
        found = _RANGE.fullmatch(str(node.value))
        if found and node.style is None:
            line = node.start_mark.line + 1
            low, high = found.groups()
            raise ConfigError(f"line {line}: found {node.value}; mend: write a range as [{low}, {high}]")
    elif isinstance(node, yaml.SequenceNode | yaml.MappingNode):
        inner = node.value if isinstance(node, yaml.SequenceNode) else [v for _, v in node.value]
        for part in inner:
            _refuse_ranges_in_words(part)


def _refuse_doubles(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubles(item)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"line {line}: {key.value} is given twice; mend: keep one")
            seen.add(str(key.value))
            _refuse_doubles(value)
