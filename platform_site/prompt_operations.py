"""Each released prompt as an operation of its own in the OpenAPI document, for whoever may run it.

What prompts there are, and what they ask for, is not everybody's business: a document asked for with an API key shows
the prompts that the key may run, one asked for by somebody who is logged in to the admin shows all of them, any other
shows none.
"""

from copy import deepcopy
from typing import Any

from django.contrib.auth import get_user
from django.db import connection
from rest_framework.request import Request

from common.sql import Sql
from gateway.operations import PROMPT_RUNS
from gateway.rest.authentication import ApiKeyAuthentication
from gateway.rest.prompt_examples import example_of_run
from keys.principals import Principal
from keys.scopes import Scope
from prompts.errors import PromptUnusable
from prompts.json_values import JsonObject
from prompts.names import PRODUCTION
from prompts.release_table import LabelEntry, PromptEntry
from prompts.snapshots import PromptBook, read_prompt_book
from prompts.validation import CompiledContent


def find_prompt_operations(request: Request | None, template: dict[str, Any]) -> dict[str, Any]:
    """Return path and operation of every prompt that the asker may run; `template` is the operation for any prompt."""
    if request is None:
        return {}
    principal = _principal(request)
    if principal is None and not _is_prompt_reader(request):
        return {}
    if principal is not None and Scope.PROMPTS_RUN not in principal.scopes:
        return {}
    book = read_prompt_book(Sql(connection))
    described: dict[str, Any] = {}
    for entry in sorted(book.table.prompts.values(), key=lambda prompt: prompt.name):
        if principal is None or principal.may_run_prompt(entry.name):
            described |= _describe_prompt(book, entry, template, principal)
    return described


def _principal(request: Request) -> Principal | None:
    """Return who asks with a key. Raises AuthenticationFailed for a wrong one."""
    if not request.headers.get("authorization"):
        return None
    _, principal = ApiKeyAuthentication().authenticate(request)
    return principal


def _is_prompt_reader(request: Request) -> bool:
    """Return whether somebody asks who is logged in to the admin and may see prompts."""
    # Not `request.user`: the document's view authenticates nobody.
    user = get_user(request._request)  # noqa: SLF001 - Django's own request has the session
    return user.is_active and user.is_staff and user.has_perm("prompts.view_prompt")


def _describe_prompt(
    book: PromptBook, entry: PromptEntry, template: dict[str, Any], principal: Principal | None
) -> dict[str, Any]:
    main = _main_label(entry)
    if main is None or main.version is None:
        return {}
    version = main.version
    try:
        compiled = book.get_compiled(version)
    except PromptUnusable:
        return {}
    operation = deepcopy(template)
    labels = ", ".join(f"`{label.name}` {label.version.number}" for label in entry.labels.values() if label.version)
    told = (entry.description, f"Version {version.number}. {labels}.", template["description"])
    operation |= {
        "operationId": f"{PROMPT_RUNS.name}.{entry.name}".replace(".", "_").replace("-", "_"),
        "summary": f"Run {entry.name}",
        "description": "\n\n".join(filter(None, told)),
        "tags": ["prompts"],
        "deprecated": version.deprecated_us is not None,
        "x-prompt-version": str(version.number),
        # What is in the path is no parameter here.
        "parameters": [p for p in template["parameters"] if p["in"] != "path"],
    }
    _put_schemas(operation, compiled, example_of_run(compiled, pin=main.name, principal=principal))
    return {PROMPT_RUNS.path.replace("{name}", entry.name): {"post": operation}}


def _main_label(entry: PromptEntry) -> LabelEntry | None:
    """Return the label whose version the document shows: production, else the first by name that points anywhere."""
    labels = sorted(entry.labels.values(), key=lambda label: (label.name != PRODUCTION, label.name))
    return next((label for label in labels if label.version is not None), None)


def _put_schemas(operation: dict[str, Any], compiled: CompiledContent, example: dict[str, Any] | None) -> None:
    request = operation["requestBody"]["content"]["application/json"]
    inputs = {"allOf": [request["schema"], _fields(inputs=_standalone(compiled.input_schema, "inputs"))]}
    request["schema"] = inputs
    request.pop("example", None)
    if example is not None:
        request["example"] = example
    answer = operation["responses"]["200"]["content"]["application/json"]
    schema = compiled.content.output_schema
    output: JsonObject = {"type": "string"} if schema is None else _standalone(schema, "output")
    answer["schema"] = {"allOf": [answer["schema"], _fields(output=output)]}


def _fields(**properties: JsonObject) -> JsonObject:
    return {"type": "object", "required": [*properties], "properties": {**properties}}


def _standalone(schema: JsonObject, name: str) -> JsonObject:
    """Return a schema whose references still point into itself inside the larger document."""
    # An `$id` makes it a resource of its own (JSON Schema 2020-12, section 8.2.1).
    return {"$id": f"urn:tollkeeper:{name}", **schema} if _has_reference(schema) else schema


def _has_reference(node: object) -> bool:
    if isinstance(node, dict):
        return "$ref" in node or any(_has_reference(value) for value in node.values())
    return isinstance(node, list) and any(_has_reference(value) for value in node)
