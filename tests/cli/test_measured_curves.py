"""`skyloop analyze` on the measured neutron curves, as a user would type it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli.conftest import Command


@dataclass(frozen=True)
class Measured:
    """A file, what a user says of it, and what a least-squares fit by another program gave."""

    file: str
    words: str
    film: str
    thickness: float
    tolerance: float
    sld: float
    sld_tolerance: float
    every: int = 1


CURVES = [
    Measured(
        "ORSO_example.ort",
        "--fronting;name=Si sld=2.07;--layer;SiO2 thickness=5:80 roughness=0:15 sld=2.5:4.5;"
        "--layer;polymer thickness=100:500 roughness=0:20 sld=0.5:4;"
        "--backing;name=D2O sld=5.5:6.6 roughness=0:15;--set;background=1e-8:1e-5",
        "polymer", 260.4, 0.01, 2.44, 0.2,
    ),
    Measured(
        "D17_SiO.dat",
        "--layer;SiO2 thickness=1000:1500 roughness=0:20 sld=2.5:4.5;"
        "--backing;name=Si sld=1.7:2.4 roughness=0:15;--set;background=1e-8:1e-5;--fwhm;--q-max;0.1144",
        "SiO2", 1244.7, 0.005, 3.47, 0.1, every=8,
    ),
    Measured(
        "Ni500.dat",
        "--layer;Ni thickness=300:700 roughness=0:20 sld=7:12;"
        "--backing;name=glass sld=1:5 roughness=0:20;--relative-resolution;0.1",
        "Ni", 496.1, 0.01, 10.1, 0.5,
    ),
]  # fmt: skip


def told(text: str, name: str) -> tuple[float, float]:
    found = re.search(rf"{re.escape(name)}\s*│\s*([\d.]+) ± ([\d.]+)", text)
    assert found, text
    return float(found[1]), float(found[2])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.film)
def test_measured_curves_give_the_known_layers_with_uncertainties_a_figure_and_two_runs(
    skyloop: Command, shared_data: Path, tmp_path: Path, curve: Measured
) -> None:
    lines = (shared_data / "reflectometry" / "nr" / curve.file).read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("#")]
    file = tmp_path / curve.file
    file.write_text("\n".join([*head, *lines[len(head) :: curve.every]]) + "\n", encoding="utf-8")
    out = tmp_path / "results"
    more = ("--set", "scale=0.7:1.3", "--set", f"target={curve.film}.thickness", "-o", out)
    said = skyloop("analyze", file, *curve.words.split(";"), *more)
    assert said.code == 0, said.err
    thickness, sigma = told(said.out, f"{curve.film}.thickness")
    assert thickness == pytest.approx(curve.thickness, rel=curve.tolerance)
    assert 0 < sigma < 0.01 * thickness
    assert told(said.out, f"{curve.film}.sld")[0] == pytest.approx(curve.sld, abs=curve.sld_tolerance)
    assert told(said.out, f"{curve.film}.roughness")[1] > 0
    assert "chi2" in said.out
    assert (out / f"{file.stem}.png").is_file()
    assert len(list(out.glob("*.jsonl"))) == 2
