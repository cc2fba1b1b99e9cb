"""The form behind every movement of a customer's money: what, how much, why; asked twice, waiting where it is large."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextareaWidget

from billing.funds import Funds, read_funds
from billing.money import Order, order_movement
from billing.money_models import Movement, MovementKind, MovementStatus
from common.admin_display import admin_url
from common.admin_fields import UsdField
from common.admin_pages import Fact, FormPage, run_form_page
from common.clock import from_us
from common.ids import make_id
from common.money import format_usd
from keys.admin_trail import admin_actor
from keys.models import Customer

_OFFERED = {
    MovementKind.TOP_UP: "Top-up: the customer paid in advance",
    MovementKind.REFUND: "Refund: prepaid money goes back to the customer",
    MovementKind.CREDIT_NOTE: "Credit note: give charges back, lowers revenue",
    MovementKind.ADJUSTMENT_UP: "Adjustment in the customer's favour",
    MovementKind.ADJUSTMENT_DOWN: "Adjustment in the platform's favour",
    MovementKind.CREDIT_LIMIT: "Credit limit: set how much the customer may owe (0: prepaid only)",
}
_PAST = datetime.min.replace(tzinfo=UTC)
# What becomes of "available" for one unit of the amount.
_SIGNS = {MovementKind.REFUND: -1, MovementKind.ADJUSTMENT_DOWN: -1}


class MoneyForm(forms.Form):
    """How much, and what for."""

    # Makes a second click harmless: a reference is booked once.
    reference = forms.CharField(widget=forms.HiddenInput)
    amount = UsdField(min_nanousd=1, label="Amount (USD)", help_text="A plain decimal such as 250 or 12.50.")
    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Stays in the ledger beside your name: 'invoice 2026-117 paid', 'goodwill for the outage of 3 May'.",
    )


class GrantForm(MoneyForm):
    """A grant may begin later, and end."""

    starts_at = forms.SplitDateTimeField(
        required=False,
        label="Begins",
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="UTC. Until then calls cannot spend it, and you can withdraw it under Movements. Empty: now.",
    )
    expires_at = forms.SplitDateTimeField(
        required=False,
        label="Expires",
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="UTC. What is not spent by then is taken back. Empty: it never expires.",
    )
    field_order = ("amount", "starts_at", "expires_at", "reason", "reference")


class MovementForm(MoneyForm):
    """Anything but a grant."""

    kind = forms.ChoiceField(
        label="What", choices=[(k.value, t) for k, t in _OFFERED.items()], widget=UnfoldAdminSelectWidget()
    )
    field_order = ("kind", "amount", "reason", "reference")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.data.get("kind") == MovementKind.CREDIT_LIMIT:
            self.fields["amount"].min_nanousd = 0  # type: ignore[attr-defined]


def run_grant_page(model_admin: "ModelAdmin[Any]", request: HttpRequest, customer: Customer) -> HttpResponseBase:
    """Ask for a grant to `customer`, and order it."""
    form = GrantForm(request.POST or None, initial={"reference": make_id("mov")})
    page = FormPage(
        title=f"Grant credit to {customer.name}",
        submit_label="Grant credit",
        cancel_url=_back(customer),
        intro="Money that you give: calls draw from it before they draw from what the customer paid.",
        confirm_intro=CONFIRM,
    )
    return _run(model_admin, request, customer, page, form=form, kind_of=lambda: MovementKind.GRANT)


def run_movement_page(model_admin: "ModelAdmin[Any]", request: HttpRequest, customer: Customer) -> HttpResponseBase:
    """Ask for a movement of `customer`'s money, and order it."""
    form = MovementForm(
        request.POST or None, initial={"reference": make_id("mov"), "kind": request.GET.get("kind", "top_up")}
    )
    page = FormPage(
        title=f"Move money of {customer.name}",
        submit_label="Go on",
        cancel_url=_back(customer),
        intro="Top-ups, refunds, credit notes, adjustments and the credit limit. Each is booked once, for good.",
        confirm_intro=CONFIRM,
    )
    return _run(
        model_admin, request, customer, page, form=form, kind_of=lambda: MovementKind(form.cleaned_data["kind"])
    )


