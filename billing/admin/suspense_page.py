"""The form that clears suspense: revenue of what was looked at, or back to the customer whose calls were charged."""

from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from typing_extensions import override
from unfold.widgets import UnfoldAdminSelect2Widget, UnfoldAdminSelectWidget

from billing.accounts import open_platform_account, sum_transfers
from billing.admin.money_pages import CONFIRM, MoneyForm, tell_outcome, warn_of_size
from billing.models import AccountKind
from billing.money import Order, order_movement
from billing.money_models import MovementKind
from common.admin_display import admin_url
from common.admin_pages import Fact, FormPage, run_form_page
from common.ids import make_id
from common.money import format_usd
from keys.admin_trail import admin_actor
from keys.models import Customer

_OFFERED = {
    MovementKind.SUSPENSE_RELEASE: "Release: the charges are right, make revenue of them",
    MovementKind.SUSPENSE_RETURN: "Give back: the charges are wrong, return them to the customer",
}


class SuspenseForm(MoneyForm):
    """How much of suspense becomes what."""

    kind = forms.ChoiceField(
        label="What", choices=[(k.value, t) for k, t in _OFFERED.items()], widget=UnfoldAdminSelectWidget()
    )
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name"),
        required=False,
        widget=UnfoldAdminSelect2Widget(),
        help_text="Whose wallet it goes back to; nobody's for a release.",
    )
    field_order = ("kind", "customer", "amount", "reason", "reference")

    @override
    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        is_release = data.get("kind") == MovementKind.SUSPENSE_RELEASE
        if is_release and data.get("customer") is not None:
            self.add_error("customer", "A release is of no customer: leave this empty, or give the money back.")
        elif not is_release and data.get("customer") is None and "customer" not in self.errors:
            self.add_error("customer", "Say whose charges they were.")
        return data


def run_suspense_page(request: HttpRequest, model_admin: "ModelAdmin[Any]") -> HttpResponseBase:
    """Ask what is to become of what waits in suspense, and order it."""
    if not request.user.has_perm("billing.add_transfer"):
        raise PermissionDenied
    form = SuspenseForm(request.POST or None, initial={"reference": make_id("mov")})
    author = request.user.get_username()
    page = FormPage(
        title="Clear suspense",
        submit_label="Go on",
        cancel_url=admin_url("billing.account", "explained"),
        intro=(
            "What calls were charged whose counts are estimated or that carry a flag is no revenue until somebody has "
            f"looked at them (Calls, filtered by source). In suspense now: {format_usd(_in_suspense())} USD."
        ),
        confirm_intro=CONFIRM,
    )

    def summarise() -> list[Fact]:
        data = form.cleaned_data
        facts = [
            Fact(label=MovementKind(data["kind"]).label, value=f"{format_usd(data['amount'])} USD"),
            Fact(label="In suspense now", value=f"{format_usd(_in_suspense())} USD"),
            Fact(label="Reason", value=data["reason"]),
            Fact(label="Author", value=author),
        ]
        if data["customer"] is not None:
            facts.insert(0, Fact(label="Customer", value=data["customer"].name))
        return [*facts, *warn_of_size(data["amount"])]

    def act() -> HttpResponseBase:
        data = form.cleaned_data
        customer = data["customer"]
        movement = order_movement(
            Order(
                kind=MovementKind(data["kind"]),
                customer_id=None if customer is None else customer.pk,
                amount_nanousd=data["amount"],
                reason=data["reason"],
                author=author,
                reference=data["reference"],
                actor=admin_actor(request),
            )
        )
        tell_outcome(request, movement, "" if customer is None else f" to {customer.name}")
        return redirect(page.cancel_url)

    return run_form_page(model_admin, request, page, form, act=act, summarise=summarise)


def _in_suspense() -> int:
    return sum_transfers(open_platform_account(AccountKind.SUSPENSE))
