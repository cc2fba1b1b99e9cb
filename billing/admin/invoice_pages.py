"""Pages that close months, issue, receive payments and void: each asks twice, and makes one domain call."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from unfold.widgets import (
    UnfoldAdminSelect2Widget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.invoice_models import Invoice
from billing.invoicing.closing import Author, close_period
from billing.invoicing.document import NANO_PER_CENT
from billing.invoicing.issuing import issue_invoice
from billing.invoicing.months import ClosedMonth, close_month
from billing.invoicing.paying import receive_payment, void_invoice
from billing.invoicing.periods import last_month
from common.admin_display import admin_url
from common.admin_fields import UsdField
from common.admin_pages import Fact, FormPage, run_form_page
from common.ids import make_id
from common.money import format_usd
from keys.admin_trail import admin_actor
from keys.models import Customer

_FINAL = "An issued invoice is never changed or deleted, only void. Is this right?"


class CloseForm(forms.Form):
    """Which month, of whom."""

    month = forms.RegexField(
        r"^20\d\d-(0[1-9]|1[0-2])$",
        widget=UnfoldAdminTextInputWidget({"placeholder": "2026-10"}),
        help_text="A calendar month such as 2026-10, in each customer's time zone.",
        error_messages={"invalid": "Write the month like 2026-10."},
    )
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name", "id"),
        required=False,
        widget=UnfoldAdminSelect2Widget(),
        empty_label="All customers",
    )
    issues = forms.BooleanField(
        required=False,
        label="Issue the invoices as well",
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Otherwise drafts are made, for you to look at and issue one by one.",
    )


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(max_length=200, widget=UnfoldAdminTextareaWidget({"rows": 3}))


class IssueForm(forms.Form):
    """A word for the audit trail."""

    reason = forms.CharField(
        max_length=200,
        required=False,
        widget=UnfoldAdminTextareaWidget({"rows": 2}),
        help_text="Kept in the audit trail: 'looked at with sales'.",
    )


class PaymentForm(ReasonForm):
    """How much came in, and where from."""

    # Makes a second click harmless: a reference is booked once.
    reference = forms.CharField(widget=forms.HiddenInput)
    amount = UsdField(min_nanousd=NANO_PER_CENT, label="Amount (USD)", help_text="A part is possible.")
    field_order = ("amount", "reason", "reference")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = "Where it can be found: 'bank statement of 3 November, line 7'."

    def clean_amount(self) -> int:
        amount: int = self.cleaned_data["amount"]
        if amount % NANO_PER_CENT:
            raise forms.ValidationError("Invoices are paid in whole cents.")
        return amount


class VoidForm(ReasonForm):
    """Why, and what then."""

    draws_anew = forms.BooleanField(
        required=False,
        initial=True,
        label="Draft the month anew at once",
        widget=UnfoldBooleanSwitchWidget(),
        help_text="With the billing profile as it is now; the new invoice names the one that it stands for.",
    )


def close_months(request: HttpRequest, model_admin: "ModelAdmin[Any]") -> HttpResponseBase:
    """Ask for a month, and close it."""
    if not request.user.has_perm("billing.add_invoice"):
        raise PermissionDenied
    back = admin_url("billing.invoice", "changelist")
    initial = {"month": last_month(datetime.now(UTC), "UTC"), "customer": request.GET.get("customer")}
    form = CloseForm(request.POST or None, initial=initial)
    if not request.user.has_perm("billing.change_invoice"):
        # Who may close may not issue by it.
        del form.fields["issues"]

    def act() -> HttpResponseBase:
        data = form.cleaned_data
        issues = data.get("issues", False)
        closed = close_month(data["month"], customer=data["customer"], issues=issues, author=_author(request))
        _tell(request, closed, issues=issues)
        return redirect(back)

    def summarise() -> list[Fact]:
        data = form.cleaned_data
        return [
            Fact(label="Month", value=data["month"]),
            Fact(label="Customers", value=data["customer"] or "all that have used anything"),
            Fact(label="Then", value="issue the invoices, for good" if data.get("issues") else "leave drafts"),
        ]

    page = FormPage(
        title="Close a month",
        submit_label="Close the month",
        cancel_url=back,
        intro="Computes the invoice of each customer from its calls. Safe to repeat: drafts are computed anew, issued "
        "invoices stay as they are.",
        confirm_intro=_FINAL if request.POST.get("issues") else "Drafts can be computed anew at any time.",
    )
    return run_form_page(model_admin, request, page, form, act=act, summarise=summarise)


def ask_issue(model_admin: "ModelAdmin[Any]", request: HttpRequest, invoice: Invoice) -> HttpResponseBase:
    """Ask whether to issue a draft, and do it."""
    form = IssueForm(request.POST or None)

    def act() -> HttpResponseBase:
        issued = issue_invoice(invoice.pk, author=_author(request), reason=form.cleaned_data["reason"])
        messages.success(request, f"{issued} is issued: {_usd(issued.due_cents)} are due.")
        return redirect(_page_of(invoice))

    page = FormPage(
        title=f"Issue the invoice of {invoice.month} for {invoice.customer.name}",
        submit_label="Issue",
        cancel_url=_page_of(invoice),
        intro="It gets its number and is frozen; what is left to pay moves from the wallet to what is due.",
        confirm_intro=_FINAL,
    )
    return run_form_page(model_admin, request, page, form, act=act, summarise=lambda: _facts(invoice))


def ask_payment(model_admin: "ModelAdmin[Any]", request: HttpRequest, invoice: Invoice) -> HttpResponseBase:
    """Ask what came in for an invoice, and book it."""
    open_nanousd = (invoice.due_cents - invoice.paid_cents) * NANO_PER_CENT
    form = PaymentForm(request.POST or None, initial={"reference": make_id("pay"), "amount": open_nanousd})

    def act() -> HttpResponseBase:
        data = form.cleaned_data
        paid = receive_payment(
            invoice.pk,
            data["amount"] // NANO_PER_CENT,
            reason=data["reason"],
            reference=data["reference"],
            author=_author(request),
        )
        messages.success(request, f"{paid}: {_usd(paid.due_cents - paid.paid_cents)} are open.")
        return redirect(_page_of(invoice))

    def summarise() -> list[Fact]:
        data = form.cleaned_data
        return [
            *_facts(invoice),
            Fact(label="Open", value=f"{format_usd(open_nanousd)} USD"),
            Fact(label="Received", value=f"{format_usd(data['amount'])} USD"),
            Fact(label="Reason", value=data["reason"]),
        ]

    page = FormPage(
        title=f"Receive a payment of {invoice}",
        submit_label="Book the payment",
        cancel_url=_page_of(invoice),
        intro="Money that has arrived: it is booked once, however often you click.",
        confirm_intro="A payment that is booked cannot be taken back here. Is this right?",
    )
    return run_form_page(model_admin, request, page, form, act=act, summarise=summarise)


def ask_void(model_admin: "ModelAdmin[Any]", request: HttpRequest, invoice: Invoice) -> HttpResponseBase:
    """Ask why an invoice shall be void, and do it."""
    form = VoidForm(request.POST or None)

    def act() -> HttpResponseBase:
        author = _author(request)
        void_invoice(invoice.pk, reason=form.cleaned_data["reason"], author=author)
        messages.success(request, f"{invoice} is void.")
        draft = None
        if form.cleaned_data["draws_anew"]:
            draft = close_period(invoice.customer_id, invoice.month, author=author)
        return redirect(_page_of(invoice if draft is None else draft))

    page = FormPage(
        title=f"Void {invoice}",
        submit_label="Void",
        cancel_url=_page_of(invoice),
        is_danger=True,
        intro="Its number stays used. The wallet owes again what the invoice had taken over, and the month can be "
        "invoiced anew.",
        confirm_intro="A void invoice stays void. Is this right?",
    )

    def summarise() -> list[Fact]:
        return [*_facts(invoice), Fact(label="Reason", value=form.cleaned_data["reason"])]

    return run_form_page(model_admin, request, page, form, act=act, summarise=summarise)


def _facts(invoice: Invoice) -> list[Fact]:
    return [
        Fact(label="Invoice", value=str(invoice)),
        Fact(label="Customer", value=invoice.customer.name),
        Fact(label="Month", value=f"{invoice.month} ({invoice.time_zone})"),
        Fact(label="Due", value=_usd(invoice.due_cents)),
    ]


def _tell(request: HttpRequest, closed: list[ClosedMonth], *, issues: bool) -> None:
    for each in closed:
        if each.problem:
            messages.error(request, f"{each.customer}: {each.problem}")
    made = sum(each.invoice is not None for each in closed)
    said = "issued" if issues else "drafted or issued before"
    messages.success(request, f"{made} invoice{'s' * (made != 1)} {said}, {len(closed) - made} without.")


def _author(request: HttpRequest) -> Author:
    return Author(name=request.user.get_username(), actor=admin_actor(request))


def _usd(cents: int) -> str:
    return f"{format_usd(cents * NANO_PER_CENT)} USD"


def _page_of(invoice: Invoice) -> str:
    return admin_url("billing.invoice", "change", invoice.pk)
