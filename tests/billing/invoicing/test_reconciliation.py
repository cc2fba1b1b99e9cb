"""Whatever is wrong with an invoice, reconciliation names it; what is merely late is no difference."""

from datetime import timedelta

import pytest

from billing.invoice_models import Invoice, InvoiceItem
from billing.models import UsageRecord
from billing.money_models import Movement, MovementKind
from tests.billing.test_reconciliation import assert_named, tamper
from tests.invoicing import DECEMBER, OCTOBER, Buyer, assert_books_are_clean, pay, void

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice() -> Invoice:
    buyer = Buyer()
    buyer.set_profile(tax_millionths=190_000)
    buyer.use(OCTOBER)
    invoice = buyer.issue()
    assert_books_are_clean()
    return invoice


def test_a_changed_line_is_named(invoice: Invoice) -> None:
    item = InvoiceItem.objects.filter(invoice=invoice).order_by("position")[0]
    tamper("UPDATE billing_invoiceitem SET amount_nanousd = 7 WHERE id = %s", item.pk, table="billing_invoiceitem")
    assert_named("invoices", "INV-2026-00001", "usage_nanousd is 5000000000", "expected 4000000007")


@pytest.mark.parametrize(
    ("kind", "what"),
    [(MovementKind.INVOICED, "what is due"), (MovementKind.TAX, "its tax"), (MovementKind.PAYMENT, "its payments")],
)
def test_a_sum_that_the_ledger_did_not_move_is_named(invoice: Invoice, kind: MovementKind, what: str) -> None:
    pay(invoice, 3_00)
    moved = Movement.objects.get(invoice=invoice, kind=kind)
    tamper("UPDATE billing_movement SET invoice_id = NULL WHERE id = %s", moved.pk, table="billing_movement")
    assert_named("invoices", "INV-2026-00001", what, "is 0")


def test_a_void_that_was_not_booked_is_named(invoice: Invoice) -> None:
    void(invoice)
    undone = Movement.objects.get(kind=MovementKind.UNTAX)
    tamper("UPDATE billing_movement SET invoice_id = NULL WHERE id = %s", undone.pk, table="billing_movement")
    assert_named("invoices", "its tax", "is 950000000, expected 0")


def test_a_missing_number_is_named(invoice: Invoice) -> None:
    tamper("UPDATE billing_invoiceseries SET last_number = 2", table="billing_invoiceseries")
    assert_named("invoices", "INV-2026", "1 invoices up to 1", "1 to 2")


def test_usage_that_nobody_asks_for_is_named_and_late_usage_is_not(invoice: Invoice) -> None:
    record = UsageRecord.objects.get()
    late = DECEMBER + timedelta(days=2)
    buyer = Buyer()
    buyer.use(OCTOBER)
    buyer.issue()
    buyer.use(OCTOBER, settled=late)
    assert_books_are_clean()
    tamper(
        "UPDATE billing_usagerecord SET charged_nanousd = 4000000000 WHERE id = %s",
        record.pk,
        table="billing_usagerecord",
    )
    assert_named("invoices", f"customer {record.customer_id}", "is 5000000000", "4000000000 to 4000000000")


def test_a_void_month_that_waits_for_another_invoice_is_no_difference(invoice: Invoice) -> None:
    void(invoice)
    assert_books_are_clean()
