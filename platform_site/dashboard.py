"""The admin's first page: what happens, what it costs, what needs somebody, and what to do next."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from billing.admin.charts import DAY_CHART_OPTIONS, day_chart
from billing.models import PriceVersion, Transfer
from billing.statistics import (
    DayFigures,
    Share,
    find_low_balances,
    read_money_totals,
    read_recent_days,
    read_top_customers,
    read_top_models,
    read_upstream_faults,
)
from common.admin_display import Tone, admin_link, admin_url, badge, code, link, money, number
from common.admin_pages import Panel
from common.money import NANO_PER_USD, format_usd
from common.wording import counted
from gateway.models import Model, Upstream
from gateway.readiness import read_readiness
from keys.models import ApiKey, Customer
from keys.reporting import EXPIRING_DAYS, UNUSED_DAYS, expiring_keys, unused_keys
from platform_site.second_factor.states import Standing, find_standing

_DAYS = 30
_TOP = 5
_TOP_DAYS = 7
_LOW_BALANCE_NANOUSD = NANO_PER_USD


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One figure."""

    label: str
    value: str
    hint: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that needs somebody."""

    badge: str
    text: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of setting up."""

    is_done: bool
    text: str
    url: str


def add_dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the dashboard to the context of the admin's index (Unfold's DASHBOARD_CALLBACK)."""
    if not request.user.has_perm("billing.view_usagerecord"):
        return context
    now = datetime.now(UTC)
    days = read_recent_days(_DAYS, now=now)
    since = now - timedelta(days=_TOP_DAYS)
    has_calls = any(day.calls for day in days)
    steps = _steps(has_calls=has_calls)
    context.update(
        {
            "title": "Dashboard",
            "cards": _cards(days[-1]),
            "has_calls": has_calls,
            "chart": json.dumps(day_chart(days)),
            "chart_options": json.dumps(DAY_CHART_OPTIONS),
            "chart_summary": _chart_summary(days),
            "notices": [*_own_notices(request), *_notices(now)],
            "steps": steps if not all(step.is_done for step in steps) else [],
            "panels": [
                _shares_panel(
                    "Top customers", "Customer", read_top_customers(since=since, limit=_TOP), "keys.customer"
                ),
                _shares_panel("Top models", "Model", read_top_models(since=since, limit=_TOP), None),
            ],
            "now": now,
        }
    )
    return context


def _cards(today: DayFigures) -> list[Card]:
    totals = read_money_totals()
    usage = admin_url("billing.usagerecord", "changelist")
    error_rate = f"{today.faults * 1000 // today.calls / 10:.1f} %" if today.calls else "-"
    return [
        Card(
            label="Spend today (USD)",
            value=format_usd(today.charged_nanousd),
            hint="charged to customers since 00:00 UTC",
            url=usage,
        ),
        Card(label="Calls today", value=f"{today.calls:,}", hint="settled since 00:00 UTC", url=usage),
        Card(
            label="Error rate today",
            value=error_rate,
            hint=f"{today.faults:,} failed, interrupted or lost",
            url=f"{usage}?status__exact=failed",
        ),
        Card(
            label="Customers' balance (USD)",
            value=format_usd(totals.available_nanousd),
            hint=f"available; {format_usd(totals.held_nanousd)} more is held",
            url=admin_url("billing.account", "changelist"),
        ),
        Card(
            label="Calls in flight",
            value=f"{totals.calls_in_flight:,}",
            hint="admitted and not settled yet",
            url=admin_url("billing.hold", "changelist"),
        ),
    ]


# ---- chart


def _chart_summary(days: Sequence[DayFigures]) -> str:
    spend = format_usd(sum(day.charged_nanousd for day in days))
    return f"{spend} USD for {counted(sum(day.calls for day in days), 'call')} in {len(days)} days (UTC)"


# ---- lists


def _shares_panel(title: str, header: str, shares: Sequence[Share], model_label: str | None) -> Panel:
    usage = admin_url("billing.usagerecord", "changelist")
    rows = [
        (
            admin_link(model_label, share.id, share.name)
            if model_label is not None
            else link(f"{usage}?model={share.name}", share.name),
            number(share.calls),
            money(share.charged_nanousd),
        )
        for share in shares
    ]
    return Panel(
        title=f"{title}, last {_TOP_DAYS} days",
        headers=(header, "Calls", "Spend (USD)"),
        rows=rows,
        empty=f"No call in the last {_TOP_DAYS} days.",
    )


def _own_notices(request: HttpRequest) -> list[Notice]:
    if find_standing(request.user) is not Standing.UNPROTECTED:
        return []
    text = "Your account is protected by its password alone"
    return [_notice("warning", "Second factor", text, link(reverse("admin:second_factor"), "Set it up"))]


def _notices(now: datetime) -> list[Notice]:
    notices = [
        _notice("danger", "Upstream", f"{counted(faults.calls, 'call')} of the last hour: {faults.error_code}", link_to)
        for faults in read_upstream_faults(since=now - timedelta(hours=1), limit=_TOP)
        for link_to in [_upstream_link(faults.upstream)]
    ]
    notices += [
        _notice(
            "warning",
            "Model",
            "; ".join(found.obstacles),
            admin_link("gateway.model", found.model_id, found.name),
        )
        for found in read_readiness().values()
        if found.obstacles
    ]
    notices += [
        _notice(
            "warning",
            "Balance",
            f"{format_usd(low.available_nanousd)} USD available",
            admin_link("keys.customer", low.customer_id, low.name),
        )
        for low in find_low_balances(below_nanousd=_LOW_BALANCE_NANOUSD, limit=_TOP)
    ]
    keys = admin_url("keys.apikey", "changelist")
    for attention, count, text in (
        ("expiring", expiring_keys(ApiKey.objects.all()).count(), f"end within {EXPIRING_DAYS} days"),
        ("unused", unused_keys(ApiKey.objects.all()).count(), f"were not used for {UNUSED_DAYS} days"),
    ):
        if count:
            where = link(f"{keys}?attention={attention}", f"{count} API keys")
            notices.append(_notice("info", "Keys", text, where))
    return notices


def _upstream_link(name: str) -> str:
    return link(f"{admin_url('gateway.upstream', 'changelist')}?q={name}", code(name))


def _notice(tone: Tone, kind: str, text: str, link_html: str) -> Notice:
    return Notice(badge=badge(kind, tone), text=text, link=link_html)


def _steps(*, has_calls: bool) -> list[Step]:
    """Return the way from an empty database to the first call, and how far it is walked."""
    return [
        Step(
            is_done=Upstream.objects.exists(),
            text="Add an upstream: where models are served, with its secret",
            url=admin_url("gateway.upstream", "add"),
        ),
        Step(
            is_done=Model.objects.exists(),
            text="Add a model and its deployment on the upstream",
            url=admin_url("gateway.model", "add"),
        ),
        Step(
            is_done=PriceVersion.objects.exists(),
            text="Publish its price: calls without a price are refused",
            url=admin_url("billing.priceversion", "add"),
        ),
        Step(
            is_done=Customer.objects.exists(),
            text="Create a plan with limits, and a customer on it",
            url=admin_url("keys.customer", "add"),
        ),
        Step(
            is_done=Transfer.objects.exists(),
            text="Grant the customer credit, on its page",
            url=admin_url("keys.customer", "changelist"),
        ),
        Step(
            is_done=ApiKey.objects.exists(),
            text="Issue an API key; its secret is shown once, with a first call to try",
            url=admin_url("keys.apikey", "add"),
        ),
        Step(
            is_done=has_calls,
            text="Make the first call, then see what it cost",
            url=admin_url("billing.usagerecord", "changelist"),
        ),
    ]
