"""Invoices: what a month asks for and why, what the ledger moved for it, and what may be done with it."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.enums import ActionVariant

from billing.admin.filters import UtcRangeFilter
from billing.admin.invoice_pages import ask_issue, ask_payment, ask_void, close_months
from billing.invoice_models import Invoice
from billing.invoicing.document import NANO_PER_CENT, InvoiceDocument, InvoiceState
from billing.invoicing.presenting import describe_rate, present_document
from billing.invoicing.reading import read_document
from billing.ledger import explain_transfer
from billing.money_models import Movement
from common.admin_base import PanelModelAdmin, page_action
from common.admin_display import Tone, admin_link, admin_url, badge, code, money, number, usd_column, utc, utc_column
from common.admin_pages import Panel
from common.percents import format_percent

_BADGES: Mapping[InvoiceState, Tone] = {
    InvoiceState.DRAFT: "neutral",
    InvoiceState.ISSUED: "warning",
    InvoiceState.PAID: "success",
    InvoiceState.VOID: "danger",
}
# The states in which each action has something to do.
_OFFERED = {
    "issue": (InvoiceState.DRAFT,),
    "receive-payment": (InvoiceState.ISSUED,),
    "void": (InvoiceState.ISSUED, InvoiceState.PAID),
}


@admin.register(Invoice)
class InvoiceAdmin(PanelModelAdmin[Invoice]):
    list_display = ("name", "owner", "month", "state", "usage", "due", "paid", "issued", "due_day")
    list_display_links = ("name",)
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("issued_at", UtcRangeFilter),
        ("customer", AutocompleteSelectFilter),
    )
    list_select_related = ("customer",)
    search_fields = ("number__exact", "month__exact", "customer__name")
    search_help_text = "Number, month (2026-10) or customer"
    ordering = ("-id",)
    list_before_template = "billing/admin/invoice_note.html"  # type: ignore[assignment]
    actions_detail = ("issue", "receive_payment", "void", "pdf", "json")  # type: ignore[assignment]

    usage = usd_column("usage_nanousd", "Usage (USD)")
    issued = utc_column("issued_at", "Issued (UTC)", zone="")
    computed = utc_column("computed_at", "Computed")
    voided = utc_column("voided_at", "Void since")

    @admin.display(description="Invoice")
    def name(self, invoice: Invoice) -> str:
        return str(invoice)

    @admin.display(description="State")
    def state(self, invoice: Invoice) -> SafeString:
        state = InvoiceState(invoice.status)
        return badge(state.value.capitalize(), _BADGES[state])

    @admin.display(description="Customer")
    def owner(self, invoice: Invoice) -> SafeString:
        return admin_link("keys.customer", invoice.customer_id, invoice.customer.name)

    @admin.display(description="Due (USD)")
    def due(self, invoice: Invoice) -> SafeString:
        return money(invoice.due_cents * NANO_PER_CENT)

    @admin.display(description="Paid (USD)")
    def paid(self, invoice: Invoice) -> SafeString:
        return money(invoice.paid_cents * NANO_PER_CENT)

    @admin.display(description="Calls that began from … to before")
    def period(self, invoice: Invoice) -> SafeString:
        start, end = utc(invoice.period_start), utc(invoice.period_end)
        return SafeString(f"{start} to {end} ({invoice.time_zone})")

    @admin.display(description="Stands for")
    def replaced(self, invoice: Invoice) -> SafeString | str:
        return "-" if invoice.replaces is None else admin_link("billing.invoice", invoice.replaces_id, invoice.replaces)

    @admin.display(description="Due on")
    def due_day(self, invoice: Invoice) -> str:
        return "-" if invoice.due_on is None else invoice.due_on.isoformat()

    @override
    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = ["name", "state", "owner", "month", "period", "usage", "due", "paid", "issued", "due_day", "computed"]
        if isinstance(obj, Invoice) and obj.replaces_id is not None:
            fields.append("replaced")
        if isinstance(obj, Invoice) and obj.status == InvoiceState.VOID:
            fields += ["voided", "void_reason"]
        return fields

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        close_url = admin_url("billing.invoice", "close") if self.has_close_permission(request) else ""
        return super().changelist_view(request, {"close_url": close_url, **(extra_context or {})})

    @override
    def read_panels(self, row: Invoice) -> list[Panel]:
        return _panels(row)

    @override
    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (("close/", "billing_invoice_close", close_months),)

    # ---- actions

    def has_close_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.add_invoice")

    def has_decide_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.change_invoice")

    @override
    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Offer what the invoice's state allows."""
        row = Invoice.objects.filter(pk=object_id).values_list("status", "paid_cents").first()
        status, paid_cents = row or ("", 0)
        offered = super().get_actions_detail(request, object_id)
        found = [action for action in offered if status in _OFFERED.get(action.path, (status,))]
        # Money that was received stays with its invoice.
        return [action for action in found if not (action.path == "void" and paid_cents)]

    @page_action(
        description="Issue", url_path="issue", icon="verified", variant=ActionVariant.PRIMARY, permission="decide"
    )
    def issue(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return ask_issue(self, request, get_object_or_404(Invoice, pk=object_id))

    @page_action(
        description="Receive payment",
        url_path="receive-payment",
        icon="payments",
        variant=ActionVariant.PRIMARY,
        permission="decide",
    )
    def receive_payment(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return ask_payment(self, request, get_object_or_404(Invoice, pk=object_id))

    @page_action(description="Void", url_path="void", icon="block", variant=ActionVariant.DANGER, permission="decide")
    def void(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return ask_void(self, request, get_object_or_404(Invoice, pk=object_id))

    @page_action(description="PDF", url_path="pdf", icon="picture_as_pdf", permission="view")
    def pdf(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        document = read_document(get_object_or_404(Invoice, pk=object_id))
        from billing.invoicing.pdf import render_pdf  # noqa: PLC0415 - 7 MB, for who asks for a PDF

        return _as_file(HttpResponse(render_pdf(document), content_type="application/pdf"), document, "pdf")

    @page_action(description="JSON", url_path="json", icon="data_object", permission="view")
    def json(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        document = read_document(get_object_or_404(Invoice, pk=object_id))
        return _as_file(JsonResponse(present_document(document)), document, "json")


def _as_file(response: HttpResponse, document: InvoiceDocument, suffix: str) -> HttpResponse:
    name = document.number or f"draft-{document.month}"
    response["Content-Disposition"] = f'attachment; filename="{name}.{suffix}"'
    return response


def _panels(invoice: Invoice) -> list[Panel]:
    document = read_document(invoice)
    return [_lines_panel(document), _sums_panel(document), _ledger_panel(invoice)]


def _lines_panel(document: InvoiceDocument) -> Panel:
    return Panel(
        title="Lines",
        headers=("What", "Quantity", "Rate (USD)", "Amount (USD)"),
        rows=[
            (line.text, number(line.quantity) if line.quantity else "", describe_rate(line), money(line.amount_nanousd))
            for line in document.lines
        ],
        footer=("Usage", "", "", money(document.usage_nanousd)),
        empty="",
        note="Exact to the nano-dollar: together they are what the ledger has moved for the calls.",
    )


def _sums_panel(document: InvoiceDocument) -> Panel:
    rows = [
        ("Usage", money(document.usage_nanousd)),
        ("Paid by grants", money(-document.granted_nanousd)),
        ("Paid in advance or credited", money(-document.prepaid_nanousd)),
        ("Left to pay", money(document.net_nanousd)),
        ("Carried over from rounding earlier invoices", money(document.carried_nanousd)),
        (f"Tax, {format_percent(document.tax_millionths, decimals=4)} of what is left", money(document.tax_nanousd)),
        ("Total", money(document.total_nanousd)),
    ]
    return Panel(
        title="Sums",
        headers=("", "USD"),
        rows=rows,
        footer=("Due, rounded to cents once, half to even", money(document.due_cents * NANO_PER_CENT)),
        empty="",
        note="A draft's sums are as of its close; what has paid for it is measured again when it is issued."
        if document.state is InvoiceState.DRAFT
        else "",
    )


def _ledger_panel(invoice: Invoice) -> Panel:
    movements = Movement.objects.filter(invoice=invoice, transfer__isnull=False).select_related(
        "transfer__debit_account", "transfer__credit_account"
    )
    rows = []
    for movement in movements.order_by("id"):
        transfer = movement.transfer
        assert transfer is not None
        link = admin_link("billing.transfer", transfer.pk, transfer.pk)
        rows.append(
            (link, utc(transfer.created_at), explain_transfer(transfer), movement.author, code(movement.reference))
        )
    return Panel(
        title="Ledger",
        headers=("Transfer", "Time", "What it did", "By", "Reference"),
        rows=rows,
        empty="Nothing was moved for it: a draft moves nothing, nor does an invoice that was paid in advance.",
    )
