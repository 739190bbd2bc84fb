"""The recipes of the how-to on the measured neutron curves, as a user would type them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from cli.conftest import Command

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "analyze-a-file.md"
RECIPE = re.compile(
    r"^### .*?^```yaml\n(?P<model>.*?)^```$.*?^    skyloop (?P<words>.*?)$.*?^```text\n(?P<screen>.*?)^```$",
    re.M | re.S,
)
NUMBER = re.compile(r"[\d.]+(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Recipe:
    """A model, a command, and lines of what it says."""

    model: str
    words: list[str]
    screen: list[str]

    @property
    def file(self) -> str:
        return self.words[1]


@dataclass(frozen=True)
class Known:
    """What a least-squares fit by another program gave."""

    film: str
    thickness: float
    tolerance: float
    sld: float
    sld_tolerance: float


RECIPES = [
    Recipe(found["model"], found["words"].split(), found["screen"].splitlines())
    for found in RECIPE.finditer(PAGE.read_text(encoding="utf-8"))
]
KNOWN = {
    "ORSO_example.ort": Known("polymer", 260.4, 0.01, 2.44, 0.2),
    "D17_SiO.dat": Known("SiO2", 1244.7, 0.005, 3.47, 0.1),
    "Ni500.dat": Known("Ni", 496.1, 0.01, 10.1, 1.0),
}


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("│")[1:-1]]


def value_and_sigma(text: str) -> tuple[float, float]:
    """Of `260.55 ± 0.69 ?`; a number without a sigma is good to a tenth."""
    value, _, sigma = text.removesuffix(" ?").partition(" ± ")
    return float(value), float(sigma or 0.1 * float(value))


def test_the_page_has_a_recipe_for_each_measured_curve():
    assert {recipe.file for recipe in RECIPES} == set(KNOWN)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.file)
def test_a_recipe_says_what_its_page_says_and_gives_the_known_layer(
    skyloop: Command, shared_data: Path, tmp_path: Path, recipe: Recipe
) -> None:
    (tmp_path / recipe.file).write_bytes((shared_data / "reflectometry" / "nr" / recipe.file).read_bytes())
    model = next(after for word, after in pairwise(recipe.words) if word == "--model")
    (tmp_path / model).write_text(recipe.model, encoding="utf-8")
    said = skyloop(*recipe.words)
    is_trusted = not any(line.startswith("NOT TO BE TRUSTED") for line in recipe.screen)
    assert said.code == (0 if is_trusted else 3), said.err
    lines = said.out.splitlines()
    table = {cells(line)[0]: cells(line) for line in lines if line.startswith("│ ")}
    in_words = [NUMBER.sub("N", line) for line in lines]
    for line in recipe.screen:
        if not line.startswith("│"):
            assert NUMBER.sub("N", line) in in_words
            continue
        name, told, unit = cells(line)
        assert table[name][2] == unit
        assert table[name][1].endswith("?") == told.endswith("?")
        (value, sigma), (found, its_sigma) = map(value_and_sigma, (told, table[name][1]))
        assert abs(found - value) < 2 * max(sigma, its_sigma), name
        assert 0.5 < its_sigma / sigma < 2, name
    known = KNOWN[recipe.file]
    thickness, sigma = value_and_sigma(table[f"{known.film}.thickness"][1])
    assert thickness == pytest.approx(known.thickness, rel=known.tolerance)
    assert 0 < sigma < 0.01 * thickness
    sld, _ = value_and_sigma(table[f"{known.film}.sld"][1])
    assert sld == pytest.approx(known.sld, abs=known.sld_tolerance)
    assert len(list((tmp_path / "skyloop-results").glob(f"{Path(recipe.file).stem}-*.png"))) == 1
    assert len(list((tmp_path / "skyloop-results").glob("*.jsonl"))) == 2
