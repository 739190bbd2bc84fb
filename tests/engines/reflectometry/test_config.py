from __future__ import annotations

from pathlib import Path

import pytest

from skyloop.engines.reflectometry.config import Config, Layer, Medium, QGrid, Repeat, Sample, load
from skyloop.errors import ConfigError

FULL = """
sample:
  fronting: {name: air, sld: 0.0}
  layers:
    - {name: film, thickness: [100, 500], roughness: [2, 15], sld: [0, 6.5]}
    - {repeat: 10, layers: [{thickness: 70, sld: -1.95}, {thickness: 30, sld: 9.4, isld: 1e-3}]}
  backing: {name: Si, sld: 2.07, roughness: [2, 8]}
scale: [0.9, 1.1]
background: [1e-8, 1e-5]
target: film.thickness
target_sigma: 0.5
systematic: 0.01
q_grid: {start: 0.01, stop: 0.3, num: 100}
particles: 400
"""
BACKING = "\n  backing: {sld: 2}\n"


def test_yaml_becomes_the_dataclasses() -> None:
    assert load(FULL) == Config(
        sample=Sample(
            fronting=Medium(name="air", sld=0.0),
            layers=(
                Layer(name="film", thickness=(100, 500), roughness=(2, 15), sld=(0, 6.5)),
                Repeat(10, (Layer(70, -1.95), Layer(30, 9.4, isld=1e-3))),
            ),
            backing=Medium(name="Si", sld=2.07, roughness=(2, 8)),
        ),
        scale=(0.9, 1.1),
        background=(1e-8, 1e-5),
        target="film.thickness",
        target_sigma=0.5,
        systematic=0.01,
        q_grid=QGrid(0.01, 0.3, 100),
        particles=400,
    )


def test_a_file_is_read_like_text(tmp_path: Path) -> None:
    path = tmp_path / "sample.yaml"
    path.write_text(FULL)
    assert load(path) == load(str(path)) == load(FULL)


@pytest.mark.parametrize("written", ["2:4", "2.5:4", "300-700", "1e-8:1e-5", "-1:4"])
def test_a_range_written_as_a_word_is_refused_with_its_mend(written: str) -> None:
    """YAML would take 2:4 for 124 and 10:50 for 650, numbers to the base of 60."""
    with pytest.raises(ConfigError, match=r"line 2: found .*write a range as \["):
        load(f"sample: {{backing: {{sld: 2}}}}\nscale: {written}\n")


def test_numbers_that_yaml_takes_for_words_are_numbers() -> None:
    assert load(f"sample:{BACKING}background: 1e-6\n").background == 1e-6
    assert load(f"sample:{BACKING}background: [1e-7, 1e-6]\n").background == (1e-7, 1e-6)


def test_layers_without_names_are_named_by_position() -> None:
    names = [layer.name for layer in load(FULL).sample.named_layers()]
    assert names == ["film", "layer2", "layer3"]


def test_media_without_names_are_fronting_and_backing() -> None:
    config = load("sample:\n  fronting: {sld: 1}\n  backing: {sld: [1, 2]}\ntarget: backing.sld\n")
    assert [e.name for e in config.entries() if e.name.endswith(".sld")] == [
        "fronting.sld",
        "backing.sld",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sample: {}\n", "sample.backing: missing"),
        ("\n", "configuration: found None"),
        (f"sample:{BACKING}scael: 1\n", "scael: found 1, unknown key"),
        ("sample:\n  backing: {sld: 2, rough: 3}\n", "sample.backing.rough: found 3, unknown key"),
        ("sample:\n  layers: [{sld: 1}]\n  backing: {sld: 2}\n", "sample.layers[0].thickness: missing"),
        ("sample:\n  backing: {sld: yes}\n", "sample.backing.sld: found True, neither a number"),
        ("sample:\n  backing: {sld: dense}\n", "sample.backing.sld: found 'dense'"),
        ("sample:\n  backing: {sld: .nan}\n", "sample.backing.sld: found nan, not a finite number"),
        ("sample:\n  backing: {sld: [1, 2, 3]}\n", "a range is a pair [low, high]"),
        ("sample:\n  backing: {sld: [3, 1]}\n", "backing.sld: low 3 is not below high 1"),
        ("sample:\n  backing: {sld: [1, 1]}\n", "backing.sld: low 1 is not below high 1"),
        ("sample:\n  backing: {sld: 2, roughness: -1}\n", "backing.roughness: found -1"),
        ("sample:\n  layers: [{thickness: [-5, 9], sld: 1}]" + BACKING, "layer1.thickness: found -5"),
        ("sample:\n  layers: [{thickness: 5, sld: 1, isld: -1}]" + BACKING, "layer1.isld: found -1"),
        ("sample:\n  layers: [{repeat: 0, layers: []}]" + BACKING, "sample.layers[0]: repeat 0"),
        ("sample:\n  fronting: {sld: 0, roughness: 3}" + BACKING, "sample.fronting: has a roughness"),
        (
            "sample:\n  layers: [{name: a, thickness: 1, sld: 1}, {name: a, thickness: 1, sld: 1}]"
            + BACKING,
            "the name a is used twice",
        ),
        ("sample:\n  layers: [{name: a b, thickness: 1, sld: 1}]" + BACKING, "'a b' is no word"),
        (f"sample:{BACKING}background: [0, 1e-5]\n", "background: its prior is log-uniform"),
        (f"sample:{BACKING}target: film.sld\n", "target: film.sld is no parameter"),
        (f"sample:{BACKING}target: backing.sld\n", "target: backing.sld is known, not free"),
        (f"sample:{BACKING}target_sigma: 0\n", "target_sigma: found 0"),
        (f"sample:{BACKING}systematic: 1\n", "systematic: found 1"),
        (f"sample:{BACKING}particles: 3\n", "particles: found 3"),
        (f"sample:{BACKING}q_grid: {{start: 0, stop: 1, num: 9}}\n", "q_grid: found"),
        (f"sample:{BACKING}scale: 1\nscale: 2\n", "line 4: scale is given twice"),
        ("sample: [\n", "not YAML"),
        ("sample: !!python/object/apply:os.getcwd []\n", "not YAML"),
        ("a: &a [1, 2]\nb: *a\n", "line 2: alias *a"),
        ("a: " + "[" * 40 + "]" * 40 + "\n", "nested deeper than"),
        ("# " + "x" * 70_000 + "\n", "more than 65536 characters"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_key_and_mend(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert told in str(caught.value)
    assert "mend:" in str(caught.value)


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    levels = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    bomb = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *levels])
    with pytest.raises(ConfigError, match="alias"):
        load(bomb)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load("sample:\n  backing: {sld: no, rough: 1}\nscael: 1\n")
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml")


def test_python_is_checked_like_yaml() -> None:
    with pytest.raises(ConfigError, match="low 3 is not below high 1"):
        Config(sample=Sample(backing=Medium(sld=(3, 1))))
