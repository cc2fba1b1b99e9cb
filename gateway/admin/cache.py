"""The response cache: what it saved, by model, and purging it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from typing_extensions import override
from unfold.widgets import UnfoldAdminSelect2Widget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.cache_statistics import CacheFigures, read_cache_figures
from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import admin_url, code, money, number, utc_column
from common.admin_pages import Fact, FormPage, Panel, run_form_page
from gateway.cache_models import CachePurge, PurgeScope
from gateway.caching.purging import purge_answers
from gateway.models import Model
from keys.admin_trail import admin_actor
from keys.models import Customer

_SHOWN_DAYS = 30


class PurgeForm(forms.Form):
    """Which answers, and why."""

    scope = forms.ChoiceField(
        choices=PurgeScope.choices, initial=PurgeScope.MODEL, label="Purge", widget=UnfoldAdminSelectWidget()
    )
    model = forms.ModelChoiceField(
        queryset=Model.objects.order_by("name"),
        required=False,
        to_field_name="name",
        widget=UnfoldAdminSelect2Widget(),
        help_text="For answers of a model.",
    )
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name"),
        required=False,
        widget=UnfoldAdminSelect2Widget(),
        help_text="For answers to a customer. Those of models that customers share stay: purge the model.",
    )
    reason = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="Kept in the audit trail.")

    def clean(self) -> dict[str, Any]:
        """Refuse a scope without its subject, with the field's name."""
        data = super().clean() or {}
        wanted = str(data.get("scope"))
        if wanted in ("model", "customer") and wanted not in self.errors and not data.get(wanted):
            self.add_error(wanted, f"Which {wanted}?")
        return data

    @property
    def scope_chosen(self) -> PurgeScope:
        """Return what is purged."""
        return PurgeScope(self.cleaned_data["scope"])

    @property
    def subject(self) -> str:
        """Return the model's name or the customer's id; empty for all."""
        data = self.cleaned_data
        subjects = {PurgeScope.MODEL: data["model"], PurgeScope.CUSTOMER: data["customer"] and data["customer"].pk}
        found = subjects.get(self.scope_chosen)
        return "" if found is None else str(found)


@admin.register(CachePurge)
class CachePurgeAdmin(ReadOnlyModelAdmin[CachePurge]):
    list_display = ("what", "purged", "count", "author", "reason")
    list_display_links = None
    list_filter = ("scope",)
    ordering = ("-purged_at", "-id")
    fields = ("what", "purged", "count", "author", "reason")
    readonly_fields = ("what", "purged")
    list_before_template = "gateway/admin/cache_figures.html"  # type: ignore[assignment]

    purged = utc_column("purged_at", "Last time")

    @override
    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return request.user.has_perm("gateway.add_cachepurge")

    @admin.display(description="Purged")
    def what(self, purge: CachePurge) -> str:
        subject = purge.subject
        if purge.scope == PurgeScope.CUSTOMER:
            subject = str(Customer.objects.filter(pk=subject).values_list("name", flat=True).first() or subject)
        return f"{PurgeScope(purge.scope).label} {subject}".strip()

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context: dict[str, Any] = {"title": "Response cache"}
        if request.user.has_perm("billing.view_usagerecord"):
            context["panels"] = [_figures_panel()]
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @override
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        list_url = admin_url("gateway.cachepurge", "changelist")
        initial = {name: request.GET[name] for name in ("scope", "model", "customer") if name in request.GET}
        form = PurgeForm(request.POST or None, initial=initial)

        def act() -> HttpResponseBase:
            purge = purge_answers(
                form.scope_chosen,
                form.subject,
                reason=form.cleaned_data["reason"],
                author=request.user.get_username(),
                actor=admin_actor(request),
            )
            messages.success(request, f"Purged: {self.what(purge).lower()}.")
            return redirect(list_url)

        page = FormPage(
            title="Purge cached answers",
            submit_label="Purge",
            cancel_url=list_url,
            intro="The next call of each kind asks its model again. Nothing else changes: no usage, no charge, no call "
            "in flight.",
            confirm_intro="From now on nobody is given these answers, on any process. Is this right?",
            is_danger=True,
        )
        return run_form_page(self, request, page, form, act=act, summarise=lambda: _summary(form))


def _summary(form: PurgeForm) -> list[Fact]:
    data = form.cleaned_data
    subject = data["model"] if form.scope_chosen is PurgeScope.MODEL else data["customer"]
    shown = form.scope_chosen.label if form.scope_chosen is PurgeScope.ALL else f"{form.scope_chosen.label}: {subject}"
    return [Fact(label="Purge", value=shown), Fact(label="Reason", value=data["reason"])]


def _figures_panel() -> Panel:
    figures = read_cache_figures(since=datetime.now(UTC) - timedelta(days=_SHOWN_DAYS))
    saved = sum(row.saved_nanousd for row in figures)
    charged = sum(row.charged_nanousd for row in figures)
    return Panel(
        title=f"The last {_SHOWN_DAYS} days",
        headers=(
            "Model",
            "Hits",
            "Shared calls",
            "Misses",
            "Bypassed",
            "Hit rate",
            "Bytes not fetched",
            "Saved (USD)",
            "Charged for reuse (USD)",
        ),
        rows=[_figures_cells(row) for row in figures],
        footer=("All", "", "", "", "", "", "", money(saved), money(charged)) if figures else (),
        note="Calls that took part in the cache. Hit rate: hits and shared calls, of those and misses. Saved: what the "
        "provider would have charged once more, by the price's provider rates; without such rates nothing.",
        empty="No call took part: give a model or a prompt a time for which its answers are reused, or send "
        "Cache-Control: max-age with a call.",
    )


def _figures_cells(row: CacheFigures) -> tuple[object, ...]:
    return (
        code(row.model),
        number(row.hits),
        number(row.coalesced),
        number(row.misses),
        number(row.bypassed),
        "-" if row.hit_percent is None else f"{row.hit_percent} %",
        filesizeformat(row.reused_bytes),
        money(row.saved_nanousd),
        money(row.charged_nanousd),
    )
