"""Failures are counted per address, apart from each other, and a cache that is gone locks nobody out."""

import secrets

import pytest
from django.core.cache import cache
from pytest_django.fixtures import Settings

from keys.attempts import AttemptGroup, count_attempt, find_wait


@pytest.fixture
def address(settings: Settings) -> str:
    """Return an address that nobody has used in this minute, on a cache that may be shared."""
    settings.FAILED_ATTEMPTS_PER_MINUTE = 3
    return f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"


def test_the_first_attempts_pass_and_the_rest_is_told_to_wait(address: str) -> None:
    answers = [count_attempt(AttemptGroup.API_KEY, address) for _ in range(5)]
    assert answers[:3] == [None, None, None]
    assert all(answer is not None and 1 <= answer <= 60 for answer in answers[3:])


def test_looking_does_not_count(address: str) -> None:
    assert [find_wait(AttemptGroup.LOGIN, address) for _ in range(9)] == [None] * 9
    for _ in range(3):
        count_attempt(AttemptGroup.LOGIN, address)
    assert find_wait(AttemptGroup.LOGIN, address) is not None


def test_groups_and_addresses_are_counted_apart(address: str) -> None:
    for _ in range(5):
        count_attempt(AttemptGroup.API_KEY, address)
    assert count_attempt(AttemptGroup.LOGIN, address) is None
    assert count_attempt(AttemptGroup.API_KEY, "192.0.2.1") is None


def test_all_addresses_of_an_ipv6_network_are_one_caller(address: str) -> None:
    for number in range(3):
        count_attempt(AttemptGroup.API_KEY, address.replace("::1", f"::{number + 2:x}"))
    assert count_attempt(AttemptGroup.API_KEY, address) is not None


def test_zero_switches_the_counting_off(address: str, settings: Settings) -> None:
    settings.FAILED_ATTEMPTS_PER_MINUTE = 0
    assert [count_attempt(AttemptGroup.API_KEY, address) for _ in range(9)] == [None] * 9


def test_without_the_cache_nothing_is_counted_and_nobody_is_locked_out(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> bool:
        raise ConnectionError("the cache is gone")

    monkeypatch.setattr(type(cache._connections[cache._alias]), "add", refuse)  # type: ignore[attr-defined]
    assert [count_attempt(AttemptGroup.API_KEY, address) for _ in range(9)] == [None] * 9
