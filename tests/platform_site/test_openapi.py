"""The OpenAPI document: what it says about calls is what the gateway does, and answers fit it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from billing.models import PriceVersion, UsageRecord
from common.errors import NotFound
from gateway.chat.parameters import known_parameters
from gateway.operations import CHAT_COMPLETIONS, OPERATIONS, STREAM
from tests.factories import make_customer, make_key, make_model, make_plan

pytestmark = pytest.mark.django_db

CHAT_PATH = "/v1/chat/completions"


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/openapi.json").json()
    return found


def problems(document: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    """Return what is wrong with `value` by a schema of the document."""
    validator = Draft202012Validator({**schema, "components": document["components"]})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def schema_of(document: dict[str, Any], path: str, status: int = 200) -> dict[str, Any]:
    operation = document["paths"][path].get("get") or document["paths"][path]["post"]
    found: dict[str, Any] = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    return found


def request_schema(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][CHAT_PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return found


def test_the_generator_has_nothing_to_warn_of(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json")
    assert '"openapi": "3.1' in capsys.readouterr().out


def test_every_path_asks_for_the_key_and_names_its_scope(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    # Open to everybody, and about nobody.
    assert document["paths"].pop("/v1/changelog")["get"]["security"] == []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["security"] == [{"apiKey": []}], path
            assert operation["x-required-scope"], path
            assert {"401", "403", "500"} <= operation["responses"].keys(), path


def test_the_request_has_exactly_the_parameters_that_the_gateway_knows(document: dict[str, Any]) -> None:
    request = document["components"]["schemas"]["ChatCompletionsRequest"]
    assert set(request["properties"]) == known_parameters() | {"prompt"}
    assert sorted(request["required"]) == ["messages", "model"]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        {"model": "any/name", "messages": [{"role": "user", "content": "hi"}], "stream": True},
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": None, "max_tokens": None},
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "1", "content": "4"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
    ],
)
def test_bodies_that_the_gateway_takes_fit_the_document(document: dict[str, Any], body: dict[str, Any]) -> None:
    assert problems(document, request_schema(document), body) == []


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], "unheard_of": 1},
        {"model": "m"},
        {"model": "m", "messages": [{"role": "nobody", "content": "hi"}]},
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            # A definition of a function, and not a call of one: both are named Function in the openai package.
            "tools": [{"type": "function", "function": {"arguments": "{}"}}],
        },
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "tool_choice": {"type": "function", "function": {"arguments": "{}"}},
        },
    ],
)
def test_bodies_that_the_gateway_refuses_do_not_fit_the_document(
    document: dict[str, Any], body: dict[str, Any]
) -> None:
    assert problems(document, request_schema(document), body)


def test_a_completion_and_a_chunk_fit_the_document(document: dict[str, Any]) -> None:
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None}
    head = {"id": "1", "created": 1, "model": "m"}
    completion = {
        **head,
        "object": "chat.completion",
        "choices": [{**choice, "message": {"role": "assistant", "content": "hi", "refusal": None}}],
        "tollkeeper": {
            "request_id": "req_1",
            "model": "m",
            "upstream": "u",
            "cost_usd": "0.01",
            "balance_usd": "1.00",
            "usage": {"input_tokens": 1, "output_tokens": 1, "source": "provider"},
            "timing_ms": {"upstream": 1.5, "first_token": None, "total": 2, "overhead": 0.5},
        },
    }
    content = document["paths"][CHAT_PATH]["post"]["responses"]["200"]["content"]
    assert problems(document, content["application/json"]["schema"], completion) == []
    assert problems(document, content["application/json"]["schema"], {**completion, "tollkeeper": {}})
    chunk = {**head, "object": "chat.completion.chunk", "choices": [{**choice, "delta": {"content": "hi"}}]}
    assert problems(document, content["text/event-stream"]["schema"], chunk) == []
    assert problems(document, content["text/event-stream"]["schema"], completion)


def test_a_calls_errors_are_the_trees_and_leave_out_what_only_admins_meet(document: dict[str, Any]) -> None:
    responses = document["paths"][CHAT_PATH]["post"]["responses"]
    codes = {status: answer.get("x-error-codes", []) for status, answer in responses.items()}
    assert codes["401"] == ["invalid_api_key"]
    assert codes["402"] == ["budget_too_small", "insufficient_balance", "price_missing", "total_budget_exceeded"]
    assert {"budget_exceeded", "rate_limit_exceeded"} <= set(codes["429"])
    assert codes["404"] == ["model_not_found", "prompt_not_found"]
    assert "unknown_parameter" in codes["400"]
    assert "upstream_timeout" in codes["504"]
    told = {code for of_status in codes.values() for code in of_status}
    assert not told & {"invalid_price", "key_already_revoked", "ledger_damaged", "customer_not_found", "call_cancelled"}


def test_the_socket_is_described_though_openapi_cannot(document: dict[str, Any]) -> None:
    socket = document["x-websocket"]
    assert (socket["path"], socket["operation"]) == ("/v1/stream", "chat.completions")
    assert socket["x-required-scope"] == "chat:write"
    assert {"too_many_calls_on_socket", "insufficient_balance"} <= set(socket["x-error-codes"])
    assert STREAM.description in document["info"]["description"]


def test_operations_are_declared_once() -> None:
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    assert CHAT_COMPLETIONS.can_stream
    assert STREAM.operation in OPERATIONS


def test_what_the_endpoints_answer_fits_the_document(client: Client, document: dict[str, Any]) -> None:
    model = make_model(name="acme/one")
    customer = make_customer(plan=make_plan(requests_per_minute=5, spend_per_day_nanousd=5))
    key = make_key(customer)
    now = datetime.now(UTC)
    UsageRecord.objects.create(
        request_id="req_1",
        customer=customer,
        api_key=key.key,
        operation="chat.completions",
        model=model.name,
        price_version=PriceVersion.objects.get(model=model.name),
        status="completed",
        source="provider",
        is_stream=False,
        started_at=now,
        settled_at=now,
    )
    headers = {"authorization": f"Bearer {key.token}"}
    for path, template in {
        "/v1/models": "/v1/models",
        "/v1/models/acme/one": "/v1/models/{name}",
        "/v1/usage": "/v1/usage",
        "/v1/usage?to=2000-01-01": "/v1/usage",
        "/v1/usage?group_by=day": "/v1/usage",
        "/v1/usage?group_by=model": "/v1/usage",
        "/v1/usage?group_by=key": "/v1/usage",
        "/v1/usage/req_1": "/v1/usage/{request_id}",
        "/v1/balance": "/v1/balance",
    }.items():
        answer = client.get(path, headers=headers)
        assert answer.status_code == 200
        assert problems(document, schema_of(document, template), answer.json()) == [], path
    for path, template, status in (
        ("/v1/models/nobody", "/v1/models/{name}", 404),
        ("/v1/usage?limit=0", "/v1/usage", 400),
        ("/v1/usage/req_2", "/v1/usage/{request_id}", 404),
    ):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status
        assert problems(document, schema_of(document, template, status), answer.json()) == [], path
        described = document["paths"][template]["get"]["responses"][str(status)]["x-error-codes"]
        assert answer.json()["error"]["code"] in described


def test_the_root_leads_to_the_documents(client: Client) -> None:
    answer = client.get("/", follow=True)
    assert answer.status_code == 200
    # The script is a file of its own: the content policy allows none in the page.
    assert 'src="/docs?script="' in answer.content.decode()
    assert "/v1/openapi.json" in client.get("/docs?script=").content.decode()
    assert "swagger-ui" in answer.content.decode()


def test_an_error_made_elsewhere_does_not_get_into_the_document(client: Client, document: dict[str, Any]) -> None:
    class OnlyOfThisTest(NotFound):
        code = "only_of_this_test"

    assert OnlyOfThisTest.code not in client.get("/v1/openapi.json").content.decode()
