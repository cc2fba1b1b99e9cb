"""OpenAI's strict form of a schema, made by the openai package's own tool.

Strict mode wants every object closed and every property required; a schema that says less is completed. What is valid
under the strict form is valid under the schema it was made from, and answers are checked against the latter.
"""

import copy
from typing import Any

from openai.lib import _pydantic as openai_schemas

from prompts.json_values import JsonObject, JsonValue


def make_strict(schema: JsonObject) -> JsonObject | None:
    """Return the strict form, or None for a schema that has none (open maps, references that contain themselves)."""
    wanted: dict[str, Any] = copy.deepcopy(schema)
    try:
        # The package's public functions only take pydantic models, which would lose what a model cannot say.
        strict = openai_schemas._ensure_strict_json_schema(wanted, path=(), root=wanted)  # noqa: SLF001
    except (RecursionError, AssertionError, KeyError, TypeError, ValueError):
        return None
    return None if _has_open_object(strict) else strict


def asks_for_more(strict: JsonValue, schema: JsonValue) -> bool:
    """Return whether the strict form makes something required that the schema leaves to the model."""
    if isinstance(strict, dict) and isinstance(schema, dict):
        # The order of names is the author's in one and the properties' in the other.
        if _names(strict.get("required")) != _names(schema.get("required")):
            return True
        return any(asks_for_more(strict[name], schema[name]) for name in strict.keys() & schema.keys())
    if isinstance(strict, list) and isinstance(schema, list):
        return any(asks_for_more(a, b) for a, b in zip(strict, schema, strict=False))
    return False


def _names(value: JsonValue) -> set[str]:
    return {str(name) for name in value} if isinstance(value, list) else set()


def _has_open_object(node: JsonValue) -> bool:
    if isinstance(node, dict):
        is_object = node.get("type") == "object"
        if is_object and node.get("additionalProperties") is not False:
            return True
        return any(_has_open_object(value) for value in node.values())
    return isinstance(node, list) and any(_has_open_object(value) for value in node)
