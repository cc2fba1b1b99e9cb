"""POST /v1/estimates: the figures of the call, refusals of the call, and no trace of a call."""

from typing import Any

import pytest
from django.test import Client

from billing.accounts import get_balance
from billing.models import Hold, Transfer, UsageRecord
from billing.pricing import publish_price
from billing.terms import publish_terms
from keys.issuing import IssuedKey
from keys.models import LimitState
from tests.factories import make_customer, make_key, make_model, make_plan

pytestmark = pytest.mark.django_db

USD = 10**9
MESSAGES = [{"role": "user", "content": "hello there"}]


def ask(client: Client, key: IssuedKey, **body: Any) -> Any:
    return client.post(
        "/v1/estimates",
        data={"messages": MESSAGES, **body},
        content_type="application/json",
        headers={"authorization": f"Bearer {key.token}"},
    )


def test_tokens_lines_and_both_ends_of_the_cost(client: Client) -> None:
    model = make_model(with_price=False, input_estimate_percent=200, input_overhead_tokens=2)
    rates = {"input_nanousd": 2 * USD, "cache_read_nanousd": USD, "output_nanousd": 8 * USD, "request_nanousd": 5}
    publish_price(model=model.name, rates=rates, author="t")
    body = ask(client, make_key(), model=model.name, n=2, max_tokens=50).json()
    # Nine tokens by our count (two words, the message, the call), doubled, and the template's two.
    assert body["tokens"] == {"counted": 9, "images": 0, "input": 20, "output": 100}
    assert [(line["part"], line["tokens"], line["most_usd"]) for line in body["lines"]] == [
        ("input", 20, "0.00004"),
        ("output", 100, "0.0008"),
        ("request", None, "0.000000005"),
    ]
    assert body["most_cost_usd"] == "0.000840005"
    assert body["least_cost_usd"] == "0.000009005"
    assert (body["pricing"]["input"], body["pricing"]["cache_read"]) == ("2.00", "1.00")
    assert (body["would_be_admitted"], body["refusal"], body["available_usd"]) == (True, None, "10.00")


def test_the_customers_own_price_counts_and_its_markup_is_not_told(client: Client) -> None:
    model = make_model(input_usd="1", output_usd="4")
    customer = make_customer()
    publish_terms(customer_id=customer.pk, markup_basis_points=5_000, author="t")
    answer = ask(client, make_key(customer), model=model.name, max_tokens=10)
    assert (answer.json()["pricing"]["input"], answer.json()["pricing"]["output"]) == ("1.50", "6.00")
    assert "markup" not in answer.content.decode()
    assert "provider" not in answer.content.decode().lower()


def test_limits_and_balance_speak_as_they_would_to_the_call(client: Client) -> None:
    model = make_model()
    poor = make_key(make_customer(credit_nanousd=1))
    refused = ask(client, poor, model=model.name).json()
    assert (refused["would_be_admitted"], refused["refusal"]["code"]) == (False, "insufficient_balance")
    limited = make_key(make_customer(plan=make_plan(output_tokens_per_minute=100)))
    refused = ask(client, limited, model=model.name, max_tokens=101).json()
    assert (refused["would_be_admitted"], refused["refusal"]["code"]) == (False, "request_exceeds_limit")
    fitting = ask(client, limited, model=model.name, max_tokens=40).json()
    assert [(limit["limit_name"], limit["remaining"]) for limit in fitting["limits"]] == [("output-tokens", 60)]


def test_what_is_the_same_call_has_the_same_estimate(client: Client) -> None:
    model, key = make_model().name, make_key()
    function = {"name": "look", "description": "Look outside.", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function}]
    old = ask(client, key, model=model, functions=[function], prompt=None).json()
    new = ask(client, key, model=model, tools=tools, parallel_tool_calls=False).json()
    assert old == new
    assert old["tokens"]["counted"] > ask(client, key, model=model).json()["tokens"]["counted"]


def test_nothing_is_taken(client: Client) -> None:
    model = make_model()
    customer = make_customer(plan=make_plan(requests_per_minute=1, concurrency=1))
    key = make_key(customer)
    before = get_balance(customer.pk), Transfer.objects.count()
    for _ in range(3):
        assert ask(client, key, model=model.name).json()["would_be_admitted"] is True
    assert (get_balance(customer.pk), Transfer.objects.count()) == before
    assert not Hold.objects.exists()
    assert not UsageRecord.objects.exists()
    assert not LimitState.objects.exists()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "no-such-model"}, 404, "model_not_found"),
        ({"model": "small", "max_tokens": 5_000}, 400, "output_tokens_exceeded"),
        ({"model": "small", "messages": []}, 400, "invalid_body"),
        ({"model": "small", "max_tokens": "x"}, 400, "invalid_body"),
        ({"model": "small", "colour": "red"}, 400, "unknown_parameter"),
        ({"model": "small", "metadata": {"a": "x" * 600}}, 400, "invalid_tags"),
        ({"model": "unpriced"}, 402, "price_missing"),
    ],
)
def test_what_the_call_would_be_refused_with_at_once_is_the_answer(
    client: Client, body: dict[str, Any], status: int, code: str
) -> None:
    make_model("small")
    make_model("unpriced", with_price=False)
    answer = ask(client, make_key(), **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.content


def test_a_body_over_the_bound_is_refused_and_one_over_djangos_own_is_not(client: Client) -> None:
    model = make_model(context_window=10_000_000)
    key = make_key(make_customer(credit_usd="1000"))
    big = [{"role": "user", "content": "a " * 2_000_000}]
    assert ask(client, key, model=model.name, messages=big).status_code == 200
    huge = [{"role": "user", "content": "a" * 20_000_001}]
    answer = ask(client, key, model=model.name, messages=huge)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"authorization": "Bearer tk_live_x"}, 401)])
def test_an_outsider_learns_nothing(client: Client, headers: dict[str, str], status: int) -> None:
    model = make_model()
    data = {"model": model.name, "messages": MESSAGES}
    answer = client.post("/v1/estimates", data=data, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "invalid_api_key")


def test_the_scope_of_calls_is_needed_and_models_that_the_key_may_not_use_do_not_exist(client: Client) -> None:
    model = make_model()
    reader = make_key(scopes=["usage:read"])
    assert ask(client, reader, model=model.name).json()["error"]["code"] == "insufficient_scope"
    narrow = make_key(allowed_models=["other"])
    assert ask(client, narrow, model=model.name).status_code == 404


def test_get_is_not_a_question(client: Client) -> None:
    answer = client.get("/v1/estimates", headers={"authorization": f"Bearer {make_key().token}"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
