"""GET /v1/balance: held money and limits as they stand now, read without writing."""

from typing import Any

import pytest
from django.test import Client

from billing.models import Account
from common.clock import FrozenClock
from gateway.rest import views
from keys.limits import UNIT, day_number, month_number
from keys.models import LimitState
from tests.factories import make_customer, make_key, make_plan

pytestmark = pytest.mark.django_db


def limits_of(body: dict[str, Any], owner: str) -> dict[str, tuple[str, str, str, str]]:
    return {
        limit["limit_name"]: (limit["limit"], limit["used"], limit["remaining"], limit["set_by"])
        for limit in body["limits"]
        if limit["owner"] == owner
    }


def test_held_money_is_not_available(client: Client) -> None:
    customer = make_customer(credit_usd="10")
    Account.objects.filter(customer=customer).update(held_nanousd=2_500_000_001)
    body = client.get("/v1/balance", headers={"authorization": f"Bearer {make_key(customer).token}"}).json()
    assert (body["posted"], body["held"], body["available"]) == ("10.00", "2.500000001", "7.499999999")


def test_a_customer_without_an_account_has_nothing(client: Client) -> None:
    customer = make_customer(credit_usd="0")
    Account.objects.filter(customer=customer).delete()
    body = client.get("/v1/balance", headers={"authorization": f"Bearer {make_key(customer).token}"}).json()
    assert (body["posted"], body["held"], body["available"], body["limits"]) == ("0.00", "0.00", "0.00", [])


def test_limits_are_rolled_forward_in_memory_and_never_written(
    client: Client, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "SYSTEM_CLOCK", clock)
    now_us = clock.now_us()
    customer = make_customer(
        plan=make_plan(requests_per_minute=10), limits={"concurrency": 2, "spend_per_month_nanousd": 5_000_000_000}
    )
    key = make_key(customer, limits={"input_tokens_per_minute": 600, "spend_per_day_nanousd": 1_000_000_000})
    LimitState.objects.create(
        owner=f"customer:{customer.pk}",
        updated_us=now_us,
        requests_debt=3 * UNIT,
        in_flight=1,
        day=day_number(now_us),
        month=month_number(now_us),
        month_posted_nanousd=1_000_000_000,
        month_held_nanousd=1,
    )
    LimitState.objects.create(
        owner=f"key:{key.key.pk}",
        # An hour old and of an earlier day: drained, and a new window.
        updated_us=now_us - 3_600_000_000,
        input_tokens_debt=600 * UNIT,
        day=day_number(now_us) - 1,
        month=month_number(now_us),
        day_posted_nanousd=999_999_999,
    )
    before = list(LimitState.objects.order_by("owner").values())
    body = client.get("/v1/balance", headers={"authorization": f"Bearer {key.token}"}).json()
    assert limits_of(body, "customer") == {
        "requests": ("10", "3", "7", "plan"),
        "concurrency": ("2", "1", "1", "customer"),
        "spend-month": ("5.00", "1.000000001", "3.999999999", "customer"),
    }
    assert limits_of(body, "key") == {
        "input-tokens": ("600", "0", "600", "key"),
        "spend-day": ("1.00", "0.00", "1.00", "key"),
    }
    assert list(LimitState.objects.order_by("owner").values()) == before


def test_what_is_used_beyond_a_lowered_limit_leaves_nothing(client: Client) -> None:
    key = make_key(limits={"concurrency": 1})
    LimitState.objects.create(owner=f"key:{key.key.pk}", in_flight=4)
    body = client.get("/v1/balance", headers={"authorization": f"Bearer {key.token}"}).json()
    assert limits_of(body, "key") == {"concurrency": ("1", "4", "0", "key")}


def test_another_customers_money_and_limits_are_not_told(client: Client) -> None:
    rich = make_key(make_customer(credit_usd="98765"), limits={"concurrency": 4321})
    poor = make_key(make_customer(credit_usd="1"))
    text = client.get("/v1/balance", headers={"authorization": f"Bearer {poor.token}"}).content.decode()
    assert "98765" not in text
    assert "4321" not in text
    assert rich.key.public_id not in text
