"""GET /v1/models lists exactly what a call could name, at the price in force."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from gateway.models import Deployment, Model, Upstream
from keys.issuing import IssuedKey
from keys.models import KeyEnvironment
from tests.factories import make_key, make_model, make_price, make_upstream

pytestmark = pytest.mark.django_db


def listed(client: Client, key: IssuedKey) -> list[str]:
    """Return the listed names, after a look at each by its own path."""
    headers = {"authorization": f"Bearer {key.token}"}
    names = [model["id"] for model in client.get("/v1/models", headers=headers).json()["data"]]
    for model in Model.objects.all():
        answer = client.get(f"/v1/models/{model.name}", headers=headers)
        assert answer.status_code == (200 if model.name in names else 404)
    return names


def test_a_model_tells_its_sizes_and_its_exact_price(client: Client) -> None:
    model = make_model(
        name="acme/large",
        input_usd="0.15",
        output_usd="1234.5",
        owned_by="acme",
        description="Large.",
        context_window=9000,
    )
    key = make_key()
    body: dict[str, Any] = client.get("/v1/models/acme/large", headers={"authorization": f"Bearer {key.token}"}).json()
    assert body.pop("created") == int(model.created_at.timestamp())
    assert body == {
        "id": "acme/large",
        "object": "model",
        "owned_by": "acme",
        "description": "Large.",
        "context_window": 9000,
        "max_output_tokens": 2048,
        "pricing": {
            "currency": "USD",
            "unit": "1M tokens",
            "input": "0.15",
            "cache_read": "0.15",
            "cache_write": "0.15",
            "output": "1234.50",
            "reasoning": "1234.50",
            "audio_input": "0.15",
            "audio_output": "1234.50",
            "image_input": "0.15",
            "image_output": "1234.50",
            "request": "0.00",
            "long_input": [],
            "batch": [],
        },
    }


def test_the_smallest_price_is_a_plain_decimal(client: Client) -> None:
    make_model(name="cheap", input_usd="0.000000001", output_usd="0")
    body = client.get("/v1/models/cheap", headers={"authorization": f"Bearer {make_key().token}"}).json()
    assert (body["pricing"]["input"], body["pricing"]["output"]) == ("0.000000001", "0.00")


def test_what_is_switched_off_is_not_listed(client: Client) -> None:
    served, inactive, undeployed, unreachable = (make_model(name=f"{n}-model") for n in "abcd")
    Model.objects.filter(pk=inactive.pk).update(is_active=False)
    Deployment.objects.filter(model=undeployed).update(is_active=False)
    Upstream.objects.filter(pk=unreachable.deployments.get().upstream_id).update(is_active=False)
    assert listed(client, make_key()) == [served.name]


def test_a_model_is_listed_only_while_a_price_is_in_force(client: Client) -> None:
    now = datetime.now(UTC)
    make_model(name="unpriced", with_price=False)
    make_model(name="priced-tomorrow", with_price=False)
    make_price("priced-tomorrow", effective_from=now + timedelta(days=1))
    make_model(name="repriced", input_usd="1")
    make_price("repriced", input_usd="2", effective_from=now - timedelta(minutes=1))
    make_price("repriced", input_usd="3", effective_from=now + timedelta(minutes=1))
    key = make_key()
    assert listed(client, key) == ["repriced"]
    body = client.get("/v1/models/repriced", headers={"authorization": f"Bearer {key.token}"}).json()
    assert body["pricing"]["input"] == "2.00"


def test_a_test_key_sees_only_what_costs_the_platform_nothing(client: Client) -> None:
    make_model(name="paid")
    free = make_model(name="free", upstream=make_upstream(is_test=True))
    assert listed(client, make_key(environment=KeyEnvironment.TEST)) == [free.name]
    assert listed(client, make_key()) == ["free", "paid"]


def test_a_hidden_model_answers_like_one_that_does_not_exist(client: Client) -> None:
    make_model(name="hidden")
    headers = {"authorization": f"Bearer {make_key(allowed_models=['other-*']).token}"}
    assert client.get("/v1/models", headers=headers).json() == {"object": "list", "data": []}
    hidden, unknown = (client.get(f"/v1/models/{name}", headers=headers) for name in ("hidden", "nobody"))
    assert (hidden.status_code, unknown.status_code) == (404, 404)
    told = [answer.json()["error"] for answer in (hidden, unknown)]
    for error in told:
        del error["request_id"]
    assert str(told[0]).replace("hidden", "nobody") == str(told[1])


def test_nothing_of_the_upstream_is_told(client: Client) -> None:
    upstream = make_upstream(name="our-secret-provider", base_url="http://127.0.0.1:9/hush", secret="sk-hush")
    make_model(name="open", upstream=upstream, upstream_model="their-name")
    text = client.get("/v1/models", headers={"authorization": f"Bearer {make_key().token}"}).content.decode()
    for hidden in ("our-secret-provider", "hush", "their-name", "provider"):
        assert hidden not in text
