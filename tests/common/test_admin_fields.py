"""Money in forms: what is typed is what is stored, to the nano-dollar, or it is refused."""

import pytest
from django import forms
from hypothesis import given
from hypothesis import strategies as st

from common.admin_fields import LinesField, UsdField
from common.money import MAX_NANOUSD, parse_usd


@given(st.integers(min_value=0, max_value=MAX_NANOUSD))
def test_an_amount_survives_being_shown_and_sent_back(amount: int) -> None:
    field = UsdField()
    shown = field.prepare_value(amount)
    assert "e" not in shown.lower()
    assert field.clean(shown) == amount
    assert not field.has_changed(amount, shown)


@pytest.mark.parametrize("text", ["1e3", "0.0000000001", "abc", "1,000", "-0.01", "nan"])
def test_what_is_no_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(forms.ValidationError):
        UsdField().clean(text)


def test_bounds_are_told_in_usd() -> None:
    with pytest.raises(forms.ValidationError, match=r"At most 2\.50 USD"):
        UsdField(max_nanousd=parse_usd("2.5")).clean("2.6")


def test_empty_means_no_value() -> None:
    assert UsdField(required=False).clean("") is None


def test_lines_become_names() -> None:
    field = LinesField(required=False)
    assert field.clean(" gpt-* \n\nllama\r\n") == ["gpt-*", "llama"]
    assert field.prepare_value(["a", "b"]) == "a\nb"
    assert not field.has_changed(["a"], "a\n")
