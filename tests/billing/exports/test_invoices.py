"""Invoices as files: what was asked for and what was taken back, for good."""

import csv
import io

import orjson
import pytest
from django.core.management import call_command

from billing.errors import ExportInvalid
from billing.exports import compute_figures, make_order, make_selection
from billing.invoice_models import Invoice
from keys.models import Customer
from tests.exporting import ALWAYS, order, text
from tests.invoicing import OCTOBER, Buyer, pay, void

pytestmark = pytest.mark.django_db


def rows_of(**options: object) -> list[dict[str, str]]:
    file = text("invoices", start=ALWAYS[0], end=ALWAYS[1], **options)
    return list(csv.DictReader(io.StringIO(file, newline="")))


@pytest.fixture
def buyer() -> Buyer:
    buyer = Buyer()
    buyer.set_profile(legal_name="Acme GmbH", country="DE", tax_millionths=190_000)
    buyer.use(OCTOBER)
    return buyer


def test_an_issue_and_a_void_are_rows_that_cancel_out(buyer: Buyer) -> None:
    first = buyer.issue()
    void(first)
    second = buyer.issue()
    rows = sorted(rows_of(), key=lambda row: (row["number"], row["event"]))
    assert [(row["event"], row["number"], row["due_usd"], row["replaces"]) for row in rows] == [
        ("issued", first.number, "5.95", ""),
        ("voided", first.number, "-5.95", ""),
        ("issued", second.number, "5.95", first.number),
    ]
    assert (rows[0]["customer_legal_name"], rows[0]["customer_country"], rows[0]["month"]) == (
        "Acme GmbH",
        "DE",
        "2026-10",
    )
    figures = compute_figures(order("invoices", start=ALWAYS[0], end=ALWAYS[1]))
    assert (figures.row_count, figures.total_nanousd) == (3, 5_950_000_000)


def test_a_payment_or_another_name_changes_no_byte(buyer: Buyer) -> None:
    invoice = buyer.issue()
    before = text("invoices", start=ALWAYS[0], end=ALWAYS[1])
    pay(invoice)
    buyer.set_profile(legal_name="Other GmbH")
    Customer.objects.filter(pk=buyer.id).update(name="renamed")
    assert text("invoices", start=ALWAYS[0], end=ALWAYS[1]) == before


def test_one_customers_invoices_are_its_own_and_drafts_nobodys(buyer: Buyer) -> None:
    other = Buyer()
    other.use(OCTOBER)
    other.close()
    number = buyer.issue().number
    assert [row["number"] for row in rows_of(customer_id=buyer.id)] == [number]
    assert rows_of(customer_id=other.id) == []
    assert Invoice.objects.count() == 2


@pytest.mark.parametrize("format_name", ["focus", "cloudevents", "beancount"])
def test_formats_of_calls_and_transfers_hold_no_invoices(format_name: str) -> None:
    selection = make_selection("invoices", start=ALWAYS[0], end=ALWAYS[1])
    with pytest.raises(ExportInvalid, match="csv, jsonl, xlsx"):
        make_order(selection, format_name=format_name, author="tests")


def test_the_command_writes_them(buyer: Buyer, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    number = buyer.issue().number
    call_command("export", "invoices", "--format", "jsonl", "--from", "2020-01-01", "--to", "2100-01-01")
    (line,) = capfdbinary.readouterr().out.splitlines()
    assert orjson.loads(line)["number"] == number
