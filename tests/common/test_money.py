"""Money is whole nano-dollars: text in, text out, one rounding."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import MAX_NANOUSD, divide_half_even, format_usd, parse_usd

amounts = st.integers(min_value=-MAX_NANOUSD, max_value=MAX_NANOUSD)


@given(amounts)
def test_what_is_shown_reads_back_as_the_same_amount(amount: int) -> None:
    assert parse_usd(format_usd(amount)) == amount
    assert "e" not in format_usd(amount).lower()


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("12.50", 12_500_000_000),
        (" 0.000000001 ", 1),
        ("-1", -1_000_000_000),
        ("+.5", 500_000_000),
        ("9223372036.854775807", MAX_NANOUSD),
    ],
)
def test_plain_decimals_are_exact(text: str, amount: int) -> None:
    assert parse_usd(text) == amount


@pytest.mark.parametrize(
    "text", ["", "1e3", "1E-9", "abc", "1,5", "NaN", "Infinity", "0.0000000001", "9223372036.854775808", "--1"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"USD|decimal|range"):
        parse_usd(text)


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (0, 2, "0.00"),
        (0, 0, "0"),
        (1, 2, "0.000000001"),
        (-1_500_000_000, 2, "-1.50"),
        (1_000_000_000, 0, "1"),
        (123_456_789_012, 2, "123.456789012"),
    ],
)
def test_amounts_show_all_their_digits(amount: int, decimals: int, text: str) -> None:
    assert format_usd(amount, min_decimals=decimals) == text


@given(st.integers(min_value=-(10**30), max_value=10**30), st.integers(min_value=1, max_value=10**12))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    # Python's own rounding of a Fraction is half to even.
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


def test_halves_go_to_the_even_neighbour() -> None:
    assert [divide_half_even(n, 2) for n in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]
    assert divide_half_even(25, 10) == int(Decimal("2.5").quantize(Decimal(1)))
