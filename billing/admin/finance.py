"""The page "Finance": revenue, what providers cost, margin, forecast, and whose money runs out."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse

from billing.admin.charts import USD_LOWEST_TOP, USD_TICKS
from billing.finance import Result, Runway, Sales, add_up, read_runways, read_sales
from billing.forecast import Forecast, read_platform_forecast
from billing.statistics import read_money_totals
from common.admin_display import admin_link, badge, money, number
from common.admin_pages import Panel
from common.money import NANO_PER_USD, format_usd
from common.wording import counted

_DAYS = 30
_TOP = 8
_SHORT_DAYS = 7
_NEAR_DAYS = 30
_AXIS = {"border": {"display": False}, "title": {"display": True, "text": "USD"}, "ticks": USD_TICKS}
_LEGEND = {"legend": {"display": True, "align": "end", "labels": {"boxWidth": 10, "boxHeight": 10}}}
_BASE: dict[str, Any] = {
    "responsive": True,
    "maintainAspectRatio": False,
    "animation": False,
    "interaction": {"mode": "index", "intersect": False},
    "plugins": _LEGEND,
}
_BY_DAY = {
    **_BASE,
    "scales": {
        "x": {"grid": {"display": False}, "ticks": {"maxTicksLimit": 10, "maxRotation": 0}},
        "y": {**_AXIS, "beginAtZero": True, "suggestedMax": USD_LOWEST_TOP},
    },
}
_BY_NAME = {
    **_BASE,
    "indexAxis": "y",
    "scales": {
        "x": {**_AXIS, "beginAtZero": True, "suggestedMax": USD_LOWEST_TOP},
        "y": {"grid": {"display": False}},
    },
}
_REVENUE, _COST, _MARGIN = "#0d9488", "#d97706", "#2563eb"


def show_finance(request: HttpRequest, model_admin: Any) -> HttpResponseBase:
    """Show the last 30 days and the month, to those who see usage and money."""
    if not request.user.has_perms(("billing.view_usagerecord", "billing.view_account")):
        raise PermissionDenied
    now = datetime.now(UTC)
    today = now.date()
    first = today - timedelta(days=_DAYS - 1)
    sales = read_sales(min(first, today.replace(day=1)), today, now=now)
    recent = [entry for entry in sales if entry.day >= first]
    customers, models = (add_up(recent, lambda s: s.customer), add_up(recent, lambda s: s.model))
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": "Finance",
        "cards": _cards([entry for entry in sales if entry.day.month == today.month], read_platform_forecast(now)),
        "has_sales": bool(recent),
        "by_day": json.dumps(_chart_by_day(recent, first)),
        "by_day_options": json.dumps(_BY_DAY),
        "by_name_options": json.dumps(_BY_NAME),
        "tops": [
            {"title": "Top customers", "chart": json.dumps(_chart_by_name(customers[:_TOP]))},
            {"title": "Top models", "chart": json.dumps(_chart_by_name(models[:_TOP]))},
        ],
        "panels": [
            _results_panel("Customers", customers),
            _results_panel("Models", models),
            _runways_panel(read_runways(sales, today=today, within_days=_NEAR_DAYS, limit=_TOP)),
        ],
        "now": now,
    }
    return TemplateResponse(request, "billing/admin/finance.html", context)


def _cards(of_month: Sequence[Sales], forecast: Forecast) -> list[dict[str, str]]:
    month = _total(of_month)
    totals = read_money_totals()
    basis = f"at the average of {forecast.basis_days} full days" if forecast.basis_days else "no full day to go by yet"
    return [
        {
            "label": "Revenue this month",
            "value": format_usd(month.revenue_nanousd),
            "hint": counted(month.calls, "call"),
        },
        {
            "label": "Provider cost this month",
            "value": format_usd(month.cost_nanousd),
            "hint": "by the prices' provider rates",
        },
        {"label": "Margin this month", "value": format_usd(month.margin_nanousd), "hint": month.margin_text},
        {
            "label": "Revenue expected",
            "value": format_usd(forecast.expected_nanousd, min_decimals=2),
            "hint": f"at the month's end, {basis}",
        },
        {
            "label": "Customers' balance",
            "value": format_usd(totals.available_nanousd),
            "hint": f"{format_usd(totals.held_nanousd)} more is held",
        },
    ]


def _total(sales: Sequence[Sales]) -> Result:
    found = add_up(sales, lambda _: "All")
    return found[0] if found else Result(name="All", calls=0, revenue_nanousd=0, cost_nanousd=0)


def _chart_by_day(sales: Sequence[Sales], first: date) -> dict[str, Any]:
    found = {result.name: result for result in add_up(sales, lambda s: s.day.isoformat())}
    days = [first + timedelta(days=count) for count in range(_DAYS)]
    empty = Result(name="", calls=0, revenue_nanousd=0, cost_nanousd=0)
    results = [found.get(day.isoformat(), empty) for day in days]
    return _chart([f"{day:%d %b}" for day in days], results)


def _chart_by_name(results: Sequence[Result]) -> dict[str, Any]:
    return _chart([result.name for result in results], results)


def _chart(labels: Sequence[str], results: Sequence[Result]) -> dict[str, Any]:
    """Return the data of a chart. For drawing only: a bar has fewer pixels than a float has digits."""
    series = (
        ("Revenue", _REVENUE, [result.revenue_nanousd for result in results]),
        ("Provider cost", _COST, [result.cost_nanousd for result in results]),
        ("Margin", _MARGIN, [result.margin_nanousd for result in results]),
    )
    return {
        "labels": list(labels),
        "datasets": [
            {
                "label": name,
                "type": "bar",
                "data": [amount / NANO_PER_USD for amount in amounts],
                "backgroundColor": colour,
            }
            for name, colour, amounts in series
        ],
    }


def _results_panel(title: str, results: Sequence[Result]) -> Panel:
    everything = Result(
        name="All",
        calls=sum(result.calls for result in results),
        revenue_nanousd=sum(result.revenue_nanousd for result in results),
        cost_nanousd=sum(result.cost_nanousd for result in results),
    )
    hidden = len(results) - _TOP
    return Panel(
        title=f"{title}, last {_DAYS} days",
        headers=(title[:-1], "Calls", "Revenue (USD)", "Provider cost (USD)", "Margin (USD)", "Margin"),
        rows=[_cells(result) for result in results[:_TOP]],
        footer=_cells(everything),
        note=f"{hidden:,} more are part of the sum; 'Spend' lists them." if hidden > 0 else "",
        empty=f"No call in the last {_DAYS} days.",
    )


def _cells(result: Result) -> tuple[object, ...]:
    return (
        result.name,
        number(result.calls),
        money(result.revenue_nanousd),
        money(result.cost_nanousd),
        money(result.margin_nanousd),
        result.margin_text,
    )


def _runways_panel(runways: Sequence[Runway]) -> Panel:
    return Panel(
        title="Balances near zero",
        headers=("Customer", "Available (USD)", "A day (USD)", "Lasts"),
        rows=[
            (
                admin_link("keys.customer", runway.customer_id, runway.name),
                money(runway.available_nanousd),
                money(runway.daily_nanousd),
                _lasts(runway),
            )
            for runway in runways
        ],
        note=f"Used up within {_NEAR_DAYS} days at the average of the last seven full ones; at nothing in any case.",
        empty=f"None: no active customer's money ends within {_NEAR_DAYS} days.",
    )


def _lasts(runway: Runway) -> object:
    if runway.available_nanousd <= 0:
        return badge("used up", "danger")
    days = runway.days_left
    if days is None:
        return "-"
    return badge(f"{days:,} days", "danger" if days < 1 else "warning" if days < _SHORT_DAYS else "success")
