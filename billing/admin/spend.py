"""The page "Spend": what was spent on what over time, as a chart and as exact sums."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from unfold.widgets import (
    UnfoldAdminSelect2Widget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSingleDateWidget,
    UnfoldAdminTextInputWidget,
)

from billing.admin.charts import USD_LOWEST_TOP, USD_TICKS
from billing.errors import SpendInvalid
from billing.spend import SpendGroup, SpendInterval, SpendQuestion, SpendRow, parse_group, read_spend
from common.admin_display import money, number
from common.admin_pages import FormSection, Panel, arrange_sections
from common.money import NANO_PER_USD, format_usd
from common.wording import counted
from keys.models import Customer

_DEFAULT_DAYS = 30
# More colours than this cannot be told apart; the rest is one group, and the table has them all.
_MOST_SERIES = 8
_MOST_LISTED = 200
_COLOURS = ("#0d9488", "#2563eb", "#d97706", "#9333ea", "#dc2626", "#65a30d", "#0891b2", "#db2777", "#78716c")
_TAG = "tag"


class SpendForm(forms.Form):
    """What to group by, of whom, and when."""

    group_by = forms.ChoiceField(
        choices=[
            (SpendGroup.CUSTOMER, "Customer"),
            (SpendGroup.KEY, "API key"),
            (SpendGroup.MODEL, "Model"),
            (SpendGroup.END_USER, "End user"),
            (_TAG, "Tag"),
        ],
        initial=SpendGroup.CUSTOMER,
        widget=UnfoldAdminSelectWidget(),
    )
    tag = forms.CharField(
        required=False,
        max_length=64,
        widget=UnfoldAdminTextInputWidget(),
        help_text="The tag's name, for 'Tag'. Calls carry tags in 'metadata' or the header x-tags.",
    )
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name"),
        required=False,
        empty_label="All",
        widget=UnfoldAdminSelect2Widget(),
    )
    interval = forms.ChoiceField(
        choices=[(SpendInterval.DAY, "Day"), (SpendInterval.HOUR, "Hour"), (SpendInterval.MONTH, "Month")],
        initial=SpendInterval.DAY,
        widget=UnfoldAdminSelectWidget(),
    )
    first_day = forms.DateField(widget=UnfoldAdminSingleDateWidget(), help_text="UTC, included.")
    last_day = forms.DateField(widget=UnfoldAdminSingleDateWidget(), help_text="UTC, included.")

    def clean(self) -> dict[str, Any]:
        """Refuse an empty range and a missing tag, with the field's name."""
        data = super().clean() or {}
        if data.get("first_day") and data.get("last_day") and data["first_day"] > data["last_day"]:
            self.add_error("last_day", "The last day lies before the first.")
        if data.get("group_by") == _TAG and not data.get("tag"):
            self.add_error("tag", "Which tag?")
        return data

    def question(self) -> SpendQuestion:
        """Return what is asked. Raises SpendInvalid."""
        data = self.cleaned_data
        group, tag = parse_group(f"tag:{data['tag']}" if data["group_by"] == _TAG else data["group_by"])
        return SpendQuestion(
            start=_midnight(data["first_day"]),
            end=_midnight(data["last_day"] + timedelta(days=1)),
            customer_id=data["customer"].pk if data["customer"] else None,
            interval=SpendInterval(data["interval"]),
            group=group,
            tag=tag,
        )


_SECTIONS = (FormSection(title="", fields=tuple(SpendForm.base_fields)),)


def show_spend(request: HttpRequest, model_admin: Any) -> HttpResponseBase:
    """Show spend of the last 30 days by customer, or what the form asks for."""
    if not request.user.has_perm("billing.view_usagerecord"):
        raise PermissionDenied
    today = datetime.now(UTC).date()
    defaults = {
        "group_by": SpendGroup.CUSTOMER.value,
        "interval": SpendInterval.DAY.value,
        "first_day": str(today - timedelta(days=_DEFAULT_DAYS - 1)),
        "last_day": str(today),
    }
    form = SpendForm({**defaults, **{name: value for name, value in request.GET.items() if value}})
    rows = _answer(form) if form.is_valid() else []
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": "Spend",
        "media": model_admin.media + form.media,
        "form": form,
        "sections": arrange_sections(_SECTIONS, form),
        "has_rows": bool(rows),
        "chart": json.dumps(_chart(rows, form.question())) if rows else "",
        "chart_options": json.dumps(_CHART_OPTIONS),
        "summary": f"{format_usd(sum(row.charged_nanousd for row in rows))} USD for "
        + counted(sum(row.calls for row in rows), "call"),
        "panels": [_groups_panel(rows)] if rows else [],
    }
    return TemplateResponse(request, "billing/admin/spend.html", context)


def _answer(form: SpendForm) -> list[SpendRow]:
    try:
        return read_spend(form.question())
    except SpendInvalid as error:
        form.add_error("tag" if error.param == "group_by" else "interval", error.message)
        return []


