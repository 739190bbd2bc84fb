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


def stack(layers: str, rest: str = "") -> str:
    return f"sample:\n  layers: [{layers}]{BACKING}{rest}\n"


PAIR = "layers: [{thickness: 1, sld: 1}, {thickness: 1, sld: 1}]"
MANY = 10**11
HUGE = 10**400


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


@pytest.mark.parametrize(
    "written", ["010", "[010, 100]", "[10, 1_00]", "0x10", "0b10", "-07", "1:20:30", "1_0.5"]
)
def test_a_number_that_yaml_takes_for_another_is_refused(written: str) -> None:
    """YAML would take 010 for 8, a number to the base of 8."""
    with pytest.raises(ConfigError, match=r"line 3: found \S+; mend: write a decimal number"):
        load(f"sample: {{backing: {{sld: 2}}}}\n\nscale: {written}\n")


@pytest.mark.parametrize("written", ["10", "+10", "10.", "10.0", "1.0e+1", "1e1", "'10'", "1.0e1"])
def test_all_ways_to_write_ten_are_ten(written: str) -> None:
    assert load(f"sample:{BACKING}scale: {written}\nbackground: [.5, {written}]\n") == load(
        f"sample:{BACKING}scale: 10\nbackground: [0.5, 10]\n"
    )


@pytest.mark.parametrize("value", ["true", "no", "1_0e1"])
@pytest.mark.parametrize(
    "line",
    [
        "particles: {}",
        "target_sigma: {}",
        "systematic: {}",
        "q_grid: {{num: {}}}",
        "q_grid: {{stop: {}}}",
        "scale: {}",
    ],
)
def test_a_truth_and_an_underscore_are_no_number(line: str, value: str) -> None:
    with pytest.raises(ConfigError, match=r"found (True|False|'1_0e1'), n.*mend:"):
        load(stack("", line.format(value)))


def test_a_truth_is_no_number_of_repeats() -> None:
    with pytest.raises(ConfigError, match=r"repeat: found True, not a whole number; mend:"):
        load(stack(f"{{repeat: true, {PAIR}}}"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (stack(f"{{repeat: {MANY}, {PAIR}}}"), f"layers[0].repeat: found {MANY}; mend: give a whole number"),
        (stack(f"{{repeat: 9999, {PAIR}}}, {{repeat: 2, {PAIR}}}"), "found 20002 in all; mend: give at most"),
        (stack("", f"particles: {MANY}"), f"particles: found {MANY}; mend: give a whole number"),
        (stack("", f"q_grid: {{num: {MANY}}}"), f"q_grid.num: found {MANY}; mend: give a whole"),
        (stack("", "q_grid: {num: 100000}\nparticles: 100000"), "mend: give at most 1000 particles"),
        (stack(f"{{repeat: 10000, {PAIR}}}", "particles: 10000"), "mend: give at most 5000 particles"),
        (stack("", "q_grid: {stop: 1e300}"), "mend: 0 < start < stop <= 100"),
        (stack("{thickness: [1, 1e300], sld: 1}"), "found 1e+300; mend: give 0 to 1e+06 in angstrom"),
        (stack("{thickness: 1, sld: [-1e300, 1]}"), "layer1.sld: found -1e+300; mend: give -1000 to 1000"),
        (stack("{thickness: 1, sld: 1, roughness: 1e300}"), "layer1.roughness: found 1e+300; mend: give"),
        (stack("{thickness: 1, sld: 1, isld: 1e300}"), "layer1.isld: found 1e+300; mend: give 0 to 1000"),
        (stack("", "scale: [1, 1e300]"), "scale: found 1e+300; mend: give 0 to 1e+12"),
        (stack("", "background: 1e300"), "background: found 1e+300; mend: give 0 to 1e+12"),
        (stack("", "q_offset: [-1e300, 1]"), "q_offset: found -1e+300; mend: give -100 to 100 in 1/angstrom"),
        (stack("", "resolution: 1e300"), "resolution: found 1e+300; mend: give 0 to 1000"),
        (stack("", f"scale: [1, {HUGE}]"), "not a finite number; mend"),
        (stack("", f"target_sigma: {HUGE}"), "not a finite number; mend"),
        (stack("", f"particles: {HUGE}"), "mend: give a whole number from 100 to 100000"),
    ],
)  # fmt: skip
def test_more_than_any_sample_needs_is_refused_at_once(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_the_largest_sample_needs_is_read() -> None:
    layers = f"{{repeat: 9999, {PAIR}}}, {{thickness: [1, 1e6], sld: [-1e3, 1e3]}}, {{thickness: 1, sld: 1}}"
    config = load(stack(layers, "q_grid: {num: 100000, stop: 100}\nscale: 1e12"))
    assert sum(group.repeat * len(group.layers) for group in config.sample.groups()) == 20_000
    assert load(stack("", "particles: 100000")).particles == 100_000


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
        ("sample:\n  layers: [{repeat: 0, layers: []}]" + BACKING, "sample.layers[0].repeat: found 0"),
        ("sample:\n  layers: [{repeat: 1, layers: []}]" + BACKING, "sample.layers[0].layers: found none"),
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
        (f"sample:{BACKING}background: [1e-300, 1e-5]\n", "log-uniform and starts at 1e-300"),
        ("sample: [\n", "line 2: not YAML"),
        ("sample: \0\n", "not YAML"),
        ("? [sample]\n: 1\n", "line 1: not YAML"),
        (f"sample: {'1' * 5000}\n", "not YAML"),
        ("sample: !!python/object/apply:os.getcwd []\n", "line 1: tag !!python/object"),
        (f"sample:{BACKING}scale: !!bool x\n", "line 3: tag !!bool"),
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"sample:{BACKING}scale: 100-500\n", ["line 3: found 100-500; mend: write a range as [100, 500]"]),
        ("sample: [\n", ["line 2: not YAML: "]),
        ("scael: 1\n", ["sample: missing", "scael: found 1, unknown key"]),
        (f"sample:{BACKING}target: film.sld\n", ["target: film.sld is no parameter"]),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path: Path, text: str, told: list[str]) -> None:
    path = tmp_path / "film.yaml"
    path.write_text(text)
    for given in (path, str(path)):
        with pytest.raises(ConfigError) as caught:
            load(given)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{path}: {what}") for line, what in zip(lines, told, strict=True))


