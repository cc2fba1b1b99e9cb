"""The OpenAPI document: Django REST framework's endpoints from drf-spectacular, the data plane from its declarations."""

from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from common.errors import all_error_classes
from gateway import errors as gateway_errors
from gateway.operations import OPERATIONS, STREAM_PATH, Operation
from keys import errors as keys_errors

_REF = "#/components/schemas/{model}"
_EXAMPLE = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 64,
}


def add_data_plane(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add the data plane's operations, the error shape and the key to drf-spectacular's document (its hook)."""
    components = result.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Error"] = _error_schema()
    result["security"] = [{"apiKey": []}]
    for item in result["paths"].values():
        for operation in item.values():
            operation.pop("security", None)
            operation["responses"].update(_error_responses(401, 403, 404))
    for declared in OPERATIONS:
        path_item, definitions = _describe(declared)
        result["paths"][declared.path] = path_item
        schemas.update(definitions)
    result["x-websocket"] = {
        "path": STREAM_PATH,
        "description": "Several streaming calls on one socket; the messages are in docs/reference/streaming.md.",
    }
    return result


@lru_cache(maxsize=8)
def _describe(operation: Operation) -> tuple[dict[str, Any], dict[str, Any]]:
    request = TypeAdapter(operation.request_type).json_schema(ref_template=_REF, mode="validation")
    definitions = request.pop("$defs", {})
    request["additionalProperties"] = False
    request["properties"]["stream"] = {"type": "boolean", "default": False}
    name = operation.name.title().replace(".", "")
    definitions[f"{name}Request"] = request
    models = [(operation.response_type, "serialization"), (operation.chunk_type, "serialization")]
    names, answers = models_json_schema(models, ref_template=_REF)
    definitions.update(answers.get("$defs", {}))
    path_item = {
        operation.method.lower(): {
            "operationId": operation.name.replace(".", "_"),
            "summary": operation.summary,
            "description": f"Needs the scope `{operation.scope}`. With `stream: true` the answer is an event stream.",
            "tags": ["calls"],
            "x-required-scope": operation.scope.value,
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": f"{_REF.format(model=f'{name}Request')}"},
                        "example": _EXAMPLE,
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "The completion, or its stream.",
                    "content": {
                        "application/json": {"schema": names[operation.response_type, "serialization"]},
                        "text/event-stream": {"schema": names[operation.chunk_type, "serialization"]},
                    },
                },
                **_error_responses(400, 401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 504),
            },
        }
    }
    return path_item, definitions


def _error_responses(*statuses: int) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for error in all_error_classes():
        codes.setdefault(error.status, []).append(error.code)
    return {
        str(status): {
            "description": "One of: " + ", ".join(dict.fromkeys(codes.get(status, ["see the message"]))),
            "content": {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}},
        }
        for status in statuses
    }


def _error_schema() -> dict[str, Any]:
    # Imported for their classes: the tree must be whole before it is listed.
    assert gateway_errors
    assert keys_errors
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code", "retryable"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                    "retryable": {"type": "boolean"},
                    "details": {"type": "object"},
                    "request_id": {"type": "string"},
                },
            }
        },
    }
