"""Moving a key to another date of the API."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminTextareaWidget

from common.admin_display import admin_url
from common.admin_pages import FormPage, run_form_page
from gateway.versions import NEWEST, VERSIONS, Version
from keys.admin_trail import admin_actor
from keys.models import ApiKey
from keys.pinning import move_key_version


class KeyVersionForm(forms.Form):
    """Which date a key is answered in, and why."""

    api_version = forms.ChoiceField(
        label="API version",
        choices=[],
        widget=UnfoldAdminRadioSelectWidget(radio_style=0),
        help_text="What each changed is under /v1/changelog. A call may name another with the header API-Version.",
    )
    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Stays in the audit trail: 'their new client is live, agreed with Ms Berg'.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["api_version"]
        field.choices = [(version.name, _describe(version)) for version in reversed(VERSIONS)]


def run_version_page(model_admin: ModelAdmin, request: HttpRequest, key: ApiKey) -> HttpResponseBase:
    """Show the dates, and move the key to the chosen one."""
    back = admin_url("keys.apikey", "change", key.pk)
    form = KeyVersionForm(request.POST or None, initial={"api_version": key.api_version or NEWEST})

    def act() -> HttpResponseBase:
        data = form.cleaned_data
        move_key_version(
            key_id=key.pk, api_version=data["api_version"], reason=data["reason"], actor=admin_actor(request)
        )
        messages.success(request, f"{key.prefix}… is answered in {data['api_version']} from its next call on.")
        return redirect(back)

    page = FormPage(
        title=f"API version of {key.prefix}…",
        submit_label="Move the key",
        cancel_url=back,
        intro=(
            f"The key is pinned to {key.api_version}."
            if key.api_version
            else "The key has not called yet: its first call pins it to the newest version, unless you do so now."
        ),
    )
    return run_form_page(model_admin, request, page, form, act=act)


def _describe(version: Version) -> str:
    titles = "; ".join(change.title for change in version.changes)
    state = "newest" if version.name == NEWEST else f"served at least until {version.sunset_on}"
    return f"{version.name} ({state}){': ' if titles else ''}{titles}"
