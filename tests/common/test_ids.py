"""Identifiers name their kind, sort by birth and do not repeat."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ids import encode_base32, make_id


def test_ids_carry_their_prefix_and_fit_their_columns() -> None:
    made = make_id("req")
    assert made.startswith("req_")
    assert len(made) == 30
    assert set(made[4:]) <= set("0123456789abcdefghjkmnpqrstvwxyz")


def test_ten_thousand_ids_are_all_different() -> None:
    assert len({make_id("req") for _ in range(10_000)}) == 10_000


def test_ids_sort_by_the_millisecond_of_their_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for millisecond in (0, 1, 31, 32, 1_795_262_400_000, 1_795_262_400_001, 2**48 - 1):
        monkeypatch.setattr("common.ids.time.time_ns", lambda now=millisecond: now * 1_000_000)
        made.append(make_id("req"))
    assert made == sorted(made)


@given(st.integers(min_value=0, max_value=2**130 - 1), st.integers(min_value=0, max_value=2**130 - 1))
def test_base_32_keeps_the_order_of_numbers(first: int, second: int) -> None:
    encoded = [encode_base32(n, length=26) for n in (first, second)]
    assert all(len(text) == 26 for text in encoded)
    assert (encoded[0] < encoded[1]) == (first < second)


@given(st.integers(min_value=0, max_value=2**35 - 1))
def test_base_32_of_an_odd_length_is_padded_with_zeros(number: int) -> None:
    assert encode_base32(number, length=7) == encode_base32(number, length=26)[-7:]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_does_not_repeat_its_parents_ids() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, make_id("req").encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        assert answers.read()[-16:] != make_id("req")[-16:]
