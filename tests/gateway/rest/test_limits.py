"""GET /v1/limits, and the limit on calls of the control plane: numbers, sources, headers, refusals."""

from typing import Any

import pytest
from django.test import Client

from gateway.models import Refusal
from keys.issuing import IssuedKey
from keys.scopes import Scope
from tests.factories import make_customer, make_key, make_plan, make_raise

pytestmark = pytest.mark.django_db

PATH = "/v1/limits"


def ask(client: Client, key: IssuedKey, path: str = PATH) -> Any:
    return client.get(path, headers={"authorization": f"Bearer {key.token}"})


def by_name(answer: Any) -> dict[tuple[str, str | None, str], dict[str, Any]]:
    return {(row["limit_name"], row["endpoint_class"], row["owner"]): row for row in answer.json()["data"]}


def test_every_limit_is_shown_with_its_source(client: Client) -> None:
    plan = make_plan(requests_per_minute=60, embeddings_requests_per_minute=5, burst_seconds=10)
    customer = make_customer(plan=plan, limits={"spend_total_nanousd": 1_500_000_000, "max_input_tokens": 9})
    key = make_key(customer, limits={"requests_per_minute": 30})
    found = by_name(ask(client, key))
    assert {name: (row["limit"], row["set_by"]) for name, row in found.items()} == {
        ("requests", "chat", "customer"): ("60", "plan"),
        ("requests", "embeddings", "customer"): ("5", "plan"),
        ("input-size", None, "customer"): ("9", "customer"),
        ("spend-total", None, "customer"): ("1.50", "customer"),
        ("requests", "chat", "key"): ("30", "key"),
    }
    assert found["requests", "chat", "customer"]["at_once"] == "10"
    assert found["requests", "chat", "key"]["at_once"] == "30"
    assert found["spend-total", None, "customer"]["resets_in_seconds"] is None


def test_a_raise_is_shown_with_its_end(client: Client) -> None:
    customer = make_customer(plan=make_plan(concurrency=2))
    raised = make_raise(customer, "concurrency", 8)
    (row,) = by_name(ask(client, make_key(customer))).values()
    assert (row["limit"], row["set_by"]) == ("8", "customer")
    assert row["raised_until"] == raised.ends_at.isoformat().replace("+00:00", "Z")


def test_calls_of_the_control_plane_are_counted_and_say_so(client: Client) -> None:
    key = make_key(make_customer(plan=make_plan(control_requests_per_minute=5)))
    answers = [ask(client, key, path) for path in (PATH, "/v1/models", "/v1/usage", "/v1/balance", PATH)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["4", "3", "2", "1", "0"]
    assert answers[-1].headers["x-limit-warning"] == "requests;used=100%;set-by=plan"
    refused = ask(client, key, "/v1/models")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 12
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    error = refused.json()["error"]
    assert (error["code"], error["details"]["endpoint_class"]) == ("rate_limit_exceeded", "control")
    row = Refusal.objects.get()
    assert row.request_id == error["request_id"] == refused.headers["x-request-id"]


def test_a_key_without_the_scope_is_refused_and_takes_nothing(client: Client) -> None:
    customer = make_customer(plan=make_plan(control_requests_per_minute=1))
    poor = make_key(customer, scopes=[Scope.CHAT_WRITE])
    for _ in range(3):
        assert ask(client, poor).status_code == 403
    assert ask(client, make_key(customer)).status_code == 200


def test_an_outsider_learns_nothing(client: Client) -> None:
    make_key(make_customer(plan=make_plan(requests_per_minute=4321)))
    other = make_key()
    assert client.get(PATH).status_code == 401
    assert "4321" not in ask(client, other).content.decode()
