"""Months are closed by the customer's calendar, any number of times; late usage is asked for once."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.errors import PeriodInvalid
from billing.invoice_models import Invoice
from billing.invoicing.closing import close_period
from billing.invoicing.document import LineKind
from billing.invoicing.periods import last_month, make_period
from common.money import parse_usd
from keys.models import AuditEvent
from tests.invoicing import ANN, DECEMBER, MILLION, NOVEMBER, OCTOBER, Buyer, amounts, assert_books_are_clean, document

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("month", "zone", "start", "hours"),
    [
        ("2026-10", "UTC", "2026-10-01T00:00", 744),
        # Clocks go back on 25 October, and forward on 29 March.
        ("2026-10", "Europe/Berlin", "2026-09-30T22:00", 745),
        ("2026-03", "Europe/Berlin", "2026-02-28T23:00", 743),
        ("2026-12", "Asia/Kolkata", "2026-11-30T18:30", 744),
        ("2026-11", "America/New_York", "2026-11-01T04:00", 721),
        # The first midnight of October 2017 was left out: the month began at one o'clock.
        ("2017-10", "America/Asuncion", "2017-10-01T04:00", 743),
    ],
)
def test_a_month_is_a_calendar_month_where_the_customer_is(month: str, zone: str, start: str, hours: int) -> None:
    period = make_period(month, zone)
    assert period.start == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert (period.end - period.start) / HOUR == hours


@pytest.mark.parametrize(("month", "zone"), [("2026-13", "UTC"), ("10/2026", "UTC"), ("2026-10", "Mars/Olympus")])
def test_what_is_no_month_is_refused(month: str, zone: str) -> None:
    with pytest.raises(PeriodInvalid):
        make_period(month, zone)


def test_the_last_month_depends_on_where_one_looks() -> None:
    assert last_month(NOVEMBER, "UTC") == "2026-10"
    assert last_month(NOVEMBER, "America/New_York") == "2026-09"
    assert last_month(datetime(2027, 1, 1, tzinfo=UTC), "UTC") == "2026-12"


def test_calls_belong_to_the_customers_month_and_it_cannot_be_closed_before_its_end() -> None:
    buyer = Buyer()
    buyer.set_profile(time_zone="Europe/Berlin")
    start, end = OCTOBER - 2 * HOUR, NOVEMBER - HOUR
    for moment in (start - MICROSECOND, start, end - MICROSECOND, end):
        buyer.use(moment)
    with pytest.raises(PeriodInvalid):
        buyer.close(now=end - MICROSECOND)
    invoice = buyer.close(now=end)
    # Two in it, one before it that nobody has asked for.
    assert (amounts(invoice, LineKind.TOKENS), amounts(invoice, LineKind.LATE)) == (
        [parse_usd("2"), parse_usd("8")],
        [parse_usd("5")],
    )


def test_a_draft_is_computed_anew_by_each_close_and_an_issued_invoice_is_not() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    draft = buyer.close()
    assert buyer.close() == draft
    assert AuditEvent.objects.filter(action="invoice.drafted").count() == 1
    buyer.use(OCTOBER)
    assert (buyer.close().pk, buyer.close().usage_nanousd) == (draft.pk, parse_usd("10"))
    issued = buyer.issue()
    buyer.use(OCTOBER)
    assert buyer.close().usage_nanousd == issued.usage_nanousd
    assert Invoice.objects.count() == 1


def test_a_month_without_usage_has_no_invoice() -> None:
    buyer = Buyer()
    assert close_period(buyer.id, "2026-10", author=ANN) is None
    buyer.use(NOVEMBER)
    assert close_period(buyer.id, "2026-10", author=ANN) is None


def test_usage_that_turns_up_later_goes_on_the_next_invoice_once() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    assert buyer.issue().due_cents == 5_00
    buyer.use(OCTOBER + HOUR, settled=DECEMBER + 48 * HOUR)
    assert_books_are_clean()
    buyer.use(NOVEMBER)
    november = buyer.issue("2026-11")
    (late,) = (line for line in document(november).lines if line.kind is LineKind.LATE)
    assert (late.quantity, late.amount_nanousd, november.due_cents) == (1, parse_usd("5"), 10_00)
    buyer.use(DECEMBER)
    december = buyer.issue("2026-12", now=DECEMBER + 32 * 24 * HOUR)
    assert (amounts(december, LineKind.LATE), december.due_cents) == ([], 5_00)
    assert_books_are_clean()


@pytest.mark.parametrize("zones", [("Europe/Berlin", "America/New_York"), ("America/New_York", "Europe/Berlin")])
def test_a_customer_that_moves_to_another_time_zone_pays_each_call_once(zones: tuple[str, str]) -> None:
    buyer = Buyer()
    for hour in range(-8, 9, 2):
        buyer.use(NOVEMBER + hour * HOUR)
    for month, zone in zip(("2026-10", "2026-11"), zones, strict=True):
        buyer.set_profile(time_zone=zone)
        buyer.issue(month)
    assert sum(Invoice.objects.values_list("due_cents", flat=True)) == 9 * 5_00
    assert_books_are_clean()


def test_drafts_of_several_months_do_not_ask_for_the_same_twice() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    buyer.use(NOVEMBER, MILLION)
    october, november = buyer.close(), buyer.close("2026-11")
    assert (october.net_nanousd, november.net_nanousd) == (parse_usd("5"), parse_usd("5"))
