"""Upstreams: providers' endpoints, their secret (written, never shown), and a test of the connection."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

from common.admin_base import PlatformModelAdmin, page_action
from common.admin_display import admin_url, badge
from gateway.models import Dialect, Upstream
from gateway.secrets import encrypt_secret
from gateway.upstream_probe import probe_upstream


class UpstreamForm(forms.ModelForm[Upstream]):
    """The stored secret never reaches a form; a new one replaces it."""

    secret = forms.CharField(
        required=False,
        strip=True,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        label="Secret (API key)",
    )
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
            "on_disconnect",
            "connect_timeout_seconds",
            "first_token_timeout_seconds",
            "idle_timeout_seconds",
            "total_timeout_seconds",
            "note",
        )
        labels = {"base_url": "Base URL", "is_active": "Active", "on_disconnect": "When the client leaves"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "secret" in self.fields:
            has_secret = bool(self.instance.encrypted_secret)
            self.fields["secret"].help_text = (
                "A secret is stored, encrypted. Leave empty to keep it." if has_secret else "None is stored."
            )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("secret") and data.get("remove_secret"):
            self.add_error("remove_secret", "Either a new secret or none.")
        if data.get("dialect") == Dialect.OPENAI and not data.get("base_url"):
            self.add_error("base_url", "Where is it? For example https://api.openai.com/v1.")
        if data.get("base_url") and not data["base_url"].startswith(("http://", "https://")):
            self.add_error("base_url", "It begins with http:// or https://.")
        return data

    @property
    def changes_secret(self) -> bool:
        return bool(self.cleaned_data.get("secret") or self.cleaned_data.get("remove_secret"))


@admin.register(Upstream)
class UpstreamAdmin(PlatformModelAdmin[Upstream]):
    form = UpstreamForm
    list_display = ("name", "dialect", "base_url", "is_active", "secret_badge")
    search_fields = ("name", "base_url")
    ordering = ("name", "id")
    actions_detail = ("test_connection",)

    fieldsets = (
        (None, {"fields": ("name", "dialect", "base_url", "secret", "remove_secret", "is_active", "note")}),
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
                "description": "Seconds. Idle is the longest pause between two pieces of a stream.",
            },
        ),
    )

    @override
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is not None and obj.encrypted_secret and self.has_change_permission(request, obj):
            return fieldsets
        # Nothing to remove, or nobody who may.
        hidden = {"remove_secret"} if obj is None or self.has_change_permission(request, obj) else _SECRET_FIELDS
        return [
            (title, {**options, "fields": tuple(f for f in options["fields"] if f not in hidden)})
            for title, options in fieldsets
        ]

    @admin.display(description="Secret")
    def secret_badge(self, upstream: Upstream) -> SafeString:
        return badge("Stored", "success") if upstream.encrypted_secret else badge("None")

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        if form.changes_secret:
            obj.encrypted_secret = encrypt_secret(form.cleaned_data["secret"])
        super().save_model(request, obj, form, change)

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
