"""A customer's statement, and the page that explains the accounts to people who are not bookkeepers."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminSingleDateWidget

from billing.accounts import open_platform_account, sum_transfers
from billing.funds import Funds, read_funds
from billing.models import AccountKind
from billing.statement import Statement, StatementLine, read_statement
from common.admin_display import admin_link, admin_url, link, money, utc
from common.admin_pages import Panel
from keys.models import Customer

_DEFAULT_DAYS = 30
_PLATFORM_KINDS = {
    AccountKind.CASH: ("Cash", -1, "What customers paid, minus what was paid back to them."),
    AccountKind.CREDIT_SOURCE: ("Credit given", -1, "Grants and adjustments, minus what expired or was taken back."),
    AccountKind.REVENUE: ("Revenue", 1, "What calls were charged, minus credit notes and what waits in suspense."),
    AccountKind.SUSPENSE: ("Suspense", 1, "Charged, but estimated or flagged: set aside until somebody looks at it."),
    AccountKind.PROVIDER_COST: ("Provider cost", -1, "What the calls cost us at the providers, posted hour by hour."),
    AccountKind.TAX: ("Tax", 1, "Asked for on invoices, to be passed on to the tax office."),
    AccountKind.PROVIDER_PAYABLE: ("Owed to providers", 1, "The other side of the provider cost: their bills to come."),
}


class PeriodForm(forms.Form):
    """Which days."""

    first_day = forms.DateField(widget=UnfoldAdminSingleDateWidget(), help_text="UTC, included.")
    last_day = forms.DateField(widget=UnfoldAdminSingleDateWidget(), help_text="UTC, included.")


def show_statement(model_admin: "ModelAdmin[Any]", request: HttpRequest, customer: Customer) -> HttpResponseBase:
    """Show a customer's statement of the days asked for; of the last 30 by default."""
    today = datetime.now(UTC).date()
    initial = {"first_day": today - timedelta(days=_DEFAULT_DAYS), "last_day": today}
    form = PeriodForm(request.GET if "first_day" in request.GET else initial)
    days = form.cleaned_data if form.is_valid() else initial
    start = datetime.combine(days.get("first_day", today), datetime.min.time(), UTC)
    end = datetime.combine(days.get("last_day", today), datetime.min.time(), UTC) + timedelta(days=1)
    statement = read_statement(customer.pk, start=start, end=end)
    return _render(
        model_admin,
        request,
        "billing/admin/statement.html",
        title=f"Statement of {customer.name}",
        form=form,
        panels=[_statement_panel(customer, statement), *planned_panels(read_funds(customer.pk))],
        back=admin_url("keys.customer", "change", customer.pk),
    )


def _statement_panel(customer: Customer, statement: Statement) -> Panel:
    usage = f"{admin_url('billing.usagerecord', 'changelist')}?customer__id__exact={customer.pk}"

    def text(line: StatementLine) -> object:
        if line.transfer_id is not None:
            return admin_link("billing.transfer", line.transfer_id, line.text)
        return link(usage, line.text)

    rows: list[tuple[object, ...]] = [("", "Balance before", "", money(statement.opening_nanousd))]
    rows += [
        (f"{line.day:%Y-%m-%d}", text(line), money(line.amount_nanousd), money(line.balance_nanousd))
        for line in statement.lines
    ]
    return Panel(
        title=f"{statement.start:%Y-%m-%d} to {statement.end - timedelta(days=1):%Y-%m-%d}",
        headers=("Day", "What", "Amount (USD)", "Balance (USD)"),
        rows=rows,
        footer=("", "Balance then", "", money(statement.closing_nanousd)),
        empty="",
    )


def planned_panels(funds: Funds) -> list[Panel]:
    """Return the table of grants that begin later; nothing where there is none."""
    rows = [
        (utc(g.starts_at), money(g.amount_nanousd), utc(g.expires_at, never="never"), g.reason) for g in funds.planned
    ]
    headers = ("Begins", "Amount (USD)", "Expires", "Reason")
    note = "Not in any sum before they begin. Under Money > Movements each can be withdrawn until then."
    return [Panel(title="Grants that begin later", headers=headers, rows=rows, empty="", note=note)] if rows else []


def show_accounts_explained(request: HttpRequest, model_admin: "ModelAdmin[Any]") -> HttpResponseBase:
    """Show what each account is for, with what is in the platform's own now."""
    if not request.user.has_perm("billing.view_account"):
        raise PermissionDenied
    rows = [
        (name, money(sign * sum_transfers(open_platform_account(kind))), meaning)
        for kind, (name, sign, meaning) in _PLATFORM_KINDS.items()
    ]
    panel = Panel(
        title="The platform's own accounts", headers=("Account", "Now (USD)", "What it says"), rows=rows, empty=""
    )
    return _render(
        model_admin,
        request,
        "billing/admin/accounts_explained.html",
        title="How the accounts work",
        panels=[panel],
        suspense_url=admin_url("billing.account", "suspense") if request.user.has_perm("billing.add_transfer") else "",
    )


def _render(model_admin: "ModelAdmin[Any]", request: HttpRequest, template: str, **context: Any) -> HttpResponseBase:
    whole = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "media": model_admin.media,
        **context,
    }
    return TemplateResponse(request, template, whole)
