"""Moments are exact to the microsecond, in UTC, and a frozen clock stands still."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from common.clock import SYSTEM_CLOCK, FrozenClock, from_us, to_us


@given(st.integers(min_value=0, max_value=253_402_300_799_999_999))
def test_a_moment_survives_the_way_to_datetime_and_back(moment_us: int) -> None:
    assert to_us(from_us(moment_us)) == moment_us


def test_a_naive_datetime_is_read_as_utc() -> None:
    assert to_us(datetime(1970, 1, 1, 0, 0, 1)) == 1_000_000  # noqa: DTZ001 - what SQLite hands out


def test_an_offset_is_taken_into_account() -> None:
    cet = timezone(timedelta(hours=1))
    assert to_us(datetime(2026, 11, 21, 13, tzinfo=cet)) == to_us(datetime(2026, 11, 21, 12, tzinfo=UTC))


def test_a_frozen_clock_moves_only_when_told() -> None:
    clock = FrozenClock(5)
    assert [clock.now_us(), clock.now_us()] == [5, 5]
    clock.advance(seconds=1.5)
    assert clock.now_us() == 1_500_005


def test_the_system_clock_tells_the_time() -> None:
    before, now, after = datetime.now(UTC), from_us(SYSTEM_CLOCK.now_us()), datetime.now(UTC)
    assert before - timedelta(microseconds=1) <= now <= after + timedelta(microseconds=1)
