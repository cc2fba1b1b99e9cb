"""In the browser: large movements wait for somebody else; statement and explanation open; the API says the same."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.fixtures import Settings

from billing.funds import read_funds
from billing.money_models import Movement, MovementStatus
from common.money import parse_usd
from tests.factories import make_customer, make_key

pytestmark = pytest.mark.django_db


def test_a_large_top_up_is_booked_once_a_second_person_has_approved(admin_client: Client, settings: Settings) -> None:
    settings.MONEY_APPROVAL_NANOUSD = parse_usd("100")
    customer = make_customer(credit_usd="0")
    order = {"reference": "r", "kind": "top_up", "amount": "100", "reason": "bank line 7", "_confirmed": "1"}
    assert admin_client.post(f"/admin/keys/customer/{customer.pk}/move-money/", order).status_code == 302
    movement = Movement.objects.get()
    assert movement.status == MovementStatus.WAITING
    url = f"/admin/billing/movement/{movement.pk}/approve/"
    own = admin_client.post(url, {"reason": "mine"})
    assert "second person" in str(own.context["form"].errors)
    User.objects.create_superuser("bob", "bob@example.com", "a long password of bob")
    second = Client()
    second.force_login(User.objects.get(username="bob"))
    assert second.post(url, {"reason": "seen at the bank"}).status_code == 302
    assert read_funds(customer.pk).prepaid_nanousd == parse_usd("100")

    page = admin_client.get(f"/admin/keys/customer/{customer.pk}/statement/").content.decode()
    assert "The customer paid 100.00 USD in advance: bank line 7" in page
    assert admin_client.get("/admin/billing/account/explained/").status_code == 200


def test_the_statement_adds_up(client: Client) -> None:
    customer = make_customer(credit_usd="10")
    headers = {"authorization": f"Bearer {make_key(customer).token}"}
    body = client.get("/v1/statement", headers=headers).json()
    assert (body["opening"], body["closing"], [line["amount"] for line in body["data"]]) == ("0.00", "10.00", ["10.00"])
    assert client.get("/v1/statement?from=2020-01-01&to=2026-01-01", headers=headers).status_code == 400
    assert client.get("/v1/statement?x=1", headers=headers).status_code == 400
    assert client.get("/v1/statement").status_code == 401
