"""What becomes of an issued invoice: it is paid, in one or several parts, or it is void."""

from datetime import UTC, datetime

from django.db import transaction

from billing.errors import AmountInvalid, InvoiceRefused, ReferenceUsed
from billing.invoice_models import Invoice
from billing.invoicing.closing import Author
from billing.invoicing.document import NANO_PER_CENT, InvoiceState
from billing.invoicing.issuing import book, lock_invoice
from billing.money import Order, book_for_invoice
from billing.money_models import Movement, MovementKind
from keys.audit import record_event


def receive_payment(
    invoice_id: int, amount_cents: int, *, reason: str, reference: str, author: Author, now: datetime | None = None
) -> Invoice:
    """Book a payment and return the invoice, which is paid once nothing is open.

    The same `reference` with the same content books nothing more. Raises InvoiceRefused for what is not issued or paid
    already, AmountInvalid for more than is open, ReferenceUsed for a reference that names something else.
    """
    now = now or datetime.now(UTC)
    with transaction.atomic():
        invoice, _ = lock_invoice(invoice_id)
        order = Order(
            kind=MovementKind.PAYMENT,
            customer_id=invoice.customer_id,
            amount_nanousd=amount_cents * NANO_PER_CENT,
            reason=reason,
            author=author.name,
            actor=author.actor,
            reference=reference,
            invoice_id=invoice.pk,
        )
        earlier = Movement.objects.filter(reference=reference).first()
        if earlier is not None:
            content = (earlier.kind, earlier.invoice_id, earlier.amount_nanousd)
            if content != (order.kind, invoice.pk, order.amount_nanousd):
                raise ReferenceUsed(reference=reference)
            return invoice
        if invoice.status != InvoiceState.ISSUED:
            raise InvoiceRefused(f"{invoice} waits for no payment: {invoice.status}.")
        open_cents = invoice.due_cents - invoice.paid_cents
        if not 0 < amount_cents <= open_cents:
            raise AmountInvalid(
                f"{open_cents // 100}.{open_cents % 100:02d} USD of {invoice} is open; a payment is at most that.",
                param="amount",
            )
        book_for_invoice(order, now=now)
        before = {"paid_cents": invoice.paid_cents}
        invoice.paid_cents += amount_cents
        if invoice.paid_cents == invoice.due_cents:
            invoice.status, invoice.paid_at = InvoiceState.PAID, now
        invoice.save(update_fields=["paid_cents", "status", "paid_at"])
        after = {"paid_cents": invoice.paid_cents, "status": invoice.status}
        record_event(
            actor=author.acting, action="invoice.paid", target=invoice, before=before, after=after, reason=reason
        )
        return invoice


def void_invoice(invoice_id: int, *, reason: str, author: Author, now: datetime | None = None) -> Invoice:
    """Void an invoice and return it: the wallet owes again what it had moved, and its month may be closed anew.

    Raises InvoiceRefused for a draft, which is simply closed again, and for one that money was received for: that is
    corrected with a credit note. Raises AmountInvalid without a reason.
    """
    now = now or datetime.now(UTC)
    if not reason.strip():
        raise AmountInvalid("Say why it is void: the reason stays on the invoice.", param="reason")
    with transaction.atomic():
        invoice, _ = lock_invoice(invoice_id)
        if invoice.status not in (InvoiceState.ISSUED, InvoiceState.PAID):
            raise InvoiceRefused(f"{invoice} cannot be void: {invoice.status}.")
        if invoice.paid_cents:
            raise InvoiceRefused(f"Money was received for {invoice}. Correct it with a credit note or a refund.")
        before = {"status": invoice.status}
        book(invoice, MovementKind.UNINVOICED, invoice.net_nanousd, author=author, now=now)
        book(invoice, MovementKind.UNTAX, invoice.tax_nanousd, author=author, now=now)
        invoice.status, invoice.standing_month = InvoiceState.VOID, None
        invoice.voided_at, invoice.void_reason = now, reason.strip()[:200]
        invoice.save(update_fields=["status", "standing_month", "voided_at", "void_reason"])
        record_event(
            actor=author.acting,
            action="invoice.voided",
            target=invoice,
            before=before,
            after={"status": invoice.status},
            reason=reason,
        )
        return invoice
