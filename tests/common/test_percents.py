"""Percentages survive text exactly, and what is no plain decimal is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.percents import format_percent, parse_percent


@pytest.mark.parametrize(
    ("text", "points"), [("12.5", 1250), ("-10", -1000), ("0.01", 1), ("10 %", 1000), (" +3% ", 300), ("0", 0)]
)
def test_percentages_read_by_hand(text: str, points: int) -> None:
    assert parse_percent(text) == points


@pytest.mark.parametrize("text", ["", "abc", "1e2", "0.001", "nan", "inf", "1,5"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"percentage|decimal"):
        parse_percent(text)


@given(st.integers(min_value=-(10**6), max_value=10**6))
def test_every_percentage_survives_being_text(points: int) -> None:
    assert parse_percent(format_percent(points)) == points
    assert parse_percent(format_percent(points, with_sign=True)) == points


def test_taxes_have_four_decimals() -> None:
    assert parse_percent("8.875", decimals=4) == 88_750
    assert format_percent(88_750, decimals=4) == "8.875 %"
