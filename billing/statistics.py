"""Figures for people who look after the platform: spend and calls, bounded by an indexed range of time.

Nothing decides by these numbers. A day is a UTC day by the start of its calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.core.cache import cache
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import TruncDate

from billing.models import Account, AccountKind, Hold, UsageRecord
from billing.usage_days import read_whole_days
from billing.usage_sources import FAULTS, UsageSource

# A call of yesterday may still be running, so a day counts as closed only after the longest call.
CLOSED_AFTER = timedelta(hours=2)
CLOSED_CACHE_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFigures:
    """What happened on one UTC day."""

    day: date
    calls: int
    faults: int
    charged_nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One customer's or model's part of a range; `id` is None for a model."""

    id: int | None
    name: str
    calls: int
    charged_nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFaults:
    """How often an upstream failed in one way."""

    upstream: str
    error_code: str
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyTotals:
    """What all customers have, and what is held by calls in flight."""

    available_nanousd: int
    held_nanousd: int
    calls_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LowBalance:
    """An active customer that is about to run out."""

    customer_id: int
    name: str
    available_nanousd: int


def read_day(day: date, *, now: datetime) -> DayFigures:
    """Return the figures of one day. A closed day does not change any more, so it is remembered for an hour."""
    start = datetime.combine(day, time(), tzinfo=UTC)
    end = start + timedelta(days=1)
    is_closed = end + CLOSED_AFTER <= now
    cache_key = f"billing.statistics.day:{day.isoformat()}"
    found: DayFigures | None = cache.get(cache_key) if is_closed else None
    if found is None:
        found = read_whole_days(start, end, lambda sources: _add_up(day, sources))
        # An empty day costs nothing to ask again, and may be filled by an import.
        if is_closed and found.calls:
            cache.set(cache_key, found, CLOSED_CACHE_SECONDS)
    return found


def _add_up(day: date, sources: Sequence[UsageSource]) -> DayFigures:
    sums = [
        source.rows.aggregate(call_count=source.calls, fault_count=source.faults, charged=Sum("charged_nanousd"))
        for source in sources
    ]
    return DayFigures(
        day=day,
        calls=sum(part["call_count"] or 0 for part in sums),
        faults=sum(part["fault_count"] or 0 for part in sums),
        charged_nanousd=sum(int(part["charged"] or 0) for part in sums),
    )


def read_recent_days(count: int, *, now: datetime) -> list[DayFigures]:
    """Return the last `count` days up to today, oldest first."""
    today = now.astimezone(UTC).date()
    return [read_day(today - timedelta(days=back), now=now) for back in range(count - 1, -1, -1)]


def read_key_days(key_id: int, count: int, *, now: datetime) -> list[DayFigures]:
    """Return a key's last `count` days up to today, oldest first, in one query along its index."""
    today = now.astimezone(UTC).date()
    start = datetime.combine(today - timedelta(days=count - 1), time(), tzinfo=UTC)
    rows = (
        UsageRecord.objects.filter(api_key_id=key_id, started_at__gte=start)
        .annotate(day=TruncDate("started_at", tzinfo=UTC))
        .values("day")
        .annotate(calls=Count("id"), faults=Count("id", filter=Q(status__in=FAULTS)), charged=Sum("charged_nanousd"))
    )
    found = {row["day"]: row for row in rows}
    days = [today - timedelta(days=back) for back in range(count - 1, -1, -1)]
    empty = {"calls": 0, "faults": 0, "charged": 0}
    return [
        DayFigures(day=day, calls=row["calls"], faults=row["faults"], charged_nanousd=int(row["charged"] or 0))
        for day in days
        for row in (found.get(day, empty),)
    ]


def read_top_customers(*, since: datetime, limit: int) -> list[Share]:
    """Return the customers that spent most since a moment."""
    rows = (
        UsageRecord.objects.filter(started_at__gte=since)
        .values("customer_id", "customer__name")
        .annotate(calls=Count("id"), charged=Sum("charged_nanousd"))
        .order_by("-charged", "-calls", "customer_id")[:limit]
    )
    return [
        Share(
            id=row["customer_id"],
            name=row["customer__name"],
            calls=row["calls"],
            charged_nanousd=int(row["charged"] or 0),
        )
        for row in rows
    ]


def read_top_models(*, since: datetime, limit: int) -> list[Share]:
    """Return the models that most was spent on since a moment."""
    rows = (
        UsageRecord.objects.filter(started_at__gte=since)
        .values("model")
        .annotate(calls=Count("id"), charged=Sum("charged_nanousd"))
        .order_by("-charged", "-calls", "model")[:limit]
    )
    return [
        Share(id=None, name=row["model"], calls=row["calls"], charged_nanousd=int(row["charged"] or 0)) for row in rows
    ]


def read_upstream_faults(*, since: datetime, limit: int) -> list[UpstreamFaults]:
    """Return how upstreams failed since a moment, most frequent first."""
    rows = (
        UsageRecord.objects.filter(started_at__gte=since, error_code__startswith="upstream_")
        .values("upstream", "error_code")
        .annotate(calls=Count("id"))
        .order_by("-calls", "upstream", "error_code")[:limit]
    )
    return [UpstreamFaults(**row) for row in rows]


def read_money_totals() -> MoneyTotals:
    """Return the sums over all customers' accounts and the number of open holds (both small tables)."""
    sums = Account.objects.filter(kind=AccountKind.CUSTOMER).aggregate(
        available=Sum(F("posted_nanousd") - F("held_nanousd")), held=Sum("held_nanousd")
    )
    return MoneyTotals(
        available_nanousd=int(sums["available"] or 0),
        held_nanousd=int(sums["held"] or 0),
        calls_in_flight=Hold.objects.count(),
    )


def find_low_balances(*, below_nanousd: int, limit: int) -> list[LowBalance]:
    """Return active customers with less than `below_nanousd` available, poorest first."""
    rows = (
        Account.objects.filter(kind=AccountKind.CUSTOMER, customer__status="active")
        .annotate(available=F("posted_nanousd") - F("held_nanousd"))
        .filter(available__lt=below_nanousd)
        .order_by("available", "id")
        .values_list("customer_id", "customer__name", "available")[:limit]
    )
    return [
        LowBalance(customer_id=customer_id, name=name, available_nanousd=available)
        for customer_id, name, available in rows
    ]
