"""Customers with their money: balance, recent calls, granting credit."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextareaWidget

from billing.accounts import Balance, get_balance, get_balances
from billing.admin.display import USAGE_HEADERS, usage_row
from billing.ledger import grant_credit
from billing.models import UsageRecord
from common.admin_base import page_action, page_facts
from common.admin_display import admin_url, money
from common.admin_fields import UsdField
from common.admin_pages import Fact, FormPage, Panel, run_form_page
from common.ids import make_id
from common.money import format_usd
from keys.admin.customers import CustomerAdmin
from keys.models import Customer

_RECENT_CALLS = 20


class GrantCreditForm(forms.Form):
    """How much, and what for."""

    # Makes a second click harmless: the ledger books one movement a reference.
    reference = forms.CharField(widget=forms.HiddenInput)
    amount = UsdField(min_nanousd=1, label="Amount (USD)", help_text="A plain decimal such as 250 or 12.50.")
    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Stays in the ledger beside your name: 'invoice 2026-117 paid', 'goodwill for the outage of 3 May'.",
    )


@admin.register(Customer)
class FundedCustomerAdmin(CustomerAdmin):
    list_display = ("name", "plan", "status_badge", "available", "held", "email", "created")
    actions_detail = ("grant_credit", *CustomerAdmin.actions_detail)
    change_form_outer_before_template = "billing/admin/customer_balance.html"  # type: ignore[assignment]

    @override
    def read_page_facts(self, rows: Sequence[Customer]) -> Mapping[Any, object]:
        return get_balances([customer.pk for customer in rows])

    @admin.display(description="Available (USD)")
    def available(self, customer: Customer) -> SafeString:
        return money(_balance_of(customer).available_nanousd)

    @admin.display(description="Held (USD)")
    def held(self, customer: Customer) -> SafeString:
        return money(_balance_of(customer).held_nanousd)

    @override
    def read_customer_context(self, customer: Customer) -> dict[str, Any]:
        context = super().read_customer_context(customer)
        balance = get_balance(customer.pk)
        return {
            **context,
            "panels": [_calls_panel(customer), *context["panels"]],
            "balance": {
                "posted": format_usd(balance.posted_nanousd),
                "held": format_usd(balance.held_nanousd),
                "available": format_usd(balance.available_nanousd),
                "is_empty": balance.available_nanousd <= 0,
            },
        }

    def has_grant_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.add_transfer")

    @page_action(
        description="Grant credit",
        url_path="grant-credit",
        icon="add_card",
        variant=ActionVariant.PRIMARY,
        permission="grant",
    )
    def grant_credit(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        customer = get_object_or_404(Customer, pk=object_id)
        back = admin_url("keys.customer", "change", customer.pk)
        form = GrantCreditForm(request.POST or None, initial={"reference": make_id("grant")})
        author = request.user.get_username()

        def summarise() -> list[Fact]:
            amount = form.cleaned_data["amount"]
            before = get_balance(customer.pk).available_nanousd
            return [
                Fact(label="Customer", value=customer.name),
                Fact(label="Credit", value=f"{format_usd(amount)} USD"),
                Fact(label="Available now", value=f"{format_usd(before)} USD"),
                Fact(label="Available then", value=f"{format_usd(before + amount)} USD"),
                Fact(label="Reason", value=form.cleaned_data["reason"]),
                Fact(label="Author", value=author),
            ]

        def act() -> HttpResponseBase:
            transfer = grant_credit(
                customer_id=customer.pk,
                amount_nanousd=form.cleaned_data["amount"],
                reason=form.cleaned_data["reason"],
                author=author,
                reference=form.cleaned_data["reference"],
            )
            amount = f"{format_usd(transfer.amount_nanousd)} USD"
            self.log_change(request, customer, f"Granted {amount}: {transfer.reason}")
            messages.success(request, f"{customer.name} received {amount} (transfer {transfer.pk}).")
            return redirect(back)

        page = FormPage(
            title=f"Grant credit to {customer.name}",
            submit_label="Grant credit",
            cancel_url=back,
            intro="Adds prepaid money that the customer's calls draw from. It is booked as one transfer, for good.",
            confirm_intro=(
                "A transfer cannot be changed or deleted afterwards, only corrected by another one. Is this right?"
            ),
        )
        return run_form_page(self, request, page, form, act=act, summarise=summarise)


def _balance_of(customer: Customer) -> Balance:
    found = page_facts(customer)
    return found if isinstance(found, Balance) else Balance(posted_nanousd=0, held_nanousd=0)


def _calls_panel(customer: Customer) -> Panel:
    records = UsageRecord.objects.filter(customer=customer).select_related("api_key").order_by("-started_at", "-id")
    usage_url = f"{admin_url('billing.usagerecord', 'changelist')}?customer__id__exact={customer.pk}"
    return Panel(
        title="Recent calls",
        headers=USAGE_HEADERS,
        rows=[usage_row(record) for record in records[:_RECENT_CALLS]],
        empty="No call yet. A call needs an active key, a balance above zero and a model with a price.",
        link_url=usage_url,
        link_text="All usage of this customer",
    )
