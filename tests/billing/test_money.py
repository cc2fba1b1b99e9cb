"""Worked examples of `docs/explanation/accounts.md`, and the rule of two people."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from billing.accounts import open_platform_account, sum_transfers
from billing.errors import AmountInvalid, ApprovalRefused, MovementDecided, ReferenceUsed
from billing.funds import Funds, read_funds
from billing.ledger import explain_transfer
from billing.models import AccountKind, Transfer
from billing.money import (
    Order,
    approve_movement,
    book_for_invoice,
    order_movement,
    reject_movement,
)
from billing.money_models import Movement, MovementKind, MovementStatus
from common.money import parse_usd
from gateway.admission.commands import Admitted, Refused
from keys.models import AuditEvent, Customer
from tests.admitting import run
from tests.factories import FundedCall, funded_call, make_customer

pytestmark = pytest.mark.django_db


def order(customer: Customer | int, kind: MovementKind, usd: str, **options: Any) -> Movement:
    customer_id = customer if isinstance(customer, int) else customer.pk
    return order_movement(
        Order(
            **{
                "kind": kind,
                "customer_id": customer_id,
                "amount_nanousd": parse_usd(usd),
                "reason": "for a test",
                "author": "ann",
                **options,
            }
        )
    )


def spend(call: FundedCall, usd: str) -> Admitted | Refused:
    amount = parse_usd(usd)
    question = call.admit(amount_nanousd=amount)
    (answer,) = run(question)
    assert isinstance(answer, Admitted | Refused)
    if isinstance(answer, Admitted):
        run(call.settle(question.request_id, cost_nanousd=amount))
    return answer


def in_platform(kind: AccountKind) -> int:
    return sum_transfers(open_platform_account(kind))


def test_example_prepaid_money_and_a_refund() -> None:
    call = funded_call(credit_nanousd=0)
    order(call.customer_id, MovementKind.TOP_UP, "100")
    spend(call, "30")
    order(call.customer_id, MovementKind.REFUND, "70")
    assert read_funds(call.customer_id) == Funds()
    assert in_platform(AccountKind.CASH) == -parse_usd("30")
    assert in_platform(AccountKind.REVENUE) == parse_usd("30")


def test_example_postpaid_from_call_to_paid_invoice() -> None:
    call = funded_call(credit_nanousd=0)
    assert isinstance(spend(call, "40"), Refused)
    order(call.customer_id, MovementKind.CREDIT_LIMIT, "50")
    assert isinstance(spend(call, "40"), Admitted)
    funds = read_funds(call.customer_id)
    assert (funds.owed_nanousd, funds.available_nanousd) == (parse_usd("40"), parse_usd("10"))
    assert isinstance(spend(call, "10.01"), Refused)

    def book(kind: MovementKind, usd: str, reference: str) -> None:
        book_for_invoice(
            Order(
                kind=kind,
                customer_id=call.customer_id,
                amount_nanousd=parse_usd(usd),
                reason="invoice 7",
                author="ann",
                reference=reference,
            )
        )

    with pytest.raises(AmountInvalid):
        book(MovementKind.INVOICED, "40.01", "inv-7")
    book(MovementKind.INVOICED, "40", "inv-7")
    funds = read_funds(call.customer_id)
    assert (funds.owed_nanousd, funds.receivable_nanousd) == (0, parse_usd("40"))
    assert funds.available_nanousd == parse_usd("50")

    book(MovementKind.UNINVOICED, "40", "inv-7-void")
    assert read_funds(call.customer_id).owed_nanousd == parse_usd("40")
    book(MovementKind.INVOICED, "40", "inv-8")
    with pytest.raises(AmountInvalid):
        book(MovementKind.PAYMENT, "41", "bank-1")
    book(MovementKind.PAYMENT, "40", "bank-1")
    assert read_funds(call.customer_id).receivable_nanousd == 0
    assert in_platform(AccountKind.CASH) == -parse_usd("40")


def test_example_a_credit_note_gives_charges_back_and_lowers_revenue() -> None:
    call = funded_call(credit_nanousd=parse_usd("10"))
    spend(call, "4")
    note = order(call.customer_id, MovementKind.CREDIT_NOTE, "1")
    assert read_funds(call.customer_id).prepaid_nanousd == parse_usd("7")
    assert in_platform(AccountKind.REVENUE) == parse_usd("3")
    assert note.transfer is not None
    assert explain_transfer(note.transfer) == "Credit note: gave 1.00 USD of charges back: for a test"


def test_a_large_movement_waits_for_a_second_person(settings: Settings) -> None:
    settings.MONEY_APPROVAL_NANOUSD = parse_usd("500")
    customer = make_customer(credit_usd="0")
    assert order(customer, MovementKind.TOP_UP, "499.99").status == MovementStatus.BOOKED
    waiting = order(customer, MovementKind.TOP_UP, "500")
    assert (waiting.status, waiting.transfer) == (MovementStatus.WAITING, None)
    assert read_funds(customer.pk).posted_nanousd == parse_usd("499.99")
    with pytest.raises(ApprovalRefused):
        approve_movement(waiting.pk, author="ann")
    approved = approve_movement(waiting.pk, author="bob", reason="seen the bank's line")
    assert (approved.status, approved.decided_by) == (MovementStatus.BOOKED, "bob")
    assert read_funds(customer.pk).posted_nanousd == parse_usd("999.99")
    with pytest.raises(MovementDecided):
        approve_movement(waiting.pk, author="bob")
    trail = AuditEvent.objects.filter(object_id=str(customer.pk), action__startswith="top_up.")
    assert list(trail.order_by("id").values_list("action", "actor_name")) == [
        ("top_up.booked", "ann"),
        ("top_up.waiting", "ann"),
        ("top_up.approved", "bob"),
    ]


def test_a_rejected_movement_moves_nothing(settings: Settings) -> None:
    settings.MONEY_APPROVAL_NANOUSD = 0
    customer = make_customer(credit_usd="0")
    waiting = order(customer, MovementKind.CREDIT_LIMIT, "50")
    assert reject_movement(waiting.pk, author="bob", reason="too much").status == MovementStatus.REJECTED
    with pytest.raises(MovementDecided):
        approve_movement(waiting.pk, author="carl")
    own = order(customer, MovementKind.TOP_UP, "5")
    assert reject_movement(own.pk, author="ann", reason="a typing mistake").decided_by == ""
    assert read_funds(customer.pk) == Funds()


def test_a_repeat_books_once_and_another_content_is_refused() -> None:
    customer = make_customer(credit_usd="0")
    first = order(customer, MovementKind.TOP_UP, "5", reference="bank-9")
    assert order(customer, MovementKind.TOP_UP, "5", reference="bank-9") == first
    with pytest.raises(ReferenceUsed):
        order(customer, MovementKind.TOP_UP, "6", reference="bank-9")
    assert Transfer.objects.filter(reference="bank-9").count() == 1


@pytest.mark.parametrize(
    ("usd", "options"),
    [
        ("0", {}),
        ("-1", {}),
        ("1", {"reason": " "}),
        ("1", {"expires_at": datetime(2001, 1, 1, tzinfo=UTC)}),
        ("1", {"kind": MovementKind.TOP_UP, "expires_at": datetime.now(UTC) + timedelta(days=1)}),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(usd: str, options: dict[str, Any]) -> None:
    with pytest.raises(AmountInvalid):
        order(make_customer(credit_usd="0"), options.pop("kind", MovementKind.GRANT), usd, **options)
    assert not Movement.objects.exists()
