"""What has paid for an invoice, what is left to pay, and that an issued one never changes."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.db.models import F

from billing.accounts import open_platform_account, sum_transfers
from billing.errors import AmountInvalid, InvoiceOutdated, InvoiceRefused, ReferenceUsed
from billing.funds import read_funds
from billing.invoice_models import Invoice, InvoiceItem
from billing.invoicing.document import InvoiceState, LineKind
from billing.invoicing.issuing import issue_invoice
from billing.models import AccountKind
from billing.money import read_receivable
from billing.money_models import MovementKind
from billing.tokens import TokenCounts
from common.money import parse_usd
from tests.invoicing import (
    ANN,
    DECEMBER,
    NOVEMBER,
    OCTOBER,
    Buyer,
    amounts,
    assert_books_are_clean,
    document,
    pay,
    void,
)

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
STATE_COLUMNS = {"status", "standing_month", "paid_cents", "paid_at", "voided_at", "void_reason"}


def thirds() -> TokenCounts:
    """Return the tokens of a call of 1.003 USD."""
    return TokenCounts(input=1_003_000)


def test_numbers_count_up_without_gaps_and_a_refused_issue_takes_none() -> None:
    first, second = Buyer(), Buyer()
    for buyer in (first, second):
        buyer.use(OCTOBER)
        buyer.use(NOVEMBER)
    assert first.issue().number == "INV-2026-00001"
    draft = second.close()
    late = second.close("2026-11")
    with pytest.raises(InvoiceRefused):
        issue_invoice(late.pk, author=ANN)
    assert issue_invoice(draft.pk, author=ANN, now=DECEMBER).number == "INV-2026-00002"
    with pytest.raises(InvoiceRefused):
        issue_invoice(draft.pk, author=ANN)
    assert second.issue("2026-11", now=DECEMBER + 31 * DAY).number == "INV-2027-00001"
    assert_books_are_clean()


def test_a_draft_whose_ground_has_changed_has_to_be_closed_again() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    buyer.use(NOVEMBER)
    buyer.close()
    november = buyer.close("2026-11")
    buyer.use(OCTOBER)
    buyer.issue()
    with pytest.raises(InvoiceOutdated):
        issue_invoice(november.pk, author=ANN)
    buyer.set_profile(time_zone="Asia/Tokyo")
    with pytest.raises(InvoiceOutdated):
        issue_invoice(november.pk, author=ANN)
    assert buyer.issue("2026-11").due_cents == 5_00
    assert_books_are_clean()


def test_a_call_that_settles_between_draft_and_issue_is_the_next_invoices() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    draft = buyer.close()
    buyer.use(OCTOBER, settled=DECEMBER)
    issued = issue_invoice(draft.pk, author=ANN)
    assert (issued.net_nanousd, issued.due_cents, document(issued).prepaid_nanousd) == (parse_usd("5"), 5_00, 0)
    following = buyer.issue("2026-11")
    assert (following.net_nanousd, following.due_cents) == (parse_usd("5"), 5_00)
    assert_books_are_clean()


def test_what_prepaid_money_and_grants_have_paid_is_deducted() -> None:
    buyer = Buyer()
    buyer.move(MovementKind.TOP_UP, "2", at=OCTOBER - DAY)
    buyer.move(MovementKind.GRANT, "1", at=OCTOBER - DAY)
    buyer.use(OCTOBER)
    shown = document(buyer.issue())
    parts = (shown.granted_nanousd, shown.prepaid_nanousd, shown.net_nanousd)
    assert parts == (parse_usd("1"), parse_usd("2"), parse_usd("2"))
    assert shown.due_cents == 2_00


def test_an_invoice_with_nothing_left_to_pay_is_paid_at_once() -> None:
    buyer = Buyer(credit_limit_usd="0")
    buyer.move(MovementKind.TOP_UP, "20", at=OCTOBER - DAY)
    buyer.set_profile(tax_millionths=190_000)
    buyer.use(OCTOBER)
    shown = document(buyer.issue())
    assert (shown.state, shown.prepaid_nanousd, shown.due_cents) == (InvoiceState.PAID, parse_usd("5"), 0)
    assert_books_are_clean()


@pytest.mark.parametrize("looks", ["none", "before", "after"])
def test_grants_that_come_after_the_month_pay_none_of_it(looks: str) -> None:
    buyer = Buyer()
    buyer.move(MovementKind.GRANT, "3", at=OCTOBER - DAY)
    if looks == "before":
        buyer.move(MovementKind.CREDIT_LIMIT, "800", at=OCTOBER + DAY)
    buyer.use(OCTOBER + 2 * DAY)
    if looks == "after":
        buyer.move(MovementKind.CREDIT_LIMIT, "800", at=NOVEMBER - DAY)
    buyer.move(MovementKind.GRANT, "4", at=NOVEMBER + DAY)
    buyer.use(NOVEMBER + 2 * DAY)
    october = buyer.issue(now=NOVEMBER + 3 * DAY)
    assert (october.granted_nanousd, october.net_nanousd) == (parse_usd("3"), parse_usd("2"))
    november = buyer.issue("2026-11")
    assert (november.granted_nanousd, november.net_nanousd) == (parse_usd("4"), parse_usd("1"))
    assert_books_are_clean()


def test_a_grant_that_lasts_over_the_end_of_a_month_is_divided_by_when_calls_were() -> None:
    buyer = Buyer()
    buyer.move(MovementKind.GRANT, "7", at=OCTOBER - DAY)
    buyer.use(OCTOBER)
    buyer.use(NOVEMBER)
    october, november = buyer.issue(), buyer.issue("2026-11")
    assert [(i.granted_nanousd, i.net_nanousd) for i in (october, november)] == [
        (parse_usd("5"), 0),
        (parse_usd("2"), parse_usd("3")),
    ]


def test_money_that_comes_in_after_the_month_pays_the_oldest_debt_first() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    buyer.use(NOVEMBER)
    buyer.move(MovementKind.TOP_UP, "3", at=NOVEMBER + DAY)
    october, november = buyer.issue(now=NOVEMBER + 2 * DAY), buyer.issue("2026-11")
    assert (october.prepaid_nanousd, october.due_cents, november.due_cents) == (parse_usd("3"), 2_00, 5_00)


def test_tax_is_on_what_is_left_to_pay_and_rounded_to_the_cent() -> None:
    buyer = Buyer()
    buyer.set_profile(tax_millionths=88_750)
    buyer.move(MovementKind.TOP_UP, "1", at=OCTOBER - DAY)
    buyer.use(OCTOBER)
    invoice = buyer.issue()
    # 8.875 % of 4 USD is 0.355: half to even.
    assert (invoice.net_nanousd, invoice.tax_nanousd, invoice.due_cents) == (parse_usd("4"), parse_usd("0.36"), 4_36)
    assert sum_transfers(open_platform_account(AccountKind.TAX)) == parse_usd("0.36")
    assert pay(invoice).status == InvoiceState.PAID
    assert read_receivable(buyer.id) == 0
    buyer.use(NOVEMBER)
    void(buyer.issue("2026-11"))
    assert sum_transfers(open_platform_account(AccountKind.TAX)) == parse_usd("0.36")
    assert_books_are_clean()


def test_the_total_is_rounded_once_and_the_rest_is_carried_to_the_next_invoice() -> None:
    buyer = Buyer()
    dues, carried = [], []
    for month, start in (("2026-09", OCTOBER - DAY), ("2026-10", OCTOBER), ("2026-11", NOVEMBER)):
        buyer.use(start, thirds())
        invoice = buyer.issue(month)
        dues.append(invoice.due_cents)
        carried.append(invoice.carried_nanousd)
        pay(invoice)
    # 1.003, 1.006 and then 0.999: three cents of a dollar are never lost.
    assert (dues, carried) == ([1_00, 1_01, 1_00], [0, parse_usd("0.003"), -parse_usd("0.004")])
    assert read_receivable(buyer.id) == -parse_usd("0.001")
    assert_books_are_clean()


def test_an_invoice_that_was_rounded_up_can_be_void() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER, TokenCounts(input=996_000))
    pay(buyer.issue())
    buyer.use(NOVEMBER, TokenCounts(input=1_000_000))
    void(buyer.issue("2026-11"))
    assert read_receivable(buyer.id) == -parse_usd("0.004")
    assert_books_are_clean()


def test_a_payment_comes_in_parts_and_each_once() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    invoice = buyer.issue()
    assert pay(invoice, 2_00, reference="bank-1").status == InvoiceState.ISSUED
    assert pay(invoice, 2_00, reference="bank-1").paid_cents == 2_00
    with pytest.raises(ReferenceUsed):
        pay(invoice, 1_00, reference="bank-1")
    for cents in (0, 3_01):
        with pytest.raises(AmountInvalid):
            pay(invoice, cents, reference="bank-2")
    assert pay(invoice, 3_00, reference="bank-2").status == InvoiceState.PAID
    with pytest.raises(InvoiceRefused):
        pay(invoice, 1, reference="bank-3")
    assert read_receivable(buyer.id) == 0
    assert_books_are_clean()


def test_a_void_invoice_is_owed_again_and_its_month_is_invoiced_anew() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    first = buyer.issue()
    void(first)
    assert (read_funds(buyer.id).owed_nanousd, read_receivable(buyer.id)) == (parse_usd("5"), 0)
    assert_books_are_clean()
    second = buyer.issue()
    assert (document(second).replaces, document(first).replaced_by) == (first.number, second.number)
    assert (second.due_cents, second.sequence) == (5_00, 2)
    with pytest.raises(InvoiceRefused):
        void(first)
    pay(second, 1)
    with pytest.raises(InvoiceRefused):
        void(second)
    assert_books_are_clean()


def test_an_old_month_that_is_invoiced_anew_leaves_out_what_a_later_one_has_asked_for() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    first = buyer.issue()
    buyer.use(OCTOBER + DAY)
    buyer.use(NOVEMBER)
    assert buyer.issue("2026-11").due_cents == 10_00
    void(first)
    again = buyer.issue()
    assert (amounts(again, LineKind.LATE), again.due_cents) == ([-parse_usd("5")], 5_00)
    assert_books_are_clean()


def test_a_month_whose_invoice_is_void_goes_on_the_next_one_if_it_is_not_invoiced_anew() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    void(buyer.issue())
    buyer.use(NOVEMBER)
    november = buyer.issue("2026-11")
    assert (amounts(november, LineKind.LATE), november.due_cents) == ([parse_usd("5")], 10_00)


# ---- what the database refuses


def change(column: str, invoice: Invoice) -> Any:
    """Return a value of the column's type that it does not have."""
    field = Invoice._meta.get_field(column)
    value = getattr(invoice, field.attname)  # type: ignore[union-attr]
    if column in ("seller", "buyer"):
        return {"legal_name": "somebody else"}
    if field.get_internal_type() == "CharField":
        return f"{value}x"[-7:]
    if field.get_internal_type() in ("DateTimeField", "DateField"):
        return value - DAY
    return F(field.name) + 1 if value is not None else invoice.pk


def test_nothing_but_the_state_of_an_issued_invoice_ever_changes() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    invoice = buyer.issue()
    frozen = [field.name for field in Invoice._meta.concrete_fields if field.name not in STATE_COLUMNS]
    for column in frozen:
        with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
            Invoice.objects.filter(pk=invoice.pk).update(**{column: change(column, invoice)})
    with pytest.raises(DatabaseError), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(status="draft")
    pay(invoice, 1_00)
    with pytest.raises(DatabaseError), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(paid_cents=0)


def test_lines_of_an_issued_invoice_stay_as_they_are() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    invoice = buyer.issue()
    items = InvoiceItem.objects.filter(invoice=invoice)
    with pytest.raises(DatabaseError), transaction.atomic():
        items.update(amount_nanousd=1)
    with pytest.raises(DatabaseError), transaction.atomic():
        items.delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        InvoiceItem.objects.create(
            invoice=invoice, position=99, kind=LineKind.LATE, text="more", model="m", amount_nanousd=1
        )


def test_one_invoice_of_a_month_stands() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    invoice = buyer.close()
    invoice.pk = None
    with pytest.raises(DatabaseError), transaction.atomic():
        invoice.save(force_insert=True)
