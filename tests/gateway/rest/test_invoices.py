"""GET /v1/invoices: a customer reads its own invoices, as JSON and PDF, and nothing of anybody else's."""

from typing import Any

import pytest
from django.test import Client

from gateway.rest.invoice_example import EXAMPLE
from keys.models import Customer
from keys.scopes import Scope
from tests.factories import make_key
from tests.invoicing import NOVEMBER, OCTOBER, Buyer, pay, void
from tests.platform_site.test_openapi import problems, schema_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def buyer() -> Buyer:
    buyer = Buyer()
    buyer.use(OCTOBER)
    buyer.use(NOVEMBER)
    return buyer


def get(client: Client, path: str, token: str) -> Any:
    return client.get(path, headers={"authorization": f"Bearer {token}"})


def test_a_customer_reads_its_invoices_by_page_and_by_state(client: Client, buyer: Buyer) -> None:
    first, second = buyer.issue(), buyer.issue("2026-11")
    pay(first)
    token = buyer.call.token
    page = get(client, "/v1/invoices?limit=1", token).json()
    assert ([i["number"] for i in page["data"]], page["has_more"]) == ([second.number], True)
    rest = get(client, f"/v1/invoices?limit=1&before={page['next']}", token).json()
    assert ([i["number"] for i in rest["data"]], rest["has_more"]) == ([first.number], False)
    paid = get(client, "/v1/invoices?state=paid", token).json()["data"]
    assert [(i["number"], i["due"], i["paid"], i["open"]) for i in paid] == [(first.number, "5.00", "5.00", "0.00")]


def test_an_invoice_tells_its_lines_and_what_it_stands_for(client: Client, buyer: Buyer) -> None:
    buyer.set_profile(time_zone="UTC", legal_name="Acme GmbH", tax_millionths=190_000)
    first = buyer.issue()
    void(first)
    second = buyer.issue()
    token = buyer.call.token
    shown = get(client, f"/v1/invoices/{second.number}", token).json()
    assert [(line["kind"], line["quantity"], line["rate"], line["amount"]) for line in shown["lines"]] == [
        ("tokens", 1_000_000, "1.00", "1.00"),
        ("tokens", 1_000_000, "4.00", "4.00"),
        ("calls", 1, None, "0.00"),
    ]
    assert (shown["net"], shown["tax_percent"], shown["tax"], shown["due"]) == ("5.00", "19", "0.95", "5.95")
    assert (shown["customer"]["legal_name"], shown["replaces"]) == ("Acme GmbH", first.number)
    old = get(client, f"/v1/invoices/{first.number}", token).json()
    assert (old["state"], old["replaced_by"], old["open"]) == ("void", second.number, "0.00")


def test_an_invoice_comes_as_pdf(client: Client, buyer: Buyer) -> None:
    answer = get(client, f"/v1/invoices/{buyer.issue().number}/pdf", buyer.call.token)
    assert (answer.status_code, answer["content-type"]) == (200, "application/pdf")
    assert answer["content-disposition"] == 'attachment; filename="INV-2026-00001.pdf"'
    assert answer.content.startswith(b"%PDF-")


@pytest.mark.parametrize("rest", ["", "/pdf"])
def test_nobody_else_learns_of_an_invoice_and_nobody_of_a_draft(client: Client, buyer: Buyer, rest: str) -> None:
    number = buyer.issue().number
    buyer.close("2026-11")
    assert get(client, f"/v1/invoices/{number}{rest}", make_key().token).status_code == 404
    assert get(client, "/v1/invoices", make_key().token).json()["data"] == []
    assert len(get(client, "/v1/invoices", buyer.call.token).json()["data"]) == 1
    narrow = make_key(Customer.objects.get(pk=buyer.id), name="narrow", scopes=[Scope.USAGE_READ])
    assert get(client, f"/v1/invoices/{number}{rest}", narrow.token).status_code == 403
    assert client.get(f"/v1/invoices/{number}{rest}").status_code == 401


@pytest.mark.parametrize("query", ["state=draft", "limit=0", "limit=101", "before=x", "page=2"])
def test_a_query_that_makes_no_sense_is_refused(client: Client, buyer: Buyer, query: str) -> None:
    assert get(client, f"/v1/invoices?{query}", buyer.call.token).status_code == 400


def test_answers_and_the_example_fit_the_document(client: Client, buyer: Buyer) -> None:
    document = client.get("/v1/openapi.json").json()
    number = buyer.issue().number
    for path, template in (
        ("/v1/invoices", "/v1/invoices"),
        (f"/v1/invoices/{number}", "/v1/invoices/{number}"),
    ):
        schema = schema_of(document, template)
        assert problems(document, schema, get(client, path, buyer.call.token).json()) == []
        content = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]
        for example in content["examples"].values():
            assert problems(document, schema, example["value"]) == []


def test_the_example_adds_up() -> None:
    assert sum(line.amount_nanousd for line in EXAMPLE.lines) == EXAMPLE.usage_nanousd
    assert EXAMPLE.usage_nanousd == EXAMPLE.granted_nanousd + EXAMPLE.prepaid_nanousd + EXAMPLE.net_nanousd
    assert EXAMPLE.total_nanousd == EXAMPLE.net_nanousd + EXAMPLE.carried_nanousd + EXAMPLE.tax_nanousd
