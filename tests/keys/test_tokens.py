"""A key's text can be told from a guess, found by a scanner, and not be read back from what is stored."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.models import KeyEnvironment
from keys.tokens import TOKEN_PATTERN, hash_token, is_well_formed, make_token, visible_prefix

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("environment", list(KeyEnvironment))
def test_a_fresh_key_is_well_formed_and_names_its_environment(environment: KeyEnvironment) -> None:
    token = make_token(environment)
    assert token.startswith(f"tk_{environment.value}_")
    assert TOKEN_PATTERN.fullmatch(token)
    assert is_well_formed(token)


def test_a_key_carries_160_bits_from_all_characters() -> None:
    tokens = [make_token(KeyEnvironment.LIVE) for _ in range(500)]
    assert len(set(tokens)) == 500
    random_parts = [token.removeprefix("tk_live_")[:27] for token in tokens]
    assert {len(part) for part in random_parts} == {27}
    assert 27 * math.log2(len(ALPHABET)) > 160
    # Every character at every place: the chance that a fair source misses one of 62 in 500 draws is below 2 %.
    seen = [{part[place] for part in random_parts} for place in range(27)]
    assert set.union(*seen) == set(ALPHABET)
    assert min(len(characters) for characters in seen) > 50


@given(place=st.integers(min_value=0, max_value=40), character=st.sampled_from(ALPHABET))
def test_one_wrong_character_is_found_without_asking_anybody(place: int, character: str) -> None:
    token = "tk_live_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n" + "3ZDqhA"
    token = token if is_well_formed(token) else make_token(KeyEnvironment.LIVE)
    wrong = token[:place] + character + token[place + 1 :]
    assert is_well_formed(wrong) == (wrong == token)


@given(place=st.integers(min_value=8, max_value=39))
def test_two_swapped_characters_are_found(place: int) -> None:
    token = make_token(KeyEnvironment.LIVE)
    swapped = token[:place] + token[place + 1] + token[place] + token[place + 2 :]
    assert is_well_formed(swapped) == (swapped == token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tk_live_",
        "sk-proj-abc",
        "tk_prod_" + "0" * 33,
        "tk_live_" + "0" * 32,
        "tk_live_" + "0" * 34,
        "tk_live_é" * 9,
    ],
)
def test_other_texts_are_not_keys(text: str) -> None:
    assert not is_well_formed(text)


def test_a_line_break_behind_a_key_does_not_pass() -> None:
    assert not is_well_formed(make_token(KeyEnvironment.TEST) + "\n")


def test_what_is_shown_does_not_help_to_guess_the_rest() -> None:
    token = make_token(KeyEnvironment.LIVE)
    assert visible_prefix(token) == token[:13]
    # Five of 27 random characters are shown: 131 bits stay.
    assert (27 - 5) * math.log2(62) > 128


def test_what_is_stored_depends_on_key_and_pepper() -> None:
    token, other = make_token(KeyEnvironment.LIVE), make_token(KeyEnvironment.LIVE)
    stored = hash_token(token, "pepper")
    assert stored == hash_token(token, "pepper")
    assert len({stored, hash_token(token, "other pepper"), hash_token(other, "pepper")}) == 3
    assert len(stored) == 64
    assert token not in stored


def test_the_stored_form_is_hmac_sha_256() -> None:
    # RFC 4231, test case 2.
    assert (
        hash_token("what do ya want for nothing?", "Jefe")
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
