"""What guards did: decisions of real calls, without their texts, and the report of each rule."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.widgets import UnfoldAdminSelect2Widget, UnfoldAdminSelectWidget

from common.admin_base import page_action
from common.admin_display import admin_link, admin_url, badge, code, money, number, short_code, utc
from common.admin_keyset import Keyset, KeysetModelAdmin
from common.admin_pages import FormPage, Panel, run_form_page
from common.clock import from_us, to_us
from common.wording import counted
from gateway.guard_models import GuardDecision
from gateway.guard_policies import (
    CheckCost,
    RuleCount,
    mark_decision,
    read_check_costs,
    read_counts,
    read_false_positives,
)
from gateway.guard_rows import KEPT_A_CALL, KEPT_A_MINUTE, KEPT_DAYS
from gateway.guards.judging import CUSTOMER_TAG, REQUEST_TAG, RULE_TAG
from gateway.guards.values import Action
from keys.admin_trail import admin_actor
from keys.models import Customer

_TONES = {Action.FLAG: "warning", Action.REDACT: "info", Action.BLOCK: "danger"}
_COLOURS = ("#0d9488", "#2563eb", "#d97706", "#9333ea", "#dc2626", "#65a30d", "#0891b2", "#db2777", "#78716c")
_OTHERS = "all others"
_MOST_CUSTOMERS = 3
_DAY_US = 86_400_000_000


@admin.register(GuardDecision)
class GuardDecisionAdmin(KeysetModelAdmin[GuardDecision]):
    keyset = Keyset(moment="created_us", indexed_filters=frozenset({"customer"}))
    list_display = ("time", "short_id", "customer", "key_link", "rule", "action_badge", "place", "mark")
    list_display_links = ("short_id",)
    list_filter = (("customer", AutocompleteSelectFilter), "action", "is_false_positive")
    list_select_related = ("customer", "api_key")
    search_fields = ("request_id__exact", "rule__exact")
    search_help_text = (
        f"A request id or a rule. Kept for {KEPT_DAYS} days: of a call the first {KEPT_A_CALL} findings, of a key "
        f"{KEPT_A_MINUTE} a minute; the report counts all"
    )
    ordering = ("-created_us", "-id")
    fields = (
        *("time", "request_id", "customer", "key_link", "policy", "rule", "action_badge"),
        *("place", "characters", "mark"),
    )
    actions_detail = ("toggle_mark",)  # type: ignore[assignment]

    @override
    def get_urls(self) -> list[URLPattern]:
        report = self.admin_site.admin_view(self.report_view)
        return [path("report/", report, name="gateway_guarddecision_report"), *super().get_urls()]

    @admin.display(description="Time (UTC)")
    def time(self, decision: GuardDecision) -> SafeString | str:
        return utc(from_us(decision.created_us), zone="")

    @admin.display(description="Request")
    def short_id(self, decision: GuardDecision) -> SafeString:
        return short_code(decision.request_id)

    @admin.display(description="Key")
    def key_link(self, decision: GuardDecision) -> SafeString:
        return admin_link("keys.apikey", decision.api_key_id, code(f"{decision.api_key.prefix}…"))

    @admin.display(description="Action")
    def action_badge(self, decision: GuardDecision) -> SafeString:
        return badge(decision.action, _TONES[Action(decision.action)])  # type: ignore[arg-type]

    @admin.display(description="Characters")
    def characters(self, decision: GuardDecision) -> str:
        return f"{decision.start_offset:,} to {decision.end_offset:,} of that text, which is kept nowhere"

    @admin.display(description="Mistake")
    def mark(self, decision: GuardDecision) -> SafeString | str:
        return badge("false positive", "warning") if decision.is_false_positive else "-"

    def has_mark_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("gateway.change_guarddecision")

    @page_action(description="Mark as false positive, or not", url_path="mark", icon="flag", permission="mark")
    def toggle_mark(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Ask, and mark the decision or take the mark back."""
        decision = get_object_or_404(GuardDecision, pk=object_id)
        is_mistake = not decision.is_false_positive
        page_url = admin_url("gateway.guarddecision", "change", decision.pk)

        def act() -> HttpResponseBase:
            mark_decision(decision_id=decision.pk, is_false_positive=is_mistake, actor=admin_actor(request))
            messages.success(request, "Marked as a mistake of the rule." if is_mistake else "No longer marked.")
            return redirect(page_url)

        page = FormPage(
            title=f"Was '{decision.rule}' wrong?" if is_mistake else f"Was '{decision.rule}' right after all?",
            submit_label="Mark as false positive" if is_mistake else "Take the mark back",
            cancel_url=page_url,
            intro="The report shows how many decisions of a rule were marked. Nothing else changes.",
        )
        return run_form_page(self, request, page, forms.Form(request.POST or None), act=act)

    def report_view(self, request: HttpRequest) -> HttpResponseBase:
        """Show how often each rule acted, over time and on whom."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return _show_report(self, request)


class ReportForm(forms.Form):
    """Of whom, and how far back."""

    days = forms.TypedChoiceField(
        choices=[(7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "A year")],
        coerce=int,
        label="Over",
        widget=UnfoldAdminSelectWidget(),
    )
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name"),
        required=False,
        empty_label="All",
        widget=UnfoldAdminSelect2Widget(),
    )


def _show_report(model_admin: Any, request: HttpRequest) -> HttpResponseBase:
    now = datetime.now(UTC)
    form = ReportForm({"days": "30", **{name: value for name, value in request.GET.items() if value}})
    counts: list[RuleCount] = []
    panels = []
    days = 30
    if form.is_valid():
        days, customer = form.cleaned_data["days"], form.cleaned_data["customer"]
        counts = read_counts(days=days, now=now, customer_id=customer.pk if customer else None)
        panels = [_report_panel(counts, read_false_positives(days=days, now=now))]
        if request.user.has_perm("billing.view_usagerecord"):
            panels += _cost_panels(read_check_costs(days=days, now=now), days=days, now=now)
    total = sum(count.findings for count in counts)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": "Guard report",
        "media": model_admin.media + form.media,
        "form": form,
        "has_rows": bool(counts),
        "chart": json.dumps(_chart(counts, days=days, now=now)) if counts else "",
        "chart_options": json.dumps(_CHART_OPTIONS),
        "summary": counted(total, "finding"),
        "panels": panels,
    }
    return TemplateResponse(request, "gateway/admin/guard_report.html", context)


def _report_panel(counts: list[RuleCount], mistakes: dict[tuple[str, str], int]) -> Panel:
    rules: dict[tuple[str, str], list[RuleCount]] = {}
    for count in counts:
        rules.setdefault((count.policy, count.rule), []).append(count)
    ranked = sorted(rules.items(), key=lambda item: -sum(count.findings for count in item[1]))
    return Panel(
        title="By rule, busiest first",
        headers=("Policy", "Rule", "Findings", "Flagged", "Redacted", "Blocked", "False positives", "Mostly of"),
        rows=[
            (
                policy,
                code(rule),
                number(sum(count.findings for count in found)),
                *(number(_sum(found, action) or None) for action in Action),
                number(mistakes.get((policy, rule))),
                _customers(found),
            )
            for (policy, rule), found in ranked
        ],
        note=f"False positives are those marked among the decisions that are kept ({KEPT_DAYS} days).",
        empty="No rule has found anything in that time.",
        link_url=admin_url("gateway.guarddecision", "changelist"),
        link_text="Decisions",
    )


def _cost_panels(costs: list[CheckCost], *, days: int, now: datetime) -> list[Panel]:
    if not costs:
        return []
    shown: dict[str, object] = {
        "group_by": "tag",
        "tag": RULE_TAG,
        "first_day": (now - timedelta(days=days - 1)).date(),
        "last_day": now.date(),
    }
    payers = {cost.payer_id for cost in costs}
    if len(payers) == 1:
        shown["customer"] = payers.pop()
    return [
        Panel(
            title="What models that judge have cost",
            headers=("Rule", "Paid by", "Checks", "Charged USD", "Provider cost USD"),
            rows=[
                (
                    code(cost.rule),
                    cost.payer,
                    number(cost.checks),
                    money(cost.charged_nanousd),
                    money(cost.provider_cost_nanousd),
                )
                for cost in costs
            ],
            footer=(
                "All together",
                "",
                number(sum(cost.checks for cost in costs)),
                money(sum(cost.charged_nanousd for cost in costs)),
                money(sum(cost.provider_cost_nanousd for cost in costs)),
            ),
            note=f"Of all customers' calls. By customer: Spend, by the tag {CUSTOMER_TAG}. Of one call: the payer's "
            f"usage records with the tag {REQUEST_TAG}.",
            empty="",
            link_url=f"{admin_url('billing.usagerecord', 'spend')}?{urlencode(shown)}",
            link_text="Spend over time",
        )
    ]


def _sum(counts: list[RuleCount], action: Action) -> int:
    return sum(count.findings for count in counts if count.action == action.value)


def _customers(counts: list[RuleCount]) -> str:
    sums: dict[str, int] = {}
    for count in counts:
        sums[count.customer] = sums.get(count.customer, 0) + count.findings
    ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} ({findings:,})" for name, findings in ranked[:_MOST_CUSTOMERS])
    return shown + (f" and {len(ranked) - _MOST_CUSTOMERS} more" if len(ranked) > _MOST_CUSTOMERS else "")


def _chart(counts: list[RuleCount], *, days: int, now: datetime) -> dict[str, Any]:
    today = to_us(now) // _DAY_US
    moments = range(today - days + 1, today + 1)
    sums: dict[str, dict[int, int]] = {}
    for count in counts:
        series = sums.setdefault(count.rule, {})
        series[count.day] = series.get(count.day, 0) + count.findings
    ranked = sorted(sums, key=lambda rule: (-sum(sums[rule].values()), rule))
    shown = {rule: sums[rule] for rule in ranked[: len(_COLOURS) - 1]}
    for rule in ranked[len(shown) :]:
        others = shown.setdefault(_OTHERS, {})
        for day, findings in sums[rule].items():
            others[day] = others.get(day, 0) + findings
    return {
        "labels": [f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day):%d %b}" for day in moments],
        "datasets": [
            {
                "label": rule,
                "type": "bar",
                "data": [series.get(day, 0) for day in moments],
                "backgroundColor": colour,
            }
            for (rule, series), colour in zip(shown.items(), _COLOURS, strict=False)
        ],
    }


_CHART_OPTIONS = {
    "responsive": True,
    "maintainAspectRatio": False,
    "animation": False,
    "interaction": {"mode": "index", "intersect": False},
    "plugins": {"legend": {"display": True, "align": "end", "labels": {"boxWidth": 10, "boxHeight": 10}}},
    "scales": {
        "x": {"stacked": True, "grid": {"display": False}, "ticks": {"maxTicksLimit": 12, "maxRotation": 0}},
        "y": {"stacked": True, "beginAtZero": True, "ticks": {"precision": 0}, "border": {"display": False}},
    },
}
