"""Accounts: who has what."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from billing.admin.statement_page import show_accounts_explained
from billing.admin.suspense_page import run_suspense_page
from billing.models import Account, AccountKind
from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import admin_link, admin_url, code, link, money


@admin.register(Account)
class AccountAdmin(ReadOnlyModelAdmin[Account]):
    list_display = ("account_code", "kind_text", "owner", "posted", "held", "available", "movements")
    list_filter = (("kind", ChoicesDropdownFilter),)
    list_select_related = ("customer",)
    search_fields = ("code__exact", "customer__name")
    search_help_text = "Customer's name or account code"
    ordering = ("id",)
    list_before_template = "billing/admin/account_note.html"  # type: ignore[assignment]
    fields = ("account_code", "kind", "owner", "posted", "held", "available", "movements")

    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (
            ("explained/", "billing_account_explained", show_accounts_explained),
            ("suspense/", "billing_account_suspense", run_suspense_page),
        )

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = {"explanation_url": admin_url("billing.account", "explained")}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @admin.display(description="Account")
    def account_code(self, account: Account) -> SafeString:
        return code(account.code)

    @admin.display(description="Kind")
    def kind_text(self, account: Account) -> str:
        return account.kind.replace("_", " ").capitalize()

    @admin.display(description="Customer")
    def owner(self, account: Account) -> SafeString | str:
        customer = account.customer
        return "the platform" if customer is None else admin_link("keys.customer", customer.pk, customer.name)

    @admin.display(description="Posted (USD)")
    def posted(self, account: Account) -> SafeString | str:
        return _amount(account, account.posted_nanousd)

    @admin.display(description="Held (USD)")
    def held(self, account: Account) -> SafeString | str:
        return _amount(account, account.held_nanousd)

    @admin.display(description="Available (USD)")
    def available(self, account: Account) -> SafeString | str:
        return _amount(account, account.posted_nanousd + account.credit_nanousd - account.held_nanousd)

    @admin.display(description="Transfers")
    def movements(self, account: Account) -> SafeString:
        transfers = admin_url("billing.transfer", "changelist")
        # Every call credits revenue: its other side alone would read the whole table.
        if account.kind == AccountKind.REVENUE:
            return link(f"{transfers}?credit_account__id__exact={account.pk}", "show")
        return link(f"{transfers}?party={account.pk}", "show")


def _amount(account: Account, amount_nanousd: int) -> SafeString | str:
    # The platform's accounts keep no running sum (see `billing.models.Account`); a zero here would be a lie.
    return money(amount_nanousd) if account.kind == AccountKind.CUSTOMER else "-"
