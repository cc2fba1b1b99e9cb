"""What a month will have cost at its end, by a simple method that anybody can redo.

What was spent so far, plus the average of the last full days (seven, fewer where the first call is younger) for every
day that is left, the rest of today included. No seasons, no trend: a number to notice a mistake early, not a promise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from django.db.models import Min, Sum

from billing.models import UsageRecord
from billing.statistics import DayFigures, read_recent_days
from common.clock import from_us, to_us
from common.money import divide_half_even
from keys.models import LimitState
from keys.windows import DAY_US, month_ends_us, month_number, month_start_day

BASIS_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The spend of a UTC calendar month, in nano-USD. With no full day to go by, nothing more is expected."""

    month_start: datetime
    spent_nanousd: int
    # How many full days the average is of.
    basis_days: int
    daily_average_nanousd: int
    expected_nanousd: int


def read_customer_forecast(customer_id: int, now: datetime) -> Forecast:
    """Return the forecast of one customer."""
    today = datetime.combine(now.astimezone(UTC).date(), time(), tzinfo=UTC)
    recent = UsageRecord.objects.filter(
        customer_id=customer_id, started_at__gte=today - timedelta(days=BASIS_DAYS), started_at__lt=today
    ).aggregate(charged=Sum("charged_nanousd"), first=Min("started_at"))
    basis_days = 0 if recent["first"] is None else -((recent["first"] - today) // timedelta(days=1))
    return forecast(
        now,
        spent=_read_spent([f"customer:{customer_id}"], now),
        basis=int(recent["charged"] or 0),
        basis_days=basis_days,
    )


def read_platform_forecast(now: datetime) -> Forecast:
    """Return the forecast of all customers together."""
    days: Sequence[DayFigures] = read_recent_days(BASIS_DAYS + 1, now=now)[:-1]
    first = next((place for place, day in enumerate(days) if day.calls), len(days))
    charged = sum(day.charged_nanousd for day in days)
    return forecast(now, spent=_read_spent(None, now), basis=charged, basis_days=len(days) - first)


def forecast(now: datetime, *, spent: int, basis: int, basis_days: int) -> Forecast:
    """Return the forecast for what was spent in the month and in the `basis_days` full days before today."""
    now_us = to_us(now)
    month = month_number(now_us)
    left_us = month_ends_us(month) - now_us
    more = divide_half_even(basis * left_us, basis_days * DAY_US) if basis_days else 0
    return Forecast(
        month_start=from_us(month_start_day(month) * DAY_US),
        spent_nanousd=spent,
        basis_days=basis_days,
        daily_average_nanousd=divide_half_even(basis, basis_days) if basis_days else 0,
        expected_nanousd=spent + more,
    )


def _read_spent(owners: Sequence[str] | None, now: datetime) -> int:
    """Return what was charged for calls that began this month, from the counters of budgets."""
    states = LimitState.objects.filter(month=month_number(to_us(now)))
    chosen = states.filter(owner__startswith="customer:") if owners is None else states.filter(owner__in=owners)
    return int(chosen.aggregate(spent=Sum("month_posted_nanousd"))["spent"] or 0)
