"""Movements of money: what was ordered by whom, what waits for a second person."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextareaWidget

from billing.money import approve_movement, reject_movement
from billing.money_models import Movement, MovementStatus
from common.admin_base import ReadOnlyModelAdmin, page_action
from common.admin_display import Tone, admin_link, admin_url, badge, usd_column, utc, utc_column
from common.admin_pages import FormPage, run_form_page
from common.clock import from_us
from common.money import format_usd
from keys.admin_trail import admin_actor

_BADGES: Mapping[MovementStatus, Tone] = {
    MovementStatus.WAITING: "warning",
    MovementStatus.PLANNED: "info",
    MovementStatus.BOOKED: "success",
    MovementStatus.REJECTED: "danger",
}


class DecisionForm(forms.Form):
    """What the second person says."""

    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Stays beside your name: 'seen on the bank statement of 3 May'.",
    )


@admin.register(Movement)
class MovementAdmin(ReadOnlyModelAdmin[Movement]):
    list_display = ("id", "created", "status_badge", "kind_text", "owner", "amount", "reason", "author", "decided_by")
    list_filter = (("status", ChoicesDropdownFilter), ("kind", ChoicesDropdownFilter))
    list_select_related = ("customer",)
    search_fields = ("customer__name", "reference__exact")
    search_help_text = "Customer's name or reference"
    ordering = ("-id",)
    fields = (
        "status_badge",
        "kind_text",
        "owner",
        "amount",
        "starts",
        "expires",
        "reason",
        "author",
        "created",
        "decided_by",
        "decision_reason",
        "booked_as",
        "reference",
    )
    actions_detail = ("approve", "reject")  # type: ignore[assignment]

    created = utc_column("created_at", "Ordered")
    expires = utc_column("expires_at", "Grant expires")
    amount = usd_column("amount_nanousd", "Amount (USD)")

    @admin.display(description="Status")
    def status_badge(self, movement: Movement) -> SafeString:
        status = MovementStatus(movement.status)
        return badge(str(status.label), _BADGES[status])

    @admin.display(description="What")
    def kind_text(self, movement: Movement) -> str:
        return movement.get_kind_display()

    @admin.display(description="Customer")
    def owner(self, movement: Movement) -> SafeString | str:
        if movement.customer is None:
            return "the platform"
        return admin_link("keys.customer", movement.customer_id, movement.customer.name)

    @admin.display(description="Grant begins")
    def starts(self, movement: Movement) -> SafeString | str:
        return "at once" if movement.starts_us is None else utc(from_us(movement.starts_us))

    @admin.display(description="Booked as")
    def booked_as(self, movement: Movement) -> SafeString | str:
        if movement.transfer_id is None:
            return "-"
        return admin_link("billing.transfer", movement.transfer_id, f"transfer {movement.transfer_id}")

    def has_decide_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.change_movement")

    @override
    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Offer a decision while there is one to make; approval of what waits, to others than its author."""
        row = Movement.objects.filter(pk=object_id).values_list("status", "author").first()
        if row is None or row[0] not in (MovementStatus.WAITING, MovementStatus.PLANNED):
            return []
        can_approve = row[0] == MovementStatus.WAITING and row[1] != request.user.get_username()
        return [a for a in super().get_actions_detail(request, object_id) if can_approve or a.path != "approve"]

    @page_action(
        description="Approve",
        url_path="approve",
        icon="check_circle",
        variant=ActionVariant.PRIMARY,
        permission="decide",
    )
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return self._decide(request, object_id, approves=True)

    @page_action(
        description="Reject", url_path="reject", icon="block", variant=ActionVariant.DANGER, permission="decide"
    )
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return self._decide(request, object_id, approves=False)

    def _decide(self, request: HttpRequest, object_id: str, *, approves: bool) -> HttpResponseBase:
        movement = get_object_or_404(Movement.objects.select_related("customer"), pk=object_id)
        if not self.has_decide_permission(request):
            raise PermissionDenied
        back = admin_url("billing.movement", "change", movement.pk)
        form = DecisionForm(request.POST or None)

        def act() -> HttpResponseBase:
            decide = approve_movement if approves else reject_movement
            decide(
                movement.pk,
                author=request.user.get_username(),
                reason=form.cleaned_data["reason"],
                actor=admin_actor(request),
            )
            messages.success(request, f"{movement} is {'approved' if approves else 'rejected'}.")
            return redirect(back)

        verb = "Approve" if approves else "Reject"
        whose = "" if movement.customer is None else f" for {movement.customer}"
        what = f"{movement.get_kind_display()} of {format_usd(movement.amount_nanousd)} USD{whose}"
        page = FormPage(
            title=f"{verb}: {what}",
            submit_label=verb,
            cancel_url=back,
            is_danger=not approves,
            intro=f"Ordered by {movement.author}: {movement.reason}",
        )
        return run_form_page(self, request, page, form, act=act)
