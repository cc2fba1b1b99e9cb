"""The generated reference and the OpenAPI document say what the code says."""

from typing import Any

import pytest
from django.test import Client
from drf_spectacular.validation import validate_schema

from common.errors import all_error_classes
from gateway.operations import OPERATIONS
from platform_site.reference import find_outdated, render_reference


@pytest.fixture
def document(client: Client, db: None) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/openapi.json").json()
    return found


def test_the_generated_pages_are_current() -> None:
    assert find_outdated() == []


def test_rendering_twice_gives_the_same_text() -> None:
    assert render_reference() == render_reference()


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate_schema(document)


def test_the_document_has_every_operation_with_its_scope(document: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        described = document["paths"][operation.path][operation.method.lower()]
        assert described["x-required-scope"] == operation.scope
        assert "text/event-stream" in described["responses"]["200"]["content"]
    for path in ("/v1/models", "/v1/usage", "/v1/balance"):
        assert "get" in document["paths"][path]


def test_the_document_refuses_unknown_parameters_like_the_api(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["ChatCompletionsRequest"]["additionalProperties"] is False


def test_every_reference_in_the_document_resolves(document: dict[str, Any]) -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str):
                assert target.rpartition("/")[2] in document["components"]["schemas"], target
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


def test_error_codes_are_unique_or_inherited() -> None:
    by_code: dict[str, type] = {}
    for error in all_error_classes():
        known = by_code.setdefault(error.code, error)
        assert issubclass(error, known), f"{error} and {known} share the code {error.code}"


def test_the_interactive_documents_load_nothing_from_elsewhere(client: Client, db: None) -> None:
    page = client.get("/docs").content.decode()
    assert "http://" not in page
    assert "https://" not in page
