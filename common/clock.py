"""Time as a dependency: whoever decides by the clock takes a `Clock`, so that tests can hold it still."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What the domain may ask of time."""

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's wall clock. Machines that share a database need NTP; leases and windows compare clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class FrozenClock:
    """A clock that moves only when told to: ships with the package because operators' dry runs use it too."""

    def __init__(self, start_us: int) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        return self._now_us

    def advance(self, *, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now_us += round(seconds * 1_000_000)


SYSTEM_CLOCK = SystemClock()


def from_us(moment_us: int) -> datetime:
    """Return the aware UTC datetime of microseconds since the epoch, exact to the microsecond."""
    return EPOCH + timedelta(microseconds=moment_us)


def to_us(moment: datetime) -> int:
    """Return microseconds since the epoch; a naive datetime is read as UTC (SQLite hands those out)."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)
