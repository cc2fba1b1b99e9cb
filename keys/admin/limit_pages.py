"""Pages about limits that customers and keys share: the live bars, raising a limit for a time, ending a raise."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from typing_extensions import override
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from common.admin_base import PlatformModelAdmin, page_action
from common.admin_display import admin_url
from common.admin_pages import FormPage, run_form_page
from common.money import format_usd, parse_usd
from keys.admin.limit_bars import limit_title, read_bars, read_raises
from keys.admin_trail import admin_actor
from keys.limit_values import RAISABLE_COLUMNS
from keys.models import ApiKey, Customer
from keys.raising import end_raise, limits_in_force, raise_limit, raises_of

_M = TypeVar("_M", bound=Model)


class RaiseForm(forms.Form):
    """Which limit is raised, to what, until when, and why."""

    limit_name = forms.ChoiceField(
        label="Limit",
        widget=UnfoldAdminSelectWidget(),
        help_text="Only limits that exist here can be raised; the value in force stands beside each.",
    )
    value = forms.CharField(
        max_length=40,
        label="New value",
        widget=UnfoldAdminTextInputWidget({"inputmode": "decimal", "autocomplete": "off"}),
        help_text="Higher than the present one. A whole number; of budgets a plain decimal of USD, such as 12.50.",
    )
    ends_at = forms.SplitDateTimeField(
        label="Ends",
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="UTC. From then on the ordinary limit counts again, by itself.",
    )
    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Stays in the audit trail: 'launch week, agreed with Ms Berg'.",
    )

    def __init__(self, *args: Any, owner: Customer | ApiKey, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limits = limits_in_force(owner, datetime.now(UTC))
        values = {column: getattr(limits, column) for column in RAISABLE_COLUMNS}
        field: Any = self.fields["limit_name"]
        field.choices = [
            (column, f"{limit_title(column)}: now {_shown(column, value)}")
            for column, value in values.items()
            if value is not None
        ]

    @override
    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if "value" in data and "limit_name" in data:
            try:
                data["value"] = _parse(data["limit_name"], data["value"])
            except ValueError as error:
                self.add_error("value", str(error))
        return data


class LimitPages(PlatformModelAdmin[_M]):
    """A mixin of the admin pages of customers and keys."""

    change_form_outer_after_template = "keys/admin/limits_after.html"  # type: ignore[assignment]

    def has_raise_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm(f"keys.change_{self.opts.model_name}")

    @override
    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        own = [
            path("<int:object_id>/limits/", self.admin_site.admin_view(self.limits_view), name=f"{name}_limits"),
            path(
                "<int:object_id>/end-raise/<int:raise_id>/",
                self.admin_site.admin_view(self.end_raise_view),
                name=f"{name}_end_raise",
            ),
        ]
        return [*own, *super().get_urls()]

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        owner = self.get_object(request, object_id) if object_id else None
        context = self._limits_context(request, owner) if isinstance(owner, Customer | ApiKey) else {}
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def limits_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Return the panel alone: the page asks for it again and again while it is open."""
        owner: Any = get_object_or_404(self.model, pk=object_id)
        if not self.has_view_permission(request, owner):
            raise PermissionDenied
        response = TemplateResponse(request, "keys/admin/limits_panel.html", self._limits_context(request, owner))
        response["Cache-Control"] = "no-store"
        return response

    def _limits_context(self, request: HttpRequest, owner: Customer | ApiKey) -> dict[str, Any]:
        label = self.opts.label_lower
        may_end = self.has_raise_permission(request)
        return {
            "limits_url": admin_url(label, "limits", owner.pk),
            "limit_bars": read_bars(owner),
            "limit_raises": [
                (raised, admin_url(label, "end_raise", owner.pk, raised.id) if may_end else "")
                for raised in read_raises(owner)
            ],
            "is_key_page": isinstance(owner, ApiKey),
        }

    @page_action(description="Raise a limit", url_path="raise-limit", icon="trending_up", permission="raise")
    def raise_limit(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        owner: Any = get_object_or_404(self.model, pk=object_id)
        if not self.has_raise_permission(request):
            raise PermissionDenied
        back = admin_url(self.opts.label_lower, "change", owner.pk)
        form = RaiseForm(request.POST or None, owner=owner)

        def act() -> HttpResponseBase:
            data = form.cleaned_data
            raise_limit(
                owner=owner,
                limit_name=data["limit_name"],
                value=data["value"],
                ends_at=data["ends_at"],
                reason=data["reason"],
                actor=admin_actor(request),
            )
            messages.success(
                request, f"{limit_title(data['limit_name'])} is raised until {data['ends_at']:%Y-%m-%d %H:%M} UTC."
            )
            return redirect(back)

        page = FormPage(
            title=f"Raise a limit of {owner}",
            submit_label="Raise the limit",
            cancel_url=back,
            intro=(
                "The higher value counts from the next call on, on every server, until the end that you set. "
                + _KEY_NOTE * isinstance(owner, ApiKey)
                + "To change a limit for good, or to narrow it, edit it on the page itself."
            ),
        )
        return run_form_page(self, request, page, form, act=act)

    def end_raise_view(self, request: HttpRequest, object_id: int, raise_id: int) -> HttpResponseBase:
        """Ask, and end a raise before its time."""
        owner: Any = get_object_or_404(self.model, pk=object_id)
        if not self.has_raise_permission(request):
            raise PermissionDenied
        raised = get_object_or_404(raises_of(owner), pk=raise_id)
        back = admin_url(self.opts.label_lower, "change", owner.pk)
        form = forms.Form(request.POST if request.method == "POST" else None)

        def act() -> HttpResponseBase:
            end_raise(raise_id=raised.pk, actor=admin_actor(request))
            messages.success(request, f"{limit_title(raised.limit_name)} is as it was before the raise.")
            return redirect(back)

        page = FormPage(
            title=f"End the raise of '{limit_title(raised.limit_name)}'",
            submit_label="End it now",
            cancel_url=back,
            is_danger=True,
            intro=f"The ordinary limit of {owner} counts from the next call on. Calls in flight go on.",
        )
        return run_form_page(self, request, page, form, act=act)


_KEY_NOTE = (
    "It counts for the key and its successors. Their calls still have to fit into the limits of the "
    "customer, and of a key that made them, which are raised on those pages. "
)


def _shown(column: str, value: int) -> str:
    return format_usd(value) if column.endswith("_nanousd") else f"{value:,}"


def _parse(column: str, text: str) -> int:
    """Return the integer of a limit's column. Raises ValueError with what is wrong."""
    if column.endswith("_nanousd"):
        return parse_usd(text.strip())
    digits = text.strip().replace(",", "").replace("_", "")
    if not digits.isascii() or not digits.isdigit():
        raise ValueError("Write a whole number, such as 600.")
    return int(digits)
