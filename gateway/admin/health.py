"""How deployments stand, as the admin shows it: the breaker's state, what failed lately, and a way to reset."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextareaWidget

from common.admin_base import PlatformModelAdmin
from common.admin_display import admin_link, admin_url, badge, link, number, utc
from common.admin_pages import FormPage, Panel, run_form_page
from common.clock import from_us, to_us
from gateway.breaker_rows import reset_breaker
from gateway.models import Breaker, BreakerReason, CallAttempt, Deployment
from keys.admin_trail import admin_actor

_HOUR_US = 3_600_000_000


class Health(NamedTuple):
    """What is known of a deployment."""

    breaker: Breaker | None
    # Attempts of the last hour that failed.
    failed: int


class ResetForm(forms.Form):
    """Why a deployment is called again before its time."""

    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 2}),
        help_text="Stays in the audit trail: 'the provider says that it is back'.",
    )


def read_health_of(deployment_ids: Collection[int]) -> Mapping[int, Health]:
    """Return the health of deployments, in two queries."""
    since_us = to_us(datetime.now(UTC)) - _HOUR_US
    breakers = Breaker.objects.in_bulk(list(deployment_ids))
    failed = dict(
        CallAttempt.objects.filter(deployment_ref__in=deployment_ids, created_us__gte=since_us)
        .filter(outcome__startswith="upstream_")
        .exclude(outcome="upstream_rejected")
        .order_by()
        .values_list("deployment_ref")
        .annotate(n=Count("id"))
    )
    return {pk: Health(breakers.get(pk), failed.get(pk, 0)) for pk in deployment_ids}


def state_badge(breaker: Breaker | None) -> SafeString:
    """Return the state in a word; the cause on hover."""
    if breaker is None or not breaker.is_open:
        return badge("Closed", "success", title="Calls pass.")
    why = f"{BreakerReason(breaker.reason).label} ({breaker.error_code})."
    if breaker.until_us > to_us(datetime.now(UTC)):
        return badge("Rests", "danger", title=why)
    if breaker.reason == BreakerReason.RATE_LIMITED:
        return badge("Closed", "success", title="It asked for a rest, which is over.")
    now = "a call is trying it" if breaker.trial_until_us > to_us(datetime.now(UTC)) else "the next call tries it"
    return badge("Half-open", "warning", title=f"{why} Its rest is over: {now}, the others pass it by.")


def why_text(breaker: Breaker | None) -> str:
    """Return what the last change of state was about."""
    if breaker is None:
        return "-"
    label = BreakerReason(breaker.reason).label
    return f"{label}: {breaker.error_code}" if breaker.error_code and breaker.is_open else label


def until_text(breaker: Breaker | None) -> SafeString | str:
    """Return until when it rests."""
    return utc(from_us(breaker.until_us)) if breaker is not None and breaker.is_open else "-"


def health_panel(deployments: Sequence[Deployment], *, may_reset: bool) -> Panel:
    """Return a table of how the deployments of a model stand now."""
    found = read_health_of([deployment.pk for deployment in deployments])
    rows = []
    for deployment in deployments:
        health = found[deployment.pk]
        is_open = health.breaker is not None and health.breaker.is_open
        reset = link(admin_url("gateway.deployment", "reset", deployment.pk), "Reset") if may_reset and is_open else ""
        rows.append(
            (
                admin_link("gateway.deployment", deployment.pk, f"{deployment.upstream}: {deployment.upstream_model}"),
                state_badge(health.breaker) if deployment.is_active else badge("Switched off"),
                why_text(health.breaker),
                until_text(health.breaker),
                number(health.breaker.trips if health.breaker is not None else 0),
                link(
                    f"{admin_url('gateway.callattempt', 'changelist')}?deployment_ref={deployment.pk}",
                    number(health.failed),
                ),
                reset,
            )
        )
    return Panel(
        title="Deployments now",
        headers=(
            "Deployment",
            "Breaker",
            "Last change",
            "Rests until",
            "In a row",
            "Failed in the last hour",
            "",
        ),
        rows=rows,
        note="As all servers know it. Failed attempts cost the customer nothing; where it could, the call went on.",
        empty="This model has no deployment: nothing serves it. Add one above.",
    )


def reset_view(model_admin: PlatformModelAdmin[Any], request: HttpRequest, object_id: int) -> HttpResponseBase:
    """Ask for a reason, and let a deployment be called again at once."""
    deployment = get_object_or_404(Deployment.objects.select_related("model", "upstream"), pk=object_id)
    back = admin_url("gateway.model", "change", deployment.model_id)
    breaker = Breaker.objects.filter(pk=deployment.pk, is_open=True).first()
    if breaker is None:
        messages.info(request, f"{deployment.upstream} does not rest: there is nothing to reset.")
        return redirect(back)
    form = ResetForm(request.POST or None)

    def act() -> HttpResponseBase:
        try:
            reset_breaker(deployment_id=deployment.pk, actor=admin_actor(request), reason=form.cleaned_data["reason"])
        except Breaker.DoesNotExist:
            messages.info(request, f"{deployment.upstream} answers again already.")
        else:
            messages.success(request, f"{deployment.upstream} is called again from the next call on, on every server.")
        return redirect(back)

    page = FormPage(
        title=f"Call {deployment.upstream} for {deployment.model} again",
        submit_label="Reset the breaker",
        cancel_url=back,
        intro=f"It rests: {why_text(breaker)}. By itself it would be tried again after "
        f"{from_us(breaker.until_us):%H:%M:%S} UTC. If it still fails, it rests again after a few calls.",
    )
    return run_form_page(model_admin, request, page, form, act=act)
