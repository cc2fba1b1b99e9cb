"""Invoices for their readers: as documents, by customer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from billing.invoice_models import Invoice, InvoiceItem
from billing.invoicing.document import InvoiceDocument, InvoiceLine, InvoiceState, LineKind, Party
from common.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePage:
    """Invoices, newest first, and the cursor of what follows (None: nothing)."""

    invoices: list[Invoice]
    next_before: int | None


def list_invoices(
    customer_id: int, *, state: InvoiceState | None = None, before: int | None = None, limit: int = 100
) -> InvoicePage:
    """Return a page of a customer's invoices by descending id; drafts are nobody's affair but the platform's."""
    found = Invoice.objects.filter(customer_id=customer_id).exclude(status=InvoiceState.DRAFT).order_by("-id")
    if state is not None:
        found = found.filter(status=state)
    if before is not None:
        found = found.filter(id__lt=before)
    invoices = list(found.select_related("customer", "replaces")[: limit + 1])
    has_more = len(invoices) > limit
    invoices = invoices[:limit]
    return InvoicePage(invoices=invoices, next_before=invoices[-1].pk if has_more else None)


def get_invoice(customer_id: int, number: str) -> Invoice:
    """Return a customer's invoice. Raises NotFound, also for another customer's and for drafts."""
    found = Invoice.objects.filter(customer_id=customer_id, number=number).select_related("customer", "replaces")
    invoice = found.first()
    if invoice is None:
        raise NotFound(f"There is no invoice '{number[:40]}'.")
    return invoice


def read_document(invoice: Invoice, *, with_lines: bool = True) -> InvoiceDocument:
    """Return an invoice as JSON, PDF and admin show it; lists leave the lines out."""
    successor = None
    if invoice.status == InvoiceState.VOID:
        successor = Invoice.objects.filter(replaces=invoice, number__isnull=False).order_by("id").first()
    items = invoice.items.order_by("position") if with_lines else ()
    return InvoiceDocument(
        number=invoice.number or "",
        state=InvoiceState(invoice.status),
        customer_id=invoice.customer.public_id,
        seller=_party(invoice.seller),
        customer=_party(invoice.buyer),
        month=invoice.month,
        period_start=invoice.period_start,
        period_end=invoice.period_end,
        time_zone=invoice.time_zone,
        issued_on=_day(invoice.issued_at),
        due_on=invoice.due_on,
        lines=tuple(_line(item) for item in items),
        usage_nanousd=invoice.usage_nanousd,
        granted_nanousd=invoice.granted_nanousd,
        prepaid_nanousd=invoice.prepaid_nanousd,
        net_nanousd=invoice.net_nanousd,
        carried_nanousd=invoice.carried_nanousd,
        tax_millionths=invoice.tax_millionths,
        tax_nanousd=invoice.tax_nanousd,
        total_nanousd=invoice.total_nanousd,
        due_cents=invoice.due_cents,
        paid_cents=invoice.paid_cents,
        paid_on=_day(invoice.paid_at),
        voided_on=_day(invoice.voided_at),
        void_reason=invoice.void_reason,
        replaces="" if invoice.replaces is None else invoice.replaces.number or "",
        replaced_by="" if successor is None else successor.number or "",
    )


def _party(stored: Mapping[str, str]) -> Party:
    return Party(**stored)


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.astimezone(UTC).date()


def _line(item: InvoiceItem) -> InvoiceLine:
    return InvoiceLine(
        position=item.position,
        kind=LineKind(item.kind),
        text=item.text,
        model=item.model,
        token_class=item.token_class,
        quantity=item.quantity,
        rate_nanousd=item.rate_nanousd,
        amount_nanousd=item.amount_nanousd,
        price_version=item.price_version_id,
        price_terms=item.price_terms_id,
    )
