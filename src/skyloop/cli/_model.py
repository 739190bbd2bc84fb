"""A sample model from a YAML file, or from a few options on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from skyloop.errors import ConfigError

__all__ = ["ModelOptions", "keys_file", "model_file", "model_text"]

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_OTHER_RANGE = re.compile(rf"[\[(]?{_NUMBER}(?:-|–|,|;|\.\.+){_NUMBER}[\])]?")
"""A range as people write it elsewhere."""


@dataclass(frozen=True)
class ModelOptions:
    """What the user said of the sample."""

    file: Path | None
    """YAML file; nothing else is needed then."""
    layers: tuple[str, ...] = ()
    """One text per layer, from the fronting to the backing."""
    fronting: str = "0"
    """Medium that the beam comes from."""
    backing: str = ""
    """Medium below the last layer."""
    rest: tuple[str, ...] = ()
    """Other keys of the configuration, such as `scale=0.8:1.2`."""


def model_text(options: ModelOptions) -> str | Path:
    """YAML of the configuration: the file itself, or text made from the options.

    >>> print(model_text(ModelOptions(None, ("film thickness=10:800 sld=0:10",), "0", "sld=2.07")))
    sample:
      backing:
        sld: 2.07
      fronting:
        sld: 0.0
      layers:
      - name: film
        sld:
        - 0.0
        - 10.0
        thickness:
        - 10.0
        - 800.0
    <BLANKLINE>

    Raises:
        ConfigError: neither a file nor a backing is given, or both, or a text cannot be understood.
    """
    if options.file is not None:
        _refuse_both(options)
        return model_file(options.file)
    if options.layers and not options.backing:
        raise ConfigError(
            "--layer without --backing, the medium below the last layer; "
            "mend: add --backing 'sld=2.07 roughness=0:10'"
        )
    if not options.backing:
        raise ConfigError(
            "no sample model; mend: --model sample.yaml, or --layer 'film thickness=10:800 sld=0:10 "
            "roughness=0:30' --backing 'sld=2.07 roughness=0:10'"
        )
    sample = {
        "fronting": _medium(options.fronting, "--fronting"),
        "layers": [_layer(text) for text in options.layers],
        "backing": _medium(options.backing, "--backing"),
    }
    return yaml.safe_dump(dict(_pair(word, "--set") for word in options.rest) | {"sample": sample})


def model_file(path: Path) -> Path:
    """The path, if there is a file.

    Raises:
        ConfigError: there is none.
    """
    if path.is_dir():
        raise ConfigError(f"--model: {path} is a folder; mend: give one file in it")
    if not path.is_file():
        raise ConfigError(f"--model: there is no file {path}; mend: check the path")
    return path


def keys_file(path: Path) -> dict[str, Any]:
    """What a YAML file says that the data are called, such as `counts: pilatus`, one key per line.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    try:
        keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--keys: {path} cannot be read ({error}); mend: give a YAML file") from error
    if not isinstance(keys, dict):
        raise ConfigError(
            f"--keys: {path} holds no `key: value`; mend: one per line, such as counts: pilatus"
        )
    return keys


def _refuse_both(options: ModelOptions) -> None:
    given = {"--layer": options.layers, "--backing": options.backing, "--set": options.rest}
    both = [name for name, value in given.items() if value]
    both += ["--fronting"] if options.fronting != ModelOptions.fronting else []
    if both:
        raise ConfigError(f"--model and {both[0]} are both given; mend: write it into {options.file}")


def _medium(text: str, option: str) -> dict[str, Any]:
    return dict(_pair(word if "=" in word else f"sld={word}", option) for word in text.split())


def _layer(text: str) -> dict[str, Any]:
    words = text.split()
    name = {"name": words.pop(0)} if words and "=" not in words[0] else {}
    return name | dict(_pair(word, "--layer") for word in words)


def _pair(word: str, option: str) -> tuple[str, Any]:
    key, _, value = word.partition("=")
    if not value:
        raise ConfigError(f"{option}: found '{word}'; mend: key=number or key=low:high")
    if pair := _OTHER_RANGE.fullmatch(value):
        raise ConfigError(f"{option}: found '{word}'; mend: write the range as {key}={pair[1]}:{pair[2]}")
    return key, _value(value)


def _value(text: str) -> Any:
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        return text  # a name, such as that of the target; the model says what is wrong if it should be none
    return numbers[0] if len(numbers) == 1 else numbers
