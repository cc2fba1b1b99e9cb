"""GET /v1/models, /v1/usage, /v1/balance: every status that they can return, and that outsiders learn nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from billing.ledger import grant_credit
from billing.models import PriceVersion, UsageRecord
from gateway.models import Model
from keys.customers import set_customer_status
from keys.issuing import IssuedKey, revoke_key
from keys.models import ApiKey, Customer, CustomerStatus
from keys.scopes import Scope
from tests.factories import make_customer, make_key, make_model

pytestmark = pytest.mark.django_db

PATHS = ["/v1/models", "/v1/models/some-model", "/v1/usage", "/v1/usage/req_1", "/v1/balance"]


def ask(client: Client, path: str, key: IssuedKey | str | None) -> Any:
    token = key.token if isinstance(key, IssuedKey) else key
    return client.get(path, headers={"authorization": f"Bearer {token}"} if token else {})


def record_usage(key: ApiKey, model: Model, *, request_id: str, charged: int = 5, days_ago: int = 0) -> UsageRecord:
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    return UsageRecord.objects.create(
        request_id=request_id,
        customer_id=key.customer_id,
        api_key=key,
        operation="chat.completions",
        model=model.name,
        price_version=PriceVersion.objects.get(model=model.name),
        status="completed",
        source="provider",
        is_stream=False,
        input_tokens=10,
        output_tokens=3,
        cost_nanousd=charged,
        charged_nanousd=charged,
        started_at=moment,
        settled_at=moment,
    )


@pytest.mark.parametrize("path", PATHS)
def test_no_key_and_any_invalid_key_get_the_same_401(client: Client, path: str) -> None:
    revoked, expired, suspended = make_key(), make_key(), make_key()
    revoke_key(key_id=revoked.key.pk, reason="leaked")
    ApiKey.objects.filter(pk=expired.key.pk).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    set_customer_status(customer_id=suspended.key.customer_id, status=CustomerStatus.SUSPENDED)
    bodies = set()
    for key in (None, "nonsense", "tk_live_" + "0" * 33, revoked, expired, suspended):
        answer = ask(client, path, key)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        error = answer.json()["error"]
        assert error.pop("request_id") == answer.headers["x-request-id"]
        bodies.add(str(error))
    assert len(bodies) == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_key_without_the_scope_gets_403_with_its_name(client: Client, path: str) -> None:
    key = make_key(scopes=[Scope.CHAT_WRITE])
    answer = ask(client, path, key)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "insufficient_scope"
    assert answer.json()["error"]["details"]["required_scope"] in set(Scope)


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_get_405_in_the_error_shape(client: Client, path: str) -> None:
    answer = client.post(path, headers={"authorization": f"Bearer {make_key().token}"})
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_an_unknown_path_gets_404_in_the_error_shape(client: Client) -> None:
    for answer in (client.get("/v1/nothing"), client.post("/v1/nothing/here")):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


def test_models_lists_only_what_this_key_could_call(client: Client) -> None:
    wanted = make_model(name="allowed-model")
    make_model(name="other-model")
    Model.objects.create(
        name="allowed-but-unserved",
        context_window=100,
        max_output_tokens=10,
        default_output_tokens=10,
        created_at=datetime.now(UTC),
    )
    key = make_key(allowed_models=["allowed-*"])
    answer = ask(client, "/v1/models", key)
    assert answer.status_code == 200
    assert [model["id"] for model in answer.json()["data"]] == [wanted.name]
    assert "e" not in answer.json()["data"][0]["pricing"]["input"]
    assert ask(client, f"/v1/models/{wanted.name}", key).status_code == 200
    for hidden in ("other-model", "allowed-but-unserved", "unheard-of"):
        answer = ask(client, f"/v1/models/{hidden}", key)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"


def test_usage_of_another_customer_does_not_exist(client: Client) -> None:
    model = make_model()
    mine, other = make_key(), make_key()
    record_usage(mine.key, model, request_id="req_mine")
    record_usage(other.key, model, request_id="req_other")
    assert [r["request_id"] for r in ask(client, "/v1/usage", mine).json()["data"]] == ["req_mine"]
    assert ask(client, "/v1/usage/req_mine", mine).status_code == 200
    unknown = ask(client, "/v1/usage/req_none", mine).json()["error"]
    foreign = ask(client, "/v1/usage/req_other", mine)
    assert foreign.status_code == 404
    assert foreign.json()["error"]["message"].replace("req_other", "") == unknown["message"].replace("req_none", "")
    for query in (f"api_key={other.key.public_id}", "group_by=key", "group_by=model"):
        rows = ask(client, f"/v1/usage?{query}", mine).json()["data"]
        assert other.key.public_id not in str(rows)
        assert sum(row.get("calls", 0) for row in rows) <= 1


def test_usage_pages_cover_every_record_once(client: Client) -> None:
    key, model = make_key(), make_model()
    for number in range(7):
        record_usage(key.key, model, request_id=f"req_{number}")
    seen, path = [], "/v1/usage?limit=3"
    while path:
        page = ask(client, path, key).json()
        seen += [record["request_id"] for record in page["data"]]
        path = f"/v1/usage?limit=3&before={page['next']}" if page["has_more"] else ""
    assert sorted(seen) == [f"req_{number}" for number in range(7)]
    assert len(seen) == len(set(seen))


def test_usage_sums_are_exact(client: Client) -> None:
    key, model = make_key(), make_model()
    for number in range(3):
        record_usage(key.key, model, request_id=f"req_{number}", charged=333_333_333)
    record_usage(key.key, model, request_id="req_old", charged=1, days_ago=40)
    (row,) = ask(client, "/v1/usage?group_by=model", key).json()["data"]
    assert row == {
        "model": model.name,
        "calls": 3,
        "input_tokens": 30,
        "output_tokens": 9,
        "charged_usd": "0.999999999",
    }
    start = (datetime.now(UTC) - timedelta(days=50)).date()
    (row,) = ask(client, f"/v1/usage?group_by=key&from={start}", key).json()["data"]
    assert row["charged_usd"] == "1.00"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("status=odd", "status"),
        ("group_by=moon", "group_by"),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("from=2026-11-02&to=2026-11-01", "from"),
        ("colour=red", "colour"),
    ],
)
def test_a_bad_filter_gets_400_with_its_name(client: Client, query: str, param: str) -> None:
    answer = ask(client, f"/v1/usage?{query}", make_key())
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_balance_shows_money_and_limits_exactly(client: Client) -> None:
    customer: Customer = make_customer(credit_usd="0")
    grant_credit(customer_id=customer.pk, amount_nanousd=1_000_000_001, reason="test", author="me")
    key = make_key(customer, limits={"requests_per_minute": 7, "spend_per_day_nanousd": 2_500_000_000})
    body = ask(client, "/v1/balance", key).json()
    assert (body["posted"], body["held"], body["available"]) == ("1.000000001", "0.00", "1.000000001")
    of_key = {limit["limit_name"]: limit for limit in body["limits"] if limit["owner"] == "key"}
    assert of_key["requests"]["remaining"] == "7"
    assert of_key["spend-day"] == {
        "limit_name": "spend-day",
        "endpoint_class": None,
        "owner": "key",
        "set_by": "key",
        "limit": "2.50",
        "used": "0.00",
        "remaining": "2.50",
    }
