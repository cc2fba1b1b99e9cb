"""Calendar months in a customer's time zone, as half-open ranges of moments.

A month begins at its first midnight there; where daylight saving leaves none out, or has two, at the earlier moment of
both. The end of a month is the start of the next one, so that every moment belongs to one month.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from billing.errors import PeriodInvalid

_MONTH = re.compile(r"^(20\d\d)-(0[1-9]|1[0-2])$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A month ("2026-10") of a time zone; `start` is in it, `end` is not, both in UTC."""

    month: str
    time_zone: str
    start: datetime
    end: datetime


def make_period(month: str, time_zone: str) -> Period:
    """Return a month of a time zone. Raises PeriodInvalid for what is neither."""
    found = _MONTH.match(month)
    if found is None:
        raise PeriodInvalid(f"'{month[:20]}' is no month; write it like 2026-10.", param="month")
    if time_zone not in available_timezones():
        raise PeriodInvalid(f"'{time_zone[:60]}' is no time zone; correct the customer's billing profile.")
    year, number = int(found[1]), int(found[2])
    return Period(
        month=month,
        time_zone=time_zone,
        start=_first_moment(year, number, time_zone),
        end=_first_moment(year + number // 12, number % 12 + 1, time_zone),
    )


def last_month(now: datetime, time_zone: str) -> str:
    """Return the last month that is over in a time zone, such as "2026-10"."""
    local = now.astimezone(ZoneInfo(time_zone))
    return f"{local.year:04d}-{local.month - 1:02d}" if local.month > 1 else f"{local.year - 1:04d}-12"


def _first_moment(year: int, month: int, time_zone: str) -> datetime:
    return datetime(year, month, 1, tzinfo=ZoneInfo(time_zone)).astimezone(UTC)
