"""Where would a call go? The plan of a sample call, with what keeps each other deployment out of it."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db import connection
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
)

from common.admin_display import admin_url, badge, money, utc
from common.admin_pages import Panel
from common.clock import from_us, to_us
from common.sql import Sql
from gateway.breaker_rows import read_standing
from gateway.breakers import BookStanding
from gateway.capabilities import DESCRIPTIONS, NO_CAPABILITIES, Capability
from gateway.catalogue import ModelEntry, read_catalogue
from gateway.models import Model, Routing
from gateway.planning import Sample, Turn, plan_sample
from gateway.routing import NO_WISH, Weight


class SampleForm(forms.Form):
    """What the call is like."""

    input_tokens = forms.IntegerField(min_value=1, initial=1_000, widget=UnfoldAdminIntegerFieldWidget())
    output_tokens = forms.IntegerField(min_value=1, initial=500, widget=UnfoldAdminIntegerFieldWidget())
    environment = forms.ChoiceField(
        choices=[("live", "A live key"), ("test", "A test key")],
        initial="live",
        label="Called with",
        widget=UnfoldAdminSelectWidget(),
    )
    sort = forms.ChoiceField(
        choices=[("", "As the model says"), *Routing.choices],
        required=False,
        label="provider.sort of the call",
        widget=UnfoldAdminSelectWidget(),
    )
    needs = forms.MultipleChoiceField(
        choices=[(str(c.value), d.label) for c, d in DESCRIPTIONS.items() if d.param],
        required=False,
        label="Asks for",
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
    )


class _Standing:
    """Rests as the database has them, latencies as this process has seen them."""

    def __init__(self, book: BookStanding) -> None:
        self.resting_until_us = book.resting_until_us

    @staticmethod
    def latency_of(deployment_id: int, now_us: int) -> float | None:
        from gateway.runtime import current_runtime  # noqa: PLC0415 - slow, and every command imports the admin

        runtime = current_runtime()
        return None if runtime is None else runtime.breakers.latency_of(deployment_id, now_us)


def show_plan(model_admin: Any, request: HttpRequest, row: Model) -> HttpResponseBase:
    """Render the page; nothing is called and nothing is written."""
    form = SampleForm(request.GET or {name: f.initial for name, f in SampleForm.base_fields.items()})
    sql = Sql(connection)
    entry = read_catalogue(sql).models.get(row.name)
    panels = []
    if entry is not None and form.is_valid():
        now_us = to_us(datetime.now(UTC))
        turns = plan_sample(entry, _sample(form.cleaned_data), standing=_Standing(read_standing(sql)), now_us=now_us)
        panels = [_panel(entry, turns)]
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": f"Where would a call to {row.name} go?",
        "media": model_admin.media + form.media,
        "form": form,
        "panels": panels,
        "back_url": admin_url("gateway.model", "change", row.pk),
        "is_inactive": entry is None,
    }
    return TemplateResponse(request, "gateway/admin/plan.html", context)


def _sample(data: dict[str, Any]) -> Sample:
    needs = NO_CAPABILITIES
    for value in data["needs"]:
        needs |= Capability(int(value))
    return Sample(
        needs=needs,
        size=Weight(data["input_tokens"], data["output_tokens"]),
        environment=data["environment"],
        wish=NO_WISH._replace(sort=Routing(data["sort"])) if data["sort"] else NO_WISH,
    )


def _panel(model: ModelEntry, turns: list[Turn]) -> Panel:
    return Panel(
        title="The plan",
        headers=(
            "Turn",
            "Deployment",
            "Begins here",
            "Priority",
            "Weight",
            "Region",
            "Cost at most, USD",
            "First token",
        ),
        rows=[
            (
                _position(turn),
                f"{turn.deployment.upstream.name}: {turn.deployment.upstream_model}",
                f"{turn.share_percent} %" if turn.position else "-",
                turn.deployment.priority,
                turn.deployment.weight,
                turn.deployment.region or "-",
                "not stated" if turn.cost_nanousd is None else money(turn.cost_nanousd),
                "-" if turn.latency_seconds is None else f"{turn.latency_seconds * 1000:.0f} ms",
            )
            for turn in turns
        ],
        note=f"{_HOW[model.routing]} What fails before its first token is followed by the next; then {model.retries} "
        f"further attempt{'' if model.retries == 1 else 's'}, each after at most {model.retry_wait_seconds:g} s.",
        empty="No active deployment: nothing serves this model.",
    )


_HOW = {
    Routing.WEIGHTS: "Within a priority, weights share the calls.",
    Routing.COST: "Within a priority, the cheapest goes first.",
    Routing.LATENCY: "Within a priority, the quickest lately goes first; who is not known yet is tried.",
}


def _position(turn: Turn) -> Any:
    if turn.position is not None:
        return badge(f"{turn.position}.", "success" if turn.position == 1 else "neutral")
    if turn.resting_until_us:
        until = utc(from_us(turn.resting_until_us))
        return badge(f"{turn.obstacle} until {from_us(turn.resting_until_us):%H:%M:%S}", "danger", title=str(until))
    return badge(turn.obstacle, "warning")