def test_a_file_in_another_encoding_is_told_which_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "film.yaml"
    path.write_bytes(f"sample:{BACKING}# \xc5\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"film\.yaml: cannot be read .*mend: give a YAML file in UTF-8"):
        load(path)


def test_python_is_checked_like_yaml() -> None:
    with pytest.raises(ConfigError, match="low 3 is not below high 1"):
        Config(sample=Sample(backing=Medium(sld=(3, 1))))


@pytest.mark.parametrize("sld", ["2.07e-6", "[0, 6.0e-6]", "[-3e-6, -1e-6]"])
def test_a_density_in_another_unit_is_refused(sld: str) -> None:
    with pytest.raises(ConfigError, match=r"layer1\.sld: found .*mend: write 2\.07 for 2\.07e-6/angstrom\^2"):
        load(f"sample:\n  layers: [{{thickness: [10, 30], sld: {sld}}}]\n  backing: {{sld: 2.07}}\n")


def test_a_vacuum_is_no_other_unit() -> None:
    assert load("sample:\n  layers: [{thickness: [10, 30], sld: 0}]\n  backing: {sld: 2.07}\n")


def test_a_target_that_is_known_is_given_a_range_where_nothing_else_is_free() -> None:
    text = "sample:\n  layers: [{thickness: 30, sld: 3}]\n  backing: {sld: 2.07}\ntarget: layer1.thickness\n"
    with pytest.raises(ConfigError, match=r"is known, not free; mend: give it a range \[low, high\]$"):
        load(text)


@pytest.mark.parametrize("sld", [10**400, float("nan"), float("inf")])
def test_no_number_of_python_is_too_large_for_a_readable_error(sld: float) -> None:
    with pytest.raises(ConfigError, match=r"backing\.sld: found .*; mend: give -1000 to 1000"):
        Config(sample=Sample(backing=Medium(sld=sld)))