CONFIRM = "A transfer cannot be changed or deleted afterwards, only corrected by another one. Is this right?"


def _run(
    model_admin: "ModelAdmin[Any]",
    request: HttpRequest,
    customer: Customer,
    page: FormPage,
    *,
    form: MoneyForm,
    kind_of: Callable[[], MovementKind],
) -> HttpResponseBase:
    author = request.user.get_username()

    def summarise() -> list[Fact]:
        data, kind, funds = form.cleaned_data, kind_of(), read_funds(customer.pk)
        is_later = (data.get("starts_at") or _PAST) > datetime.now(UTC)
        available_then = funds.available_nanousd if is_later else _available_then(funds, kind, data["amount"])
        facts = [
            Fact(label="Customer", value=customer.name),
            Fact(label=kind.label, value=f"{format_usd(data['amount'])} USD"),
            Fact(label="Available now", value=f"{format_usd(funds.available_nanousd)} USD"),
            Fact(label="Available then", value=f"{format_usd(available_then)} USD"),
            Fact(label="Reason", value=data["reason"]),
            Fact(label="Author", value=author),
        ]
        if kind is MovementKind.GRANT:
            starts, ends = data.get("starts_at"), data.get("expires_at")
            facts.insert(2, Fact(label="Expires", value=f"{ends:%Y-%m-%d %H:%M} UTC" if ends else "never"))
            if is_later:
                facts.insert(2, Fact(label="Begins", value=f"{starts:%Y-%m-%d %H:%M} UTC"))
        return [*facts, *warn_of_size(data["amount"])]

    def act() -> HttpResponseBase:
        data = form.cleaned_data
        movement = order_movement(
            Order(
                kind=kind_of(),
                customer_id=customer.pk,
                amount_nanousd=data["amount"],
                reason=data["reason"],
                author=author,
                reference=data["reference"],
                actor=admin_actor(request),
                starts_at=data.get("starts_at"),
                expires_at=data.get("expires_at"),
            ),
            now=datetime.now(UTC),
        )
        tell_outcome(request, movement, f" for {customer.name}")
        return redirect(page.cancel_url)

    return run_form_page(model_admin, request, page, form, act=act, summarise=summarise)


def _available_then(funds: Funds, kind: MovementKind, amount_nanousd: int) -> int:
    if kind is MovementKind.CREDIT_LIMIT:
        return funds.available_nanousd - funds.credit_nanousd + amount_nanousd
    return funds.available_nanousd + _SIGNS.get(kind, 1) * amount_nanousd


def warn_of_size(amount_nanousd: int) -> list[Fact]:
    """Return what a summary says of an amount that waits for a second person."""
    if amount_nanousd < settings.MONEY_APPROVAL_NANOUSD:
        return []
    return [Fact(label="Large", value="It waits until a second person has approved it.")]


def tell_outcome(request: HttpRequest, movement: Movement, whose: str) -> None:
    """Tell what has become of an order."""
    what = f"{movement.get_kind_display()} of {format_usd(movement.amount_nanousd)} USD{whose}"
    if movement.status == MovementStatus.WAITING:
        messages.warning(request, f"{what}: waits for a second person, under Money > Movements.")
    elif movement.starts_us is not None and movement.status == MovementStatus.PLANNED:
        messages.success(request, f"{what}: begins at {from_us(movement.starts_us):%Y-%m-%d %H:%M} UTC.")
    else:
        transfer = f" (transfer {movement.transfer_id})" if movement.transfer_id else ""
        messages.success(request, f"{what}: booked{transfer}.")


def _back(customer: Customer) -> str:
    return admin_url("keys.customer", "change", customer.pk)
