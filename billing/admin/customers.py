"""Customers with their money: balance, recent calls, granting credit."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.enums import ActionVariant

from billing.accounts import Balance, get_balances
from billing.admin.display import USAGE_HEADERS, usage_row
from billing.admin.money_pages import run_grant_page, run_movement_page
from billing.admin.statement_page import planned_panels, show_statement
from billing.funds import Funds, read_funds
from billing.invoice_models import BillingProfile, Invoice
from billing.invoicing.document import NANO_PER_CENT
from billing.models import UsageRecord
from billing.money_models import Movement, MovementStatus
from common.admin_base import page_action, page_facts
from common.admin_display import admin_link, admin_url, money, utc
from common.admin_pages import Panel
from common.money import format_usd
from keys.admin.customers import CustomerAdmin
from keys.models import Customer

_RECENT_CALLS = 20
_RECENT_INVOICES = 6


@admin.register(Customer)
class FundedCustomerAdmin(CustomerAdmin):
    list_display = ("name", "plan", "status_badge", "available", "held", "email", "created")
    actions_detail = ("grant_credit", "move_money", "statement", "billing_profile", *CustomerAdmin.actions_detail)
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
        funds = read_funds(customer.pk)
        return {
            **context,
            "panels": [
                *_grants_panels(funds),
                *planned_panels(funds),
                _calls_panel(customer),
                _invoices_panel(customer),
                *context["panels"],
            ],
            "balance": {
                "prepaid": format_usd(max(0, funds.prepaid_nanousd)),
                "granted": format_usd(funds.granted_nanousd),
                "owed": format_usd(funds.owed_nanousd),
                "receivable": format_usd(funds.receivable_nanousd),
                "credit": format_usd(funds.credit_nanousd),
                "held": format_usd(funds.held_nanousd),
                "available": format_usd(funds.available_nanousd),
                "is_empty": funds.available_nanousd <= 0,
                "is_postpaid": bool(funds.credit_nanousd or funds.owed_nanousd or funds.receivable_nanousd),
                "waiting": Movement.objects.filter(customer=customer, status=MovementStatus.WAITING).count(),
                "waiting_url": f"{admin_url('billing.movement', 'changelist')}?status__exact=waiting",
                "explanation_url": admin_url("billing.account", "explained"),
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
        return run_grant_page(self, request, get_object_or_404(Customer, pk=object_id))

    @page_action(description="Move money", url_path="move-money", icon="payments", permission="grant")
    def move_money(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return run_movement_page(self, request, get_object_or_404(Customer, pk=object_id))

    def has_statement_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.view_transfer")

    @page_action(description="Statement", url_path="statement", icon="receipt_long", permission="statement")
    def statement(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return show_statement(self, request, get_object_or_404(Customer, pk=object_id))

    def has_profile_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.change_billingprofile")

    @page_action(description="Billing profile", url_path="billing-profile", icon="contact_mail", permission="profile")
    def billing_profile(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        found = BillingProfile.objects.filter(customer_id=object_id).values_list("pk", flat=True).first()
        if found is None:
            return redirect(f"{admin_url('billing.billingprofile', 'add')}?customer={int(object_id)}")
        return redirect(admin_url("billing.billingprofile", "change", found))


def _invoices_panel(customer: Customer) -> Panel:
    invoices = Invoice.objects.filter(customer=customer).order_by("-id")[:_RECENT_INVOICES]
    return Panel(
        title="Invoices",
        headers=("Invoice", "Month", "State", "Due (USD)", "Paid (USD)"),
        rows=[
            (
                admin_link("billing.invoice", invoice.pk, invoice),
                invoice.month,
                invoice.get_status_display(),
                money(invoice.due_cents * NANO_PER_CENT),
                money(invoice.paid_cents * NANO_PER_CENT),
            )
            for invoice in invoices
        ],
        empty="None yet. Close a month under Money > Invoices.",
        link_url=f"{admin_url('billing.invoice', 'changelist')}?customer__id__exact={customer.pk}",
        link_text="In the list",
    )


def _balance_of(customer: Customer) -> Balance:
    found = page_facts(customer)
    return found if isinstance(found, Balance) else Balance(posted_nanousd=0, held_nanousd=0)


def _grants_panels(funds: Funds) -> list[Panel]:
    if not funds.grants:
        return []
    rows = [
        (money(g.rest_nanousd), money(g.amount_nanousd), utc(g.expires_at, never="never"), g.reason)
        for g in funds.grants
    ]
    return [
        Panel(
            title="Grants",
            headers=("Left (USD)", "Given (USD)", "Expires", "Reason"),
            rows=rows,
            empty="",
            note="In the order in which calls spend them, before any prepaid money.",
        )
    ]


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
