from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloop.figures.words import number, spread, unit_text

NAN = float("nan")

magnitudes = st.floats(1e-30, 1e30)
values = st.one_of(magnitudes, magnitudes.map(lambda x: -x), st.just(0.0))


def read(text: str) -> tuple[float, float, float]:
    """Value, sigma and the place value of the last digit that is written."""
    match = re.fullmatch(r"\(?(-?[\d.]+) ± ([\d.]+)\)?(?:e([+-]\d+))?", text)
    assert match, text
    factor = 10.0 ** int(match[3] or 0)
    decimals = len(match[2].partition(".")[2])
    return float(match[1]) * factor, float(match[2]) * factor, 10.0**-decimals * factor


@given(values, magnitudes)
def test_value_and_sigma_are_written_to_the_same_place(value: float, sigma: float):
    text = number(value, sigma)
    assert len(re.findall(r"\.(\d+)", text)) in (0, 2)
    assert len({len(digits) for digits in re.findall(r"\.(\d+)", text)}) <= 1


@given(values, magnitudes)
def test_rounding_costs_less_than_a_twentieth_of_sigma(value: float, sigma: float):
    told, told_sigma, last = read(number(value, sigma))
    assert abs(told - value) <= 0.5001 * last + 1e-12 * abs(value)
    assert abs(told - value) <= 0.0501 * max(sigma, last * 10) + 1e-12 * abs(value)
    assert abs(told_sigma - sigma) <= 0.0501 * max(sigma, last * 10)


@pytest.mark.parametrize(
    ("value", "sigma", "text"),
    [
        (308.6371, 0.2149, "308.64 ± 0.21"),
        (308.6371, 0.996, "308.6 ± 1.0"),
        (308.6371, 25.4, "309 ± 25"),
        (-4.2, 0.031, "-4.200 ± 0.031"),
        (0.0, 0.5, "0.00 ± 0.50"),
        (1.2036e-6, 3.1e-8, "(1.204 ± 0.031)e-06"),
        (1.2e-9, 0.3, "0.00 ± 0.30"),
        (3.2e9, 1e7, "(3.200 ± 0.010)e+09"),
        (2.07, 0.0, "2.07 (known)"),
        (0.0, 0.0, "0 (known)"),
        (1234.5, NAN, "1234"),
        (0.7198, NAN, "0.7198"),
        (7.391e-46, NAN, "7e-46"),
        (0.0, NAN, "0"),
        (240.0, float("inf"), "240 ± not known"),
        (NAN, 1.0, "not known"),
        (float("inf"), 1.0, "not known"),
        (True, NAN, "yes"),
        (False, NAN, "no"),
    ],
)
def test_numbers_are_written_as_people_write_them(value: float, sigma: float, text: str):
    assert number(value, sigma) == text


@given(magnitudes)
def test_an_uncertainty_alone_keeps_two_digits(sigma: float):
    assert abs(float(spread(sigma)) - sigma) <= 0.0501 * sigma
    assert len(re.sub(r"e.*|[.]|^[0.]+", "", spread(sigma))) >= 2


@pytest.mark.parametrize("sigma", [NAN, float("inf")])
def test_an_uncertainty_that_is_no_number_is_not_known(sigma: float):
    assert spread(sigma) == "not known"


def test_a_unit_that_is_not_known_is_written_as_it_is():
    assert unit_text("furlong") == "furlong"
