"""Issuing: a draft gets its number, what is left to pay moves from the wallet to the receivable account, all for good.

The order of locks is wallet, then the counter of the numbers. Months are issued in their order, so that what is late
of an earlier one is asked for once.
"""

from datetime import UTC, datetime, timedelta

from django.db import transaction

from billing.errors import InvoiceOutdated, InvoiceRefused
from billing.invoice_models import Invoice
from billing.invoicing.closing import Author, set_coverage, set_parties
from billing.invoicing.coverage import measure_coverage
from billing.invoicing.document import InvoiceState
from billing.invoicing.numbering import take_number
from billing.invoicing.others import read_others
from billing.invoicing.parties import read_profile
from billing.models import Account
from billing.money import Order, book_for_invoice, lock_wallet
from billing.money_models import MovementKind
from keys.audit import record_event


def issue_invoice(invoice_id: int, *, author: Author, reason: str = "", now: datetime | None = None) -> Invoice:
    """Issue a draft and return it: with its lines as they are, and with what has paid for them measured now.

    Where nothing is left to pay, it is paid at once. Raises InvoiceRefused for what is no draft, or while an earlier
    month has one, InvoiceOutdated when its lines no longer hold.
    """
    now = now or datetime.now(UTC)
    with transaction.atomic():
        invoice, wallet = lock_invoice(invoice_id)
        if invoice.status != InvoiceState.DRAFT:
            raise InvoiceRefused(f"{invoice} is not a draft: {invoice.status}.")
        others = read_others(invoice.customer_id, invoice.month, invoice.period_end)
        if others.has_earlier_draft:
            raise InvoiceRefused("An earlier month of this customer has a draft: issue that one first.")
        profile = read_profile(invoice.customer)
        if (others.usage_nanousd, profile.time_zone) != (invoice.basis_nanousd, invoice.time_zone):
            raise InvoiceOutdated(month=invoice.month)
        set_parties(invoice, invoice.customer, profile)
        coverage = measure_coverage(
            wallet,
            usage_nanousd=invoice.usage_nanousd,
            tax_millionths=profile.tax_millionths,
            others=others,
            now=now,
        )
        set_coverage(invoice, coverage)
        day = now.astimezone(UTC).date()
        take_number(invoice, day.year)
        invoice.issued_at = now
        invoice.due_on = day + timedelta(days=profile.payment_days)
        invoice.status = InvoiceState.ISSUED if invoice.due_cents else InvoiceState.PAID
        invoice.paid_at = None if invoice.due_cents else now
        invoice.save()
        book(invoice, MovementKind.INVOICED, invoice.net_nanousd, author=author, now=now)
        book(invoice, MovementKind.TAX, invoice.tax_nanousd, author=author, now=now)
        after = {"number": invoice.number, "net_nanousd": invoice.net_nanousd, "due_cents": invoice.due_cents}
        record_event(actor=author.acting, action="invoice.issued", target=invoice, after=after, reason=reason)
        return invoice


def lock_invoice(invoice_id: int) -> tuple[Invoice, Account]:
    """Return an invoice and its customer's wallet, both locked. Raises Invoice.DoesNotExist."""
    customer_id = Invoice.objects.values_list("customer_id", flat=True).get(pk=invoice_id)
    wallet = lock_wallet(customer_id)
    return Invoice.objects.select_related("customer").select_for_update(of=("self",)).get(pk=invoice_id), wallet


def book(invoice: Invoice, kind: MovementKind, amount_nanousd: int, *, author: Author, now: datetime) -> None:
    """Book what an issue or a void moves, once; nothing moves nothing."""
    if amount_nanousd:
        order = Order(
            kind=kind,
            customer_id=invoice.customer_id,
            amount_nanousd=amount_nanousd,
            reason=f"invoice {invoice.number}",
            author=author.name,
            actor=author.actor,
            reference=f"invoice:{invoice.pk}:{kind.value}",
            invoice_id=invoice.pk,
        )
        book_for_invoice(order, now=now)
