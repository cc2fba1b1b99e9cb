"""The limits of a customer or key on its page: what applies, from where, how full it is, and what is raised now."""

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection

from common.clock import from_us, to_us
from common.money import format_usd
from common.sql import Sql
from keys.limit_rows import LimitStatus, read_limits, read_owner_limits
from keys.limit_values import LimitKind
from keys.models import ApiKey, Customer
from keys.principals import LimitOwner, customer_counters, principal_of_row, read_rows_by_key_id
from keys.raising import limits_in_force, raises_of

_WARNING_PERCENT = 80
_NAMES = {
    LimitKind.REQUESTS: "Requests a minute",
    LimitKind.INPUT_TOKENS: "Input tokens a minute",
    LimitKind.OUTPUT_TOKENS: "Output tokens a minute",
    LimitKind.CONCURRENCY: "Calls in flight",
    LimitKind.INPUT_SIZE: "Input tokens of one call",
    LimitKind.SPEND_DAY: "USD a UTC day",
    LimitKind.SPEND_MONTH: "USD a UTC month",
    LimitKind.SPEND_TOTAL: "USD in all",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBar:
    """A limit in words, and how full it is."""

    name: str
    endpoint_class: str
    owner: str
    source: str
    limit: str
    used: str
    # None: nothing fills it.
    percent: int | None
    tone: str
    reset: str
    raised_until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRaise:
    """A raise that runs now."""

    id: int
    name: str
    value: str
    ends_at: datetime
    reason: str
    created_by: str


def read_bars(owner: Customer | ApiKey) -> list[LimitBar]:
    """Return the limits that count for an owner now; of a key its own, its makers' and its customer's."""
    moment = datetime.now(UTC)
    sql, now_us = Sql(connection), to_us(moment)
    if isinstance(owner, Customer):
        limits = limits_in_force(owner, moment)
        whole = LimitOwner(customer_counters(owner.pk), "customer", limits)
        return [_bar(status, owner) for status in read_owner_limits(sql, whole, limits, now_us)]
    principal = principal_of_row(read_rows_by_key_id(sql, [owner.pk])[owner.pk])
    found = read_limits(sql, principal, now_us)
    # The key's own first, its customer's last.
    return [_bar(status, owner.customer) for status in sorted(found, key=lambda status: status.owner == "customer")]


def read_raises(owner: Customer | ApiKey) -> list[RunningRaise]:
    """Return the raises of an owner (not of a key's customer) that run now, the first to end first."""
    now = datetime.now(UTC)
    rows = raises_of(owner).filter(starts_at__lte=now, ends_at__gt=now).order_by("ends_at", "id")
    return [
        RunningRaise(
            id=row.pk,
            name=limit_title(row.limit_name),
            value=format_usd(row.value) if row.limit_name.endswith("_nanousd") else f"{row.value:,}",
            ends_at=row.ends_at,
            reason=row.reason,
            created_by=row.created_by,
        )
        for row in rows
    ]


def limit_title(column: str) -> str:
    """Return a column of limits in words."""
    field = Customer._meta.get_field(column)
    name = str(getattr(field, "verbose_name", column)).removesuffix(" nanousd")
    return f"{name.capitalize()}{' (USD)' if column.endswith('_nanousd') else ''}"


def _bar(status: LimitStatus, customer: Customer) -> LimitBar:
    def shown(value: int) -> str:
        return format_usd(value) if status.is_money else f"{value:,}"

    has_fill = status.kind is not LimitKind.INPUT_SIZE
    percent = min(100, status.used * 100 // status.at_once) if status.at_once else 100
    burst = "" if status.at_once == status.limit else f" (at once {shown(status.at_once)})"
    return LimitBar(
        name=_NAMES[status.kind],
        endpoint_class=status.endpoint_class.value if status.endpoint_class else "all",
        owner=f"maker {status.owner_key}…" if status.owner == "maker" else status.owner,
        source=f"plan {customer.plan.name}" if status.source == "plan" else status.source,
        limit=f"{shown(status.limit)}{burst}",
        used=shown(status.used) if has_fill else "-",
        percent=percent if has_fill else None,
        tone="danger" if percent >= 100 else "warning" if percent >= _WARNING_PERCENT else "success",
        reset=_in_words(status.resets_in_seconds) if status.used else "",
        raised_until=""
        if status.raised_until_us is None
        else f"raised until {from_us(status.raised_until_us):%Y-%m-%d %H:%M} UTC",
    )


def _in_words(seconds: int | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"in {seconds} s"
    if seconds < 7_200:
        return f"in {seconds // 60} min"
    return f"in {seconds // 3_600} h" if seconds < 172_800 else f"in {seconds // 86_400} days"
