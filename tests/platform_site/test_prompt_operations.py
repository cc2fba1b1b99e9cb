"""Prompts in the OpenAPI document: each an operation of its own, for whoever may run it."""

from typing import Any

import pytest
from django.test import Client
from drf_spectacular.validation import validate_schema

from prompts.json_values import JsonObject
from tests.factories import make_key, make_model
from tests.prompting import make_prompt, make_released, publish, release, text_content

pytestmark = pytest.mark.django_db

CITY: JsonObject = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/name"}},
    "required": ["city"],
    "$defs": {"name": {"type": "string"}},
}


def read(client: Client, token: str | None = None) -> dict[str, Any]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    answer = client.get("/v1/openapi.json", headers=headers)
    assert answer.status_code == 200, answer.content
    document: dict[str, Any] = answer.json()
    return document


def test_each_released_prompt_has_its_own_operation_with_schemas_and_an_example(client: Client) -> None:
    make_released("support.answer-mail", text_content("Answer {{ name }}.", output_schema=CITY))
    document = read(client, make_key().token)
    operation = document["paths"]["/v1/prompts/support.answer-mail/runs"]["post"]
    assert operation["operationId"] == "prompts_runs_support_answer_mail"
    assert (operation["x-required-scope"], operation["x-prompt-version"]) == ("prompts:run", "1.0.0")
    body = operation["requestBody"]["content"]["application/json"]
    assert body["example"] == {"inputs": {"name": "some name"}}
    assert body["schema"]["allOf"][1]["properties"]["inputs"]["required"] == ["name"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["allOf"][1]
    assert answer["properties"]["output"]["properties"]["city"] == {"$ref": "#/$defs/name"}
    assert answer["properties"]["output"]["$id"]
    assert not [p for p in operation["parameters"] if p["in"] == "path"]
    # First of all, and beside the operation for any prompt.
    assert next(iter(document["paths"])) == "/v1/prompts/support.answer-mail/runs"
    assert "/v1/prompts/{name}/runs" in document["paths"]


def test_the_document_with_prompts_is_valid(client: Client) -> None:
    make_released("mail", text_content(output_schema=CITY))
    validate_schema(read(client, make_key().token))


def test_strangers_see_no_prompt(client: Client) -> None:
    make_released("mail")
    assert "/v1/prompts/mail/runs" not in read(client)["paths"]
    answer = client.get("/v1/openapi.json", headers={"authorization": "Bearer tk_live_wrong"})
    assert answer.status_code == 401


def test_a_key_sees_what_it_may_run(client: Client) -> None:
    make_released("mail")
    make_released("other")
    narrow = read(client, make_key(allowed_prompts=["mail"]).token)["paths"]
    assert "/v1/prompts/mail/runs" in narrow
    assert "/v1/prompts/other/runs" not in narrow
    assert "/v1/prompts/mail/runs" not in read(client, make_key(scopes=["chat:write"]).token)["paths"]


def test_who_may_see_prompts_in_the_admin_sees_all(admin_client: Client) -> None:
    make_released("mail")
    make_prompt("draft-only")
    paths = read(admin_client)["paths"]
    assert "/v1/prompts/mail/runs" in paths
    assert "/v1/prompts/draft-only/runs" not in paths


def test_the_example_of_a_prompt_that_is_only_staged_pins_the_label(client: Client) -> None:
    model = make_model()
    version = publish(make_prompt("mail", text_content(model="")))
    release(version, "staging")
    body = read(client, make_key().token)["paths"]["/v1/prompts/mail/runs"]["post"]["requestBody"]
    assert body["content"]["application/json"]["example"] == {
        "inputs": {"name": "some name"},
        "version": "staging",
        "parameters": {"model": model.name},
    }
