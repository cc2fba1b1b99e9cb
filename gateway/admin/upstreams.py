"""Upstreams: providers' endpoints, their secret (written, never shown), and a test of the connection.

A new one is made from a row of the registry of providers; its own page then shows every value, to be changed.
"""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from common.admin_base import PlatformModelAdmin, page_action
from common.admin_display import admin_url, badge
from gateway.capabilities import CAPABILITY_COLUMNS
from gateway.models import OnDisconnect, Upstream
from gateway.secrets import encrypt_secret
from gateway.upstream_probe import probe_upstream
from gateway.upstreams.registry import (
    PROVIDERS,
    Provider,
    find_address_problem,
    find_version_problem,
    take_defaults,
)


class _SecretForm(forms.ModelForm[Upstream]):
    """The stored secret never reaches a form; a new one replaces it."""

    secret = forms.CharField(
        required=False,
        strip=True,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        label="Secret (API key)",
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        row = self.row_to_check(data)
        for problem, field in ((find_address_problem(row), "base_url"), (find_version_problem(row), "api_version")):
            if problem is not None and field not in self.errors:
                self.add_error(field if field in self.fields else None, f"It {problem}.")
        return data

    def row_to_check(self, data: dict[str, Any]) -> Upstream:
        """Return the upstream as it would be saved."""
        columns = {field.name for field in Upstream._meta.concrete_fields}
        values = {name: value for name, value in data.items() if name in columns}
        return Upstream(**{"provider": self.instance.provider, **values})

    @property
    def changes_secret(self) -> bool:
        return bool(self.cleaned_data.get("secret") or self.cleaned_data.get("remove_secret"))


class NewUpstreamForm(_SecretForm):
    """What only the admin knows of a new upstream; the provider's row of the registry knows the rest."""

    provider = forms.ChoiceField(
        choices=[(provider.key, provider.name) for provider in PROVIDERS.values()],
        initial="openai",
        required=False,
        widget=UnfoldAdminSelectWidget(),
        help_text="Sets dialect, headers, output limit and capabilities; the next page shows them, to be changed.",
    )

    class Meta:
        model = Upstream
        fields = ("provider", "name", "base_url", "note")
        labels = {"base_url": "Base URL"}
        help_texts = {
            "base_url": "Leave empty where the provider has one address for everybody. Else up to and including /v1, "
            "for example http://10.0.0.5:8000/v1."
        }

    @override
    def row_to_check(self, data: dict[str, Any]) -> Upstream:
        row = Upstream(base_url=data.get("base_url") or "")
        take_defaults(row, self.chosen_provider)
        return row

    @property
    def chosen_provider(self) -> Provider:
        return PROVIDERS[self.cleaned_data.get("provider") or "custom"]


class UpstreamForm(_SecretForm):
    """Everything about an upstream."""

    remove_secret = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget(), help_text="The upstream needs none any more."
    )

    class Meta:
        model = Upstream
        fields = (
            "name",
            "dialect",
            "base_url",
            "is_active",
            "authentication",
            "api_version",
            "output_limit_parameter",
            *CAPABILITY_COLUMNS,
            "on_disconnect",
            "connect_timeout_seconds",
            "first_token_timeout_seconds",
            "idle_timeout_seconds",
            "total_timeout_seconds",
            "note",
        )
        labels = {
            "base_url": "Base URL",
            "is_active": "Active",
            "on_disconnect": "When the client leaves",
            "api_version": "API version",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "secret" in self.fields:
            has_secret = bool(self.instance.encrypted_secret)
            self.fields["secret"].help_text = (
                "A secret is stored, encrypted. Leave empty to keep it." if has_secret else "None is stored."
            )

    @override
    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("secret") and data.get("remove_secret"):
            self.add_error("remove_secret", "Either a new secret or none.")
        return data


@admin.register(Upstream)
class UpstreamAdmin(PlatformModelAdmin[Upstream]):
    form = UpstreamForm
    list_display = ("name", "provider_name", "base_url", "is_active", "on_disconnect_text", "secret_badge")
    readonly_fields = ("provider_name",)
    search_fields = ("name", "base_url")
    ordering = ("name", "id")
    actions_detail = ("test_connection",)

    add_fieldsets = ((None, {"fields": ("provider", "name", "base_url", "secret", "note")}),)
    fieldsets = (
        (None, {"fields": ("name", "provider_name", "base_url", "secret", "remove_secret", "is_active", "note")}),
        (
            "How it is spoken to",
            {
                "fields": ("dialect", "authentication", "api_version", "output_limit_parameter"),
                "description": "Set from the provider when the upstream was made.",
            },
        ),
        (
            "What it can do",
            {
                "fields": CAPABILITY_COLUMNS,
                "description": "A call that asks for what no deployment can do is refused, with the way out. Where one "
                "model differs, say so at its deployment.",
            },
        ),
        (
            "When a client leaves, and timeouts",
            {
                "fields": (
                    "on_disconnect",
                    "connect_timeout_seconds",
                    "first_token_timeout_seconds",
                    "idle_timeout_seconds",
                    "total_timeout_seconds",
                ),
                "description": "A client that leaves is charged once either way: for what was produced until the "
                "upstream was stopped, or for the whole answer, which is read to its end within these bounds. Seconds; "
                "idle is the longest pause between two pieces of a stream.",
            },
        ),
    )

    @override
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return self.add_fieldsets
        if obj.encrypted_secret and self.has_change_permission(request, obj):
            return fieldsets
        # Nothing to remove, or nobody who may.
        hidden = {"remove_secret"} if self.has_change_permission(request, obj) else _SECRET_FIELDS
        return [
            (title, {**options, "fields": tuple(f for f in options["fields"] if f not in hidden)})
            for title, options in fieldsets
        ]

    @override
    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = UpstreamForm if obj is not None else NewUpstreamForm
        return super().get_form(request, obj, change, **{"form": form, **kwargs})

    @admin.display(description="Provider", ordering="provider")
    def provider_name(self, upstream: Upstream) -> str:
        found = PROVIDERS.get(upstream.provider)
        return upstream.provider if found is None else found.name

    @admin.display(description="When a client leaves")
    def on_disconnect_text(self, upstream: Upstream) -> str:
        return "stopped" if upstream.on_disconnect == OnDisconnect.STOP else "read to its end"

    @admin.display(description="Secret")
    def secret_badge(self, upstream: Upstream) -> SafeString:
        return badge("Stored", "success") if upstream.encrypted_secret else badge("None")

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        if form.changes_secret:
            obj.encrypted_secret = encrypt_secret(form.cleaned_data["secret"])
        if not change:
            take_defaults(obj, form.chosen_provider)
        super().save_model(request, obj, form, change)

    @override
    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        """Show what the provider's defaults are: who adds an upstream has yet to see them."""
        provider = PROVIDERS[obj.provider]
        hint = f" {provider.hint}" if provider.hint else ""
        messages.success(request, f"{obj.name} was made from {provider.name}.{hint} Test the connection, or change it.")
        return redirect(admin_url("gateway.upstream", "change", obj.pk))

    @override
    def changed_columns(self, form: Any) -> Sequence[str]:
        return [*form.changed_data, "encrypted_secret"] if form.changes_secret else form.changed_data

    def has_probe_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("gateway.change_upstream")

    @page_action(description="Test connection", url_path="test-connection", icon="network_check", permission="probe")
    def test_connection(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        upstream = get_object_or_404(Upstream, pk=object_id)
        result = probe_upstream(upstream)
        level = messages.SUCCESS if result.is_ok else messages.ERROR
        messages.add_message(request, level, f"{upstream.name}: {result.text}")
        return redirect(admin_url("gateway.upstream", "change", upstream.pk))


_SECRET_FIELDS = {"secret", "remove_secret"}
