"""Revenue, cost and margin by day, customer and model: for people who look after the platform's money.

A closed day is remembered for an hour, so a month of millions of calls is summed once and not by every look at it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.core.cache import cache
from django.db.models import F, Sum

from billing.models import Account, AccountKind
from billing.statistics import CLOSED_AFTER, CLOSED_CACHE_SECONDS
from billing.usage_days import read_whole_days
from billing.usage_sources import UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Sales:
    """What one customer's calls of one model brought and cost on a UTC day, by the start of the calls."""

    day: date
    customer_id: int
    customer: str
    model: str
    calls: int
    revenue_nanousd: int
    cost_nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Sums of sales under one name."""

    name: str
    calls: int
    revenue_nanousd: int
    cost_nanousd: int

    @property
    def margin_nanousd(self) -> int:
        return self.revenue_nanousd - self.cost_nanousd

    @property
    def margin_text(self) -> str:
        """Return the margin as a part of revenue, in percent with one decimal."""
        if not self.revenue_nanousd:
            return "-"
        tenths = self.margin_nanousd * 1_000 // self.revenue_nanousd
        return f"{'-' if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runway:
    """An active customer's money, and how long it lasts at the pace of the last seven days."""

    customer_id: int
    name: str
    available_nanousd: int
    daily_nanousd: int

    @property
    def days_left(self) -> int | None:
        """Return full days; None where nothing is being spent."""
        return max(0, self.available_nanousd) // self.daily_nanousd if self.daily_nanousd else None


def read_sales(first: date, last: date, *, now: datetime) -> list[Sales]:
    """Return the sales of each day, from first to last."""
    days = [first + timedelta(days=count) for count in range((last - first).days + 1)]
    return [sales for day in days for sales in _read_day(day, now)]


def add_up(sales: Sequence[Sales], name: Callable[[Sales], str]) -> list[Result]:
    """Return results by name, largest revenue first."""
    sums: dict[str, list[int]] = {}
    for entry in sales:
        found = sums.setdefault(name(entry), [0, 0, 0])
        for place, amount in enumerate((entry.calls, entry.revenue_nanousd, entry.cost_nanousd)):
            found[place] += amount
    results = [
        Result(name=name, calls=calls, revenue_nanousd=revenue, cost_nanousd=cost)
        for name, (calls, revenue, cost) in sums.items()
    ]
    return sorted(results, key=lambda result: (-result.revenue_nanousd, result.name))


def read_runways(sales: Sequence[Sales], *, today: date, within_days: int, limit: int) -> list[Runway]:
    """Return the active customers whose money is or will be used up in some days; `sales` cover seven full days."""
    week = [entry for entry in sales if today - timedelta(days=7) <= entry.day < today]
    pace = {int(result.name): result.revenue_nanousd // 7 for result in add_up(week, lambda s: str(s.customer_id))}
    accounts = (
        Account.objects.filter(kind=AccountKind.CUSTOMER, customer__status="active")
        .annotate(available=F("posted_nanousd") - F("held_nanousd"))
        .values_list("customer_id", "customer__name", "available")
    )
    runways = [
        Runway(customer_id=customer_id, name=name, available_nanousd=available, daily_nanousd=pace.get(customer_id, 0))
        for customer_id, name, available in accounts
        if pace.get(customer_id) or available <= 0
    ]
    near = [runway for runway in runways if (runway.days_left or 0) <= within_days]
    return sorted(near, key=lambda r: (r.days_left or 0, r.available_nanousd, r.name))[:limit]


def _read_day(day: date, now: datetime) -> list[Sales]:
    start = datetime.combine(day, time(), tzinfo=UTC)
    end = start + timedelta(days=1)
    is_closed = end + CLOSED_AFTER <= now
    cache_key = f"billing.finance.day:{day.isoformat()}"
    found: list[Sales] | None = cache.get(cache_key) if is_closed else None
    if found is None:
        found = read_whole_days(start, end, lambda sources: _read_sales(day, sources))
        if is_closed and found:
            cache.set(cache_key, found, CLOSED_CACHE_SECONDS)
    return found


def _read_sales(day: date, sources: Sequence[UsageSource]) -> list[Sales]:
    return [
        Sales(
            day=day,
            customer_id=row["customer_id"],
            customer=row["customer__name"],
            model=row["model"],
            calls=row["call_count"],
            revenue_nanousd=int(row["charged"]),
            cost_nanousd=int(row["paid"]),
        )
        for source in sources
        for row in source.rows.values("customer_id", "customer__name", "model")
        .annotate(call_count=source.calls, charged=Sum("charged_nanousd"), paid=Sum("provider_cost_nanousd"))
        .order_by("customer_id", "model")
    ]