_CHART_OPTIONS = {
    "responsive": True,
    "maintainAspectRatio": False,
    "animation": False,
    "interaction": {"mode": "index", "intersect": False},
    "plugins": {"legend": {"display": True, "align": "end", "labels": {"boxWidth": 10, "boxHeight": 10}}},
    "scales": {
        "x": {"stacked": True, "grid": {"display": False}, "ticks": {"maxTicksLimit": 12, "maxRotation": 0}},
        "y": {
            "stacked": True,
            "beginAtZero": True,
            "suggestedMax": USD_LOWEST_TOP,
            "ticks": USD_TICKS,
            "border": {"display": False},
            "title": {"display": True, "text": "USD"},
        },
    },
}
_LABEL_FORMATS = {SpendInterval.HOUR: "%d %b %H:00", SpendInterval.DAY: "%d %b", SpendInterval.MONTH: "%b %Y"}


def _chart(rows: Sequence[SpendRow], question: SpendQuestion) -> dict[str, Any]:
    moments = _moments(question)
    by_group: dict[str, dict[datetime, int]] = {}
    labels = _labels(rows)
    shown = [group for group, _ in _ranked(rows)[:_MOST_SERIES]]
    for row in rows:
        assert row.start is not None
        name = labels[row.group] if row.group in shown else "all others"
        series = by_group.setdefault(name, {})
        series[row.start] = series.get(row.start, 0) + row.charged_nanousd
    return {
        "labels": [f"{moment:{_LABEL_FORMATS[question.interval]}}" for moment in moments],
        "datasets": [
            {
                "label": name,
                "type": "bar",
                # For drawing only: a bar has fewer pixels than a float has digits.
                "data": [series.get(moment, 0) / NANO_PER_USD for moment in moments],
                "backgroundColor": colour,
            }
            for (name, series), colour in zip(_in_order(by_group, labels, shown), _COLOURS, strict=False)
        ],
    }


def _in_order(
    by_group: Mapping[str, dict[datetime, int]], labels: Mapping[str, str], shown: Sequence[str]
) -> list[tuple[str, dict[datetime, int]]]:
    names = dict.fromkeys([labels[group] for group in shown] + ["all others"])
    return [(name, by_group[name]) for name in names if name in by_group]


def _moments(question: SpendQuestion) -> list[datetime]:
    """Return the first moment of every interval of the range, those without a call too."""
    moments = []
    moment = question.start.replace(day=1) if question.interval is SpendInterval.MONTH else question.start
    while moment < question.end:
        moments.append(moment)
        match question.interval:
            case SpendInterval.HOUR:
                moment += timedelta(hours=1)
            case SpendInterval.MONTH:
                moment = (moment + timedelta(days=32)).replace(day=1)
            case _:
                moment += timedelta(days=1)
    return moments


def _groups_panel(rows: Sequence[SpendRow]) -> Panel:
    labels = _labels(rows)
    ranked = _ranked(rows)
    sums = {group: [row for row in rows if row.group == group] for group, _ in ranked[:_MOST_LISTED]}
    total = sum(row.charged_nanousd for row in rows)
    cost = sum(row.provider_cost_nanousd for row in rows)
    hidden = len(ranked) - len(sums)
    return Panel(
        title="Sums, dearest first",
        headers=("Group", "Calls", "Tokens in", "Tokens out", "Spend (USD)", "Our cost (USD)", "Margin (USD)"),
        rows=[_sum_cells(labels[group], found) for group, found in sums.items()],
        footer=("All", number(sum(r.calls for r in rows)), "", "", money(total), money(cost), money(total - cost)),
        note=f"{hidden:,} more groups are part of the sum and not listed." if hidden else "",
        empty="",
    )


def _sum_cells(label: str, rows: Sequence[SpendRow]) -> tuple[object, ...]:
    charged = sum(row.charged_nanousd for row in rows)
    cost = sum(row.provider_cost_nanousd for row in rows)
    return (
        label,
        number(sum(row.calls for row in rows)),
        number(sum(row.input_tokens for row in rows)),
        number(sum(row.output_tokens for row in rows)),
        money(charged),
        money(cost),
        money(charged - cost),
    )


def _ranked(rows: Sequence[SpendRow]) -> list[tuple[str, int]]:
    totals: dict[str, int] = {}
    for row in rows:
        totals[row.group] = totals.get(row.group, 0) + row.charged_nanousd
    return sorted(totals.items(), key=lambda item: (-item[1], item[0]))


def _labels(rows: Sequence[SpendRow]) -> dict[str, str]:
    """Return a name for each group; of two with one name (keys of two customers) both say which."""
    named = {row.group: row.label or "none given" for row in rows}
    counts: dict[str, int] = {}
    for label in named.values():
        counts[label] = counts.get(label, 0) + 1
    return {group: label if counts[label] == 1 else f"{label} ({group})" for group, label in named.items()}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
